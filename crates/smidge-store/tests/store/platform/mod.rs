//! One name for several machines.

mod archive;
mod removal;

use std::fs;

use smidge_image::{
    Descriptor, DiffId, Digest, ImageConfig, Index, Manifest, Platform, media_type,
};
use smidge_store::{Completeness, Error, Image, InUse, Store, Use};

use crate::fixture::{assert_whole, entries, file, fixture, hello, name, tar};

const UNUSED: InUse<'_> = &|_| None;

/// The platform of the machine that runs this.
fn host(store: &Store) -> Platform {
    let config = store.image("scratch").unwrap().config;
    config.platform()
}

/// Platforms that no machine here is.
const OTHERS: [&str; 3] = ["linux/s390x", "linux/arm/v6", "linux/riscv64"];

/// The blobs of an image for a platform: its manifest, its config, its layer.
struct Made {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

fn made(platform: &Platform, content: &str) -> Made {
    let layer = tar(&[file("hello", &format!("{content} {platform}"))]);
    let mut config = ImageConfig::new(platform);
    config.rootfs.diff_ids = vec![DiffId(Digest::of(&layer))];
    let config = config.to_bytes();
    let manifest = Manifest::new(
        Descriptor::of(media_type::CONFIG, &config),
        vec![Descriptor::of(media_type::LAYER, &layer)],
    );
    Made {
        manifest: manifest.to_bytes(),
        config,
        layer,
    }
}

impl Made {
    fn store(&self, store: &Store) {
        for blob in [&self.layer, &self.config, &self.manifest] {
            store.put(blob).unwrap();
        }
    }

    fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    fn entry(&self, platform: Option<&Platform>) -> Descriptor {
        let mut entry = Descriptor::of(media_type::MANIFEST, &self.manifest);
        entry.platform = platform.cloned();
        entry
    }
}

/// An index of images for some platforms, the first `stored` of which are stored.
fn multi(store: &Store, platforms: &[&str], stored: usize) -> (Vec<u8>, Vec<Made>) {
    let mut images = Vec::new();
    let mut list = Vec::new();
    for (number, text) in platforms.iter().enumerate() {
        let platform = match *text {
            "host" => host(store),
            other => other.parse().unwrap(),
        };
        let image = made(&platform, "multi");
        if number < stored {
            image.store(store);
        }
        list.push(image.entry(Some(&platform)));
        images.push(image);
    }
    (Index::new(list).to_bytes(), images)
}

fn names(image: &Image) -> Vec<String> {
    image.names.iter().map(|name| name.familiar()).collect()
}

fn blobs(store: &Store) -> usize {
    entries(&store.root().join("blobs/sha256")).len()
}

#[test]
fn a_name_means_this_machine_s_image_and_others_on_request() {
    let fixture = fixture();
    let store = &fixture.store;
    let (index, images) = multi(store, &[OTHERS[0], "host", OTHERS[1]], 3);
    let entry = store
        .add_index(&index, &[name("app"), name("app:1")])
        .unwrap();
    assert_eq!(entry.digest, Digest::of(&index));

    let mine = store.image("app").unwrap();
    assert_eq!((mine.id, mine.digest), (images[1].id(), images[1].digest()));
    assert_eq!(names(&mine), ["app:1", "app:latest"]);
    assert_eq!(mine.index.as_ref(), Some(&entry));
    assert_eq!(mine.repo_digests, []);

    for (text, expected) in [
        (OTHERS[0], Some(0)),
        ("linux/arm/v7", Some(2)),
        ("linux/arm/v5", None),
        ("windows/amd64", None),
    ] {
        let platform: Platform = text.parse().unwrap();
        let found = store.image_for("app", Some(&platform));
        match expected {
            Some(number) => assert_eq!(found.unwrap().id, images[number].id(), "{text}"),
            None => {
                let error = found.unwrap_err().to_string();
                let stored = format!(
                    "`app` is not there for {text}, only for {}, {}, {}",
                    OTHERS[0],
                    host(store),
                    OTHERS[1]
                );
                assert_eq!(error, stored);
            }
        }
    }
    // By what only one has, that one is meant, whatever this machine is.
    let pinned = format!("app@{}", images[0].digest());
    for text in [
        images[0].id().hex(),
        images[0].id().short(),
        images[0].digest().to_string(),
        pinned,
    ] {
        let image = store.image(&text).unwrap();
        assert_eq!((image.id, &image.index), (images[0].id(), &None), "{text}");
        assert_eq!(names(&image), ["app:1", "app:latest"]);
    }
    // By what the index has, the index.
    for text in [entry.digest.to_string(), format!("app@{}", entry.digest)] {
        let image = store.image(&text).unwrap();
        assert_eq!(
            (image.id, image.index.as_ref()),
            (mine.id, Some(&entry)),
            "{text}"
        );
        assert_eq!(
            store.document(&text).unwrap(),
            (entry.clone(), index.clone())
        );
    }
    assert_eq!(store.images().unwrap(), [mine]);
    let all: Vec<_> = store.all_images().unwrap().iter().map(|i| i.id).collect();
    assert_eq!(all, images.iter().map(Made::id).collect::<Vec<_>>());
    assert_whole(store);
}

#[test]
fn an_image_for_one_platform_is_not_given_for_another() {
    let fixture = fixture();
    let store = &fixture.store;
    hello(store, &["plain"], "1");
    let own: Platform = "linux/amd64".parse().unwrap();
    assert!(store.image_for("plain", Some(&own)).is_ok());
    let other: Platform = "linux/arm64".parse().unwrap();
    assert_eq!(
        store
            .image_for("plain", Some(&other))
            .unwrap_err()
            .to_string(),
        "`plain` is not there for linux/arm64, only for linux/amd64"
    );
    assert!(store.image_for("scratch", Some(&other)).is_ok());
}

#[test]
fn what_is_not_stored_is_not_found_but_known() {
    let fixture = fixture();
    let store = &fixture.store;
    let (index, images) = multi(store, &[OTHERS[0], "host", OTHERS[1]], 1);
    store.add_index(&index, &[name("app")]).unwrap();
    // Not this machine's, but the only one.
    assert_eq!(store.image("app").unwrap().id, images[0].id());
    let host = host(store);
    let error = store.image_for("app", Some(&host)).unwrap_err();
    assert!(
        matches!(&error, Error::NoSuchPlatform { available, .. } if available.len() == 1),
        "{error}"
    );
    let variants = store.variants("app").unwrap();
    let there: Vec<_> = variants.iter().map(|variant| variant.stored).collect();
    assert_eq!(there, [true, false, false]);
    assert_eq!(variants[0].image.as_ref().unwrap().id, images[0].id());
    assert_eq!(variants[1].descriptor.platform.as_ref(), Some(&host));
    assert_eq!(variants[1].image, None);
    assert_whole(store);

    // Two of which neither is this machine's leave a choice.
    images[2].store(store);
    store.add_index(&index, &[name("app")]).unwrap();
    let error = store.image("app").unwrap_err().to_string();
    let expected = format!(
        "`app` is not there for {host}, only for {}, {}",
        OTHERS[0], OTHERS[1]
    );
    assert_eq!(error, expected);
    // It is listed all the same, and prune does not mind what is missing.
    assert_eq!(store.images().unwrap()[0].id, images[0].id());
    store.prune(false, UNUSED).unwrap();
    images[1].store(store);
    store.add_index(&index, &[name("app")]).unwrap();
    assert_eq!(store.image("app").unwrap().id, images[1].id());
    assert_whole(store);
}

#[test]
fn an_index_of_which_nothing_is_stored_is_refused() {
    let fixture = fixture();
    let store = &fixture.store;
    let (index, images) = multi(store, &["host", OTHERS[0]], 0);
    let refused = store.add_index(&index, &[name("app")]);
    assert!(
        matches!(refused, Err(Error::MissingBlob { digest, .. }) if digest == images[0].digest())
    );
    let empty = Index::new(Vec::new()).to_bytes();
    let refused = store.add_index(&empty, &[name("app")]).unwrap_err();
    assert!(matches!(refused, Error::NoImages(_)), "{refused}");
    // A manifest without its layers is not there either.
    store.put(&images[0].manifest).unwrap();
    store.put(&images[0].config).unwrap();
    assert!(store.add_index(&index, &[name("app")]).is_err());
    assert!(store.entries().unwrap().is_empty());
}

#[test]
fn a_registry_may_bring_the_index_first() {
    let fixture = fixture();
    let store = &fixture.store;
    let (index, images) = multi(store, &["host", OTHERS[0]], 0);
    let whole = store.add_document(
        &index,
        media_type::INDEX,
        &[name("app")],
        Completeness::Whole,
    );
    assert!(matches!(whole, Err(Error::MissingBlob { .. })), "{whole:?}");
    store
        .add_document(
            &index,
            media_type::INDEX,
            &[name("app")],
            Completeness::Partial,
        )
        .unwrap();
    assert!(store.images().unwrap().is_empty());
    let error = store.image("app").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("`app` is not there for {}", host(store))
    );
    assert!(store.variants("app").unwrap().iter().all(|v| !v.stored));
    images[0].store(store);
    let by_digest = name(&format!("app@{}", images[0].digest()));
    let bytes = &images[0].manifest;
    store
        .add_document(
            bytes,
            media_type::MANIFEST,
            &[by_digest],
            Completeness::Whole,
        )
        .unwrap();
    // It needs no entry of its own now.
    assert_eq!(store.entries().unwrap().len(), 1);
    assert_eq!(store.image("app").unwrap().id, images[0].id());
    assert_eq!(
        store.image(&images[0].id().short()).unwrap().id,
        images[0].id()
    );
    assert_whole(store);
}

#[test]
fn an_image_that_an_index_holds_needs_no_entry_and_is_added_all_the_same() {
    let fixture = fixture();
    let store = &fixture.store;
    let (index, images) = multi(store, &["host", OTHERS[0]], 2);
    store.add_index(&index, &[name("app")]).unwrap();
    let again = store.add_image(&images[1].manifest, &[]).unwrap();
    assert_eq!(
        (again.id, names(&again)),
        (images[1].id(), vec!["app:latest".to_owned()])
    );
    let pinned = name("app").with_digest(images[1].digest());
    let again = store.add_image(&images[1].manifest, &[pinned]).unwrap();
    assert_eq!(again.id, images[1].id());
    assert_eq!(store.entries().unwrap().len(), 1);
    // Under a name of its own it has one.
    store
        .add_image(&images[1].manifest, &[name("own")])
        .unwrap();
    assert_eq!(store.entries().unwrap().len(), 2);
}

#[test]
fn a_tag_of_an_index_is_the_index_and_of_an_id_the_image() {
    let fixture = fixture();
    let store = &fixture.store;
    let (index, images) = multi(store, &["host", OTHERS[0]], 2);
    store.add_index(&index, &[name("app")]).unwrap();
    let found = store.image("app").unwrap();
    store.tag(&found, &name("other")).unwrap();
    assert_eq!(store.document("other").unwrap().1, index);
    let single = store.image(&images[1].id().hex()).unwrap();
    store.tag(&single, &name("single")).unwrap();
    assert_eq!(store.document("single").unwrap().1, images[1].manifest);
    assert_eq!(
        names(&store.image("single").unwrap()),
        ["app:latest", "other:latest", "single:latest"]
    );
    // A name that moves leaves the index nameless.
    let plain = hello(store, &["app"], "1");
    assert_eq!(store.image("app").unwrap(), plain);
    hello(store, &["other"], "2");
    let left = store.image(&images[0].id().hex()).unwrap();
    assert_eq!(names(&left), Vec::<String>::new());
    assert_eq!(store.images().unwrap().len(), 4);
    store.prune(false, UNUSED).unwrap();
    assert!(store.image(&images[0].id().hex()).is_err());
    assert_eq!(store.image("single").unwrap().id, images[1].id());
    assert_whole(store);
}

#[test]
fn an_index_that_another_program_put_there_is_followed() {
    let fixture = fixture();
    let store = &fixture.store;
    let (index, images) = multi(store, &[OTHERS[0], "host", OTHERS[1]], 2);
    store.put(&index).unwrap();
    let mut entry = Descriptor::of(media_type::INDEX, &index);
    entry
        .annotations
        .insert("org.opencontainers.image.ref.name".into(), "app".into());
    let path = store.root().join("index.json");
    fs::write(&path, Index::new(vec![entry]).to_bytes()).unwrap();
    assert_eq!(store.image("app").unwrap().id, images[1].id());
    assert_eq!(store.all_images().unwrap().len(), 2);
    assert_whole(store);
    store.remove(&images[1].id().hex(), false, UNUSED).unwrap();
    assert_eq!(store.image("app").unwrap().id, images[0].id());
    let root = store.root().to_owned();
    drop(fixture.store);
    let store = Store::open(&root).unwrap();
    store.prune(false, UNUSED).unwrap();
    assert_eq!(blobs(&store), 4);
    assert_whole(&store);
    drop(fixture.directory);
}

#[test]
fn registries_digests_are_remembered() {
    let fixture = fixture();
    let store = &fixture.store;
    let image = hello(store, &["app", "reg.test/app:1"], "1");
    let pushed = Digest::of(b"as it went over the wire");
    let target = name("reg.test/app:1");
    assert_eq!(store.repo_digest(&target).unwrap(), None);
    store.set_repo_digest(&target, pushed).unwrap();
    assert_eq!(store.repo_digest(&target).unwrap(), Some(pushed));
    let known = target.with_digest(pushed);
    assert_eq!(
        store.image("app").unwrap().repo_digests,
        std::slice::from_ref(&known)
    );
    assert_eq!(store.image(&known.familiar()).unwrap().id, image.id);
    assert!(matches!(
        store.set_repo_digest(&name("none"), pushed),
        Err(Error::NoSuchImage(_))
    ));
    // A name that is given again is the same name.
    store.tag(&image, &target).unwrap();
    assert_eq!(
        store.images().unwrap()[0].repo_digests,
        std::slice::from_ref(&known)
    );

    // When the name moves on, the digest stays, as Docker's `<none>` beside a repository.
    let newer = hello(store, &["reg.test/app:1"], "2");
    let older = store.image(&known.familiar()).unwrap();
    assert_eq!(
        (older.id, names(&older)),
        (image.id, vec!["app:latest".to_owned()])
    );
    assert_eq!(older.repo_digests, std::slice::from_ref(&known));
    assert_eq!(newer.repo_digests, []);
    store.remove("app", false, UNUSED).unwrap();
    assert_eq!(store.image(&known.familiar()).unwrap().names, []);
    store.prune(false, UNUSED).unwrap();
    assert!(store.image(&known.familiar()).is_err());
    assert_eq!(store.images().unwrap(), [newer]);
}
