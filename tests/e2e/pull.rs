//! `pull` from Debian's registry: what comes, what it says, and what it asks for.

use std::net::Ipv4Addr;

use serde_json::json;

use crate::context::{Context, identities};
use crate::craft::{self, Blob, Crafted, DOCKER, Family, OCI, TAR, ZSTD, archive, gzip, noise};
use crate::fixture;
use crate::proxy::{Fault, Proxy};
use crate::registry::Registry;
use crate::wire::Message;

/// `repository@digest` of what is stored under a name.
fn repo_digests(context: &Context, name: &str) -> String {
    let template = "{{range .RepoDigests}}{{.}} {{end}}";
    let digests = context.smidge(["inspect", "-f", template, name]).ok();
    digests.trim().to_owned()
}

fn id(context: &Context, name: &str) -> String {
    context.smidge(["inspect", "-f", "{{.Id}}", name]).ok()
}

/// A static program that says `hello` and its arguments, as a layer.
fn program() -> Vec<u8> {
    let program = std::fs::read(fixture::hello()).unwrap();
    archive(&[("hello", 0o755, &program)])
}

#[test]
fn an_image_comes_whole_and_runs_for_everyone() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let image = craft::hello();
    let digest = registry.put("some/hello", "1", &image);
    let name = format!("{}/some/hello", registry.host());
    for identity in identities() {
        let context = Context::of(identity);
        let pulled = context.line(&format!("pull {name}:1")).ok();
        let expected = format!(
            "1: Pulling from some/hello\nDigest: {digest}\n\
             Status: Downloaded newer image for {name}:1\n{name}:1"
        );
        assert_eq!(pulled, expected);
        assert_eq!(
            context.line(&format!("run --rm {name}:1")).ok(),
            "hello crafted"
        );
        assert_eq!(id(&context, &format!("{name}:1")), image.id());
        assert_eq!(
            repo_digests(&context, &format!("{name}:1")),
            format!("{name}@{digest}")
        );
        let by_digest = format!("run --rm {name}@{digest}");
        assert_eq!(context.line(&by_digest).ok(), "hello crafted");
        let again = context.line(&format!("pull {name}:1")).ok();
        let expected = format!("Status: Image is up to date for {name}:1");
        assert!(again.contains(&expected), "{again}");
        assert_eq!(
            context.line(&format!("pull -q {name}:1")).ok(),
            format!("{name}:1")
        );
    }
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let shared = archive(&[("data", 0o644, &noise(2, 5000))]);
    let (one, two) = (
        craft::image(&OCI, &[program(), shared.clone()]),
        craft::image(&OCI, &[shared, program()]),
    );
    registry.put("x", "one", &one);
    registry.put("x", "two", &two);
    let proxy = Proxy::before(&registry);
    let (context, name) = (Context::new(), format!("{}/x", proxy.host()));
    context.line(&format!("pull -q {name}:one")).ok();
    assert_eq!(proxy.requests("GET", "/blobs/").len(), 3);
    proxy.heal();
    context.line(&format!("pull -q {name}:one")).ok();
    assert_eq!(proxy.requests("GET", "/blobs/").len(), 0);
    assert!(proxy.count() <= 2, "{}", proxy.count());
    // The other image has the same layers: its config alone is new.
    context.line(&format!("pull -q {name}:two")).ok();
    assert_eq!(proxy.requests("GET", "/blobs/").len(), 1);
    assert_eq!(
        context.line(&format!("run --rm {name}:two")).ok(),
        "hello crafted"
    );
}

#[test]
fn a_digest_is_a_name() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let digest = registry.put("x", "latest", &craft::hello());
    let (context, host) = (Context::new(), registry.host());
    let pulled = context.line(&format!("pull {host}/x@{digest}")).ok();
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    let run = context.line(&format!("run --rm {host}/x@{digest}"));
    assert_eq!(run.ok(), "hello crafted");
    assert_eq!(
        repo_digests(&context, &format!("{host}/x@{digest}")),
        format!("{host}/x@{digest}")
    );
    // Together with a tag, the digest decides.
    let other = craft::image(&OCI, &[program()]);
    registry.put("x", "latest", &other);
    context
        .line(&format!("pull -q {host}/x:latest@{digest}"))
        .ok();
    let missing = "sha256:".to_owned() + &"0".repeat(64);
    context
        .line(&format!("pull {host}/x@{missing}"))
        .says(1, &["error: ", "not"]);
}

#[test]
fn every_kind_of_layer_is_understood() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let archives = [
        program(),
        archive(&[("a", 0o644, &noise(3, 100_000))]),
        archive(&[("b", 0o644, b"b")]),
        archive(&[]),
    ];
    let zstd = |bytes: &[u8]| zstd::stream::encode_all(bytes, 3).unwrap();
    // Two gzip members make one stream, as parallel compressors write them.
    let (start, end) = archives[1].split_at(70_000);
    let members = [gzip(start), gzip(end)].concat();
    let mixed = [
        Blob::new(ZSTD, zstd(&archives[0])),
        Blob::new(OCI.gzip, members),
        Blob::new(TAR, archives[2].clone()),
        Blob::new(OCI.gzip, gzip(&archives[3])),
    ];
    let images = [
        ("docker", craft::image(&DOCKER, &archives)),
        ("oci", craft::image(&OCI, &archives)),
        ("mixed", craft::assemble(&OCI, &archives, mixed.to_vec())),
    ];
    for (tag, image) in images {
        let digest = registry.put("kinds", tag, &image);
        let (context, name) = (Context::new(), format!("{}/kinds:{tag}", registry.host()));
        let pulled = context.line(&format!("pull {name}")).ok();
        assert!(pulled.contains(&digest), "{pulled}");
        assert_eq!(
            context.line(&format!("run --rm {name}")).ok(),
            "hello crafted"
        );
        assert_eq!(id(&context, &name), image.id());
    }
}

#[test]
fn many_layers_are_put_in_order_and_whiteouts_hide() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let mut archives = vec![
        archive(&[("busybox", 0o755, &busybox)]),
        archive(&[
            ("gone", 0o644, b"x"),
            ("dir/", 0o755, b""),
            ("dir/old", 0o644, b"x"),
        ]),
        archive(&[
            (".wh.gone", 0o644, b""),
            ("dir/.wh..wh..opq", 0o644, b""),
            ("dir/new", 0o644, b"n"),
        ]),
    ];
    archives.extend((0..30).map(|n| {
        let (name, text) = (format!("file{n}"), format!("layer {n}"));
        archive(&[("which", 0o644, text.as_bytes()), (&name, 0o644, b"")])
    }));
    let image = craft::image_of(&OCI, &archives, &["/busybox", "cat"]);
    registry.put("deep", "latest", &image);
    for identity in identities() {
        let context = Context::of(identity);
        let name = format!("{}/deep", registry.host());
        context.line(&format!("pull -q {name}")).ok();
        let read = |paths: &str| context.line(&format!("run --rm {name} {paths}"));
        assert_eq!(read("/which").ok(), "layer 29");
        assert_eq!(read("/dir/new").ok(), "n");
        assert_eq!(read("/file17 /file29").ok(), "");
        for gone in ["/gone", "/dir/old", "/.wh.gone", "/dir/.wh..wh..opq"] {
            read(gone).says(1, &["No such file"]);
        }
    }
}

#[test]
fn a_layer_may_be_there_twice() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let (a, b) = (
        archive(&[("which", 0o644, b"a"), (".wh.other", 0o644, b"")]),
        archive(&[("which", 0o644, b"b"), ("other", 0o644, b"b")]),
    );
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let program = archive(&[("busybox", 0o755, &busybox)]);
    let empty = archive(&[]);
    let layers = [
        empty.clone(),
        program,
        empty.clone(),
        a.clone(),
        b,
        a,
        empty,
    ];
    let image = craft::image_of(&OCI, &layers, &["/busybox", "cat"]);
    registry.put("twice", "latest", &image);
    for identity in identities() {
        let (context, name) = (Context::of(identity), format!("{}/twice", registry.host()));
        context.line(&format!("pull -q {name}")).ok();
        assert_eq!(context.line(&format!("run --rm {name} /which")).ok(), "a");
        let gone = context.line(&format!("run --rm {name} /other"));
        gone.says(1, &["No such file"]);
    }
}

fn platforms(registry: &Registry) -> (Crafted, Crafted, Blob) {
    let (native, foreign) = (
        craft::image(&OCI, &[program()]),
        craft::image(&OCI, &[archive(&[("other", 0o644, b"")]), program()]),
    );
    registry.put("multi", "native", &native);
    registry.put("multi", "foreign", &foreign);
    let index = craft::index(
        &OCI,
        &[
            (&foreign, ["linux", "s390x", ""]),
            (&native, ["linux", "amd64", ""]),
        ],
    );
    registry.put_manifest("multi", "latest", &index);
    (native, foreign, index)
}

#[test]
fn this_machines_platform_is_picked_out_of_an_index() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let (native, foreign, index) = platforms(&registry);
    let (context, name) = (Context::new(), format!("{}/multi", registry.host()));
    let pulled = context.line(&format!("pull {name}")).ok();
    assert!(
        pulled.contains(&format!("Digest: {}", index.digest)),
        "{pulled}"
    );
    assert_eq!(id(&context, &name), native.id());
    assert_eq!(
        repo_digests(&context, &name),
        format!("{name}@{}", index.digest)
    );
    assert_eq!(
        context
            .line(&format!("run --rm {name}@{}", index.digest))
            .ok(),
        "hello crafted"
    );
    let context = Context::new();
    context
        .line(&format!("pull -q --platform linux/s390x {name}"))
        .ok();
    assert_eq!(id(&context, &name), foreign.id());
    // The only one that is here is not this machine's: that one is fetched, and is then meant.
    context.line(&format!("pull -q {name}")).ok();
    assert_eq!(id(&context, &name), native.id());
    let both = context.line(&format!("images -aq --no-trunc {name}")).ok();
    assert_eq!(both.lines().count(), 2, "{both}");
    let shown = context.line(&format!(
        "inspect --platform linux/s390x -f {{{{.Id}}}} {name}"
    ));
    assert_eq!(shown.ok(), foreign.id());
    let refused = context.line(&format!("pull --platform linux/riscv64 {name}"));
    refused.says(1, &["linux/riscv64", "linux/amd64", "linux/s390x"]);
}

#[test]
fn every_platform_comes_when_asked_for() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let (_, _, index) = platforms(&registry);
    let (context, name) = (Context::new(), format!("{}/multi", registry.host()));
    context
        .line(&format!("pull -q --all-platforms {name}"))
        .ok();
    let target = Registry::plain().unwrap();
    let sent = format!("{}/multi", target.host());
    context.line(&format!("tag {name} {sent}")).ok();
    context.line(&format!("push -q {sent}")).ok();
    let (answer, digest) = target.manifest("multi", "latest");
    assert_eq!((digest, answer.body), (index.digest, index.bytes));
}

#[test]
fn every_tag_comes_when_asked_for() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    for tag in ["one", "two", "three"] {
        registry.put("tags", tag, &craft::image(&OCI, &[program()]));
    }
    let (context, name) = (Context::new(), format!("{}/tags", registry.host()));
    let pulled = context.line(&format!("pull -a {name}")).ok();
    for tag in ["one", "two", "three"] {
        assert!(
            pulled.contains(&format!("{tag}: Pulling from tags")),
            "{pulled}"
        );
        assert_eq!(
            context.line(&format!("run --rm {name}:{tag}")).ok(),
            "hello crafted"
        );
    }
    let listed = context
        .smidge(["images", &name, "--format", "{{.Tag}}"])
        .ok();
    assert_eq!(listed.lines().count(), 3);
}

#[test]
fn run_fetches_what_is_missing() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let digest = registry.put("base", "latest", &craft::hello());
    let proxy = Proxy::before(&registry);
    let name = format!("{}/base", proxy.host());
    for identity in identities() {
        let context = Context::of(identity);
        context
            .line(&format!("run --rm --pull never {name}"))
            .says(125, &[&name]);
        let ran = context.line(&format!("run --rm {name} there"));
        // The container's own output is all that goes to standard output.
        assert_eq!(ran.ok(), "hello there");
        assert!(ran.stderr().contains(&digest), "{}", ran.stderr());
        proxy.heal();
        assert_eq!(
            context.line(&format!("run --rm {name} again")).ok(),
            "hello again"
        );
        assert_eq!(proxy.count(), 0, "what is there is not looked for");
        context.line(&format!("run --rm --pull always {name}")).ok();
        assert_ne!(proxy.count(), 0);
    }
}

#[test]
fn docker_hubs_short_names_go_where_the_settings_say() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let digest = registry.put("hub/library/hello", "latest", &craft::hello());
    registry.put("hub/some/hello", "1", &craft::image(&OCI, &[program()]));
    let context = Context::new();
    let mirror = format!("{}/hub", registry.host());
    context.settings(&format!(
        "[registry.\"docker.io\"]\nlocation = \"{mirror}\"\n"
    ));
    let pulled = context.line("pull hello").ok();
    let expected = format!(
        "latest: Pulling from library/hello\nDigest: {digest}\n\
         Status: Downloaded newer image for hello:latest\ndocker.io/library/hello:latest"
    );
    assert_eq!(pulled.replace("Using default tag: latest\n", ""), expected);
    assert_eq!(context.line("run --rm hello").ok(), "hello crafted");
    assert_eq!(context.line("run --rm some/hello:1").ok(), "hello crafted");
    assert_eq!(repo_digests(&context, "hello"), format!("hello@{digest}"));
}

#[test]
fn what_is_not_there_is_named_and_nothing_is_stored() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    registry.put("x", "latest", &craft::hello());
    let (context, host) = (Context::new(), registry.host());
    for name in ["y", "x:2", "a/b/c"] {
        let name = format!("{host}/{name}");
        context
            .line(&format!("pull {name}"))
            .says(1, &["error: ", &name]);
        context
            .line(&format!("run {name}"))
            .says(125, &["error: ", &name]);
    }
    context
        .line("pull docker.io/library/nothing")
        .says(1, &["blocked"]);
    assert_eq!(context.line("images -q").ok(), "");
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let context = Context::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("localhost:{}", listener.local_addr().unwrap().port());
    drop(listener);
    let pulled = context.line(&format!("pull {host}/x"));
    pulled.says(1, &["error: ", &host, "nobody listens"]);
    let unknown = context.line("pull no-such-host.invalid/x");
    unknown.says(1, &["error: ", "no-such-host.invalid"]);
}

#[test]
fn schema_1_is_refused_by_its_name() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let proxy = Proxy::before(&registry);
    let old = json!({"schemaVersion": 1, "name": "x", "tag": "latest", "architecture": "amd64",
        "fsLayers": [], "history": [], "signatures": []});
    let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let answer = Message::answer(200, old.to_string()).with("Content-Type", media_type);
    for method in ["GET", "HEAD"] {
        proxy.fault(
            (method, "/manifests/"),
            usize::MAX,
            Fault::Answer(answer.clone()),
        );
    }
    let context = Context::new();
    let pulled = context.line(&format!("pull {}/x", proxy.host()));
    pulled.says(1, &["error: ", "schema 1", "hint: "]);
}

#[test]
fn foreign_layers_come_from_where_they_say() {
    let (Some(registry), Some(elsewhere)) = (Registry::plain(), Registry::plain()) else {
        return;
    };
    let storage = Proxy::storage(&elsewhere);
    assert_eq!(storage.address().ip(), Ipv4Addr::new(127, 0, 0, 2));
    let layer = Blob::new(
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        gzip(&program()),
    );
    elsewhere.put_blob("x", &layer);
    let mut image = craft::assemble(&DOCKER, &[program()], vec![layer.clone()]);
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    manifest["layers"][0]["urls"] =
        json!([format!("http://{}/{}", storage.address(), layer.digest)]);
    image.manifest = Blob::document(DOCKER.manifest, &manifest);
    registry.put_blob("foreign", &image.config);
    registry.put_manifest("foreign", "latest", &image.manifest);
    let (context, name) = (Context::new(), format!("{}/foreign", registry.host()));
    context.line(&format!("pull -q {name}")).ok();
    assert_eq!(
        context.line(&format!("run --rm {name}")).ok(),
        "hello crafted"
    );
    assert_eq!(storage.requests("GET", "/sha256:").len(), 1);
}

/// Images that are not what they say: how they differ from a good one, and what is said.
fn wrong(family: &Family) -> Vec<(&'static str, Crafted, &'static str)> {
    let good = || craft::image(family, &[program()]);
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut image = good();
        let mut manifest = serde_json::from_slice(&image.manifest.bytes).unwrap();
        change(&mut manifest);
        image.manifest = Blob::document(family.manifest, &manifest);
        image
    };
    let other = archive(&[("other", 0o644, b"")]);
    // The archive's first name, and its checksum, made one that leads out of the image.
    let mut escaping = tar::Header::new_ustar();
    escaping.as_mut_bytes()[..10].copy_from_slice(b"../../evil");
    escaping.set_size(0);
    escaping.set_cksum();
    let escaping = [escaping.as_bytes().as_slice(), &[0; 1024]].concat();
    vec![
        (
            "size",
            changed(&|m| m["layers"][0]["size"] = 12.into()),
            "12",
        ),
        (
            "diff-id",
            craft::assemble(family, &[other], good().layers),
            "diff",
        ),
        (
            "no-gzip",
            craft::assemble(
                family,
                &[program()],
                vec![Blob::new(family.gzip, "no gzip")],
            ),
            "error: ",
        ),
        (
            "no-tar",
            craft::assemble(
                family,
                &[noise(4, 5000)],
                vec![Blob::new(family.gzip, gzip(&noise(4, 5000)))],
            ),
            "error: ",
        ),
        ("escaping", craft::image(family, &[escaping]), "evil"),
        (
            "too-few-layers",
            changed(&|m| m["layers"] = json!([])),
            "layers",
        ),
        ("no-manifest", changed(&|m| *m = json!([1])), "error: "),
    ]
}

#[test]
fn images_that_are_not_what_they_say_are_refused_whole() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    for (what, image, said) in wrong(&OCI) {
        for blob in image.blobs() {
            registry.put_blob("wrong", blob);
        }
        // Registries check manifests themselves: this one comes by another way.
        let proxy = Proxy::before(&registry);
        let answer = Message::answer(200, image.manifest.bytes.clone())
            .with("Content-Type", OCI.manifest)
            .with("Docker-Content-Digest", &image.manifest.digest);
        proxy.fault(
            ("HEAD", "/manifests/"),
            usize::MAX,
            Fault::Answer(answer.clone()),
        );
        proxy.fault(("GET", "/manifests/"), usize::MAX, Fault::Answer(answer));
        let context = Context::new();
        let pulled = context.line(&format!("pull {}/wrong:{what}", proxy.host()));
        pulled.says(1, &["error: ", said]);
        assert_eq!(context.line("images -aq").ok(), "", "{what}");
        context.line("prune -f").ok();
    }
}
