//! What registries keep beside images, and what nobody should have put into a store.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smidge_image::{
    Descriptor, DiffId, Digest, ImageConfig, Index, Manifest, Platform, Reference, media_type,
};
use smidge_store::{Completeness, Error, InUse, Store, Use};

use crate::fixture::{Fixture, assert_whole, chain, entries, file, fixture, hello, name, tar};

const UNUSED: InUse<'_> = &|_| None;

/// Writes the store's index as another program would.
fn write_index(store: &Store, manifests: Vec<Descriptor>) {
    let path = store.root().join("index.json");
    fs::write(path, Index::new(manifests).to_bytes()).unwrap();
}

fn stored(store: &Store, media_type: &str, bytes: &[u8]) -> Descriptor {
    store.put(bytes).unwrap();
    Descriptor::of(media_type, bytes)
}

/// A manifest of something that is no image.
fn artifact(store: &Store, kind: &str, content: &str, subject: Option<&Descriptor>) -> Vec<u8> {
    let config = stored(store, media_type::EMPTY, b"{}");
    let layer = stored(store, "text/plain", content.as_bytes());
    let mut manifest = Manifest::new(config, vec![layer]);
    manifest.extra.insert("artifactType".into(), kind.into());
    if let Some(subject) = subject {
        let subject = serde_json::to_value(subject).unwrap();
        manifest.extra.insert("subject".into(), subject);
    }
    manifest.to_bytes()
}

fn keep(store: &Store, bytes: &[u8], names: &[Reference]) -> Descriptor {
    store
        .add_document(bytes, media_type::MANIFEST, names, Completeness::Whole)
        .unwrap()
}

#[test]
fn artifacts_are_kept_and_never_shown_as_images() {
    let fixture = fixture();
    let store = &fixture.store;
    let image = hello(store, &["app"], "1");
    let chart = artifact(store, "text/x-chart", "chart", None);
    let kept = keep(store, &chart, &[name("charts/app:1")]);
    let signature = artifact(store, "text/x-sign", "sign", Some(&image.descriptor()));
    let by_digest = name(&format!("app@{}", Digest::of(&signature)));
    keep(store, &signature, std::slice::from_ref(&by_digest));

    assert_eq!(store.images().unwrap(), std::slice::from_ref(&image));
    assert_eq!(store.all_images().unwrap().len(), 1);
    let error = chain(&store.image("charts/app:1").unwrap_err());
    assert!(
        error.ends_with("manifest is an artifact of the type `text/x-chart`"),
        "{error}"
    );
    assert_eq!(
        store.document("charts/app:1").unwrap(),
        (kept.clone(), chart.clone())
    );
    assert_eq!(store.document(&by_digest.familiar()).unwrap().1, signature);
    assert_eq!(
        store.document_by_digest(&Digest::of(&signature)).unwrap().1,
        signature
    );
    let config = Digest::of(b"{}");
    assert!(matches!(
        store.document_by_digest(&config),
        Err(Error::NoSuchImage(_))
    ));
    let variants = store.variants("charts/app:1").unwrap();
    assert_eq!(
        (variants[0].image.as_ref(), variants[0].stored),
        (None, true)
    );

    let listed = store.entries().unwrap();
    let facts: Vec<_> = listed
        .iter()
        .map(|entry| {
            let name = entry.name.as_ref().unwrap().familiar();
            (
                name,
                entry.is_image,
                entry.artifact_type.as_deref(),
                entry.subject,
            )
        })
        .collect();
    assert_eq!(
        facts,
        [
            ("app:latest".to_owned(), true, None, None),
            ("charts/app:1".to_owned(), false, Some("text/x-chart"), None),
            (
                by_digest.familiar(),
                false,
                Some("text/x-sign"),
                Some(image.digest)
            ),
        ]
    );
    assert_eq!(listed[1].descriptor, kept);
    assert_whole(store);

    store.prune(false, UNUSED).unwrap();
    assert_eq!(store.entries().unwrap().len(), 3);
    let removed = store.remove("charts/app:1", false, UNUSED).unwrap();
    assert_eq!(removed.untagged, [name("charts/app:1")]);
    assert_eq!(removed.deleted, [kept.digest]);
    assert!(!store.has(&kept));
    assert_whole(store);
    let pruned = store.prune(true, &|_| {
        Some(Use {
            container: "web".into(),
            running: true,
        })
    });
    assert_eq!(pruned.unwrap().deleted, []);
    assert_eq!(store.entries().unwrap().len(), 1);
}

#[test]
fn images_that_cannot_run_are_artifacts() {
    let fixture = fixture();
    let store = &fixture.store;
    // As the conformance tests of registries push them: layers that are none, no diff ids.
    let config = stored(
        store,
        media_type::CONFIG,
        br#"{"author":"x","rootfs":{"type":"layers","diff_ids":[]}}"#,
    );
    let layer = stored(store, media_type::LAYER_GZIP, b"no layer");
    let manifest = Manifest::new(config.clone(), vec![layer]).to_bytes();
    keep(store, &manifest, &[name("conformance:1")]);
    let garbage = stored(store, media_type::CONFIG, b"not JSON");
    keep(
        store,
        &Manifest::new(garbage, vec![]).to_bytes(),
        &[name("conformance:2")],
    );
    // Foreign layers stay where their makers have them.
    let mut foreign = Descriptor::of(
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        b"windows",
    );
    foreign
        .extra
        .insert("urls".into(), json!(["https://example.com/layer"]));
    keep(
        store,
        &Manifest::new(config.clone(), vec![foreign]).to_bytes(),
        &[name("conformance:3")],
    );
    assert!(store.images().unwrap().is_empty());
    for tag in 1..=3 {
        let text = format!("conformance:{tag}");
        assert!(store.image(&text).is_err());
        assert!(store.document(&text).is_ok());
    }
    let absent =
        Manifest::new(config, vec![Descriptor::of(media_type::LAYER, b"absent")]).to_bytes();
    let refused = store.add_document(&absent, media_type::MANIFEST, &[], Completeness::Partial);
    assert!(
        matches!(refused, Err(Error::MissingBlob { .. })),
        "{refused:?}"
    );
}

#[test]
fn documents_are_what_they_are_said_to_be() {
    let fixture = fixture();
    let store = &fixture.store;
    let index = Index::new(vec![]).to_bytes();
    let manifest = artifact(store, "a/b", "x", None);
    for (bytes, media_type, expected) in [
        (&index[..], media_type::MANIFEST, "is said to be"),
        (
            &manifest,
            media_type::DOCKER_MANIFEST,
            "says itself that it is `application/vnd.oci.image.manifest",
        ),
        (b"{}", "text/plain", "has the media type `text/plain`"),
        (b"{}", media_type::MANIFEST, "missing field"),
        (b"{}", media_type::INDEX, "missing field `schemaVersion`"),
        (b"[]", media_type::MANIFEST, "is not a valid image manifest"),
        (b"", media_type::MANIFEST, "is not a valid image manifest"),
        (
            br#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#,
            media_type::MANIFEST,
            "is not a valid image manifest",
        ),
    ] {
        let refused = store.add_document(bytes, media_type, &[name("a")], Completeness::Partial);
        let text = chain(&refused.unwrap_err());
        assert!(text.contains(expected), "{text}");
    }
    assert!(store.entries().unwrap().is_empty());
    // An index of nothing is one all the same: it may be about something.
    store
        .add_document(&index, media_type::INDEX, &[name("a")], Completeness::Whole)
        .unwrap();
    assert!(store.images().unwrap().is_empty());
    assert_whole(store);
}

/// An image for a platform, in a list that says it is for another.
fn image(store: &Store, platform: &str, content: &str) -> (Digest, Descriptor) {
    let layer = tar(&[file("hello", content)]);
    let mut config = ImageConfig::new(&platform.parse::<Platform>().unwrap());
    config.rootfs.diff_ids = vec![DiffId(Digest::of(&layer))];
    let config = stored(store, media_type::CONFIG, &config.to_bytes());
    let layer = stored(store, media_type::LAYER, &layer);
    let id = config.digest;
    let manifest = Manifest::new(config, vec![layer]).to_bytes();
    (id, stored(store, media_type::MANIFEST, &manifest))
}

#[test]
fn an_index_that_lies_does_no_harm() {
    let fixture = fixture();
    let store = &fixture.store;
    let good = hello(store, &["good"], "1");
    let (id, manifest) = image(store, "linux/s390x", "big");
    let host = store.image("scratch").unwrap().config.platform();
    let with = |change: &dyn Fn(&mut Descriptor)| {
        let mut entry = manifest.clone();
        entry.platform = Some(host.clone());
        change(&mut entry);
        entry
    };
    let nothing = Descriptor::of(media_type::MANIFEST, b"nothing");
    let cases: [(&str, Descriptor, bool); 8] = [
        (
            "a size that is wrong",
            with(&|entry| entry.size += 1),
            false,
        ),
        (
            "an endless size",
            with(&|entry| entry.size = u64::MAX),
            false,
        ),
        (
            "an index that is none",
            with(&|entry| entry.media_type = media_type::INDEX.into()),
            false,
        ),
        (
            "a type that nobody knows",
            with(&|entry| entry.media_type = "text/plain".into()),
            false,
        ),
        (
            "an attestation",
            with(&|entry| entry.platform = Some("unknown/unknown".parse().unwrap())),
            false,
        ),
        ("nothing at all", nothing, false),
        (
            "the layer as a manifest",
            stored(store, media_type::MANIFEST, &tar(&[file("hello", "big")])),
            false,
        ),
        ("another platform", with(&|_| {}), true),
    ];
    for (case, entry, found) in cases {
        let index = Index::new(vec![entry]).to_bytes();
        let names = [name("liar")];
        let add = || store.add_document(&index, media_type::INDEX, &names, Completeness::Partial);
        add().unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(
            store.image("liar").ok().map(|image| image.id),
            found.then_some(id),
            "{case}"
        );
        let ids: Vec<_> = store
            .images()
            .unwrap()
            .iter()
            .map(|image| image.id)
            .collect();
        assert_eq!(ids.contains(&id), found, "{case}");
        assert!(ids.contains(&good.id), "{case}");
        store.variants("liar").unwrap();
        store.document("liar").unwrap();
        assert_whole(store);
        store.remove("liar", false, UNUSED).unwrap();
        // What was removed with it comes back.
        image(store, "linux/s390x", "big");
    }
}

#[test]
fn foreign_entries_beside_images_do_not_get_in_the_way() {
    let fixture = fixture();
    let store = &fixture.store;
    let good = hello(store, &["good"], "1");
    let mut named = good.descriptor();
    named
        .annotations
        .insert("org.opencontainers.image.ref.name".into(), "good".into());
    let called = |text: &str, mut entry: Descriptor| {
        entry
            .annotations
            .insert("org.opencontainers.image.ref.name".into(), text.into());
        entry
    };
    let chart = artifact(store, "text/x-chart", "c", None);
    let mut list = vec![
        called("absent", Descriptor::of(media_type::MANIFEST, b"absent")),
        called("listless", Descriptor::of(media_type::INDEX, b"absent")),
        called("text", stored(store, "text/plain", b"text")),
        called("garbage", stored(store, media_type::MANIFEST, b"garbage")),
        called("chart", stored(store, media_type::MANIFEST, &chart)),
        called("no name!", stored(store, media_type::MANIFEST, &chart)),
        called("rubbish", stored(store, media_type::INDEX, b"[]")),
    ];
    // What claims to have been looked at was not looked at by us.
    let mut lie = called("lie", Descriptor::of(media_type::INDEX, b"x"));
    lie.annotations
        .insert("dev.smidge.index.stored".into(), "]".into());
    list.push(lie);
    let mut lie = called("lie2", Descriptor::of(media_type::INDEX, b"x"));
    lie.annotations
        .insert("dev.smidge.index.stored".into(), "[]".into());
    lie.annotations
        .insert("dev.smidge.index.missing".into(), "-1".into());
    list.push(lie);
    list.push(named);
    write_index(store, list);
    let images = store.images().unwrap();
    assert_eq!(
        images.iter().map(|image| image.id).collect::<Vec<_>>(),
        [good.id]
    );
    assert_eq!(store.image("good").unwrap().id, good.id);
    assert_eq!(store.image(&good.id.short()).unwrap().id, good.id);
    for text in [
        "absent", "listless", "text", "garbage", "chart", "rubbish", "lie", "lie2",
    ] {
        assert!(store.image(text).is_err(), "{text}");
    }
    assert_eq!(store.entries().unwrap().len(), 10);
    assert!(!store.check().unwrap().is_empty());
    // They can be removed, and the good one is whole then.
    for text in [
        "absent", "listless", "text", "garbage", "chart", "rubbish", "lie", "lie2",
    ] {
        store
            .remove(text, false, UNUSED)
            .unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    hello(store, &["more"], "2");
    assert_eq!(store.images().unwrap().len(), 2);
    store.prune(false, UNUSED).unwrap();
    assert_whole(store);
}

#[test]
fn deep_and_wide_indexes_are_followed_in_time() {
    let fixture = fixture();
    let store = &fixture.store;
    let (id, manifest) = image(store, "linux/s390x", "deep");
    // Every level lists the next a hundred times: 100^8 ways lead to one image.
    let mut inner = manifest;
    for _ in 0..8 {
        let bytes = Index::new(vec![inner; 100]).to_bytes();
        inner = stored(store, media_type::INDEX, &bytes);
    }
    let top = store.bytes(&inner).unwrap();
    let start = Instant::now();
    store.add_index(&top, &[name("deep")]).unwrap();
    assert_eq!(store.image("deep").unwrap().id, id);
    assert_eq!(store.variants("deep").unwrap().len(), 100);
    assert_eq!(store.entries().unwrap().len(), 1);
    store.prune(false, UNUSED).unwrap();
    assert_whole(store);
    store.remove("deep", false, UNUSED).unwrap();
    assert_eq!(entries(&store.root().join("blobs/sha256")).len(), 0);

    let wide: Vec<_> = (0..10_000)
        .map(|n: u32| Descriptor::of(media_type::MANIFEST, &n.to_le_bytes()))
        .collect();
    let wide = Index::new(wide).to_bytes();
    store
        .add_document(
            &wide,
            media_type::INDEX,
            &[name("wide")],
            Completeness::Partial,
        )
        .unwrap();
    assert!(store.image("wide").is_err());
    assert_eq!(store.variants("wide").unwrap().len(), 10_000);
    store.prune(false, UNUSED).unwrap();
    // Only what never ends would take this long.
    assert!(start.elapsed() < Duration::from_secs(120));
}

#[test]
fn thousands_of_names_are_no_burden() {
    let fixture = fixture();
    let store = &fixture.store;
    let image = hello(store, &[], "1");
    let names: Vec<_> = (0..5_000).map(|n| name(&format!("app/n{n}"))).collect();
    let start = Instant::now();
    let bytes = store.bytes(&image.descriptor()).unwrap();
    store.add_image(&bytes, &names).unwrap();
    assert_eq!(store.images().unwrap()[0].names.len(), 5_000);
    let other: Vec<_> = (0..1_000).map(|n| name(&format!("app/o{n}"))).collect();
    store.add_image(&bytes, &other).unwrap();
    assert_eq!(store.image("app/n17").unwrap().names.len(), 6_000);
    let texts: Vec<String> = other.iter().map(Reference::familiar).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let before = fs::metadata(store.root().join("index.json")).unwrap();
    for outcome in store.remove_all(&texts[..20], false, UNUSED).unwrap().0 {
        outcome.unwrap();
    }
    assert!(fs::metadata(store.root().join("index.json")).unwrap().len() < before.len());
    // All names go to another image at once.
    let second = hello(store, &[], "2");
    let bytes = store.bytes(&second.descriptor()).unwrap();
    store.add_image(&bytes, &names).unwrap();
    let removed = store.remove(&second.id.short(), true, UNUSED).unwrap();
    assert_eq!(removed.untagged.len(), 5_000);
    store.prune(true, UNUSED).unwrap();
    assert!(store.images().unwrap().is_empty());
    // Quadratic work would take far longer.
    assert!(start.elapsed() < Duration::from_secs(120));
}

/// What the registry of one store shows of a repository.
fn tags(store: &Store, repository: &str) -> Vec<String> {
    let entries = store.entries().unwrap().into_iter();
    let names = entries.filter_map(|entry| entry.name);
    names
        .filter(|name| name.familiar_name() == repository)
        .map(|name| name.familiar())
        .collect()
}

#[test]
fn registries_remove_tags_and_documents() {
    let fixture = fixture();
    let store = &fixture.store;
    let image = hello(store, &["a/app:1", "a/app:2", "b/app:1"], "1");
    let repository = name("a/app");
    assert!(store.remove_name_entry(&name("a/app:1")).unwrap());
    assert!(!store.remove_name_entry(&name("a/app:1")).unwrap());
    assert!(
        !store
            .remove_name_entry(&repository.with_digest(image.digest))
            .unwrap()
    );
    let by_digest = repository.with_digest(image.digest).familiar();
    assert_eq!(tags(store, "a/app"), [by_digest, "a/app:2".to_owned()]);
    assert!(
        !store
            .remove_document(&name("c/app"), &image.digest, UNUSED)
            .unwrap()
    );
    assert!(
        store
            .remove_document(&repository, &image.digest, UNUSED)
            .unwrap()
    );
    assert_eq!(tags(store, "a/app"), [""; 0]);
    assert_eq!(store.image("b/app:1").unwrap().id, image.id);
    assert_whole(store);
    let used = |_: &Digest| {
        Some(Use {
            container: "web".into(),
            running: true,
        })
    };
    // What a container runs from stays, without the name.
    assert!(
        store
            .remove_document(&name("b/app"), &image.digest, &used)
            .unwrap()
    );
    assert_eq!(store.image(&image.id.hex()).unwrap().names, []);
    store.prune(false, UNUSED).unwrap();
    assert_eq!(entries(&store.root().join("blobs/sha256")).len(), 0);
}

#[test]
fn a_document_of_an_index_is_removed_from_it() {
    let Fixture { directory, store } = fixture();
    let (id, manifest) = image(&store, "linux/s390x", "s");
    let (other, second) = image(&store, "linux/riscv64", "r");
    let attestation = artifact(&store, "text/x-proof", "proof", None);
    let mut proof = stored(&store, media_type::MANIFEST, &attestation);
    proof.platform = Some("unknown/unknown".parse().unwrap());
    let index = Index::new(vec![manifest.clone(), second.clone(), proof.clone()]).to_bytes();
    for repository in ["a/app", "b/app"] {
        store.add_index(&index, &[name(repository)]).unwrap();
    }
    let shown = store.document(&format!("a/app@{}", proof.digest)).unwrap();
    assert_eq!(shown.1, attestation);
    assert!(store.document(&format!("c/app@{}", proof.digest)).is_err());
    for (digest, left) in [(proof.digest, 2), (manifest.digest, 1)] {
        assert!(
            store
                .remove_document(&name("a/app"), &digest, UNUSED)
                .unwrap()
        );
        assert!(
            !store
                .remove_document(&name("a/app"), &digest, UNUSED)
                .unwrap()
        );
        let all = store.variants("a/app").unwrap();
        assert_eq!(all.iter().filter(|variant| variant.stored).count(), left);
        assert!(store.document_by_digest(&digest).is_ok());
        assert!(store.document(&format!("a/app@{digest}")).is_err());
    }
    assert_eq!(store.image("a/app").unwrap().id, other);
    assert_eq!(
        store
            .variants("b/app")
            .unwrap()
            .iter()
            .filter(|v| v.stored)
            .count(),
        3
    );
    assert_eq!(store.image(&id.hex()).unwrap().names, [name("b/app")]);
    assert_whole(&store);
    store.remove("b/app", false, UNUSED).unwrap();
    assert!(store.document_by_digest(&proof.digest).is_err());
    assert!(!store.has(&manifest));
    assert!(store.has(&second));
    assert_whole(&store);
    drop(directory);
}

#[test]
fn what_was_pushed_and_never_used_can_be_let_go() {
    let fixture = fixture();
    let store = &fixture.store;
    let blob = stored(store, "", b"pushed");
    store.prune(false, UNUSED).unwrap();
    assert!(store.has(&blob));
    store.release(&blob.digest);
    store.prune(false, UNUSED).unwrap();
    assert!(!store.has(&blob));
}

#[test]
fn facts_about_documents_stay_out_of_what_others_see() {
    let fixture = fixture();
    let store = &fixture.store;
    let image = hello(store, &["app"], "1");
    let (descriptor, bytes) = store.document("app").unwrap();
    assert_eq!(descriptor, image.descriptor());
    assert!(descriptor.annotations.is_empty());
    let parsed: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(parsed["schemaVersion"], 2);
    assert!(
        store.entries().unwrap()[0]
            .descriptor
            .annotations
            .is_empty()
    );
}
