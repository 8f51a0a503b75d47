//! Stores that last as long as a copy: what leaves them is moved, not copied, and verified once.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use smidge_image::{Descriptor, DiffId, Digest, LayerError, Manifest, media_type, read_layer};
use smidge_store::{Compression, Error, Image, Store};

use crate::fixture::{Fixture, assert_whole, config, entries, file, fixture, gzip, name, tar};

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

fn blob(root: &Path, digest: &Digest) -> std::path::PathBuf {
    root.join("blobs/sha256").join(digest.hex())
}

/// Takes an image in as a registry would bring it.
fn bring(store: &Store, text: &str) -> Image {
    let archive = tar(&[file("file", &text.repeat(1000))]);
    let bytes = gzip(&archive);
    let layer = Descriptor::of(media_type::LAYER_GZIP, &bytes);
    let config = config(vec![DiffId(Digest::of(&archive))]).to_bytes();
    let described = Descriptor::of(media_type::CONFIG, &config);
    let manifest = Manifest::new(described, vec![layer.clone()]).to_bytes();
    let intake = store.intake().unwrap();
    intake.put(&config).unwrap();
    intake.put(&manifest).unwrap();
    intake
        .blob(&layer, &mut |_| Ok(Box::new(Cursor::new(bytes.clone()))))
        .unwrap();
    let top = Descriptor::of(media_type::MANIFEST, &manifest);
    let images = intake.commit(&[(top, vec![name("brought")])]);
    images.unwrap().remove(0)
}

fn passing(fixture: &Fixture) -> Store {
    Store::open_passing(&fixture.path("passing")).unwrap()
}

#[test]
fn a_layout_takes_the_blobs_of_a_passing_store_along() {
    let fixture = fixture();
    let store = passing(&fixture);
    let image = bring(&store, "text");
    let layout = fixture.path("a/b/layout");
    let export = |store: &Store, image: &Image| {
        let entry = store.export_oci_layout((image, None), Compression::Gzip, &layout);
        assert_eq!(entry.unwrap().digest, image.digest);
    };
    let layer = image.manifest.layers[0].digest;
    for _ in 0..2 {
        export(&store, &image);
        let (here, there) = (blob(store.root(), &layer), blob(&layout, &layer));
        assert_eq!(inode(&here), inode(&there));
    }
    assert_eq!(entries(&layout.join("blobs/sha256")).len(), 3);
    // A store that stays keeps its blobs to itself, and a blob that is there and right stays.
    let image = bring(&fixture.store, "text");
    let before = inode(&blob(&layout, &layer));
    export(&fixture.store, &image);
    assert_eq!(inode(&blob(&layout, &layer)), before);
    fs::write(blob(&layout, &layer), vec![7; 100]).unwrap();
    export(&fixture.store, &image);
    let healed = blob(&layout, &layer);
    assert_ne!(inode(&healed), inode(&blob(fixture.store.root(), &layer)));
    assert_eq!(Digest::of(&fs::read(&healed).unwrap()), layer);
}

#[test]
fn a_store_takes_the_blobs_of_a_passing_store_over() {
    let fixture = fixture();
    let store = passing(&fixture);
    let image = bring(&store, "text");
    let intake = fixture.store.intake().unwrap();
    for part in image.manifest.layers.iter().chain([&image.manifest.config]) {
        intake.take_over(&store, part).unwrap();
    }
    intake.put(&image.manifest.to_bytes()).unwrap();
    let layer = image.manifest.layers[0].digest;
    assert!(!blob(fixture.store.root(), &layer).exists());
    intake
        .commit(&[(image.descriptor(), vec![name("taken")])])
        .unwrap();
    assert_eq!(
        inode(&blob(fixture.store.root(), &layer)),
        inode(&blob(store.root(), &layer))
    );
    assert_eq!(fixture.temporary().len(), 0);
    drop(store);
    fs::remove_dir_all(fixture.path("passing")).unwrap();
    assert_whole(&fixture.store);
    assert_eq!(fixture.store.image("taken").unwrap().digest, image.digest);
}

#[test]
fn what_a_store_that_stays_gives_is_verified_again() {
    let (from, to) = (fixture(), fixture());
    let image = bring(&from.store, "text");
    let layer = &image.manifest.layers[0];
    let intake = to.store.intake().unwrap();
    intake.take_over(&from.store, layer).unwrap();
    assert!(intake.has(layer));
    drop(intake);
    let path = blob(from.store.root(), &layer.digest);
    fs::write(&path, vec![7; layer.size as usize]).unwrap();
    let intake = to.store.intake().unwrap();
    // What came before is still there, and right.
    intake.take_over(&from.store, layer).unwrap();
    drop(intake);
    let fresh = fixture();
    let intake = fresh.store.intake().unwrap();
    let refused = intake.take_over(&from.store, layer).unwrap_err();
    assert!(format!("{refused:?}").contains("Corrupt"), "{refused:?}");
    assert!(!intake.has(layer));
}

#[test]
fn blobs_are_found_elsewhere_by_all_of_their_bytes() {
    let fixture = fixture();
    let store = passing(&fixture);
    let bytes = b"a blob".repeat(1000);
    let wanted = Descriptor::of(media_type::LAYER, &bytes);
    let path = fixture.path("elsewhere");
    let intake = store.intake().unwrap();
    assert!(!intake.find(&wanted, &path), "there is nothing");
    fs::write(&path, &bytes[1..]).unwrap();
    assert!(!intake.find(&wanted, &path), "it is shorter");
    let mut wrong = bytes.clone();
    wrong[5999] ^= 1;
    fs::write(&path, wrong).unwrap();
    assert!(!intake.find(&wanted, &path), "its last byte is another");
    fs::write(&path, &bytes).unwrap();
    let own = fixture.store.intake().unwrap();
    assert!(
        !own.find(&wanted, &path),
        "a store that stays links to nothing"
    );
    assert!(intake.find(&wanted, &path));
    assert!(intake.has(&wanted));
}

#[test]
fn a_layout_that_fails_leaves_nothing_or_what_was_there() {
    let fixture = fixture();
    let image = bring(&fixture.store, "text");
    let layer = image.manifest.layers[0].clone();
    let good = bring(&fixture.store, "other");
    let path = blob(fixture.store.root(), &layer.digest);
    fs::write(path, vec![7; layer.size as usize]).unwrap();
    let export = |image: &Image, directory: &Path| {
        let found = (image, Some("x"));
        let store = &fixture.store;
        store.export_oci_layout(found, Compression::Gzip, directory)
    };
    let fault = export(&image, &fixture.path("a/b/c")).unwrap_err();
    assert!(matches!(fault, Error::Corrupt { .. }), "{fault:?}");
    assert!(!fixture.path("a").exists());
    fs::create_dir(fixture.path("empty")).unwrap();
    export(&image, &fixture.path("empty")).unwrap_err();
    assert_eq!(entries(&fixture.path("empty")).len(), 0);
    let layout = fixture.path("layout");
    export(&good, &layout).unwrap();
    let before = (
        entries(&layout.join("blobs/sha256")),
        fs::read(layout.join("index.json")),
    );
    export(&image, &layout).unwrap_err();
    assert_eq!(entries(&layout.join("blobs/sha256")), before.0);
    assert_eq!(
        fs::read(layout.join("index.json")).unwrap(),
        before.1.unwrap()
    );
}

#[test]
fn docker_is_spared_what_it_has_and_cannot_read() {
    let fixture = fixture();
    let archives: Vec<_> = ["one", "two", "three"]
        .iter()
        .map(|text| tar(&[file("file", &text.repeat(100))]))
        .collect();
    let bottom = Descriptor::of(media_type::LAYER, &archives[0]);
    let packed = zstd::encode_all(&*archives[1], 1).unwrap();
    let zstd = Descriptor::of(media_type::LAYER_ZSTD, &packed);
    let gzipped = gzip(&archives[2]);
    let gzip = Descriptor::of(media_type::LAYER_GZIP, &gzipped);
    // The lowest layer comes again on top.
    let order = [&archives[0], &archives[1], &archives[2], &archives[0]];
    let diff_ids = order.map(|archive| DiffId(Digest::of(archive)));
    let config = config(diff_ids.to_vec()).to_bytes();
    for bytes in [&archives[0], &packed, &gzipped, &config] {
        fixture.store.put(bytes).unwrap();
    }
    let layers = vec![bottom.clone(), zstd, gzip.clone(), bottom.clone()];
    let manifest = Manifest::new(Descriptor::of(media_type::CONFIG, &config), layers);
    let image = fixture.store.add_image(&manifest.to_bytes(), &[]).unwrap();
    let written = |known: usize| {
        let mut archive = Vec::new();
        let wanted = (&image, &name("some/image:1"));
        let saved = fixture.store.save_for_docker(wanted, known, &mut archive);
        saved.unwrap();
        let (mut blobs, mut text) = (0, String::new());
        let read = read_layer(&*archive, |entry, content| {
            let path = entry.path.to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            if let Some(hex) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(Digest::of(&bytes).hex(), hex);
                blobs += 1;
            } else if path == "manifest.json" {
                text = String::from_utf8(bytes).unwrap();
            }
            Ok::<(), LayerError>(())
        });
        read.unwrap();
        (blobs, text)
    };
    let (blobs, text) = written(0);
    assert_eq!(blobs, 4, "three layers and the config");
    let unpacked = Digest::of(&archives[1]).hex();
    let members = [
        &bottom.digest.hex(),
        &unpacked,
        &gzip.digest.hex(),
        &bottom.digest.hex(),
    ]
    .map(|hex| format!("\"blobs/sha256/{hex}\""));
    assert!(
        text.contains(&format!("\"Layers\":[{}]", members.join(","))),
        "{text}"
    );
    assert!(text.contains("\"docker.io/some/image:1\""), "{text}");
    assert_eq!(written(2), (3, text.clone()), "the lowest is needed on top");
    assert_eq!(written(3), (2, text.clone()));
    assert_eq!(written(4), (1, text));
}
