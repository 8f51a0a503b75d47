//! What goes wrong: what is said then, and what is left.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use smidge_tests::InTime as _;

use super::{Two, copy, is_tidy, names};
use crate::context::{Context, identities};
use crate::proxy::{Fault, Proxy};
use crate::registry::Registry;

const ALWAYS: usize = usize::MAX;

/// A copy that fails: says these things, and leaves nothing.
#[track_caller]
fn fails(context: &Context, line: &str, says: &[&str]) {
    let before = names(context.path());
    context.line(&format!("copy {line}")).says(1, says);
    assert_eq!(names(context.path()), before);
    is_tidy(context);
}

/// Sources that are not there, and what is said of each.
const ABSENT: [(&str, &[&str]); 10] = [
    (
        "REGISTRY/nope",
        &[
            "error: cannot copy from `REGISTRY/nope:latest`: the repository has no such",
            "caused by: GET http://REGISTRY",
        ],
    ),
    (
        "store:nope",
        &["error: cannot copy from `store:nope`: No such image: nope"],
    ),
    (
        "oci:nope",
        &["error: cannot copy from `oci:nope`: there is no such directory"],
    ),
    (
        "oci:text",
        &[
            "error: cannot copy from `oci:text`: it is a file, not a directory\n",
            "hint: if it is an archive: `oci-archive:text`",
        ],
    ),
    (
        "oci:.config",
        &["error: cannot copy from `oci:.config`: it is no OCI image layout"],
    ),
    (
        "oci:two:three",
        &[
            "error: cannot copy from `oci:two:three`: there is no image `three` in it\n",
            "there is: two",
        ],
    ),
    (
        "oci-archive:two",
        &["`oci-archive:two`: it is a directory", "`oci:two`"],
    ),
    (
        "docker-archive:nope.tar",
        &[
            "error: cannot copy from `docker-archive:nope.tar`: cannot read `/",
            "No such file",
        ],
    ),
    (
        "docker-archive:text",
        &["error: cannot copy from `docker-archive:text`: "],
    ),
    (
        "--platform linux/s390x oci:two",
        &["error: cannot copy from `oci:two`: there is no image for `linux/s390x`"],
    ),
];

#[test]
fn a_source_that_is_not_there_is_told_by_its_place() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.lay(&context, "two", Some("two"));
    context.write("text", "no archive, but long enough for one".repeat(20));
    context.line("images").ok();
    let here = |text: &str| text.replace("REGISTRY", &registry.host());
    for (source, says) in ABSENT {
        let says: Vec<String> = says.iter().map(|text| here(text)).collect();
        let says: Vec<&str> = says.iter().map(String::as_str).collect();
        for place in [
            "oci:new",
            "docker-archive:new.tar",
            "store:new",
            "REGISTRY/new",
        ] {
            fails(&context, &here(&format!("{source} {place}")), &says);
        }
    }
    assert_eq!(registry.get("/v2/new/tags/list").status(), 404);
    assert_eq!(context.line("images -q").ok(), "");
}

#[test]
fn a_destination_that_cannot_be_written_is_told_before_anything_is_fetched() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let two = Two::new();
    two.put(&registry, "x", "1");
    let proxy = Proxy::before(&registry);
    let source = format!("{}/x:1", proxy.host());
    for identity in identities() {
        let context = Context::of(identity);
        context.write("file", "");
        context.write("shut/in", "");
        context.line("images").ok();
        let shut = context.path().join("shut");
        std::fs::set_permissions(&shut, Permissions::from_mode(0o555)).unwrap();
        let mut refused = vec![
            ("oci:file", "is a file, not a directory"),
            ("oci:store", "is a store of smidge's"),
            ("oci-archive:no/such/x.tar", "No such file"),
            ("docker-archive:shut", "is a directory, not a file"),
            ("docker-archive:x.tar:UPPER", "must be lowercase"),
            (
                "store:a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "a digest is no name",
            ),
            ("docker-daemon:a", "Docker cannot be reached"),
            ("containerd:a", "containerd cannot be reached"),
        ];
        if identity.ids.is_some() {
            refused.push(("oci:shut/x", "Permission denied"));
            refused.push(("oci-archive:shut/x.tar", "Permission denied"));
        }
        for (place, why) in refused {
            let mut command = context.line_command(&format!("copy {source} {place}"));
            command
                .env("DOCKER_HOST", "unix:///no/such/socket")
                .env("CONTAINERD_ADDRESS", "/no/such/socket");
            let first = format!("error: cannot copy to `{place}");
            context.finish(command).says(1, &[&first, why]);
        }
        assert_eq!(proxy.count(), 0);
        assert_eq!(names(&shut), ["in"]);
        is_tidy(&context);
    }
}

#[test]
fn a_blob_that_comes_wrong_goes_nowhere() {
    let (Some(registry), Some(other)) = (Registry::plain(), Registry::plain()) else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.put(&registry, "x", "1");
    let proxy = Proxy::before(&registry);
    context.write("old.tar", "old");
    context.line("images").ok();
    proxy.fault(("GET", "/blobs/"), ALWAYS, Fault::Corrupt(5000));
    let source = format!("{}/x:1", proxy.host());
    let says = [
        "error: blob ",
        &format!(" of `{source}` is corrupt; nothing was copied\n"),
        "expected: sha256:",
        "hint: try again",
    ];
    for place in ["oci:new", "oci-archive:old.tar", "docker-archive:old.tar"] {
        for options in ["", "--all"] {
            fails(&context, &format!("{options} {source} {place}"), &says);
        }
    }
    // What came right of other blobs need not be fetched again, as after a pull.
    context
        .line(&format!("copy {source} store:new"))
        .says(1, &says);
    context.line("prune -f").ok();
    is_tidy(&context);
    assert_eq!(read(&context, "old.tar"), b"old");
    assert_eq!(context.line("images -q").ok(), "");
    let to = format!("{}/y", other.host());
    fails(
        &context,
        &format!("{source} {to}"),
        &["error: cannot copy "],
    );
    assert_eq!(other.get("/v2/y/manifests/latest").status(), 404);
}

#[test]
fn a_blob_that_is_damaged_goes_nowhere() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.lay(&context, "two", Some("two"));
    copy(&context, "oci:two store:x");
    context.write("old.tar", "old");
    let mut blob = two.amd64.layers[1].clone();
    blob.bytes[777] ^= 1;
    super::write_blob(&context, "two", &blob);
    super::write_blob(&context, "store", &blob);
    let to = format!("{}/y", registry.host());
    for place in [
        "oci:new",
        "oci-archive:old.tar",
        "docker-archive:old.tar",
        &to,
    ] {
        for source in ["oci:two", "store:x"] {
            let line = format!("{source} {place}");
            fails(&context, &line, &["error: ", &blob.digest, "corrupt"]);
        }
    }
    fails(&context, "oci:two store:new", &["corrupt"]);
    assert_eq!(read(&context, "old.tar"), b"old");
    assert_eq!(registry.get("/v2/y/manifests/latest").status(), 404);
}

fn read(context: &Context, name: &str) -> Vec<u8> {
    std::fs::read(context.path().join(name)).unwrap()
}

#[test]
fn a_layout_that_holds_images_is_as_it_was_after_a_failure() {
    let (context, two) = (Context::new(), Two::new());
    two.lay(&context, "two", Some("two"));
    copy(&context, "--all oci:two store:two");
    copy(&context, "--platform linux/arm64 oci:two oci:out:arm");
    let blobs = context.path().join("out/blobs/sha256");
    let (before, index) = (
        names(&blobs),
        std::fs::read(context.path().join("out/index.json")),
    );
    let blob = &two.amd64.layers[1];
    let path = format!("store/blobs/sha256/{}", &blob.digest[7..]);
    context.write(&path, vec![7; blob.bytes.len()]);
    context
        .line("copy --all store:two oci:out:all")
        .says(1, &["error: cannot copy "]);
    assert_eq!(names(&blobs), before);
    let after = std::fs::read(context.path().join("out/index.json")).unwrap();
    assert_eq!(after, index.unwrap());
    is_tidy(&context);
    // What is not there at all is left behind, and that is said.
    std::fs::remove_file(context.path().join(path)).unwrap();
    let digest = context.line("copy --all store:two oci:out:part");
    let note = "note: of the 2 that the index lists, not copied, since not there: `linux/amd64`";
    digest.says(0, &[note]);
    assert_eq!(digest.stdout(), two.index.digest);
}

#[test]
fn who_is_killed_leaves_what_prune_removes() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.put(&registry, "x", "1");
    for place in ["oci:new", "store:new"] {
        let proxy = Proxy::before(&registry);
        proxy.fault(("GET", "/blobs/"), ALWAYS, Fault::Stall(50_000));
        let line = format!("copy {}/x:1 {place}", proxy.host());
        let mut child = context.spawn(context.line_command(&line));
        proxy.wait_for_stalls(2);
        child.kill().unwrap();
        child.status_in_time().unwrap();
        context.line("prune -f").ok();
        is_tidy(&context);
        assert!(!context.path().join("new").exists());
    }
    assert_eq!(context.line("images -q").ok(), "");
}

#[test]
fn sockets_of_others_are_told_apart() {
    let (context, two) = (Context::new(), Two::new());
    two.lay(&context, "two", Some("two"));
    let path = context.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    // Answers whatever comes with what is neither Docker's nor containerd's.
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let patience = Some(smidge_tests::PATIENCE);
            stream.set_read_timeout(patience).unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            open.push(stream);
        }
    });
    let with = |address: &str, place: &str| {
        let mut command = context.line_command(&format!("copy oci:two {place}"));
        command
            .env("DOCKER_HOST", address)
            .env("CONTAINERD_ADDRESS", &path);
        context.finish(command)
    };
    let ours = format!("unix://{}", path.display());
    with(&ours, "docker:a").says(
        1,
        &[
            "error: cannot copy to `docker-daemon:a:latest`: what answers is no Docker daemon\n",
            "caused by: GET /_ping at unix://",
            "hint: say where Docker listens: `DOCKER_HOST=unix:///path/docker.sock smidge copy …`",
        ],
    );
    with(&ours, "containerd:a").says(
        1,
        &[
            "error: cannot copy to `containerd:a:latest`: what answers is not containerd\n",
            "hint: say where containerd listens: `CONTAINERD_ADDRESS=/path/containerd.sock smidge copy …`",
        ],
    );
    for (address, why) in [
        ("unix:///no/such", "Docker cannot be reached\n"),
        ("tcp://127.0.0.1:1", "Docker cannot be reached\n"),
        ("ssh://host", "smidge cannot reach `ssh://host`\n"),
    ] {
        let first = format!("error: cannot copy to `docker-daemon:a:latest`: {why}");
        with(address, "docker-daemon:a").says(1, &[&first]);
    }
    let mut command = context.line_command("copy oci:two docker-daemon:a");
    command
        .env("DOCKER_HOST", "tcp://127.0.0.1:2376")
        .env("DOCKER_TLS_VERIFY", "1");
    context.finish(command).says(1, &["wants TLS", "ssh -L"]);
    is_tidy(&context);
}

#[test]
fn places_that_make_no_sense_are_wrong_usage() {
    let context = Context::new();
    for (line, why) in [
        ("copy a oci:", "it lacks a path"),
        ("copy store: b", "it lacks a name"),
        ("copy a UPPER", "must be lowercase"),
        ("copy --all --platform linux/amd64 a b", "--platform"),
        ("copy --compress lzma a b", "lzma"),
    ] {
        context.line(line).says(125, &[why]);
    }
    context
        .line("copy a")
        .says(1, &["missing: `<DESTINATION>`"]);
}
