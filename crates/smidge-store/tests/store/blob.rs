//! Blobs come out as they went in, or not at all.

use std::fs;
use std::io::{Read as _, Write as _};

use smidge_image::{Descriptor, Digest};
use smidge_store::Error;

use crate::fixture::{entries, fixture, read};

#[test]
fn a_blob_comes_out_as_it_went_in() {
    let fixture = fixture();
    for size in [0_usize, 1, 511, 1 << 18, (1 << 20) + 7] {
        let bytes: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
        let mut writer = fixture.store.blob_writer().unwrap();
        bytes
            .chunks(1000)
            .for_each(|chunk| writer.write_all(chunk).unwrap());
        let (digest, length) = writer.commit().unwrap();
        assert_eq!((digest, length), (Digest::of(&bytes), size as u64));
        let descriptor = Descriptor::of("", &bytes);
        assert!(fixture.store.has(&descriptor));
        assert!(read(&mut fixture.store.blob(&descriptor).unwrap()).unwrap() == bytes);
    }
    assert_eq!(fixture.temporary(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_is_not_committed_is_discarded() {
    let fixture = fixture();
    let mut writer = fixture.store.blob_writer().unwrap();
    writer.write_all(&[7; 1 << 20]).unwrap();
    assert_eq!(fixture.temporary().len(), 1);
    drop(writer);
    assert_eq!(fixture.temporary().len(), 0);
    assert_eq!(entries(&fixture.store.root().join("blobs/sha256")).len(), 0);
}

#[test]
fn other_bytes_than_announced_are_not_stored() {
    let fixture = fixture();
    let mut writer = fixture.store.blob_writer().unwrap();
    writer.write_all(b"forged").unwrap();
    let error = writer
        .commit_as(&Descriptor::of("", b"genuine"))
        .unwrap_err();
    assert!(matches!(
        error,
        Error::Corrupt { expected, received, received_size: 6, expected_size: 7, .. }
            if expected == Digest::of(b"genuine") && received == Digest::of(b"forged")
    ));
    assert!(!fixture.store.has(&Descriptor::of("", b"forged")));
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn damage_is_found_before_the_end_is_reached() {
    let fixture = fixture();
    let bytes = vec![b'x'; 300_000];
    let descriptor = Descriptor::of("", &bytes);
    let path = fixture
        .store
        .root()
        .join("blobs/sha256")
        .join(descriptor.digest.hex());
    let mut flipped = bytes.clone();
    flipped[299_999] = b'y';
    for damaged in [
        flipped,
        bytes[..299_999].to_vec(),
        [&bytes[..], b"x"].concat(),
        Vec::new(),
    ] {
        fs::write(&path, &damaged).unwrap();
        let mut reader = fixture.store.blob(&descriptor).unwrap();
        let error = read(&mut reader).unwrap_err().downcast::<Error>().unwrap();
        assert!(matches!(
            error,
            Error::Corrupt { expected, received, expected_size: 300_000, received_size, .. }
                if expected == descriptor.digest
                    && received == Digest::of(&damaged)
                    && received_size == damaged.len() as u64
        ));
        assert!(
            reader.read(&mut [0; 10]).is_err(),
            "an end is reported after damage"
        );
    }
}

#[test]
fn a_damaged_blob_of_the_wrong_size_is_replaced() {
    let fixture = fixture();
    let digest = fixture.store.put(b"whole").unwrap();
    let path = fixture.store.root().join("blobs/sha256").join(digest.hex());
    fs::write(&path, "who").unwrap();
    assert!(!fixture.store.has(&Descriptor::of("", b"whole")));
    fixture.store.put(b"whole").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
}

#[test]
fn documents_have_a_limit() {
    let fixture = fixture();
    let descriptor = Descriptor::new("", Digest::of(b""), (4 << 20) + 1);
    assert!(matches!(
        fixture.store.bytes(&descriptor),
        Err(Error::TooLarge { .. })
    ));
    assert!(matches!(
        fixture.store.bytes(&Descriptor::of("", b"nowhere")),
        Err(Error::MissingBlob { digest, .. }) if digest == Digest::of(b"nowhere")
    ));
}
