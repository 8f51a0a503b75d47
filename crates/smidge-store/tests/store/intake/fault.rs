//! What comes is wrong, or does not come.

use super::*;

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
