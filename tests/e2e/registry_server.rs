//! `smidge registry serve` as other tools meet it: they pull what was built, and push what smidge runs.
//!
//! What the specification asks, case by case, is `conformance`'s.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;
use smidge_tests::InTime as _;

use crate::context::{Context, have, smidge_binary};
use crate::fixture;
use crate::tool::{Dockerd, RUN, buildah, podman, skopeo};
use crate::wire::Message;

/// A server over a context's store. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    pub(crate) host: String,
}

impl Server {
    pub(crate) fn over(context: &Context) -> Self {
        let mut command = context.program(smidge_binary());
        command.args(["registry", "serve", "0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let (said, host) = line.trim_end().split_once("http://").unwrap();
        let root = context.store();
        assert_eq!(said, format!("Serving {} at ", root.display()));
        Self {
            host: host.to_owned(),
            child,
        }
    }

    fn ask(&self, line: &str) -> Message {
        let request = Message::new(&format!("{line} HTTP/1.1"), "").with("Host", &*self.host);
        let address = self.host.parse().unwrap();
        request.with("Connection", "close").ask(address).unwrap()
    }

    /// The digest that the server has for a name.
    fn digest(&self, name: &str, tag: &str) -> String {
        let answer = self.ask(&format!("GET /v2/{name}/manifests/{tag}"));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let digest = answer.header("docker-content-digest");
        digest.unwrap().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.status_in_time();
    }
}

/// A store with an image that was built there, its layers as they lie on the disk.
fn with_image() -> Context {
    let context = Context::new();
    context.copy(fixture::hello(), "d/hello");
    context.write("d/data/one", "1");
    let dockerfile =
        "FROM scratch\nCOPY data /data\nADD hello /hello\nENTRYPOINT [\"/hello\", \"served\"]\n";
    context.write("d/Dockerfile", dockerfile);
    context.line("build -q -t built d").ok();
    context
}

fn id(context: &Context, name: &str) -> String {
    context.smidge(["inspect", "-f", "{{.Id}}", name]).ok()
}

#[test]
fn what_was_built_is_served_compressed_under_a_digest_that_stays() {
    let context = with_image();
    let (digest, manifest) = {
        let server = Server::over(&context);
        let answer = server.ask("GET /v2/built/manifests/latest");
        (server.digest("built", "latest"), answer.json())
    };
    let layers = manifest["layers"].as_array().unwrap();
    assert!(!layers.is_empty());
    for layer in layers {
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        assert_eq!(layer["mediaType"], kind);
    }
    // Another process finds it by its digest alone, before anybody asked for the tag.
    let server = Server::over(&context);
    assert_eq!(server.digest("built", &digest), digest);
    assert_eq!(server.digest("built", "latest"), digest);
    assert_eq!(server.digest("library/built", "latest"), digest);
    let layer = layers[0]["digest"].as_str().unwrap();
    let blob = server.ask(&format!("GET /v2/built/blobs/{layer}"));
    assert_eq!(blob.status(), 200);
    // It is nobody else's.
    let elsewhere = server.ask(&format!("GET /v2/other/blobs/{layer}"));
    assert_eq!(elsewhere.status(), 404);
    // The store itself is as it was.
    assert_eq!(context.line("run --rm built").ok(), "hello served");
}

#[test]
fn smidge_pulls_from_smidge_and_pushes_back() {
    let (ours, theirs) = (with_image(), Context::new());
    let server = Server::over(&ours);
    let name = format!("{}/built", server.host);
    let pulled = theirs.line(&format!("pull {name}")).ok();
    let digest = server.digest("built", "latest");
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    assert_eq!(id(&theirs, &name), id(&ours, "built"));
    assert_eq!(
        theirs.line(&format!("run --rm {name}")).ok(),
        "hello served"
    );
    let back = format!("{}/team/back:1", server.host);
    theirs.line(&format!("tag {name} {back}")).ok();
    let pushed = theirs.line(&format!("push {back}")).ok();
    assert!(pushed.contains(&format!("1: digest: {digest}")), "{pushed}");
    assert_eq!(server.digest("team/back", "1"), digest);
    assert_eq!(ours.line("run --rm team/back:1").ok(), "hello served");
    let listed = ours.line("images --digests team/back").ok();
    assert!(listed.contains(&digest), "{listed}");
}

#[test]
fn skopeo_copies_in_and_out() {
    if !have("skopeo") {
        return;
    }
    let context = with_image();
    let server = Server::over(&context);
    let host = &server.host;
    let inspect = "inspect --tls-verify=false --format {{.Digest}}";
    let digest = skopeo(&context, &format!("{inspect} docker://{host}/built")).ok();
    assert_eq!(digest, server.digest("built", "latest"));
    let out = format!("copy -q --src-tls-verify=false docker://{host}/built oci:out:1");
    skopeo(&context, &out).ok();
    let copy = "copy -q --dest-tls-verify=false --preserve-digests oci:out:1";
    skopeo(&context, &format!("{copy} docker://{host}/a/b/copied:1")).ok();
    assert_eq!(server.digest("a/b/copied", "1"), digest);
    assert_eq!(id(&context, "a/b/copied:1"), id(&context, "built"));
    assert_eq!(context.line("run --rm a/b/copied:1").ok(), "hello served");
    let tags = format!("list-tags --tls-verify=false docker://{host}/a/b/copied");
    let tags: Value = serde_json::from_str(&skopeo(&context, &tags).ok()).unwrap();
    assert_eq!(tags["Tags"], serde_json::json!(["1"]));
    skopeo(
        &context,
        &format!("delete --tls-verify=false docker://{host}/a/b/copied:1"),
    )
    .ok();
    assert_eq!(server.ask("GET /v2/a/b/copied/manifests/1").status(), 404);
    assert_eq!(context.line("run --rm built").ok(), "hello served");
}

#[test]
fn podman_pulls_runs_and_pushes() {
    if !have("podman") || !have("unshare") {
        return;
    }
    let context = with_image();
    let server = Server::over(&context);
    let (ours, theirs) = (
        format!("{}/built", server.host),
        format!("{}/from-podman:1", server.host),
    );
    podman(&context, &format!("pull -q --tls-verify=false {ours}")).ok();
    assert_eq!(
        podman(&context, &format!("{RUN} {ours}")).ok(),
        "hello served"
    );
    podman(&context, &format!("tag {ours} {theirs}")).ok();
    podman(&context, &format!("push -q --tls-verify=false {theirs}")).ok();
    assert_eq!(id(&context, "from-podman:1"), id(&context, "built"));
    assert_eq!(context.line("run --rm from-podman:1").ok(), "hello served");
}

#[test]
fn buildah_pushes_a_manifest_list() {
    if !have("buildah") || !have("unshare") {
        return;
    }
    let context = with_image();
    let server = Server::over(&context);
    let host = &server.host;
    buildah(
        &context,
        &format!("pull -q --tls-verify=false {host}/built"),
    )
    .ok();
    buildah(&context, "manifest create list").ok();
    buildah(&context, &format!("manifest add list {host}/built")).ok();
    let target = format!("docker://{host}/listed:all");
    let push = format!("manifest push -q --all --tls-verify=false list {target}");
    buildah(&context, &push).ok();
    let answer = server.ask("GET /v2/listed/manifests/all");
    let kind = answer.header("content-type").unwrap().to_owned();
    assert!(
        kind.ends_with("index.v1+json") || kind.ends_with("list.v2+json"),
        "{kind}"
    );
    assert_eq!(answer.json()["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(context.line("run --rm listed:all").ok(), "hello served");
}

#[test]
fn docker_pulls_and_pushes() {
    if !have("dockerd") || !have("docker") {
        return;
    }
    let Some(daemon) = Dockerd::start() else {
        return;
    };
    let context = with_image();
    let server = Server::over(&context);
    let docker = |line: &str| daemon.docker(&context, line);
    let (ours, theirs) = (
        format!("{}/built", server.host),
        format!("{}/from-docker:1", server.host),
    );
    let pulled = docker(&format!("pull {ours}")).ok();
    let digest = server.digest("built", "latest");
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    docker(&format!("tag {ours} {theirs}")).ok();
    let pushed = docker(&format!("push {theirs}")).ok();
    let digest = server.digest("from-docker", "1");
    assert!(pushed.contains(&format!("1: digest: {digest}")), "{pushed}");
    assert_eq!(id(&context, "from-docker:1"), id(&context, "built"));
    assert_eq!(context.line("run --rm from-docker:1").ok(), "hello served");
    let again = docker(&format!("push {theirs}")).ok();
    assert!(again.contains("Layer already exists"), "{again}");
}

#[test]
fn an_address_in_use_is_told_with_another_to_take() {
    let context = Context::new();
    let server = Server::over(&context);
    let line = format!("registry serve {}", server.host);
    let hint = "hint: take another port: `smidge registry serve ";
    context
        .line(&line)
        .says(1, &["cannot serve at `", "it is already in use", hint]);
}
