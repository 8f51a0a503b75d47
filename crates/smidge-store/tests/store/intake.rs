//! Blobs come in from a source that is as bad as networks are.

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
fn what_came_before_a_fault_is_not_fetched_again() {
    let layer = Remote::gzip(&[file("big", &text(3 << 20))]);
    let size = layer.bytes.len();
    assert!(size > 1 << 20);
    for fault in [io::ErrorKind::ConnectionReset, io::ErrorKind::TimedOut] {
        for end in [0, 1, 512, 262_143, 262_144, 262_145, size / 2, size - 1] {
            let fixture = fixture();
            let intake = fixture.store.intake().unwrap();
            let error = intake
                .layer(
                    &layer.descriptor,
                    &layer.diff_id,
                    &mut until(&layer.bytes, end, fault),
                )
                .unwrap_err();
            assert!(
                matches!(&error, Error::Fetch(e) if e.kind() == fault),
                "{end}: {error:?}"
            );
            drop(intake);
            assert_untouched(&fixture);
            let offsets = Mutex::new(Vec::new());
            let mut source = whole(&layer.bytes);
            let mut fetch = |offset| {
                offsets.lock().unwrap().push(offset);
                source(offset)
            };
            let intake = fixture.store.intake().unwrap();
            intake
                .layer(&layer.descriptor, &layer.diff_id, &mut fetch)
                .unwrap();
            assert_eq!(*offsets.lock().unwrap(), [end as u64]);
            let image = commit(intake, std::slice::from_ref(&layer), "app").unwrap();
            assert!(fixture.store.is_checked_out(&image));
            assert_whole(&fixture.store);
            assert_eq!(fixture.temporary().len(), 0);
        }
    }
}

#[test]
fn a_blob_that_ends_early_is_a_fault_of_the_fetch() {
    let layer = Remote::gzip(&[file("big", &text(1 << 20))]);
    let fixture = fixture();
    let intake = fixture.store.intake().unwrap();
    let short = layer.bytes[..1000].to_vec();
    let error = intake
        .layer(&layer.descriptor, &layer.diff_id, &mut whole(&short))
        .unwrap_err();
    let size = layer.bytes.len();
    assert_eq!(
        error.to_string(),
        format!("the blob ends after 1000 of its {size} bytes")
    );
    assert_eq!(std::fs::read(partial(&fixture, &layer)).unwrap(), short);
}

#[test]
fn a_fetch_that_cannot_start_leaves_nothing() {
    let layer = Remote::gzip(&[file("a", "b")]);
    let fixture = fixture();
    let intake = fixture.store.intake().unwrap();
    let error = intake
        .layer(&layer.descriptor, &layer.diff_id, &mut |_| {
            Err(io::Error::other("401 Unauthorized"))
        })
        .unwrap_err();
    assert_eq!(chain(&error), "401 Unauthorized");
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn wrong_bytes_are_corrupt_and_fetched_anew() {
    let layer = Remote::gzip(&[file("big", &text(1 << 20))]);
    let size = layer.bytes.len();
    for at in [0, 20, size / 2, size - 1] {
        let fixture = fixture();
        let mut wrong = layer.bytes.clone();
        wrong[at] ^= 1;
        let intake = fixture.store.intake().unwrap();
        let error = intake
            .layer(&layer.descriptor, &layer.diff_id, &mut whole(&wrong))
            .unwrap_err();
        let Error::Corrupt {
            expected,
            received,
            received_size,
            ..
        } = error
        else {
            panic!("{at}: {error:?}");
        };
        assert_eq!(
            (expected, received),
            (layer.descriptor.digest, Digest::of(&wrong))
        );
        assert_eq!(received_size, size as u64);
        drop(intake);
        assert_untouched(&fixture);
        assert_eq!(fixture.temporary().len(), 0);
        pull(&fixture.store, std::slice::from_ref(&layer), "app").unwrap();
        assert_whole(&fixture.store);
    }
}

#[test]
fn more_bytes_than_stated_are_not_taken() {
    struct Endless(Mutex<u64>);
    impl Read for &'static Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            *self.0.lock().unwrap() += buffer.len() as u64;
            Ok(buffer.len())
        }
    }
    let layer = Remote::gzip(&[file("a", "b")]);
    let fixture = fixture();
    let intake = fixture.store.intake().unwrap();
    let endless: &'static Endless = Box::leak(Box::new(Endless(Mutex::new(0))));
    let error = intake
        .blob(&layer.descriptor, &mut |_| Ok(Box::new(endless)))
        .unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert!(*endless.0.lock().unwrap() <= 1 << 20);
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn a_spoilt_beginning_is_fetched_again() {
    let layer = Remote::gzip(&[file("big", &text(1 << 20))]);
    let size = layer.bytes.len();
    for spoilt in [vec![0; 1000], vec![0; size], vec![0; size + 1000]] {
        let fixture = fixture();
        let path = partial(&fixture, &layer);
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &spoilt).unwrap();
        let offsets = Mutex::new(Vec::new());
        let mut source = whole(&layer.bytes);
        let mut fetch = |offset| {
            offsets.lock().unwrap().push(offset);
            source(offset)
        };
        let intake = fixture.store.intake().unwrap();
        intake
            .layer(&layer.descriptor, &layer.diff_id, &mut fetch)
            .unwrap();
        assert_eq!(offsets.lock().unwrap().last(), Some(&0));
        commit(intake, std::slice::from_ref(&layer), "app").unwrap();
        assert_whole(&fixture.store);
    }
}

#[test]
fn a_blob_with_a_wrong_size_is_refused_and_harms_nobody() {
    let layer = Remote::gzip(&[file("a", &text(5000))]);
    let fixture = fixture();
    let first = fixture.store.intake().unwrap();
    first
        .blob(&layer.descriptor, &mut whole(&layer.bytes))
        .unwrap();
    for wrong in [layer.descriptor.size - 1, layer.descriptor.size + 1000] {
        let mut lying = layer.descriptor.clone();
        lying.size = wrong;
        let second = fixture.store.intake().unwrap();
        let error = second.blob(&lying, &mut never).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        // In the same intake, too.
        assert!(first.blob(&lying, &mut never).is_err());
    }
    commit(first, &[layer], "app").unwrap();
    assert_whole(&fixture.store);
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
fn layers_that_are_none_are_refused() {
    let plain = tar(&[file("a", &text(10_000))]);
    let packed = gzip(&plain);
    let truncated = packed[..packed.len() / 2].to_vec();
    let garbage = text(5000).into_bytes();
    let device = [b"\x28\xb5\x2f\xfd".as_slice(), &garbage].concat();
    for (bytes, wanted) in [
        (truncated, "gzip data is truncated"),
        (garbage, "not a tar archive"),
        (device, "zstd data is corrupt"),
    ] {
        let layer = Remote::new(media_type::LAYER_GZIP, &plain, bytes);
        let fixture = fixture();
        let intake = fixture.store.intake().unwrap();
        let error = intake
            .layer(&layer.descriptor, &layer.diff_id, &mut whole(&layer.bytes))
            .unwrap_err();
        assert!(chain(&error).contains(wanted), "{}", chain(&error));
        drop(intake);
        assert_untouched(&fixture);
    }
}

#[test]
fn a_layer_of_another_image_is_refused() {
    let mut layer = Remote::gzip(&[file("a", "b")]);
    layer.diff_id = DiffId(Digest::of(b"another"));
    let fixture = fixture();
    let intake = fixture.store.intake().unwrap();
    let error = intake
        .layer(&layer.descriptor, &layer.diff_id, &mut whole(&layer.bytes))
        .unwrap_err();
    assert!(matches!(error, Error::DiffId { .. }), "{error:?}");
    // The blob is right, and need not come again.
    let error = intake
        .layer(&layer.descriptor, &layer.diff_id, &mut never)
        .unwrap_err();
    assert!(matches!(error, Error::DiffId { .. }), "{error:?}");
}

#[test]
fn a_bomb_stops_the_fetch() {
    // A header that states more than any disk holds, and then noise without end.
    let mut header = tar(&[file("bomb", "")])[..512].to_vec();
    header[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    struct Noise(&'static Mutex<u64>);
    impl Read for Noise {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            *self.0.lock().unwrap() += buffer.len() as u64;
            Ok(buffer.len())
        }
    }
    let taken: &'static Mutex<u64> = Box::leak(Box::default());
    let fixture = fixture();
    let intake = fixture.store.intake().unwrap();
    let digest = Digest::of(b"never known");
    let descriptor = Descriptor::new(media_type::LAYER, digest, 1 << 30);
    let error = intake
        .layer(&descriptor, &DiffId(digest), &mut |_| {
            Ok(Box::new(Cursor::new(header.clone()).chain(Noise(taken))))
        })
        .unwrap_err();
    assert!(matches!(error, Error::Bomb { .. }), "{error:?}");
    assert!(*taken.lock().unwrap() < 1 << 30);
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

#[test]
fn who_prunes_leaves_alone_what_is_coming() {
    let layer = Remote::gzip(&[file("big", &text(1 << 20))]);
    let fixture = fixture();
    let other = Store::open(fixture.store.root()).unwrap();
    let intake = fixture.store.intake().unwrap();
    let mut source = whole(&layer.bytes);
    let mut fetch = |offset| {
        other.prune(true, &|_| None).unwrap();
        source(offset)
    };
    intake
        .layer(&layer.descriptor, &layer.diff_id, &mut fetch)
        .unwrap();
    other.prune(true, &|_| None).unwrap();
    commit(intake, std::slice::from_ref(&layer), "app").unwrap();
    assert_whole(&fixture.store);
    // What nobody is bringing goes.
    let leftover = Remote::gzip(&[file("other", &text(1 << 20))]);
    let intake = fixture.store.intake().unwrap();
    let mut broken = until(&leftover.bytes, 1000, io::ErrorKind::ConnectionReset);
    intake
        .layer(&leftover.descriptor, &leftover.diff_id, &mut broken)
        .unwrap_err();
    drop(intake);
    assert_eq!(fixture.temporary().len(), 1);
    other.prune(false, &|_| None).unwrap();
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn what_is_whole_is_shared_before_it_is_stored() {
    let [one, two] = ["one", "two"].map(|at| Remote::gzip(&[file(at, &text(100_000))]));
    let fixture = fixture();
    let other = Store::open(fixture.store.root()).unwrap();
    let (first, second) = (fixture.store.intake().unwrap(), other.intake().unwrap());
    let take = |intake: &Intake<'_>, layer: &Remote| {
        intake.layer(&layer.descriptor, &layer.diff_id, &mut whole(&layer.bytes))
    };
    let know = |intake: &Intake<'_>, layer: &Remote| {
        intake.layer(&layer.descriptor, &layer.diff_id, &mut never)
    };
    // Each has what the other needs: nobody may wait for the other's end.
    take(&first, &one).unwrap();
    take(&second, &two).unwrap();
    know(&first, &two).unwrap();
    know(&second, &one).unwrap();
    let layers = [one, two];
    commit(first, &layers, "first").unwrap();
    commit(second, &layers, "second").unwrap();
    assert_eq!(fixture.store.images().unwrap().len(), 1);
    assert_whole(&fixture.store);
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn who_comes_second_waits_for_the_first() {
    let layer = Remote::gzip(&[file("a", &text(100_000))]);
    let fixture = fixture();
    let other = Store::open(fixture.store.root()).unwrap();
    let (started, begun) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let intake = fixture.store.intake().unwrap();
            let mut source = whole(&layer.bytes);
            let mut fetch = |offset| {
                started.send(()).unwrap();
                source(offset)
            };
            intake
                .layer(&layer.descriptor, &layer.diff_id, &mut fetch)
                .unwrap();
            commit(intake, std::slice::from_ref(&layer), "first").unwrap();
        });
        begun.recv().unwrap();
        let intake = other.intake().unwrap();
        intake
            .layer(&layer.descriptor, &layer.diff_id, &mut never)
            .unwrap();
        commit(intake, std::slice::from_ref(&layer), "second").unwrap();
    });
    assert_whole(&fixture.store);
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn who_waits_goes_on_where_the_first_failed() {
    let layer = Remote::gzip(&[file("a", &text(1 << 20))]);
    for fault in [true, false] {
        let fixture = fixture();
        let other = Store::open(fixture.store.root()).unwrap();
        let (started, begun) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let intake = fixture.store.intake().unwrap();
                let mut broken = until(&layer.bytes, 1000, io::ErrorKind::ConnectionReset);
                let mut wrong = whole(&vec![1; layer.bytes.len()]);
                let mut fetch = |offset| {
                    started.send(()).unwrap();
                    if fault { broken(offset) } else { wrong(offset) }
                };
                intake
                    .layer(&layer.descriptor, &layer.diff_id, &mut fetch)
                    .unwrap_err();
            });
            begun.recv().unwrap();
            let offsets = Mutex::new(Vec::new());
            let mut source = whole(&layer.bytes);
            let mut fetch = |offset| {
                offsets.lock().unwrap().push(offset);
                source(offset)
            };
            let intake = other.intake().unwrap();
            intake
                .layer(&layer.descriptor, &layer.diff_id, &mut fetch)
                .unwrap();
            let wanted = if fault { 1000 } else { 0 };
            assert_eq!(*offsets.lock().unwrap(), [wanted]);
            commit(intake, std::slice::from_ref(&layer), "second").unwrap();
        });
        assert_whole(&fixture.store);
    }
}

/// What the processes below bring.
fn crowd() -> Vec<Remote> {
    let members = |n: usize| [file(&format!("file{n}"), &text((1 << 20) + n))];
    (0..3).map(|n| Remote::gzip(&members(n))).collect()
}

#[test]
fn a_puller_that_is_killed_leaves_what_came() {
    let fixture = fixture();
    let layers = crowd();
    let size: u64 = layers.iter().map(|layer| layer.descriptor.size).sum();
    let mut rounds = 0;
    let mut came = 0;
    while fixture.store.image("app").is_err() {
        rounds += 1;
        assert!(rounds < 100);
        let mut puller = child("intake::puller", fixture.store.root())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut steps = BufReader::new(puller.stdout.take().unwrap()).lines();
        let seen = steps
            .by_ref()
            .map_while(Result::ok)
            .filter(|line| line.contains("step"));
        let _ = seen.take(rounds * 5 % 13 + 4).count();
        puller.kill().unwrap();
        puller.wait().unwrap();
        let store = Store::open(fixture.store.root()).unwrap();
        assert_whole(&store);
        // What was written before is still there.
        let now: u64 = layers
            .iter()
            .filter_map(|layer| std::fs::metadata(partial(&fixture, layer)).ok())
            .map(|metadata| metadata.len())
            .sum();
        if store.images().unwrap().is_empty() && now < size {
            assert!(now >= came, "{now} bytes after {came}");
            came = now;
        }
    }
    // How far one comes before it is killed is up to the machine.
    assert!(rounds > 1, "{rounds}");
    assert!(
        fixture
            .store
            .is_checked_out(&fixture.store.image("app").unwrap())
    );
    fixture.store.prune(false, &|_| None).unwrap();
    assert_eq!(fixture.temporary().len(), 0);
    assert_whole(&fixture.store);
}

#[test]
fn several_processes_fetch_each_blob_once() {
    let fixture = fixture();
    let pullers: Vec<_> = (0..4)
        .map(|_| {
            child("intake::puller", fixture.store.root())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut fetched = 0;
    for puller in pullers {
        let output = puller.wait_with_output().unwrap();
        assert!(output.status.success());
        let output = String::from_utf8(output.stdout).unwrap();
        fetched += output.matches("fetch from 0").count();
        assert_eq!(
            output.matches("fetch from").count(),
            output.matches("fetch from 0").count()
        );
    }
    assert_eq!(fetched, 3);
    assert_whole(&fixture.store);
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
#[ignore = "run by others, which kill it"]
fn puller() {
    struct Steps(Cursor<Vec<u8>>);
    impl Read for Steps {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(64 << 10);
            let read = self.0.read(&mut buffer[..most])?;
            println!("step");
            io::stdout().flush()?;
            Ok(read)
        }
    }
    let store = Store::open(&std::env::current_dir().unwrap()).unwrap();
    let intake = store.intake().unwrap();
    let layers = crowd();
    for layer in &layers {
        let mut fetch = |offset| -> Opened {
            println!("fetch from {offset}");
            let bytes = layer.bytes[offset as usize..].to_vec();
            Ok(Box::new(Steps(Cursor::new(bytes))))
        };
        intake
            .layer(&layer.descriptor, &layer.diff_id, &mut fetch)
            .unwrap();
    }
    commit(intake, &layers, "app").unwrap();
    println!("committed; now a step more, to be killed after");
}

/// Layers large enough to be noticed in memory, in files: `N.blob`.
fn large(directory: &Path) -> Vec<Remote> {
    let once = text(1 << 20);
    let kinds = [
        (media_type::LAYER_GZIP, true),
        (media_type::LAYER_ZSTD, false),
        (media_type::LAYER_GZIP, true),
        (media_type::LAYER_ZSTD, false),
    ];
    let layers = kinds.iter().enumerate().map(|(number, (kind, gzipped))| {
        let members: Vec<_> = (0..40)
            .map(|n| file(&format!("{number}/{n}"), &once))
            .collect();
        let tar = tar(&members);
        let packed = match gzipped {
            true => gzip(&tar),
            // Two windows of 32 MiB would be too much at a time.
            false => {
                let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
                encoder.window_log(25).unwrap();
                encoder.write_all(&tar).unwrap();
                encoder.finish().unwrap()
            }
        };
        std::fs::write(directory.join(format!("{number}.blob")), &packed).unwrap();
        let mut layer = Remote::new(kind, &tar, packed);
        layer.bytes.clear();
        layer
    });
    layers.collect()
}

#[test]
fn memory_does_not_grow_with_layers() {
    let fixture = fixture();
    let layers = large(fixture.directory.path());
    let facts: Vec<_> = layers.iter().map(|l| (&l.descriptor, &l.diff_id)).collect();
    let facts = serde_json::to_vec(&facts).unwrap();
    std::fs::write(fixture.path("layers.json"), facts).unwrap();
    let output = child("intake::eater", fixture.directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = String::from_utf8(output.stdout).unwrap();
    let peak = output.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(peak < 64 << 10, "{peak} KiB");
    assert!(
        fixture
            .store
            .is_checked_out(&fixture.store.image("app").unwrap())
    );
}

#[test]
#[ignore = "run by another test, which measures it"]
fn eater() {
    let facts = std::fs::read("layers.json").unwrap();
    let facts: Vec<(Descriptor, DiffId)> = serde_json::from_slice(&facts).unwrap();
    let store = Store::open(Path::new("store")).unwrap();
    let intake = store.intake().unwrap();
    thread::scope(|scope| {
        for (number, (descriptor, diff_id)) in facts.iter().enumerate() {
            let intake = &intake;
            scope.spawn(move || {
                let mut fetch = |offset| -> Opened {
                    let mut file = std::fs::File::open(format!("{number}.blob"))?;
                    io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
                    Ok(Box::new(file))
                };
                intake.layer(descriptor, diff_id, &mut fetch).unwrap();
            });
        }
    });
    let layers: Vec<_> = facts
        .into_iter()
        .map(|(descriptor, diff_id)| Remote {
            descriptor,
            diff_id,
            bytes: Vec::new(),
        })
        .collect();
    commit(intake, &layers, "app").unwrap();
    println!("{}", std::fs::read_to_string("/proc/self/status").unwrap());
}
