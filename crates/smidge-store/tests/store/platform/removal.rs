//! What goes with a name, and what stays.

use super::*;

#[test]
fn with_its_name_an_index_goes_and_what_only_it_held() {
    let fixture = fixture();
    let store = &fixture.store;
    let (index, images) = multi(store, &["host", OTHERS[0], OTHERS[1]], 2);
    store
        .add_index(&index, &[name("app"), name("app:1")])
        .unwrap();
    let single = store.image(&images[1].id().hex()).unwrap();
    store.tag(&single, &name("single")).unwrap();
    let removed = store.remove("app", false, UNUSED).unwrap();
    assert_eq!(
        (removed.untagged, removed.deleted),
        (vec![name("app")], vec![])
    );
    let removed = store.remove("app:1", false, UNUSED).unwrap();
    assert_eq!(removed.untagged, [name("app:1")]);
    assert_eq!(removed.deleted, [images[0].id()]);
    assert_eq!(blobs(store), 3);
    assert_whole(store);
    store.remove("single", false, UNUSED).unwrap();
    assert_eq!(blobs(store), 0);
}

#[test]
fn by_its_id_one_image_leaves_an_index() {
    let fixture = fixture();
    let store = &fixture.store;
    let (index, images) = multi(store, &["host", OTHERS[0]], 2);
    store
        .add_index(&index, &[name("app"), name("app:1")])
        .unwrap();
    let removed = store
        .remove(&images[0].id().short(), false, UNUSED)
        .unwrap();
    assert_eq!(
        (removed.untagged, removed.deleted),
        (vec![], vec![images[0].id()])
    );
    assert_eq!(blobs(store), 4);
    assert_eq!(store.image("app").unwrap().id, images[1].id());
    assert_whole(store);
    // The names go with the last one, as those of any image.
    let refused = store.remove(&images[1].id().short(), false, UNUSED);
    assert!(matches!(refused, Err(Error::ManyNames { names, .. }) if names.len() == 2));
    let refused = store.remove(&Digest::of(&index).to_string(), false, UNUSED);
    assert!(matches!(refused, Err(Error::ManyNames { .. })));
    let removed = store.remove(&images[1].id().short(), true, UNUSED).unwrap();
    assert_eq!(removed.untagged, [name("app:1"), name("app")]);
    assert_eq!(removed.deleted, [images[1].id()]);
    assert_eq!(blobs(store), 0);
}

#[test]
fn what_a_container_needs_of_an_index_stays() {
    let fixture = fixture();
    let store = &fixture.store;
    let (index, images) = multi(store, &["host", OTHERS[0]], 2);
    store.add_index(&index, &[name("app")]).unwrap();
    let id = images[0].id();
    let used = |running: bool| {
        move |wanted: &Digest| {
            let container = "web".to_owned();
            (*wanted == id).then_some(Use { container, running })
        }
    };
    for (force, running) in [(false, false), (true, true)] {
        let refused = store.remove("app", force, &used(running));
        assert!(
            matches!(refused, Err(Error::ImageInUse { .. })),
            "{refused:?}"
        );
    }
    let pruned = store.prune(true, &used(false)).unwrap();
    assert_eq!(pruned.deleted, []);
    let removed = store.remove("app", true, &used(false)).unwrap();
    assert_eq!(
        (removed.untagged, removed.deleted),
        (vec![name("app")], vec![images[1].id()])
    );
    assert_eq!(
        names(&store.image(&id.hex()).unwrap()),
        Vec::<String>::new()
    );
    assert_eq!(blobs(store), 3);
    assert_whole(store);
    store.prune(false, UNUSED).unwrap();
    assert_eq!(blobs(store), 0);
}

#[test]
fn prune_spares_what_indexes_hold() {
    let fixture = fixture();
    let store = &fixture.store;
    let (index, images) = multi(store, &["host", OTHERS[0], OTHERS[1]], 2);
    store.add_index(&index, &[name("app")]).unwrap();
    for image in store.all_images().unwrap() {
        store.checkout(&image).unwrap();
    }
    drop(fixture.store.image("app").unwrap());
    store.prune(false, UNUSED).unwrap();
    assert_eq!(store.all_images().unwrap().len(), 2);
    assert_eq!(entries(&store.root().join("layers")).len(), 2);
    let pruned = store.prune(true, UNUSED).unwrap();
    assert_eq!(pruned.untagged, [name("app")]);
    assert_eq!(pruned.deleted, [images[0].id(), images[1].id()]);
    assert_eq!(
        (blobs(store), entries(&store.root().join("layers")).len()),
        (0, 0)
    );
}

#[test]
fn with_the_last_tag_of_a_repository_its_digests_go() {
    let fixture = fixture();
    let store = &fixture.store;
    let image = hello(store, &["reg.test/app:1", "reg.test/app:2"], "1");
    let by_digest = name("reg.test/app:1").with_digest(image.digest);
    store.tag(&image, &by_digest).unwrap();
    for tag in ["reg.test/app:1", "reg.test/app:2"] {
        store.set_repo_digest(&name(tag), image.digest).unwrap();
    }
    let image = store.image("reg.test/app:1").unwrap();
    assert_eq!(names(&image), ["reg.test/app:1", "reg.test/app:2"]);
    assert_eq!(image.repo_digests, std::slice::from_ref(&by_digest));
    let removed = store.remove("reg.test/app:1", false, UNUSED).unwrap();
    assert_eq!(removed.untagged, [name("reg.test/app:1")]);
    let removed = store.remove("reg.test/app:2", false, UNUSED).unwrap();
    assert_eq!(removed.untagged, [name("reg.test/app:2"), by_digest]);
    assert_eq!(removed.deleted, [image.id]);
    assert_eq!(blobs(store), 0);
}
