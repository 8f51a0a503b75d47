//! Registries: what is asked of them, and what is not.

use super::{Two, copy, laid};
use crate::context::Context;
use crate::craft::{self, Blob, OCI};
use crate::proxy::{Fault, Proxy};
use crate::registry::Registry;

/// Requests that fetch blobs.
fn fetched(proxy: &Proxy) -> usize {
    proxy.requests("GET", "/blobs/").len()
}

/// Requests that send something.
fn sent(proxy: &Proxy) -> usize {
    let methods = ["POST", "PATCH", "PUT"];
    methods.map(|m| proxy.requests(m, "/").len()).iter().sum()
}

#[test]
fn within_a_registry_blobs_are_mounted() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.put(&registry, "some/x", "1");
    let proxy = Proxy::before(&registry);
    let host = proxy.host();
    let copied = context.line(&format!("copy --all {host}/some/x:1 {host}/other/y:2"));
    assert_eq!(copied.ok(), two.index.digest);
    assert_eq!(fetched(&proxy), 0);
    let mounts = proxy.requests("POST", "mount=");
    assert_eq!(mounts.len(), 5, "three layers and two configs");
    assert!(
        mounts
            .iter()
            .all(|m| m.target().replace("%2F", "/").contains("from=some/x"))
    );
    assert_eq!(proxy.requests("PATCH", "/").len(), 0);
    assert_eq!(registry.manifest("other/y", "2").1, two.index.digest);
    for blob in two.images().iter().flat_map(|image| image.blobs()) {
        let stored = registry.get(&format!("/v2/other/y/blobs/{}", blob.digest));
        assert_eq!(craft::digest(&stored.body), blob.digest);
    }
    // Another tag in the same repository.
    proxy.heal();
    copy(&context, &format!("--all {host}/some/x:1 {host}/some/x:2"));
    assert_eq!(fetched(&proxy), 0);
    assert_eq!(registry.manifest("some/x", "2").1, two.index.digest);
}

#[test]
fn what_a_registry_has_is_neither_fetched_nor_sent() {
    let (Some(one), Some(other)) = (Registry::plain(), Registry::plain()) else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.put(&one, "x", "1");
    let (from, to) = (Proxy::before(&one), Proxy::before(&other));
    let line = |options: &str, tag: &str| {
        let (from, to) = (from.host(), to.host());
        copy(&context, &format!("{options} {from}/x:1 {to}/x:{tag}"))
    };
    assert_eq!(line("", "1"), two.amd64.manifest.digest);
    assert_eq!(fetched(&from), 3, "two layers and a config");
    from.heal();
    to.heal();
    line("", "1");
    assert_eq!((fetched(&from), sent(&to)), (0, 0));
    assert!(from.count() + to.count() <= 4);
    // The other image has one layer and its config of its own.
    from.heal();
    to.heal();
    assert_eq!(line("--all", "2"), two.index.digest);
    assert_eq!(fetched(&from), 2);
    assert_eq!(other.manifest("x", "2").1, two.index.digest);
}

#[test]
fn what_a_layout_has_is_not_fetched_unless_it_is_damaged() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.put(&registry, "x", "1");
    let proxy = Proxy::before(&registry);
    let line = format!("--all {}/x:1 oci:layout:a", proxy.host());
    copy(&context, &line);
    assert_eq!(fetched(&proxy), 5);
    proxy.heal();
    assert_eq!(copy(&context, &line), two.index.digest);
    assert_eq!(fetched(&proxy), 0);
    let blob = &two.arm64.layers[1];
    let path = format!("layout/blobs/sha256/{}", &blob.digest[7..]);
    let mut wrong = blob.bytes.clone();
    wrong[1000] ^= 1;
    context.write(&path, wrong);
    copy(&context, &line);
    assert_eq!(fetched(&proxy), 1);
    let healed = std::fs::read(context.path().join(path)).unwrap();
    assert_eq!(craft::digest(&healed), blob.digest);
}

#[test]
fn what_the_store_has_is_not_fetched() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.put(&registry, "x", "1");
    let proxy = Proxy::before(&registry);
    let host = proxy.host();
    copy(&context, &format!("{host}/x:1 store:a"));
    assert_eq!(fetched(&proxy), 3);
    proxy.heal();
    copy(&context, &format!("--all {host}/x:1 store:b"));
    assert_eq!(fetched(&proxy), 2);
    // Under its own name, it is known where it came from, as after a pull.
    copy(&context, &format!("--all {host}/x:1 store:{host}/x:1"));
    proxy.heal();
    let pulled = context.line(&format!("pull {host}/x:1")).ok();
    assert!(pulled.contains("Image is up to date"), "{pulled}");
    assert_eq!(fetched(&proxy), 0);
}

#[test]
fn layers_are_compressed_as_asked() {
    let (context, two) = (Context::new(), Two::new());
    let bare = craft::archive(&[("file", 0o644, &[7; 100_000])]);
    let layer = Blob::new(craft::TAR, bare.clone());
    let image = craft::assemble(&OCI, &[bare], vec![layer]);
    for blob in image.blobs().chain([&image.manifest]) {
        super::write_blob(&context, "bare", blob);
    }
    super::write_index(&context, "bare", &[image.manifest.descriptor()]);
    let mut digests = Vec::new();
    for (how, kind) in [
        ("gzip", "tar+gzip"),
        ("zstd", "tar+zstd"),
        ("none", "tar"),
        ("smallest", "tar+gzip"),
        ("zstd-smallest", "tar+zstd"),
    ] {
        let digest = copy(&context, &format!("--compress {how} oci:bare oci:{how}:a"));
        let again = copy(
            &context,
            &format!("--compress {how} oci:bare oci-archive:{how}.tar:a"),
        );
        assert_eq!(digest, again, "{how}");
        assert_eq!(laid(&context.path().join(how), "a"), digest);
        let path = format!("{how}/blobs/sha256/{}", &digest[7..]);
        let manifest = std::fs::read(context.path().join(path)).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let media_type = manifest["layers"][0]["mediaType"].as_str().unwrap();
        assert!(
            media_type.ends_with(&format!("layer.v1.{kind}")),
            "{media_type}"
        );
        digests.push(digest);
    }
    assert_eq!(digests[2], image.manifest.digest, "nothing changed");
    // What is compressed stays as it is.
    two.lay(&context, "two", None);
    let digest = copy(&context, "--all --compress zstd oci:two oci:same:a");
    assert_eq!(digest, two.index.digest);
}

#[test]
fn a_registry_that_breaks_off_is_asked_for_the_rest() {
    let (Some(one), Some(other)) = (Registry::plain(), Registry::plain()) else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.put(&one, "x", "1");
    let (from, to) = (Proxy::before(&one), Proxy::before(&other));
    let digest = &two.index.digest;
    for (number, place) in [
        format!("{}/x:1", to.host()),
        "oci:layout:a".to_owned(),
        "store:a".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        from.heal();
        from.fault(("GET", "/blobs/"), 2, Fault::Reset(70_000));
        let copied = copy(&context, &format!("--all {}/x:1 {place}", from.host()));
        assert_eq!(copied, *digest, "{place}");
        assert!(number == 0 || fetched(&from) > 5, "{place}");
    }
    assert_eq!(other.manifest("x", "1").1, *digest);
}
