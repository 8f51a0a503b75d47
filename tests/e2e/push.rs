//! `push` to Debian's registry: what it gets, what it says, and what it asks.

use serde_json::Value;

use crate::context::{Context, identities};
use crate::craft::{self, OCI, archive, noise};
use crate::fixture;
use crate::login::login;
use crate::proxy::{Fault, Proxy};
use crate::registry::Registry;
use crate::wire::Message;

const ALWAYS: usize = usize::MAX;

/// Builds an image of two layers: a program, and noise that takes a while.
fn build(context: &Context, name: &str) {
    context.copy(fixture::hello(), "d/hello");
    context.write("d/noise", noise(7, 600_000));
    let dockerfile =
        "FROM scratch\nCOPY hello /hello\nCOPY noise /noise\nENTRYPOINT [\"/hello\"]\n";
    context.write("d/Dockerfile", dockerfile);
    context.line(&format!("build -q -t {name} d")).ok();
}

/// Pulls in a store of its own, and runs what came.
fn works(name: &str) {
    let context = Context::new();
    context.line(&format!("pull -q {name}")).ok();
    assert_eq!(
        context.line(&format!("run --rm {name} back")).ok(),
        "hello back"
    );
}

#[test]
fn a_build_sends_what_it_has_made() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let context = Context::new();
    context.copy(fixture::hello(), "d/hello");
    let dockerfile = "FROM scratch\nCOPY hello /hello\nENTRYPOINT [\"/hello\"]\n";
    context.write("d/Dockerfile", dockerfile);
    let name = format!("{}/built", registry.host());
    let line = format!("build -q --push -t {name}:1 -t {name}:2 d");
    context.line(&line).ok();
    works(&format!("{name}:1"));
    works(&format!("{name}:2"));
    context
        .line("build --push d")
        .says(1, &["the image has no name", "--push -t "]);
    let line = format!("build --push -t {name} -o out d");
    context.line(&line).says(1, &["--output"]);
    assert!(!context.path().join("out").exists());
}

#[test]
fn an_image_arrives_whole_whoever_sends_it() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let mut digests = Vec::new();
    for identity in identities() {
        let context = Context::of(identity);
        let repository = format!("some/{}", identity.name);
        let name = format!("{}/{repository}", registry.host());
        build(&context, &name);
        let pushed = context.line(&format!("push {name}"));
        let (manifest, digest) = registry.manifest(&repository, "latest");
        let expected = format!(
            "The push refers to repository [{name}]\nlatest: digest: {digest} size: {}",
            manifest.body.len()
        );
        assert_eq!(pushed.ok(), expected);
        assert_eq!(craft::digest(&manifest.body), digest);
        let template = "{{range .RepoDigests}}{{.}}{{end}}";
        let known = context.smidge(["inspect", "-f", template, &name]).ok();
        assert_eq!(known, format!("{name}@{digest}"));
        assert_eq!(
            context.line(&format!("push -q {name}")).ok(),
            format!("{name}:latest")
        );
        works(&name);
        digests.push(digest);
    }
    digests.dedup();
    assert_eq!(
        digests.len(),
        1,
        "the same image is the same bytes, whoever sends it"
    );
}

#[test]
fn a_manifest_speaks_of_what_there_is() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    for (compression, kind) in [
        ("gzip", "tar+gzip"),
        ("zstd", "tar+zstd"),
        ("none", "tar"),
        ("smallest", "tar+gzip"),
        ("zstd-smallest", "tar+zstd"),
    ] {
        let context = Context::new();
        let name = format!("{}/{compression}", registry.host());
        build(&context, &name);
        context
            .line(&format!("push -q --compress {compression} {name}"))
            .ok();
        let (answer, _) = registry.manifest(compression, "latest");
        let manifest = answer.json();
        for descriptor in manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .chain([&manifest["config"]])
        {
            let digest = descriptor["digest"].as_str().unwrap();
            let blob = registry.get(&format!("/v2/{compression}/blobs/{digest}"));
            assert_eq!(blob.status(), 200);
            assert_eq!(blob.body.len() as u64, descriptor["size"].as_u64().unwrap());
            assert_eq!(craft::digest(&blob.body), digest);
        }
        for layer in manifest["layers"].as_array().unwrap() {
            let media_type = layer["mediaType"].as_str().unwrap();
            assert!(media_type.ends_with(&format!(".{kind}")), "{media_type}");
        }
        works(&name);
    }
}

/// Requests that change something.
fn changes(proxy: &Proxy) -> usize {
    ["POST", "PATCH", "PUT"]
        .map(|m| proxy.requests(m, "/blobs/").len())
        .iter()
        .sum()
}

#[test]
fn what_is_there_already_is_not_sent() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let proxy = Proxy::before(&registry);
    let (context, name) = (Context::new(), format!("{}/x", proxy.host()));
    build(&context, &name);
    context.line(&format!("push -q {name}")).ok();
    assert_ne!(changes(&proxy), 0);
    proxy.heal();
    context.line(&format!("push -q {name}")).ok();
    assert_eq!(changes(&proxy), 0);
    assert!(proxy.count() <= 3, "{} requests", proxy.count());
    // Another tag of the same, and a change of the config alone.
    proxy.heal();
    context.line(&format!("tag {name} {name}:2")).ok();
    context.line(&format!("push -q {name}:2")).ok();
    assert_eq!(changes(&proxy), 0);
    let changed =
        "FROM scratch\nCOPY hello /hello\nCOPY noise /noise\nENTRYPOINT [\"/hello\", \"new\"]\n";
    context.write("d/Dockerfile", changed);
    context.line(&format!("build -q -t {name}:3 d")).ok();
    proxy.heal();
    context.line(&format!("push -q {name}:3")).ok();
    let uploads = proxy.requests("POST", "/blobs/uploads/");
    assert_eq!(uploads.len(), 1, "the config alone");
}

#[test]
fn layers_are_mounted_from_repositories_that_have_them() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let proxy = Proxy::before(&registry);
    let (context, host) = (Context::new(), proxy.host());
    build(&context, &format!("{host}/from"));
    context.line(&format!("push -q {host}/from")).ok();
    context.line(&format!("tag {host}/from {host}/to")).ok();
    proxy.heal();
    context.line(&format!("push -q {host}/to")).ok();
    let uploads = proxy.requests("POST", "/v2/to/blobs/uploads/");
    let mounts = uploads.iter().filter(|r| r.target().contains("from=from"));
    assert!(mounts.count() >= 2, "{uploads:?}");
    assert_eq!(proxy.requests("PATCH", "").len(), 0);
    works(&format!("{host}/to"));
}

#[test]
fn the_same_layer_is_the_same_blob_for_ever() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let layers = |tag: &str| {
        let context = Context::new();
        build(&context, &format!("{}/same:{tag}", registry.host()));
        context
            .line(&format!("push -q {}/same:{tag}", registry.host()))
            .ok();
        registry.manifest("same", tag).0.json()["layers"].clone()
    };
    let (one, two) = (layers("1"), layers("2"));
    assert_eq!(one, two);
    let encoder = &one[0]["annotations"]["dev.smidge.encoder"];
    assert_eq!(encoder, "smidge-gzip-1");
}

#[test]
fn every_tag_is_sent_when_asked_for() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let (context, name) = (Context::new(), format!("{}/tags", registry.host()));
    build(&context, &format!("{name}:1"));
    context.line(&format!("tag {name}:1 {name}:2")).ok();
    let pushed = context.line(&format!("push -a {name}")).ok();
    for tag in ["1", "2"] {
        let (_, digest) = registry.manifest("tags", tag);
        assert!(
            pushed.contains(&format!("{tag}: digest: {digest} size: ")),
            "{pushed}"
        );
    }
}

#[test]
fn what_was_pulled_is_sent_on_as_it_is() {
    let (Some(from), Some(to)) = (Registry::plain(), Registry::plain()) else {
        return;
    };
    let program = std::fs::read(fixture::hello()).unwrap();
    let archives = [archive(&[("hello", 0o755, &program)])];
    for (tag, family) in [("oci", &OCI), ("docker", &craft::DOCKER)] {
        let digest = from.put("x", tag, &craft::image(family, &archives));
        let context = Context::new();
        let (source, target) = (
            format!("{}/x:{tag}", from.host()),
            format!("{}/y:{tag}", to.host()),
        );
        context.line(&format!("pull -q {source}")).ok();
        context.line(&format!("tag {source} {target}")).ok();
        let pushed = context.line(&format!("push {target}")).ok();
        assert!(pushed.contains(&format!("digest: {digest} ")), "{pushed}");
        assert_eq!(to.manifest("y", tag).1, digest);
    }
}

#[test]
fn an_upload_arrives_although_its_connection_breaks() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let proxy = Proxy::before(&registry);
    let busy = Fault::Answer(Message::answer(503, "").with("Retry-After", "0"));
    let limited = Fault::Answer(Message::answer(429, "").with("Retry-After", "0"));
    for (n, (what, method, fault)) in [
        ("reset in the middle", "PATCH", Fault::ResetRequest(100_000)),
        ("reset in the middle", "PUT", Fault::ResetRequest(100_000)),
        ("no answer to the start", "POST", Fault::Refuse),
        ("no answer to the data", "PATCH", Fault::Refuse),
        ("no answer to the end", "PUT", Fault::Refuse),
        ("no answer to a question", "HEAD", Fault::Refuse),
        ("503", "POST", busy.clone()),
        ("503", "PATCH", busy.clone()),
        ("503", "PUT", busy),
        ("429", "PUT", limited.clone()),
        ("429", "HEAD", limited),
    ]
    .into_iter()
    .enumerate()
    {
        proxy.heal();
        proxy.fault((method, "/v2/"), 2, fault);
        let (context, name) = (Context::new(), format!("{}/broken{n}", proxy.host()));
        build(&context, &name);
        let pushed = context.line(&format!("push -q {name}"));
        assert_eq!(pushed.code(), 0, "{what}, {method}: {}", pushed.stderr());
        works(&format!("{}/broken{n}", registry.host()));
    }
}

#[test]
fn what_a_registry_refuses_is_told() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let proxy = Proxy::before(&registry);
    let denied = r#"{"errors":[{"code":"DENIED","message":"no room for you"}]}"#;
    for (what, method, fault, text) in [
        (
            "denied",
            "POST",
            Fault::Answer(Message::answer(403, denied)),
            "no room for you",
        ),
        (
            "denied",
            "PUT",
            Fault::Answer(Message::answer(403, denied)),
            "no room for you",
        ),
        (
            "too large",
            "PUT",
            Fault::Answer(Message::answer(413, "<html>")),
            "413",
        ),
        (
            "broken for ever",
            "POST",
            Fault::Answer(Message::answer(500, "oh")),
            "500",
        ),
        (
            "wrong",
            "PUT",
            Fault::Answer(Message::answer(
                400,
                r#"{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}"#,
            )),
            "DIGEST_INVALID",
        ),
    ] {
        proxy.heal();
        proxy.fault((method, "/v2/"), ALWAYS, fault);
        let (context, name) = (Context::new(), format!("{}/refused", proxy.host()));
        build(&context, &name);
        let pushed = context.line(&format!("push {name}"));
        assert_eq!(pushed.code(), 1, "{what}");
        pushed.says(1, &["error: ", &name, text]);
        assert_eq!(
            context.line(&format!("run --rm {name} here")).ok(),
            "hello here"
        );
    }
    let answer = registry.get("/v2/refused/manifests/latest");
    assert_eq!(answer.status(), 404);
}

#[test]
fn what_is_not_here_cannot_be_sent() {
    let context = Context::new();
    context
        .line("push localhost:1/nothing")
        .says(1, &["error: ", "nothing"]);
    build(&context, "here");
    // Docker Hub is blocked in these tests.
    context.line("push here").says(1, &["error: ", "blocked"]);
}

#[test]
fn an_upload_elsewhere_gets_no_credentials() {
    let (Some(registry), Some(storage)) = (Registry::with_password(), Registry::plain()) else {
        return;
    };
    // The storage takes what it is sent as a registry does, at an address of its own.
    let (proxy, elsewhere) = (
        Proxy::before(&registry),
        Proxy::before_at(&storage, [127, 0, 0, 2]),
    );
    let context = Context::new();
    login(&context, &proxy.host()).ok();
    let name = format!("{}/x", proxy.host());
    build(&context, &name);
    let start = Message::new("POST /v2/x/blobs/uploads/ HTTP/1.1", "");
    let started = storage.ask(start.with("Host", elsewhere.address().to_string()));
    let location = started.header("location").unwrap();
    let answer = Message::answer(202, "").with("Location", location);
    proxy.fault(("POST", "/blobs/uploads/"), ALWAYS, Fault::Answer(answer));
    let pushed = context.line(&format!("push {name}"));
    let sent = [
        elsewhere.requests("PATCH", "/v2/x/"),
        elsewhere.requests("PUT", "/v2/x/"),
    ]
    .concat();
    assert!(!sent.is_empty(), "{}", pushed.stderr());
    for request in sent {
        assert_eq!(request.header("authorization"), None);
    }
}

#[test]
fn an_index_is_sent_whole() {
    let (Some(from), Some(to)) = (Registry::plain(), Registry::plain()) else {
        return;
    };
    let program = std::fs::read(fixture::hello()).unwrap();
    let native = craft::image(&OCI, &[archive(&[("hello", 0o755, &program)])]);
    let other = craft::image(&OCI, &[archive(&[("other", 0o755, b"x")])]);
    from.put("m", "native", &native);
    from.put("m", "other", &other);
    let index = craft::index(
        &OCI,
        &[
            (&native, ["linux", "amd64", ""]),
            (&other, ["linux", "arm", "v7"]),
        ],
    );
    let digest = from.put_manifest("m", "latest", &index);
    let context = Context::new();
    let (source, target) = (format!("{}/m", from.host()), format!("{}/m", to.host()));
    context
        .line(&format!("pull -q --all-platforms {source}"))
        .ok();
    context.line(&format!("tag {source} {target}")).ok();
    let pushed = context.line(&format!("push {target}")).ok();
    assert!(pushed.contains(&digest), "{pushed}");
    let (answer, _) = to.manifest("m", "latest");
    assert_eq!(answer.body, index.bytes);
    let manifests: Value = answer.json();
    for entry in manifests["manifests"].as_array().unwrap() {
        to.manifest("m", entry["digest"].as_str().unwrap());
    }
    // With one platform alone here, that one is sent, by its own name, unless the registry has the rest.
    let context = Context::new();
    context.line(&format!("pull -q {source}")).ok();
    for (repository, digest) in [("alone", &native.manifest.digest), ("m", &digest)] {
        let target = format!("{}/{repository}:one", to.host());
        context.line(&format!("tag {source} {target}")).ok();
        context.line(&format!("push -q {target}")).ok();
        assert_eq!(to.manifest(repository, "one").1, *digest);
    }
}
