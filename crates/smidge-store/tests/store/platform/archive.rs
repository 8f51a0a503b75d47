//! Indexes in archives.

use super::*;

/// An archive of an OCI layout with given blobs, and one entry.
fn archive(top: &Descriptor, blobs: &[&[u8]]) -> Vec<u8> {
    let named = |text: &str| {
        let mut entry = top.clone();
        let key = "io.containerd.image.name".to_owned();
        entry
            .annotations
            .insert(key, format!("docker.io/library/{text}"));
        entry
    };
    let index = Index::new(vec![named("app:1"), named("app:2")]).to_bytes();
    let mut members = vec![member("index.json", &index)];
    for blob in blobs {
        let path = format!("blobs/sha256/{}", Digest::of(blob).hex());
        members.push(member(&path, blob));
    }
    tar(&members)
}

fn member(at: &str, content: &[u8]) -> crate::fixture::Member {
    let size = content.len() as u64;
    let mut entry = file(at, "").0;
    entry.kind = smidge_image::EntryKind::File { size };
    (entry, content.to_vec())
}

#[test]
fn an_index_is_saved_and_comes_back_with_its_digest() {
    let source = fixture();
    let (index, images) = multi(&source.store, &[OTHERS[0], "host", OTHERS[1]], 2);
    source.store.add_index(&index, &[name("app")]).unwrap();
    let found = source.store.image("app").unwrap();
    let single = source.store.image(&images[0].id().hex()).unwrap();
    let save = |format: &str, image: &Image, target: &Store| {
        let images = [(image.clone(), vec![name("app")])];
        let mut archive = Vec::new();
        match format {
            "docker" => source.store.save_docker_archive(&images, &mut archive),
            "oci" => source.store.save_oci_archive(&images, &mut archive),
            _ => {
                let layout = source.path("layout");
                source.store.save_oci_layout(&images, &layout).unwrap();
                return target.load_oci_layout(&layout).unwrap();
            }
        }
        .unwrap();
        target.load(&mut archive.as_slice()).unwrap()
    };
    let mut digests = Vec::new();
    for format in ["oci", "layout"] {
        let target = fixture();
        let loaded = save(format, &found, &target.store);
        assert_eq!(loaded.len(), 1, "{format}");
        assert_eq!(loaded[0].id, images[1].id());
        assert_eq!(target.store.all_images().unwrap().len(), 2);
        let variants = target.store.variants("app").unwrap();
        assert_eq!(variants.len(), 3);
        assert!(variants[0].stored && variants[1].stored && !variants[2].stored);
        assert_whole(&target.store);
        assert_eq!(target.temporary().len(), 0);
        // What came compressed leaves as it came.
        digests.push(target.store.document("app").unwrap().0.digest);
        let mut again = Vec::new();
        let image = target.store.image("app").unwrap();
        target
            .store
            .save_oci_archive(&[(image, vec![name("app")])], &mut again)
            .unwrap();
        let third = fixture();
        third.store.load(&mut again.as_slice()).unwrap();
        digests.push(third.store.document("app").unwrap().0.digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
    // A docker-archive holds one image, and one that was asked for goes alone.
    for (format, image, expected) in [
        ("docker", &found, 1),
        ("docker", &single, 0),
        ("oci", &single, 0),
    ] {
        let target = fixture();
        let loaded = save(format, image, &target.store);
        assert_eq!(
            (loaded.len(), loaded[0].id),
            (1, images[expected].id()),
            "{format}"
        );
        assert_eq!(target.store.all_images().unwrap().len(), 1);
        assert!(!target.store.document("app").unwrap().0.is_index());
    }
}

#[test]
fn of_an_archive_all_platforms_are_loaded_that_are_there() {
    let made_by = fixture();
    let (index, images) = multi(
        &made_by.store,
        &[OTHERS[0], "host", OTHERS[1], OTHERS[2]],
        0,
    );
    let top = Descriptor::of(media_type::INDEX, &index);
    let proof = Manifest::new(
        Descriptor::of(media_type::CONFIG, b"{}"),
        vec![Descriptor::of("application/vnd.in-toto+json", b"proof")],
    )
    .to_bytes();
    let mut listed: Index = serde_json::from_slice(&index).unwrap();
    let mut entry = Descriptor::of(media_type::MANIFEST, &proof);
    entry.platform = Some("unknown/unknown".parse().unwrap());
    listed.manifests.push(entry);
    let with_proof = listed.to_bytes();
    let proven = Descriptor::of(media_type::INDEX, &with_proof);
    fn parts(made: &Made) -> [&[u8]; 3] {
        [&made.manifest, &made.config, &made.layer]
    }

    let target = fixture();
    let mut blobs: Vec<&[u8]> = vec![&with_proof, &proof, b"{}", b"proof"];
    blobs.extend(parts(&images[0]));
    blobs.extend(parts(&images[1]));
    // Of the third the manifest alone, as Docker saves what it has not pulled.
    blobs.push(&images[2].manifest);
    let loaded = target
        .store
        .load(&mut archive(&proven, &blobs).as_slice())
        .unwrap();
    assert!(loaded.iter().all(|image| image.id == images[1].id()));
    let image = target.store.image("app:1").unwrap();
    assert_eq!(names(&image), ["app:1", "app:2"]);
    assert_eq!(target.store.document("app:1").unwrap().1, with_proof);
    let there: Vec<_> = target
        .store
        .variants("app:1")
        .unwrap()
        .iter()
        .map(|v| v.stored)
        .collect();
    assert_eq!(there, [true, true, false, false, true]);
    assert_whole(&target.store);
    assert_eq!(target.temporary().len(), 0);

    // One alone, if that is asked for.
    let whole = archive(&proven, &blobs);
    let target = fixture();
    let wanted: Platform = OTHERS[0].parse().unwrap();
    let loaded = target.store.load_for(&mut whole.as_slice(), Some(&wanted));
    assert_eq!(loaded.unwrap()[0].id, images[0].id());
    assert_eq!(target.store.all_images().unwrap().len(), 1);
    assert_eq!(target.store.document("app:1").unwrap().1, with_proof);
    for absent in [OTHERS[1], OTHERS[2]] {
        let wanted: Platform = absent.parse().unwrap();
        let refused = target.store.load_for(&mut whole.as_slice(), Some(&wanted));
        let fault = refused.unwrap_err().to_string();
        let expected = format!("holds no image for `{wanted}`");
        assert!(fault.ends_with(&expected), "{fault}");
    }
    let mut docker = Vec::new();
    let image = target.store.image("app:1").unwrap();
    let images_of_one = [(image, vec![name("app")])];
    target
        .store
        .save_docker_archive(&images_of_one, &mut docker)
        .unwrap();
    let other: Platform = "linux/arm64/v9".parse().unwrap();
    let refused = target.store.load_for(&mut docker.as_slice(), Some(&other));
    assert!(refused.is_err());
    let fits = target
        .store
        .load_for(&mut docker.as_slice(), Some(&OTHERS[0].parse().unwrap()));
    assert_eq!(fits.unwrap()[0].id, images[0].id());

    // Of this machine's there is none, but there is one.
    let target = fixture();
    let mut blobs: Vec<&[u8]> = vec![&index];
    blobs.extend(parts(&images[2]));
    let loaded = target
        .store
        .load(&mut archive(&top, &blobs).as_slice())
        .unwrap();
    assert_eq!(loaded[0].id, images[2].id());

    // What is there must be right.
    let target = fixture();
    let mut blobs: Vec<&[u8]> = vec![&index];
    blobs.extend(parts(&images[0]));
    let good = archive(&top, &blobs);
    let mut bad = good.clone();
    let at = bad
        .windows(images[0].layer.len())
        .position(|w| w == images[0].layer)
        .unwrap();
    bad[at + 512] ^= 1;
    let refused = target
        .store
        .load(&mut bad.as_slice())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is corrupt"), "{refused}");
    assert!(target.store.entries().unwrap().is_empty());
    assert_eq!(entries(&target.store.root().join("blobs/sha256")).len(), 0);
    let refused = target.store.load(&mut archive(&top, &[&index]).as_slice());
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("holds no image for")
    );
    target.store.load(&mut good.as_slice()).unwrap();
    assert_whole(&target.store);
}
