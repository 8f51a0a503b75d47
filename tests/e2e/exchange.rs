//! What other tools push, smidge pulls and runs; what smidge pushes, they pull and run. Digests agree.

use crate::context::{Context, have, identities};
use crate::craft::{self, OCI, archive};
use crate::fixture;
use crate::proxy::Proxy;
use crate::registry::Registry;
use crate::tool::{Dockerd, RUN, buildah, podman, skopeo};

/// Builds an image of two layers that runs `/bin/hello` as somebody.
fn build(context: &Context, name: &str) {
    context.copy(fixture::hello(), "d/hello");
    context.write("d/data/one", "1");
    let dockerfile = "FROM scratch\nCOPY data /data\nADD hello /bin/hello\nENV A=b\nUSER 7\n\
         LABEL note=\"a label\"\nEXPOSE 80\nENTRYPOINT [\"/bin/hello\"]\nCMD [\"peer\"]\n";
    context.write("d/Dockerfile", dockerfile);
    context.line(&format!("build -q -t {name} d")).ok();
}

/// Pulls in a store of its own, and gives what the image says and its id.
fn pulled(name: &str, arguments: &str) -> (String, String) {
    let context = Context::new();
    context.line(&format!("pull -q {name}")).ok();
    let said = context.line(&format!("run --rm {name} {arguments}")).ok();
    (
        said,
        context.smidge(["inspect", "-f", "{{.Id}}", name]).ok(),
    )
}

/// The digest that smidge and skopeo, who agree, have for a name.
fn digest(name: &str) -> String {
    let context = Context::new();
    let ours = context.line(&format!("digest {name}")).ok();
    let line = format!("inspect --tls-verify=false --format {{{{.Digest}}}} docker://{name}");
    assert_eq!(skopeo(&context, &line).ok(), ours);
    ours
}

#[test]
fn skopeo_pushes_every_form_and_smidge_pulls_it() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    if !have("skopeo") {
        return;
    }
    for identity in identities() {
        let context = Context::of(identity);
        build(&context, "peer:1");
        context.line("save --format oci -o layout peer:1").ok();
        let id = context.smidge(["inspect", "-f", "{{.Id}}", "peer:1"]).ok();
        for (n, options) in [
            "--format oci",
            "--format oci --dest-compress-format gzip --dest-compress-level 9",
            "--format oci --dest-compress-format zstd",
            "--format v2s2",
            "--format v2s2 --dest-compress",
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("{}/{}:{n}", registry.host(), identity.name);
            let line = format!(
                "copy -q --dest-tls-verify=false {options} oci:layout:docker.io/library/peer:1 \
                 docker://{name}"
            );
            skopeo(&context, &line).ok();
            let (said, pulled) = pulled(&name, "to you");
            assert_eq!(said, "hello to you", "{options}");
            if options.contains("oci") {
                assert_eq!(pulled, id, "{options}");
            }
            digest(&name);
        }
    }
}

#[test]
fn skopeo_reads_what_smidge_pushes_however_it_is_compressed() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    if !have("skopeo") {
        return;
    }
    for identity in identities() {
        let context = Context::of(identity);
        for compression in ["gzip", "zstd", "none", "smallest"] {
            let name = format!("{}/{}:{compression}", registry.host(), identity.name);
            build(&context, &name);
            let line = format!("push --compress {compression} {name}");
            let pushed = context.line(&line).ok();
            let digest = digest(&name);
            assert!(pushed.contains(&digest), "{pushed}");
            let line = format!("inspect --tls-verify=false docker://{name}");
            let inspected = skopeo(&context, &line).ok();
            assert!(inspected.contains("\"A=b\"") && inspected.contains("\"a label\""));
            let line = format!("inspect --config --raw --tls-verify=false docker://{name}");
            let config = skopeo(&context, &line);
            let ours = context.line(&format!("config {name}"));
            config.ok();
            assert_eq!(config.bytes().trim_ascii(), ours.bytes().trim_ascii());
            // A copy verifies every blob, and what comes back is what went out.
            let copy = format!(
                "copy -q --src-tls-verify=false docker://{name} oci-archive:{compression}.tar:back:1"
            );
            skopeo(&context, &copy).ok();
            let other = Context::new();
            let path = context.path().join(format!("{compression}.tar"));
            other.line(&format!("load -i {}", path.display())).ok();
            assert_eq!(other.line("run --rm back:1").ok(), "hello peer");
        }
    }
}

#[test]
fn podman_and_smidge_exchange_images() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    if !have("podman") || !have("unshare") {
        return;
    }
    let (context, host) = (Context::new(), registry.host());
    let exchanged = |compression: &str, options: &str| {
        let ours = format!("{host}/ours:{compression}");
        build(&context, &ours);
        let push = format!("push -q --compress {compression} {ours}");
        context.line(&push).ok();
        podman(&context, &format!("pull -q --tls-verify=false {ours}")).ok();
        let there = podman(&context, &format!("{RUN} {ours} there")).ok();
        assert_eq!(there, "hello there");
        let template = "image inspect --format {{.RepoDigests}}";
        let digests = podman(&context, &format!("{template} {ours}")).ok();
        let digest = format!("{host}/ours@{}", digest(&ours));
        assert!(digests.contains(&digest), "{digests}");
        let known = context.smidge(["inspect", "-f", "{{.RepoDigests}}", &ours]);
        assert!(known.ok().contains(&digest), "{}", known.stdout());
        let theirs = format!("{host}/theirs:{compression}");
        podman(&context, &format!("tag {ours} {theirs}")).ok();
        let push = format!("push -q --tls-verify=false {options} {theirs}");
        podman(&context, &push).ok();
        assert_eq!(pulled(&theirs, "back").0, "hello back", "{options}");
    };
    exchanged("gzip", "--format v2s2");
    exchanged("none", "--format oci");
    exchanged("zstd", "--format oci --compression-format zstd");
}

#[test]
fn buildah_builds_deep_images_that_smidge_runs() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    if !have("buildah") || !have("unshare") {
        return;
    }
    let (context, host) = (Context::new(), registry.host());
    context.copy("/bin/busybox".as_ref(), "d/busybox");
    let mut dockerfile = "FROM scratch\nCOPY busybox /busybox\n".to_owned();
    for n in 0..28 {
        // Its storage here tells files apart by their sizes.
        context.write(&format!("d/file{n}"), "x".repeat(n + 1));
        dockerfile += &format!("COPY file{n} /which\n");
    }
    dockerfile += "COPY file3 file4 /\nENTRYPOINT [\"/busybox\"]\n";
    context.write("d/Dockerfile", dockerfile);
    let name = format!("{host}/deep");
    buildah(&context, &format!("build -q --layers -t {name} d")).ok();
    for format in ["v2s2", "oci"] {
        buildah(
            &context,
            &format!("push -q --format {format} --tls-verify=false {name}"),
        )
        .ok();
        assert_eq!(pulled(&name, "wc -c /which").0, "28 /which");
    }
    let layers = registry.manifest("deep", "latest").0.json()["layers"].clone();
    assert_eq!(layers.as_array().unwrap().len(), 30);
    // What a layer takes away, and what takes its place.
    let made = buildah(&context, &format!("from --pull-never {name}")).ok();
    let root = buildah(&context, &format!("mount {made}")).ok();
    std::fs::remove_file(format!("{root}/file3")).unwrap();
    std::fs::remove_file(format!("{root}/file4")).unwrap();
    std::fs::create_dir(format!("{root}/file4")).unwrap();
    std::os::unix::fs::symlink("file5", format!("{root}/link")).unwrap();
    buildah(&context, &format!("umount {made}")).ok();
    buildah(&context, &format!("commit -q {made} {host}/changed")).ok();
    buildah(
        &context,
        &format!("push -q --tls-verify=false {host}/changed"),
    )
    .ok();
    let (said, _) = pulled(&format!("{host}/changed"), "ls -F /");
    let listed: Vec<&str> = said.lines().collect();
    assert!(!listed.contains(&"file3"), "{said}");
    assert!(
        listed.contains(&"file4/") && listed.contains(&"link@"),
        "{said}"
    );
    // What smidge sends on, buildah takes as the same.
    let other = Context::new();
    other.line(&format!("pull -q {host}/changed")).ok();
    other.line(&format!("tag {host}/changed {host}/again")).ok();
    other.line(&format!("push -q {host}/again")).ok();
    assert_eq!(
        digest(&format!("{host}/again")),
        digest(&format!("{host}/changed"))
    );
    buildah(
        &context,
        &format!("pull -q --tls-verify=false {host}/again"),
    )
    .ok();
}

#[test]
fn manifest_lists_of_podman_and_buildah_are_understood() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    if !have("podman") || !have("buildah") || !have("unshare") {
        return;
    }
    let host = registry.host();
    let program = std::fs::read(fixture::hello()).unwrap();
    let native = craft::image(&OCI, &[archive(&[("hello", 0o755, &program)])]);
    registry.put("parts", "amd64", &native);
    let other = craft::image(&OCI, &[archive(&[("other", 0o755, b"x")])]);
    registry.put("parts", "s390x", &other);
    type Tool = fn(&Context, &str) -> crate::context::Ran;
    for (tool, run) in [("podman", podman as Tool), ("buildah", buildah as Tool)] {
        for format in ["oci", "v2s2"] {
            let context = Context::new();
            let name = format!("{host}/{tool}:{format}");
            run(&context, &format!("manifest create {name}")).ok();
            for part in ["amd64", "s390x"] {
                let add = format!(
                    "manifest add --tls-verify=false --os linux --arch {part} {name} \
                     docker://{host}/parts:{part}"
                );
                run(&context, &add).ok();
            }
            let push = format!(
                "manifest push --all --tls-verify=false --format {format} {name} docker://{name}"
            );
            run(&context, &push).ok();
            let (said, id) = pulled(&name, "listed");
            assert_eq!(said, "hello listed");
            if format == "oci" {
                assert_eq!(id, native.id());
            }
            let whole = Context::new();
            whole.line(&format!("pull -q --all-platforms {name}")).ok();
            whole.line(&format!("tag {name} {name}-back")).ok();
            whole.line(&format!("push -q {name}-back")).ok();
            assert_eq!(digest(&format!("{name}-back")), digest(&name));
            run(&context, &format!("manifest create {name}-back")).ok();
            let add =
                format!("manifest add --all --tls-verify=false {name}-back docker://{name}-back");
            run(&context, &add).ok();
            let seen = run(&context, &format!("manifest inspect {name}-back")).ok();
            assert!(seen.contains("s390x") && seen.contains("amd64"), "{seen}");
        }
    }
}

#[test]
fn docker_and_smidge_exchange_images() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    if !have("dockerd") || !have("docker") {
        return;
    }
    let Some(daemon) = Dockerd::start() else {
        return;
    };
    let (context, host) = (Context::new(), registry.host());
    let docker = |line: &str| daemon.docker(&context, line);
    for compression in ["gzip", "none", "smallest"] {
        let name = format!("{host}/ours:{compression}");
        build(&context, &name);
        let pushed = context
            .line(&format!("push --compress {compression} {name}"))
            .ok();
        let theirs = docker(&format!("pull {name}")).ok();
        let digest = digest(&name);
        assert!(
            pushed.contains(&format!("{compression}: digest: {digest} size: ")),
            "{pushed}"
        );
        assert!(theirs.contains(&format!("Digest: {digest}")), "{theirs}");
        assert_eq!(
            docker(&format!("run --rm --network none {name} there")).ok(),
            "hello there"
        );
        let id = docker(&format!("inspect -f {{{{.Id}}}} {name}")).ok();
        assert_eq!(context.smidge(["inspect", "-f", "{{.Id}}", &name]).ok(), id);
        // Docker knows it by the same digest.
        let template = "inspect -f {{.RepoDigests}}";
        let known = docker(&format!("{template} {name}")).ok();
        assert!(known.contains(&format!("{host}/ours@{digest}")), "{known}");
    }
    let dockerfile =
        "FROM scratch\nCOPY data /data\nENV X=y\nCOPY hello /hello\nENTRYPOINT [\"/hello\"]\n";
    context.write("d/Dockerfile", dockerfile);
    let name = format!("{host}/theirs");
    docker(&format!("build -q -t {name} d")).ok();
    let pushed = docker(&format!("push {name}")).ok();
    let (said, id) = pulled(&name, "from docker");
    assert_eq!(said, "hello from docker");
    assert_eq!(id, docker(&format!("inspect -f {{{{.Id}}}} {name}")).ok());
    assert!(pushed.contains(&digest(&name)), "{pushed}");
    // Their words and ours are the same, and so is what a second push has to do.
    let proxy = Proxy::before(&registry);
    let sent = format!("{}/theirs", proxy.host());
    let other = Context::new();
    other.line(&format!("pull -q {name}")).ok();
    other.line(&format!("tag {name} {sent}")).ok();
    let ours = other.line(&format!("push {sent}")).ok();
    assert_eq!(ours.lines().last(), pushed.lines().last());
    assert_eq!(proxy.requests("PATCH", "").len(), 0);
    let again = docker(&format!("pull {name}")).ok();
    assert!(again.contains("Image is up to date"), "{again}");
}
