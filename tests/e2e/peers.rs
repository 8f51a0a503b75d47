//! What smidge writes, others read; what others write, smidge reads.

use crate::context::{Context, have};
use crate::fixture;
use crate::tool::podman;

fn with_images() -> Context {
    let context = Context::new();
    context.copy(fixture::hello(), "d/hello");
    context.write("d/data/one", "1");
    context.write("d/data/sub/two", "2");
    let dockerfile = "FROM scratch\nCOPY data /data\nADD hello /deep/down/hello\nENV A=b\nUSER 7\nCMD [\"/deep/down/hello\", \"peer\"]\n";
    context.write("d/Dockerfile", dockerfile);
    context.line("build -q -t peer:1 d").ok();
    context
}

fn id(context: &Context, name: &str) -> String {
    context.smidge(["inspect", "-f", "{{.Id}}", name]).ok()
}

fn run(context: &Context, line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut command = context.program(words.next().unwrap());
    command.args(words);
    context.finish(command).ok()
}

#[test]
fn skopeo_reads_the_store_in_place() {
    if !have("skopeo") {
        return;
    }
    let context = with_images();
    let inspected = run(
        &context,
        "skopeo --insecure-policy inspect oci:store:docker.io/library/peer:1",
    );
    assert!(inspected.contains("\"A=b\""), "{inspected}");
    run(
        &context,
        "skopeo --insecure-policy copy oci:store:docker.io/library/peer:1 docker-archive:copied.tar:copied:9",
    );
    let loaded = context.line("load -i copied.tar").ok();
    assert!(loaded.contains("copied:9"), "{loaded}");
    assert_eq!(context.line("run --rm copied:9").ok(), "hello peer");
}

#[test]
fn umoci_unpacks_the_store_in_place() {
    if !have("umoci") {
        return;
    }
    let context = with_images();
    run(
        &context,
        "umoci unpack --rootless --image store:docker.io/library/peer:1 bundle",
    );
    let root = context.path().join("bundle/rootfs");
    assert_eq!(
        std::fs::read_to_string(root.join("data/sub/two")).unwrap(),
        "2"
    );
    let there = std::fs::read(root.join("deep/down/hello")).unwrap();
    assert_eq!(there, std::fs::read(fixture::hello()).unwrap());
}

#[test]
fn skopeo_and_smidge_exchange_every_archive_format() {
    if !have("skopeo") {
        return;
    }
    let context = with_images();
    for (format, transport) in [
        ("docker-archive", "docker-archive"),
        ("oci-archive", "oci-archive"),
    ] {
        context
            .line(&format!("save --format {format} -o out.tar peer:1"))
            .ok();
        run(
            &context,
            &format!("skopeo --insecure-policy copy {transport}:out.tar dir:there-{format}"),
        );
        run(
            &context,
            &format!(
                "skopeo --insecure-policy copy dir:there-{format} {transport}:back-{format}.tar:back:{format}"
            ),
        );
        let other = Context::new();
        let path = context.path().join(format!("back-{format}.tar"));
        other.line(&format!("load -i {}", path.display())).ok();
        assert_eq!(
            other.line(&format!("run --rm back:{format}")).ok(),
            "hello peer"
        );
    }
    context.line("save --format oci -o layout peer:1").ok();
    run(
        &context,
        "skopeo --insecure-policy copy oci:layout:docker.io/library/peer:1 dir:from-layout",
    );
}

#[test]
fn podman_loads_and_saves() {
    if !have("podman") {
        return;
    }
    let context = with_images();
    let expected = id(&context, "peer:1");
    for format in ["docker-archive", "oci-archive"] {
        context
            .line(&format!("save --format {format} -o p.tar peer:1"))
            .ok();
        podman(&context, "load -q -i p.tar").ok();
        let name = podman(&context, "images -q --no-trunc").ok();
        assert_eq!(
            name, expected,
            "podman computes the same image id from {format}"
        );
        podman(
            &context,
            &format!(
                "save -q --format {format} -o back-{format}.tar {}",
                &expected[7..]
            ),
        )
        .ok();
        let other = Context::new();
        let path = context.path().join(format!("back-{format}.tar"));
        other.line(&format!("load -i {}", path.display())).ok();
        assert_eq!(other.line("images -q --no-trunc").ok(), expected);
        podman(&context, "rmi -af").ok();
    }
}

#[test]
fn podman_runs_what_smidge_saves() {
    if !have("podman") {
        return;
    }
    let context = with_images();
    context.line("save -o p.tar peer:1").ok();
    podman(&context, "load -q -i p.tar").ok();
    let run = "run --rm --network none --cgroups disabled --ulimit=nofile=1024:1024 \
               --ulimit=nproc=1024:1024 docker.io/library/peer:1";
    assert_eq!(podman(&context, run).ok(), "hello peer");
}

#[test]
fn tar_and_python_read_the_layers() {
    if !have("python3") {
        return;
    }
    let context = with_images();
    context.line("save --format oci -o layout peer:1").ok();
    let script = "
import gzip, json, sys, tarfile
blob = lambda d: 'layout/blobs/sha256/' + d['digest'].split(':')[1]
manifest = json.load(open(blob(json.load(open('layout/index.json'))['manifests'][0])))
for layer in manifest['layers']:
    for member in tarfile.open(blob(layer)):
        print(member.name, oct(member.mode), member.uid, member.mtime)
";
    let mut python = context.program("python3");
    python.args(["-c", script]);
    let listing = context.finish(python).ok();
    assert!(listing.contains("deep/down/hello 0o755 0 0"), "{listing}");
    assert!(listing.contains("data/sub/two 0o644 0 0"), "{listing}");
}
