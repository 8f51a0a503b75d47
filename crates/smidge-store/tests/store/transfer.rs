//! Layers as they leave, and what is found again by digest.

use std::process::Command;

use smidge_image::{Descriptor, Digest, Index, Manifest, Platform, annotation, media_type};
use smidge_store::Compression;
use smidge_tests::InTime as _;

use crate::fixture::{add, file, fixture, has_program, hello, name, read, tar};

const ALL: [(Compression, &str, &str); 4] = [
    (Compression::Gzip, "smidge-gzip-1", media_type::LAYER_GZIP),
    (
        Compression::SmallestGzip,
        "smidge-gzip-1-smallest",
        media_type::LAYER_GZIP,
    ),
    (Compression::Zstd, "smidge-zstd-1", media_type::LAYER_ZSTD),
    (
        Compression::SmallestZstd,
        "smidge-zstd-1-smallest",
        media_type::LAYER_ZSTD,
    ),
];

#[test]
fn each_compression_makes_its_own_form() {
    let fixture = fixture();
    let layers = ["one ", "two "].map(|text| tar(&[file("text", &text.repeat(10_000))]));
    let image = add(&fixture.store, &["a"], &layers);
    for (compression, encoder, kind) in ALL {
        let transfer = fixture.store.transfer(&image, compression).unwrap();
        assert!(transfer.size() < image.size(), "{encoder}");
        let manifest: Manifest = serde_json::from_slice(&transfer.manifest).unwrap();
        assert_eq!(transfer.digest(), Digest::of(&transfer.manifest));
        for (layer, original) in transfer.layers.iter().zip(&layers) {
            assert!(manifest.layers.contains(&layer.descriptor));
            assert_eq!(layer.descriptor.media_type, kind);
            assert_eq!(layer.descriptor.annotations[annotation::ENCODER], encoder);
            let unpacked = smidge_image::decompress(
                smidge_image::LayerKind::of(kind).unwrap(),
                layer.open().unwrap(),
            );
            assert!(
                read(&mut unpacked.unwrap()).unwrap() == *original,
                "{encoder}"
            );
        }
        assert_eq!(
            fixture.store.transfer(&image, compression).unwrap(),
            transfer
        );
    }
    let plain = fixture.store.transfer(&image, Compression::None).unwrap();
    assert_eq!(plain.digest(), image.digest);
    assert_eq!(
        read(&mut plain.layers[0].open().unwrap()).unwrap(),
        layers[0]
    );
}

#[test]
fn what_travels_is_found_by_its_digest() {
    let fixture = fixture();
    let image = hello(&fixture.store, &["a"], &"hello ".repeat(1000));
    for (compression, encoder, _) in ALL {
        let transfer = fixture.store.transfer(&image, compression).unwrap();
        let found = fixture.store.transfer_manifest(&transfer.digest()).unwrap();
        let wanted = (transfer.descriptor.clone(), transfer.manifest.clone());
        assert_eq!(found, Some(wanted), "{encoder}");
        let descriptor = &transfer.layers[0].descriptor;
        let layer = fixture.store.transfer_blob(&descriptor.digest).unwrap();
        assert_eq!(layer.descriptor.size, descriptor.size);
        let whole = read(&mut layer.open().unwrap()).unwrap();
        assert_eq!(
            read(&mut layer.open_from(10).unwrap()).unwrap(),
            whole[10..]
        );
        assert_eq!(
            layer.file().unwrap().metadata().unwrap().len(),
            descriptor.size
        );
        // A layer is no manifest.
        assert_eq!(
            fixture.store.transfer_manifest(&descriptor.digest).unwrap(),
            None
        );
    }
    let (descriptor, _) = fixture
        .store
        .transfer_manifest(&image.digest)
        .unwrap()
        .unwrap();
    assert_eq!(descriptor, image.descriptor());
    let config = fixture.store.transfer_blob(&image.id).unwrap();
    assert_eq!(
        Digest::of(&read(&mut config.open().unwrap()).unwrap()),
        image.id
    );
    assert_eq!(fixture.store.transfer_manifest(&image.id).unwrap(), None);
    let unknown = Digest::of(b"unknown");
    assert!(fixture.store.transfer_blob(&unknown).is_none());
    assert_eq!(fixture.store.transfer_manifest(&unknown).unwrap(), None);
}

#[test]
fn an_index_travels_with_its_images() {
    let fixture = fixture();
    let store = &fixture.store;
    let image = |content: &str| hello(store, &[content], &content.repeat(1000));
    let mut entries = ["one", "two"].map(|content| image(content).descriptor());
    entries[0].platform = Some(Platform::linux("amd64"));
    entries[1].platform = Some(Platform::linux("arm64"));
    let mut absent = Descriptor::of(media_type::MANIFEST, b"elsewhere");
    absent.platform = Some(Platform::linux("s390x"));
    let mut all = entries.to_vec();
    all.push(absent.clone());
    let bytes = Index::new(all.clone()).to_bytes();
    let stored = store.add_index(&bytes, &[name("many")]).unwrap();

    assert_eq!(
        store.transfer_index("one", Compression::Gzip).unwrap(),
        None
    );
    let plain = store.transfer_index("many", Compression::None).unwrap();
    let plain = plain.unwrap();
    assert_eq!(
        (plain.index, plain.descriptor.digest),
        (bytes, stored.digest)
    );
    assert_eq!(plain.missing, [absent.clone()]);

    let packed = store.transfer_index("many", Compression::Zstd).unwrap();
    let packed = packed.unwrap();
    let index: Index = serde_json::from_slice(&packed.index).unwrap();
    assert_eq!(
        packed.descriptor,
        Descriptor::of(media_type::INDEX, &packed.index)
    );
    assert_eq!(index.manifests[2], absent);
    for ((entry, before), image) in index.manifests.iter().zip(&all).zip(&packed.images) {
        assert_eq!(entry.platform, before.platform);
        assert_eq!(
            (entry.digest, entry.size),
            (image.digest(), image.descriptor.size)
        );
        assert_ne!(entry.digest, before.digest);
    }
    let found = store.transfer_manifest(&packed.descriptor.digest).unwrap();
    assert_eq!(found, Some((packed.descriptor, packed.index)));
    // What lacks a layer is missing, too.
    let layer = &store.image("two").unwrap().manifest.layers[0];
    std::fs::remove_file(store.root().join("blobs/sha256").join(layer.digest.hex())).unwrap();
    let rest = store.transfer_index("many", Compression::Gzip).unwrap();
    let rest = rest.unwrap();
    assert_eq!((rest.images.len(), rest.missing.len()), (1, 2));
}

#[test]
fn zstd_itself_reads_what_is_made() {
    if !has_program("zstd") {
        return;
    }
    let fixture = fixture();
    for (compression, numbers) in [
        (Compression::Zstd, 900_000),
        (Compression::SmallestZstd, 90_000),
    ] {
        let text: String = (0..numbers).map(|n| format!("{n} ")).collect();
        let original = tar(&[file("text", &text)]);
        let image = add(&fixture.store, &["a"], std::slice::from_ref(&original));
        let transfer = fixture.store.transfer(&image, compression).unwrap();
        let output = Command::new("zstd")
            .args(["-d", "-q", "-c"])
            .stdin(transfer.layers[0].file().unwrap())
            .output_in_time()
            .unwrap();
        assert!(output.status.success());
        assert!(output.stdout == original);
    }
}

#[test]
fn what_was_made_for_an_image_goes_with_it() {
    let fixture = fixture();
    let kept = hello(&fixture.store, &["kept"], "kept");
    let gone = hello(&fixture.store, &["gone"], "gone");
    let [kept, gone] = [kept, gone].map(|image| {
        let transfer = fixture.store.transfer(&image, Compression::Gzip).unwrap();
        (transfer.digest(), transfer.layers[0].descriptor.digest)
    });
    let found = |(manifest, layer): (Digest, Digest)| {
        let manifest = fixture.store.transfer_manifest(&manifest).unwrap();
        (
            manifest.is_some(),
            fixture.store.transfer_blob(&layer).is_some(),
        )
    };
    fixture.store.remove("gone", false, &|_| None).unwrap();
    assert_eq!(found(gone), (false, false));
    fixture.store.prune(false, &|_| None).unwrap();
    assert_eq!(found(kept), (true, true));
    fixture.store.prune(true, &|_| None).unwrap();
    assert_eq!(found(kept), (false, false));
}
