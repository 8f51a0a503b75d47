//! Removal: by name, by id, and of what nothing refers to.

use std::fs::{self, File};

use smidge_image::{Descriptor, Digest};
use smidge_store::{Compression, Error, Removed, Store, Use};

use crate::fixture::{assert_whole, entries, fixture, hello, name, tar};

fn unused(_: &Digest) -> Option<Use> {
    None
}

fn used(running: bool) -> impl Fn(&Digest) -> Option<Use> {
    move |_| {
        Some(Use {
            container: "web".to_owned(),
            running,
        })
    }
}

#[test]
fn a_name_goes_first_and_the_image_with_the_last() {
    let fixture = fixture();
    let image = hello(&fixture.store, &["app", "app:1"], "1");
    fixture.store.checkout(&image).unwrap();
    fixture.store.transfer(&image, Compression::Gzip).unwrap();
    // A container does not mind losing one of two names of its image.
    let removed = fixture.store.remove("app:1", false, &used(true)).unwrap();
    assert_eq!(
        removed,
        Removed {
            untagged: vec![name("app:1")],
            deleted: vec![]
        }
    );
    assert_whole(&fixture.store);
    let removed = fixture.store.remove("app", false, &unused).unwrap();
    assert_eq!(
        removed,
        Removed {
            untagged: vec![name("app")],
            deleted: vec![image.id]
        }
    );
    assert!(matches!(
        fixture.store.remove("app", false, &unused),
        Err(Error::NoSuchImage(_))
    ));
    for directory in [
        "blobs/sha256",
        "layers",
        "cache/transfer/smidge-gzip-1",
        "tmp",
    ] {
        assert_eq!(
            entries(&fixture.store.root().join(directory)).len(),
            0,
            "{directory}"
        );
    }
}

#[test]
fn an_id_with_several_names_needs_force() {
    let fixture = fixture();
    let image = hello(&fixture.store, &["app", "other:2"], "1");
    let error = fixture
        .store
        .remove(&image.id.short(), false, &unused)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot remove image `{}`: image is referenced in multiple repositories: \
             app:latest, other:2",
            image.id.short()
        )
    );
    let removed = fixture
        .store
        .remove(&image.id.short(), true, &unused)
        .unwrap();
    assert_eq!(removed.untagged, [name("app"), name("other:2")]);
    assert_eq!(removed.deleted, [image.id]);
    assert!(fixture.store.images().unwrap().is_empty());
}

#[test]
fn an_image_that_a_container_needs_stays() {
    let fixture = fixture();
    let image = hello(&fixture.store, &["app"], "1");
    for (force, running, message) in [
        (false, true, "it is used by the running container `web`"),
        (true, true, "it is used by the running container `web`"),
        (false, false, "it is used by the stopped container `web`"),
    ] {
        let error = fixture
            .store
            .remove("app", force, &used(running))
            .unwrap_err();
        assert!(error.to_string().ends_with(message), "{error}");
    }
    let removed = fixture.store.remove("app", true, &used(false)).unwrap();
    assert_eq!(
        removed,
        Removed {
            untagged: vec![name("app")],
            deleted: vec![]
        }
    );
    assert!(fixture.store.image("app").is_err());
    assert_eq!(fixture.store.image(&image.id.hex()).unwrap().names, []);
    fixture.store.prune(true, &used(false)).unwrap();
    assert_whole(&fixture.store);
    let pruned = fixture.store.prune(false, &unused).unwrap();
    assert_eq!(pruned.deleted, [image.id]);
    assert!(fixture.store.images().unwrap().is_empty());
}

#[test]
fn shared_layers_stay_with_who_shares_them() {
    let fixture = fixture();
    let base = tar(&[crate::fixture::file("base", "b")]);
    let top = tar(&[crate::fixture::file("top", "t")]);
    let small = crate::fixture::add(&fixture.store, &["small"], std::slice::from_ref(&base));
    let large = crate::fixture::add(&fixture.store, &["large"], &[base, top]);
    fixture.store.checkout(&large).unwrap();
    fixture.store.remove("large", false, &unused).unwrap();
    assert_eq!(entries(&fixture.store.root().join("layers")).len(), 1);
    assert!(fixture.store.is_checked_out(&small));
    assert_whole(&fixture.store);
}

#[test]
fn prune_takes_the_nameless_and_with_all_the_unused() {
    let fixture = fixture();
    let old = hello(&fixture.store, &["app"], "1");
    let new = hello(&fixture.store, &["app"], "2");
    fixture.store.checkout(&old).unwrap();
    let pruned = fixture.store.prune(false, &unused).unwrap();
    assert_eq!((pruned.deleted, pruned.untagged), (vec![old.id], vec![]));
    assert!(pruned.bytes > 0);
    assert_whole(&fixture.store);
    let in_use = |id: &Digest| (*id == new.id).then(|| used(false)(id)).flatten();
    assert_eq!(fixture.store.prune(true, &in_use).unwrap().deleted, []);
    let pruned = fixture.store.prune(true, &unused).unwrap();
    assert_eq!(
        (pruned.deleted, pruned.untagged),
        (vec![new.id], vec![name("app")])
    );
    assert_eq!(
        fixture.store.usage().layers,
        Store::open(&fixture.path("new")).unwrap().usage().layers
    );
    assert_eq!(entries(&fixture.store.root().join("blobs/sha256")).len(), 0);
}

#[test]
fn prune_sweeps_what_the_dead_left_and_spares_the_living() {
    let fixture = fixture();
    let tmp = fixture.store.root().join("tmp");
    fs::write(tmp.join("1.0"), "dead").unwrap();
    fs::create_dir_all(tmp.join("1.1/a/b")).unwrap();
    fs::write(tmp.join("1.1/a/b/c"), "dead").unwrap();
    let living = File::create(tmp.join("1.2")).unwrap();
    living.lock().unwrap();
    let writer = fixture.store.blob_writer().unwrap();
    fixture.store.prune(false, &unused).unwrap();
    assert_eq!(fixture.temporary().len(), 2);
    assert!(tmp.join("1.2").exists());
    drop((living, writer));
    fixture.store.prune(false, &unused).unwrap();
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn blobs_on_their_way_into_an_image_are_not_pruned() {
    let fixture = fixture();
    let other = Store::open(fixture.store.root()).unwrap();
    fixture.store.put(b"on its way").unwrap();
    let descriptor = Descriptor::of("", b"on its way");
    // Neither by another process, nor by this one.
    other.prune(true, &unused).unwrap();
    assert!(fixture.store.has(&descriptor));
    fixture.store.prune(true, &unused).unwrap();
    assert!(fixture.store.has(&descriptor));
    // Nor is what was there already, once it is relied upon.
    drop(fixture.store);
    assert!(other.has(&descriptor));
    Store::open(other.root())
        .unwrap()
        .prune(true, &unused)
        .unwrap();
    assert!(other.has(&descriptor));
    let root = other.root().to_owned();
    drop(other);
    let last = Store::open(&root).unwrap();
    last.prune(true, &unused).unwrap();
    assert!(!last.has(&descriptor));
}

#[test]
fn a_damaged_image_can_be_removed() {
    let fixture = fixture();
    let image = hello(&fixture.store, &["bad"], "1");
    hello(&fixture.store, &["good"], "2");
    for digest in [image.digest, image.id] {
        fs::write(
            fixture.store.root().join("blobs/sha256").join(digest.hex()),
            "damage",
        )
        .unwrap();
    }
    assert!(matches!(
        fixture.store.image("bad"),
        Err(Error::Corrupt { .. })
    ));
    assert!(matches!(
        fixture.store.prune(false, &unused),
        Err(Error::Corrupt { .. })
    ));
    assert_eq!(fixture.store.check().unwrap().len(), 1);
    fixture.store.remove("bad", false, &unused).unwrap();
    assert_whole(&fixture.store);
    fixture.store.prune(false, &unused).unwrap();
    assert_eq!(entries(&fixture.store.root().join("blobs/sha256")).len(), 3);
}
