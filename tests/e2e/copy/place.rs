//! Every place to every other: the same image arrives.

use super::{Two, copy, laid, names};
use crate::context::{Context, have, identities};
use crate::craft;
use crate::registry::Registry;

/// Places that hold an index as it is.
const WHOLE: [&str; 4] = ["registry", "oci", "oci-archive", "store"];

/// How a place of some kind is written.
fn place(kind: &str, registry: &Registry, name: &str) -> String {
    match kind {
        "registry" => format!("{}/{name}", registry.host()),
        "store" => format!("store:{name}"),
        kind => format!("{kind}:{name}.{kind}:{name}"),
    }
}

/// The digest of what is in a place, found without smidge where that is possible.
fn found(context: &Context, registry: &Registry, kind: &str, name: &str) -> String {
    match kind {
        "registry" => registry.manifest(name, "latest").1,
        "oci" => laid(&context.path().join(format!("{name}.oci")), name),
        "oci-archive" => {
            let archive = context.path().join(format!("{name}.oci-archive"));
            let directory = context.path().join(format!("{name}.unpacked"));
            let bytes = std::fs::read(archive).unwrap();
            tar::Archive::new(&*bytes).unpack(&directory).unwrap();
            laid(&directory, name)
        }
        _ => laid(
            &context.store(),
            &format!("docker.io/library/{name}:latest"),
        ),
    }
}

#[test]
fn indexes_and_manifests_arrive_as_they_are() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.put(&registry, "first", "latest");
    let mut number = 0;
    for (options, expected) in [
        ("--all", &two.index),
        ("", &two.amd64.manifest),
        ("--platform linux/arm64", &two.arm64.manifest),
    ] {
        let mut before = ("registry", "first".to_owned());
        for from in WHOLE {
            for to in WHOLE {
                number += 1;
                let name = format!("n{number}");
                // From the first, where all is, to each kind of source.
                let source = format!("s{number}");
                let (kind, known) = &before;
                let (first, second) = (
                    place(kind, &registry, known),
                    place(from, &registry, &source),
                );
                copy(&context, &format!("--all {first} {second}"));
                let destination = place(to, &registry, &name);
                let digest = copy(&context, &format!("{options} {second} {destination}"));
                assert_eq!(digest, expected.digest, "{options} {second} {destination}");
                assert_eq!(found(&context, &registry, to, &name), expected.digest);
                before = (from, source);
            }
        }
    }
    // The names in the store are those that were asked for.
    let listed = context
        .smidge(["images", "--format", "{{.Repository}}"])
        .ok();
    let strange = |name: &str| !name.starts_with(['n', 's']) || name.contains('/');
    assert!(!listed.lines().any(strange), "{listed}");
}

#[test]
fn docker_archives_keep_the_image_and_its_name() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.put(&registry, "x", "1");
    let source = format!("{}/x:1", registry.host());
    let id = copy(&context, &format!("{source} docker-archive:a.tar"));
    assert_eq!(id, two.amd64.id());
    let id = copy(
        &context,
        &format!("--platform linux/arm64 {source} docker-archive:b.tar:other:2"),
    );
    assert_eq!(id, two.arm64.id());
    let loaded = context.line("load -i a.tar").ok();
    assert_eq!(loaded, format!("Loaded image: {source}"));
    copy(&context, "docker-archive:b.tar:other:2 store:back");
    let id = context.smidge(["inspect", "-f", "{{.Id}}", "back"]).ok();
    assert_eq!(id, two.arm64.id());
    copy(&context, "docker-archive:a.tar oci:layout:a");
    let digest = copy(&context, "docker-archive:a.tar oci-archive:c.tar:a");
    // Docker's archive holds the layers as they came, and with them the manifest.
    assert_eq!(digest, two.amd64.manifest.digest);
    let copied = context.line(&format!("copy --all {source} docker-archive:d.tar"));
    copied.says(
        0,
        &["note: a docker-archive holds images for one platform: the one for `linux/amd64` was copied alone"],
    );
    if have("skopeo") {
        let mut skopeo = context.program("skopeo");
        skopeo.args("inspect --raw --config docker-archive:b.tar".split(' '));
        let config = context.finish(skopeo);
        config.ok();
        assert_eq!(craft::digest(config.bytes()), two.arm64.id());
    }
}

#[test]
fn skopeo_and_smidge_read_each_other() {
    let Some(registry) = Registry::plain().filter(|_| have("skopeo")) else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.put(&registry, "x", "1");
    let skopeo = |line: &str| {
        let mut skopeo = context.program("skopeo");
        skopeo.arg("--insecure-policy").args(line.split(' '));
        context.finish(skopeo)
    };
    let host = registry.host();
    copy(&context, &format!("--all {host}/x:1 oci:ours:x"));
    copy(
        &context,
        &format!("--all {host}/x:1 oci-archive:ours.tar:x"),
    );
    for place in ["oci:ours:x", "oci-archive:ours.tar:x"] {
        let raw = skopeo(&format!("inspect --raw {place}"));
        raw.ok();
        assert_eq!(craft::digest(raw.bytes()), two.index.digest, "{place}");
    }
    let line = "copy -q --all --src-tls-verify=false";
    skopeo(&format!("{line} docker://{host}/x:1 oci:theirs:RELEASE_1")).ok();
    skopeo(&format!(
        "{line} docker://{host}/x:1 oci-archive:theirs.tar:x"
    ))
    .ok();
    for place in [
        "oci:theirs",
        "oci:theirs:RELEASE_1",
        "oci-archive:theirs.tar",
    ] {
        let digest = copy(&context, &format!("--all {place} {host}/back"));
        assert_eq!(digest, two.index.digest, "{place}");
        let digest = copy(&context, &format!("--all {place} store:back"));
        assert_eq!(digest, two.index.digest, "{place}");
    }
}

#[test]
fn what_was_copied_runs_for_everyone() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let two = Two::new();
    two.put(&registry, "x", "1");
    let source = format!("{}/x:1", registry.host());
    for identity in identities() {
        let context = Context::of(identity);
        for place in [
            "oci:layout:a",
            "oci-archive:o.tar",
            "docker-archive:d.tar",
            "store:there",
        ] {
            copy(&context, &format!("{source} {place}"));
            copy(&context, &format!("{place} store:back"));
            assert_eq!(context.line("run --rm back").ok(), "hello crafted");
            context.line("rmi -f back").ok();
        }
        let expected = [".config", ".run", "d.tar", "layout", "o.tar", "store"];
        assert_eq!(names(context.path()), expected);
    }
}

#[test]
fn images_for_other_machines_are_copied_whole() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    let platforms = [
        (&two.arm64, ["linux", "arm64", ""]),
        (&two.amd64, ["linux", "s390x", ""]),
    ];
    let index = craft::index(&craft::OCI, &platforms);
    two.put(&registry, "x", "two");
    registry.put_manifest("x", "others", &index);
    let source = format!("{}/x:others", registry.host());
    for place in ["oci:layout:a", "oci-archive:o.tar:a", "store:there"] {
        let digest = copy(&context, &format!("--all {source} {place}"));
        assert_eq!(digest, index.digest, "{place}");
        let back = format!("{}/back", registry.host());
        let digest = copy(&context, &format!("--all {place} {back}"));
        assert_eq!(digest, index.digest, "{place}");
    }
    let refused = context.line(&format!("copy {source} oci:one"));
    refused.says(
        1,
        &[
            "there is no image for `linux/amd64`",
            "there is: linux/arm64, linux/s390x",
            "`--platform linux/arm64`",
        ],
    );
    is_gone(&context, "one");
}

#[track_caller]
fn is_gone(context: &Context, name: &str) {
    assert!(!context.path().join(name).exists(), "{name}");
}
