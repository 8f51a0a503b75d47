//! Images and their names.

use std::fs;

use smidge_image::{Descriptor, Digest, ImageConfig, Manifest, Platform, Tree as _, media_type};
use smidge_store::{Error, Store};

use crate::fixture::{add, assert_whole, chain, file, fixture, hello, name, path, tar};

#[test]
fn an_image_is_found_by_all_its_names_and_ids() {
    let fixture = fixture();
    let image = hello(&fixture.store, &["hello", "ghcr.io/acme/hello:1.0"], "1");
    let hex = image.id.hex();
    let pinned = format!("ghcr.io/acme/hello@{}", image.digest);
    for wanted in [
        "hello",
        "hello:latest",
        "docker.io/library/hello:latest",
        "ghcr.io/acme/hello:1.0",
        &pinned,
        &hex,
        &hex[..12],
        &hex[..1],
        &format!("sha256:{hex}"),
        &format!("sha256:{}", &hex[..7]),
        &image.digest.to_string(),
    ] {
        assert_eq!(fixture.store.image(wanted).unwrap(), image, "{wanted}");
    }
    for missing in [
        "hello:2",
        "ghcr.io/acme/hello",
        "nobody/hello",
        &"0".repeat(64),
        "0000000",
    ] {
        let found = fixture.store.image(missing);
        assert!(
            matches!(found, Err(Error::NoSuchImage(text)) if text == missing),
            "{missing}"
        );
    }
    for broken in ["", "UPPER", "a b", "hello:", "/hello"] {
        let found = fixture.store.image(broken);
        assert!(matches!(found, Err(Error::Reference { .. })), "{broken}");
    }
    assert_eq!(
        fixture.store.images().unwrap(),
        std::slice::from_ref(&image)
    );
    assert_eq!(image.names, [name("hello"), name("ghcr.io/acme/hello:1.0")]);
    assert_eq!(
        image.size(),
        image.manifest.blobs_size() + image.descriptor().size
    );
}

#[test]
fn the_beginning_of_two_ids_is_ambiguous() {
    let fixture = fixture();
    // With 17 images, two ids share their first digit.
    let ids: Vec<_> = (0..17)
        .map(|n| hello(&fixture.store, &[], &n.to_string()).id)
        .collect();
    let shared = ids.iter().map(Digest::hex).map(|hex| hex[..1].to_owned());
    let ambiguous = shared
        .filter(|digit| {
            matches!(fixture.store.image(digit), Err(Error::AmbiguousImage { ids, .. }) if ids.len() > 1)
        })
        .count();
    assert!(ambiguous >= 2);
    for id in &ids {
        assert_eq!(fixture.store.image(&id.short()).unwrap().id, *id);
    }
}

#[test]
fn a_name_that_moves_leaves_its_image_nameless() {
    let fixture = fixture();
    let first = hello(&fixture.store, &["app", "app:1"], "1");
    let second = hello(&fixture.store, &["app"], "2");
    assert_eq!(fixture.store.image("app").unwrap(), second);
    assert_eq!(fixture.store.image("app:1").unwrap().names, [name("app:1")]);
    fixture.store.tag(&second, &name("app:1")).unwrap();
    assert_eq!(fixture.store.image(&first.id.hex()).unwrap().names, []);
    assert_eq!(
        fixture.store.image("app:1").unwrap().names,
        [name("app:1"), name("app")]
    );
    fixture.store.tag(&first, &name("old")).unwrap();
    assert_eq!(fixture.store.images().unwrap().len(), 2);
    assert_whole(&fixture.store);
}

#[test]
fn the_same_image_twice_is_one() {
    let fixture = fixture();
    hello(&fixture.store, &[], "1");
    hello(&fixture.store, &["a"], "1");
    let image = hello(&fixture.store, &["b", "a"], "1");
    assert_eq!(image.names, [name("a"), name("b")]);
    assert_eq!(fixture.store.images().unwrap(), [image]);
}

#[test]
fn scratch_is_there_without_being_stored() {
    let fixture = fixture();
    let scratch = fixture.store.image("scratch").unwrap();
    assert_eq!(scratch.manifest.layers, []);
    assert!(fixture.store.images().unwrap().is_empty());
    assert!(fixture.store.checkout(&scratch).unwrap().is_empty());
    let tree = fixture.store.tree(&scratch).unwrap();
    assert_eq!(tree.list(&path("/")).unwrap(), Vec::<Vec<u8>>::new());
    assert!(tree.node(&path("/")).unwrap().is_some());
    fixture.store.tag(&scratch, &name("nothing")).unwrap();
    assert_eq!(fixture.store.image("nothing").unwrap().id, scratch.id);
    assert_whole(&fixture.store);
}

#[test]
fn an_empty_archive_is_an_image_of_no_files() {
    let fixture = fixture();
    let config = ImageConfig::new(&Platform::linux("amd64"));
    for (tag, archive) in [
        ("scratch", Vec::new()),
        ("empty", vec![0; 1024]),
        ("e2", vec![0; 10240]),
    ] {
        let image = fixture
            .store
            .import(&mut archive.as_slice(), config.clone(), &[name(tag)])
            .unwrap();
        assert_eq!(fixture.store.image(tag).unwrap().id, image.id);
        assert_eq!(
            fixture
                .store
                .tree(&image)
                .unwrap()
                .list(&path("/"))
                .unwrap()
                .len(),
            0
        );
    }
}

#[test]
fn a_root_file_system_is_imported_as_it_is() {
    let fixture = fixture();
    let layer = tar(&[file("etc/hostname", "box\n"), file("hello", "hi")]);
    let config = ImageConfig::new(&Platform::linux("amd64"));
    for packed in [layer.clone(), crate::fixture::gzip(&layer)] {
        let image = fixture
            .store
            .import(&mut packed.as_slice(), config.clone(), &[name("box")])
            .unwrap();
        assert_eq!(image.config.rootfs.diff_ids[0].0, Digest::of(&layer));
        assert_eq!(image.manifest.layers[0].digest, Digest::of(&layer));
        let tree = fixture.store.tree(&image).unwrap();
        assert_eq!(tree.read(&path("etc/hostname"), 10).unwrap(), b"box\n");
    }
    let broken = fixture
        .store
        .import(&mut &layer[..700], config.clone(), &[name("broken")]);
    assert!(matches!(broken, Err(Error::Layer { .. })), "{broken:?}");
    let text = fixture
        .store
        .import(&mut &[b'x'; 2000][..], config, &[name("text")]);
    assert!(matches!(text, Err(Error::Layer { .. })), "{text:?}");
    assert_eq!(fixture.store.images().unwrap().len(), 1);
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn an_image_needs_all_its_blobs() {
    let fixture = fixture();
    let config =
        crate::fixture::config(vec![smidge_image::DiffId(Digest::of(b"layer"))]).to_bytes();
    let layer = Descriptor::of(media_type::LAYER, b"layer");
    let manifest = Manifest::new(Descriptor::of(media_type::CONFIG, &config), vec![layer]);
    let add = || fixture.store.add_image(&manifest.to_bytes(), &[name("a")]);
    assert!(
        matches!(add(), Err(Error::MissingBlob { digest, .. }) if digest == Digest::of(&config))
    );
    fixture.store.put(&config).unwrap();
    assert!(
        matches!(add(), Err(Error::MissingBlob { digest, .. }) if digest == Digest::of(b"layer"))
    );
    fixture.store.put(b"layer").unwrap();
    add().unwrap();

    let unequal = Manifest::new(Descriptor::of(media_type::CONFIG, &config), vec![]);
    let refused = fixture.store.add_image(&unequal.to_bytes(), &[name("b")]);
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    let garbage = fixture.store.add_image(b"{]", &[name("b")]);
    assert!(
        matches!(garbage, Err(Error::Document { .. })),
        "{garbage:?}"
    );
    assert_eq!(fixture.store.images().unwrap().len(), 1);
}

#[test]
fn a_directory_that_holds_something_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("thesis.tex"), "").unwrap();
    let refused = Store::open(directory.path()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "`{}` is not a smidge store: it holds `thesis.tex`",
            directory.path().display()
        )
    );
    fs::remove_file(directory.path().join("thesis.tex")).unwrap();
    Store::open(directory.path()).unwrap();
    fs::write(
        directory.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"2.0.0"}"#,
    )
    .unwrap();
    let refused = Store::open(directory.path()).unwrap_err();
    assert!(matches!(refused, Error::LayoutVersion { found, .. } if found == "2.0.0"));
    fs::write(directory.path().join("oci-layout"), "").unwrap();
    assert!(matches!(
        Store::open(directory.path()),
        Err(Error::Document { .. })
    ));
}

#[test]
fn a_broken_index_is_named() {
    let fixture = fixture();
    hello(&fixture.store, &["a"], "1");
    fs::write(
        fixture.store.root().join("index.json"),
        r#"{"schemaVersion":2,"#,
    )
    .unwrap();
    let error = fixture.store.image("a").unwrap_err();
    assert!(
        chain(&error).contains("index.json` is not a valid image index: EOF"),
        "{error}"
    );
    assert!(
        fixture
            .store
            .tag(
                &fixture.store.image("scratch").unwrap_or_else(|_| {
                    Store::open(&fixture.path("other"))
                        .unwrap()
                        .image("scratch")
                        .unwrap()
                }),
                &name("b")
            )
            .is_err()
    );
}

#[test]
fn many_layers_make_one_image() {
    let fixture = fixture();
    let layers: Vec<_> = (0..40)
        .map(|n| tar(&[file(&format!("f{n}"), &n.to_string())]))
        .collect();
    let image = add(&fixture.store, &["many"], &layers);
    assert_eq!(fixture.store.checkout(&image).unwrap().len(), 40);
    let tree = fixture.store.tree(&image).unwrap();
    assert_eq!(tree.list(&path("/")).unwrap().len(), 40);
    assert_eq!(tree.read(&path("f7"), 9).unwrap(), b"7");
    assert_whole(&fixture.store);
}
