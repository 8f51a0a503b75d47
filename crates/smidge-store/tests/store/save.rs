//! What leaves the store comes back the same.

use std::fs;
use std::io::Read;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use smidge_image::{LayerError, Reference, read_layer};
use smidge_store::{Compression, Image, Store};
use smidge_tests::InTime as _;

use crate::fixture::{add, assert_whole, child, file, fixture, gzip, hello, name, read, tar};

type Images = Vec<(Image, Vec<Reference>)>;

/// Two images that share a layer, one of them nameless.
fn images(store: &Store) -> Images {
    let base = tar(&[file("base", &"b".repeat(10_000))]);
    let app = tar(&[file("app", "a")]);
    let first = add(store, &["app", "ghcr.io/acme/app:1"], &[base.clone(), app]);
    let second = add(store, &[], &[base]);
    vec![(first.clone(), first.names), (second, Vec::new())]
}

fn saved(store: &Store, format: &str, images: &[(Image, Vec<Reference>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    match format {
        "docker" => store.save_docker_archive(images, &mut archive).unwrap(),
        _ => store.save_oci_archive(images, &mut archive).unwrap(),
    }
    archive
}

/// Gives out a few bytes at a time, like a pipe.
struct Trickle<'b>(&'b [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(777);
        self.0.read(&mut buffer[..count])
    }
}

#[test]
fn archives_come_back_as_the_same_images() {
    let source = fixture();
    let images = images(&source.store);
    for format in ["docker", "oci"] {
        let archive = saved(&source.store, format, &images);
        for packed in [archive.clone(), gzip(&archive)] {
            let target = fixture();
            let loaded = target.store.load(&mut Trickle(&packed)).unwrap();
            let ids = |images: &[Image]| {
                let mut ids: Vec<_> = images.iter().map(|image| image.id).collect();
                ids.sort();
                ids.dedup();
                ids
            };
            let originals: Vec<_> = images.iter().map(|(image, _)| image.clone()).collect();
            assert_eq!(ids(&loaded), ids(&originals), "{format}");
            let app = target.store.image("ghcr.io/acme/app:1").unwrap();
            assert_eq!(app.names, images[0].1);
            assert_eq!(target.store.images().unwrap().len(), 2);
            if format == "docker" {
                assert_eq!(app.digest, images[0].0.digest);
            }
            // What came compressed leaves as it came.
            let again: Images = vec![(app.clone(), app.names.clone())];
            let transfer = target.store.transfer(&app, Compression::Gzip).unwrap();
            let original = source
                .store
                .transfer(&images[0].0, Compression::Gzip)
                .unwrap();
            assert_eq!(transfer.digest(), original.digest(), "{format}");
            assert!(!saved(&target.store, format, &again).is_empty());
            assert_whole(&target.store);
            assert_eq!(target.temporary().len(), 0);
        }
    }
}

#[test]
fn the_same_image_gives_the_same_bytes() {
    let one = fixture();
    let two = fixture();
    hello(&two.store, &["other"], "in between");
    let (first, second) = (images(&one.store), images(&two.store));
    for format in ["docker", "oci"] {
        let archive = saved(&one.store, format, &first);
        assert!(archive == saved(&two.store, format, &second), "{format}");
        assert!(archive == saved(&one.store, format, &first), "{format}");
    }
}

#[test]
fn a_layout_is_written_and_added_to() {
    let fixture = fixture();
    let images = images(&fixture.store);
    let layout = fixture.path("layout");
    fixture
        .store
        .save_oci_layout(&images[..1], &layout)
        .unwrap();
    let index = fs::read(layout.join("index.json")).unwrap();
    fixture
        .store
        .save_oci_layout(&images[..1], &layout)
        .unwrap();
    assert_eq!(fs::read(layout.join("index.json")).unwrap(), index);
    fixture
        .store
        .save_oci_layout(&images[1..], &layout)
        .unwrap();
    let other = Store::open(&fixture.path("other")).unwrap();
    let loaded = other.load_oci_layout(&layout).unwrap();
    assert_eq!(loaded.len(), 3);
    assert_eq!(other.images().unwrap().len(), 2);
    assert_eq!(other.image("app").unwrap().names, images[0].1);
    assert_whole(&other);
    // A store is a layout, too.
    let third = Store::open(&fixture.path("third")).unwrap();
    third.load_oci_layout(fixture.store.root()).unwrap();
    assert_eq!(third.image("app").unwrap(), images[0].0);
}

#[test]
fn a_layout_may_be_behind_a_link() {
    let fixture = fixture();
    let images = images(&fixture.store);
    let (layout, link) = (fixture.path("layout"), fixture.path("link"));
    fs::create_dir(&layout).unwrap();
    std::os::unix::fs::symlink(&layout, &link).unwrap();
    fixture.store.save_oci_layout(&images, &link).unwrap();
    assert!(layout.join("index.json").is_file());
}

/// Packages of many images have more members than a process may have files open.
#[test]
fn an_archive_may_have_many_members() {
    let fixture = fixture();
    let images = images(&fixture.store);
    fs::write(
        fixture.path("app.tar"),
        saved(&fixture.store, "docker", &images),
    )
    .unwrap();
    let output = child("save::with_few_files", fixture.directory.path())
        .output_in_time()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn with_few_files() {
    let archive = fs::read("app.tar").unwrap();
    let mut members = Vec::new();
    read_layer(&archive[..], |entry, content| {
        let bytes = read(content).unwrap();
        members.push((entry, bytes));
        Ok::<_, LayerError>(())
    })
    .unwrap();
    members.extend((0..200).map(|n| file(&format!("blobs/sha256/{n}"), "other")));
    let limit = Rlimit {
        current: Some(64),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let store = Store::open(Path::new("few")).unwrap();
    assert_eq!(store.load(&mut &tar(&members)[..]).unwrap().len(), 2);
}

#[test]
fn a_layer_is_compressed_once() {
    let fixture = fixture();
    let image = hello(&fixture.store, &["a"], &"hello ".repeat(1000));
    let transfer = fixture.store.transfer(&image, Compression::Gzip).unwrap();
    assert!(transfer.size() < image.size());
    let cache = fixture.store.root().join("cache/transfer/smidge-gzip-1");
    let made = |path: &std::path::Path| fs::metadata(path).unwrap().modified().unwrap();
    let blob = cache.join(transfer.layers[0].descriptor.digest.hex());
    let before = made(&blob);
    assert_eq!(
        fixture.store.transfer(&image, Compression::Gzip).unwrap(),
        transfer
    );
    assert_eq!(made(&blob), before);
    let bytes = read(&mut transfer.layers[0].open().unwrap()).unwrap();
    assert_eq!(bytes.len() as u64, transfer.layers[0].descriptor.size);
    // A cache that lost its blob is filled again; one that is damaged is noticed.
    fs::remove_file(&blob).unwrap();
    assert_eq!(
        fixture.store.transfer(&image, Compression::Gzip).unwrap(),
        transfer
    );
    fs::write(&blob, vec![0; bytes.len()]).unwrap();
    assert!(read(&mut transfer.layers[0].open().unwrap()).is_err());
    let smallest = fixture
        .store
        .transfer(&image, Compression::SmallestGzip)
        .unwrap();
    assert!(smallest.layers[0].descriptor.size <= transfer.layers[0].descriptor.size);
}

#[test]
fn scratch_can_be_saved() {
    let fixture = fixture();
    let scratch = fixture.store.image("scratch").unwrap();
    let archive = saved(
        &fixture.store,
        "docker",
        &[(scratch.clone(), vec![name("scratch")])],
    );
    let other = Store::open(&fixture.path("other")).unwrap();
    assert_eq!(
        other.load(&mut archive.as_slice()).unwrap()[0].id,
        scratch.id
    );
    assert_eq!(other.image("scratch").unwrap().names, [name("scratch")]);
}
