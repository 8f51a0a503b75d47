//! Blobs come in from a source that is as bad as networks are.

mod crowd;
mod fault;
mod memory;

use std::io::{self, BufRead as _, BufReader, Cursor, Read, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;

use smidge_image::{Descriptor, DiffId, Digest, Manifest, media_type};
use smidge_store::{Error, Image, Intake, Store};

use crate::fixture::{
    Fixture, Member, assert_whole, chain, child, config, directory, entries, file, fixture, gzip,
    name, symlink, tar,
};

/// A layer as a registry has it.
#[derive(Clone)]
struct Remote {
    descriptor: Descriptor,
    diff_id: DiffId,
    bytes: Vec<u8>,
}

impl Remote {
    fn new(kind: &str, tar: &[u8], bytes: Vec<u8>) -> Self {
        Self {
            descriptor: Descriptor::of(kind, &bytes),
            diff_id: DiffId(Digest::of(tar)),
            bytes,
        }
    }

    fn gzip(members: &[Member]) -> Self {
        let tar = tar(members);
        Self::new(media_type::LAYER_GZIP, &tar, gzip(&tar))
    }
}

/// Text that does not compress to nothing.
fn text(length: usize) -> String {
    let mut state = 7_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 26)
    };
    (0..length).map(|_| random()).collect()
}

/// Hands out bytes until it breaks.
struct Breaking {
    bytes: Cursor<Vec<u8>>,
    fault: Option<io::ErrorKind>,
}

impl Read for Breaking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(10_007);
        match (self.bytes.read(&mut buffer[..most])?, self.fault) {
            (0, Some(kind)) => Err(io::Error::new(kind, "the line broke")),
            (read, _) => Ok(read),
        }
    }
}

type Opened = io::Result<Box<dyn Read + Send>>;

/// Serves `bytes` from any offset on.
fn whole(bytes: &[u8]) -> impl FnMut(u64) -> Opened + Send + use<> {
    let bytes = bytes.to_vec();
    move |offset| Ok(Box::new(Cursor::new(bytes[offset as usize..].to_vec())))
}

/// Serves `bytes` up to `end`, where it breaks.
fn until(
    bytes: &[u8],
    end: usize,
    fault: io::ErrorKind,
) -> impl FnMut(u64) -> Opened + Send + use<> {
    let bytes = bytes[..end].to_vec();
    move |offset| {
        Ok(Box::new(Breaking {
            bytes: Cursor::new(bytes[offset as usize..].to_vec()),
            fault: Some(fault),
        }))
    }
}

/// What must not be fetched.
fn never(_: u64) -> Opened {
    panic!("it is there already")
}

fn documents(layers: &[Remote]) -> (Vec<u8>, Vec<u8>) {
    let config = config(layers.iter().map(|layer| layer.diff_id).collect()).to_bytes();
    let manifest = Manifest::new(
        Descriptor::of(media_type::CONFIG, &config),
        layers.iter().map(|l| l.descriptor.clone()).collect(),
    );
    (config, manifest.to_bytes())
}

fn commit(intake: Intake<'_>, layers: &[Remote], tag: &str) -> Result<Image, Error> {
    let (config, manifest) = documents(layers);
    intake.put(&config)?;
    intake.put(&manifest)?;
    let descriptor = Descriptor::of(media_type::MANIFEST, &manifest);
    let images = intake.commit(&[(descriptor, vec![name(tag)])])?;
    Ok(images.into_iter().next().unwrap())
}

fn pull(store: &Store, layers: &[Remote], tag: &str) -> Result<Image, Error> {
    let intake = store.intake()?;
    for layer in layers {
        intake.layer(&layer.descriptor, &layer.diff_id, &mut whole(&layer.bytes))?;
    }
    commit(intake, layers, tag)
}

fn assert_untouched(fixture: &Fixture) {
    for directory in ["blobs/sha256", "layers"] {
        let found = entries(&fixture.store.root().join(directory));
        assert!(found.is_empty(), "{found:?}");
    }
    assert!(fixture.store.images().unwrap().is_empty());
}

fn partial(fixture: &Fixture, layer: &Remote) -> std::path::PathBuf {
    let name = format!("tmp/partial-{}/blob", layer.descriptor.digest.hex());
    fixture.store.root().join(name)
}

#[test]
fn an_image_comes_in_unpacked() {
    let base = Remote::gzip(&[
        directory("etc"),
        file("etc/name", "base"),
        file("gone", "x"),
    ]);
    let members = [file(".wh.gone", ""), symlink("etc/link", "name")];
    let plain = tar(&members);
    let top = Remote::new(media_type::LAYER, &plain, plain.clone());
    let plain = tar(&[file("big", &text(1 << 20))]);
    let packed = zstd::encode_all(plain.as_slice(), 3).unwrap();
    let big = Remote::new(media_type::LAYER_ZSTD, &plain, packed);
    let layers = [base, top, big];
    let fixture = fixture();
    let image = pull(&fixture.store, &layers, "app").unwrap();
    assert_eq!(image.names, [name("app")]);
    assert!(fixture.store.is_checked_out(&image));
    assert_eq!(fixture.temporary(), Vec::<std::path::PathBuf>::new());
    assert_whole(&fixture.store);
    let tree = fixture.store.tree(&image).unwrap();
    let node = |at: &str| smidge_image::Tree::node(&tree, &crate::fixture::path(at)).unwrap();
    assert!(node("gone").is_none());
    assert!(node("etc/link").is_some() && node("big").is_some());
    // A second time nothing is fetched.
    let intake = fixture.store.intake().unwrap();
    for layer in &layers {
        intake
            .layer(&layer.descriptor, &layer.diff_id, &mut never)
            .unwrap();
    }
    assert_eq!(commit(intake, &layers, "again").unwrap().id, image.id);
}

#[test]
fn an_empty_blob_needs_no_fetch() {
    let fixture = fixture();
    let intake = fixture.store.intake().unwrap();
    let empty = Descriptor::of("text/plain", b"");
    intake.blob(&empty, &mut never).unwrap();
    assert!(intake.has(&empty));
}

#[test]
fn a_layer_that_occurs_twice_comes_once() {
    let twice = Remote::gzip(&[file("a", &text(100_000))]);
    let layers = [
        twice.clone(),
        Remote::gzip(&[file("b", "b")]),
        twice.clone(),
    ];
    let fixture = fixture();
    let intake = fixture.store.intake().unwrap();
    let fetched = Mutex::new(0);
    thread::scope(|scope| {
        for layer in &layers {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut source = whole(&layer.bytes);
                    let mut fetch = |offset| {
                        *fetched.lock().unwrap() += 1;
                        source(offset)
                    };
                    intake
                        .layer(&layer.descriptor, &layer.diff_id, &mut fetch)
                        .unwrap();
                });
            }
        }
    });
    assert_eq!(*fetched.lock().unwrap(), 2);
    let image = commit(intake, &layers, "app").unwrap();
    assert!(fixture.store.is_checked_out(&image));
    assert_whole(&fixture.store);
}

#[test]
fn a_stored_layer_is_only_unpacked() {
    let layer = Remote::gzip(&[file("a", &text(100_000))]);
    let fixture = fixture();
    let mut writer = fixture.store.blob_writer().unwrap();
    writer.write_all(&layer.bytes).unwrap();
    writer.commit_as(&layer.descriptor).unwrap();
    let intake = fixture.store.intake().unwrap();
    assert!(intake.has(&layer.descriptor));
    intake
        .layer(&layer.descriptor, &layer.diff_id, &mut never)
        .unwrap();
    let image = commit(intake, &[layer], "app").unwrap();
    assert!(fixture.store.is_checked_out(&image));
}

#[test]
fn a_blob_that_was_taken_in_can_be_unpacked_after_all() {
    let layer = Remote::gzip(&[file("a", &text(100_000))]);
    let fixture = fixture();
    let intake = fixture.store.intake().unwrap();
    intake
        .blob(&layer.descriptor, &mut whole(&layer.bytes))
        .unwrap();
    intake
        .layer(&layer.descriptor, &layer.diff_id, &mut never)
        .unwrap();
    let image = commit(intake, &[layer], "app").unwrap();
    assert!(fixture.store.is_checked_out(&image));
}

#[test]
fn an_intake_without_its_blobs_is_refused() {
    let layer = Remote::gzip(&[file("a", "b")]);
    let fixture = fixture();
    let intake = fixture.store.intake().unwrap();
    let error = commit(intake, &[layer], "app").unwrap_err();
    assert!(matches!(error, Error::MissingBlob { .. }), "{error:?}");
    assert!(fixture.store.images().unwrap().is_empty());
}
