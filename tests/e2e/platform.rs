//! Images for several kinds of machines: built in one go, and run, the foreign ones emulated.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use crate::context::{Context, have, identities, repository, skip};
use crate::http::page;
use crate::registry::Registry;

const BOTH: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// The Go hello server for two platforms, built once: an OCI archive, and the index's digest.
fn server() -> Option<(&'static Path, &'static str)> {
    static BUILT: LazyLock<(Context, PathBuf, String)> = LazyLock::new(|| {
        let context = Context::new();
        let archive = context.path().join("hello.tar");
        let mut build = context.line_command("build -t hello --platform");
        build.arg(BOTH.join(",")).arg("-o");
        build.arg(format!("type=oci-archive,dest={}", archive.display()));
        build.arg(repository().join("examples/go/helloworld"));
        let digest = context.finish(build).ok();
        (context, archive, digest)
    });
    have("go").then(|| {
        let (_, archive, digest) = &*BUILT;
        (archive.as_path(), digest.as_str())
    })
}

/// Whether arm64 is another machine here that programs can be emulated for.
fn emulated() -> bool {
    if !cfg!(target_arch = "x86_64") {
        skip("arm64 is no other machine here");
        return false;
    }
    have("qemu-aarch64-static")
}

/// Whether the host's kernel was told what to do with programs for arm64.
fn is_registered() -> bool {
    Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists()
}

#[test]
fn a_go_server_for_two_platforms_runs_on_both() {
    let Some((archive, digest)) = server() else {
        return;
    };
    for identity in identities() {
        let context = Context::of(identity);
        context
            .smidge(["load".as_ref(), "-i".as_ref(), archive.as_os_str()])
            .ok();
        let index: Value =
            serde_json::from_str(&context.line("manifest inspect hello").ok()).unwrap();
        let platforms = index["manifests"].as_array().unwrap().iter().map(|entry| {
            let platform = &entry["platform"];
            format!(
                "{}/{}",
                platform["os"].as_str().unwrap(),
                platform["architecture"].as_str().unwrap()
            )
        });
        assert!(platforms.eq(BOTH), "{index}");
        assert!(digest.starts_with("sha256:"));
        for platform in BOTH {
            if platform == "linux/arm64" && !emulated() {
                continue;
            }
            let line = format!("run -d --name hello -p 0:8080 --platform {platform} hello");
            context.line(&line).ok();
            let format = r#"{{(index (index .NetworkSettings.Ports "8080/tcp") 0).HostPort}}"#;
            let port = context.smidge(["inspect", "-f", format, "hello"]).ok();
            let port = port.parse().unwrap();
            assert_eq!(page(port, "/"), "Hello World from Go!\n", "{platform}");
            // What is shown is the program, whatever runs it.
            let shown = context.smidge(["ps", "--format", "{{.Command}}"]).ok();
            assert_eq!(shown, "\"/helloworld\"");
            context.line("stop hello").ok();
            let code = context
                .smidge(["inspect", "-f", "{{.State.ExitCode}}", "hello"])
                .ok();
            assert_eq!(code, "0", "it ends by itself when it is asked to");
            context.line("rm hello").ok();
        }
    }
}

#[test]
fn one_build_gives_one_name() {
    if !have("go") {
        return;
    }
    let context = Context::new();
    let path = repository().join("examples/go/helloworld");
    let build = |platforms: &[&str]| {
        let mut build = context.line_command("build -t hello");
        for platform in platforms {
            build.args(["--platform", platform]);
        }
        build.arg(&path);
        context.finish(build)
    };
    let built = build(&BOTH);
    let digest = built.ok();
    assert_eq!(build(&BOTH).ok(), digest, "the same again is the same");
    for part in [
        "2 platforms",
        "linux/amd64  ",
        "linux/arm64  ",
        " to transfer, program ",
    ] {
        assert!(
            built.stderr().contains(part),
            "{part} in {}",
            built.stderr()
        );
    }
    let names = context
        .smidge(["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .ok();
    assert_eq!(names, "hello:latest");
    // One platform alone is an image, and what there was of the others is not its business.
    let alone = build(&["linux/arm64"]).ok();
    assert_ne!(alone, digest);
    let id = context
        .smidge(["inspect", "-f", "{{.Id}} {{.Architecture}}", "hello"])
        .ok();
    assert_eq!(id, format!("{alone} arm64"));
}

#[test]
fn c_programs_are_made_for_both_and_run() {
    let cross = have("zig") || have("aarch64-linux-gnu-gcc");
    if !cross || !have("cc") || !emulated() {
        return;
    }
    for identity in identities() {
        let context = Context::of(identity);
        context.copy(&repository().join("examples/c/hello.c"), "hello.c");
        let built = context.line("build -q -t hello --platform linux/amd64,linux/arm64 hello.c");
        if built.code() != 0 {
            built.says(1, &["has no static C library", "libc6-dev-arm64-cross"]);
            skip("there is no C library for arm64");
            return;
        }
        for (platform, machine) in [("linux/amd64", "x86_64"), ("linux/arm64", "aarch64")] {
            let line = format!("run --rm --platform {platform} hello");
            assert_eq!(
                context.line(&line).ok(),
                format!("Hello from C on {machine}!")
            );
        }
        assert_eq!(
            context.line("run --rm hello").ok(),
            "Hello from C on x86_64!"
        );
        let init = context
            .line("run --rm --init --platform linux/arm64 hello")
            .ok();
        assert_eq!(init, "Hello from C on aarch64!");
    }
}

#[test]
fn another_machines_image_is_noted_and_explained() {
    let Some((archive, _)) = server() else { return };
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let context = Context::new();
    context
        .smidge(["load".as_ref(), "-i".as_ref(), archive.as_os_str()])
        .ok();
    context
        .line("save --platform linux/arm64 -o arm64.tar hello")
        .ok();
    let (all, context) = (context, Context::new());
    context.copy(&all.path().join("arm64.tar"), "arm64.tar");
    context.line("load -i arm64.tar").ok();
    let without = |line: &str| {
        let mut command = context.line_command(line);
        command.env("PATH", "/nowhere");
        context.finish(command)
    };
    let note = "the image is for `linux/arm64`, this machine is `linux/amd64`, and no platform was asked for";
    if is_registered() {
        skip("the host's kernel emulates arm64");
    } else {
        without("run --rm hello").says(
            126,
            &[
                note,
                "`/helloworld` cannot start: the image is for `linux/arm64`",
                "`apt install qemu-user-static`",
                "smidge build --platform linux/amd64",
            ],
        );
        let asked = without("run --rm --platform linux/arm64 hello");
        asked.says(126, &["cannot start"]);
        assert!(!asked.stderr().contains(note), "{}", asked.stderr());
    }
    context
        .line("run --rm --pull never --platform linux/s390x hello")
        .says(125, &["linux/s390x"]);
}

#[test]
fn indexes_made_by_hand_travel_with_what_they_list() {
    let (Some((archive, _)), Some(registry)) = (server(), Registry::plain()) else {
        return;
    };
    let host = registry.host();
    let context = Context::new();
    context
        .smidge(["load".as_ref(), "-i".as_ref(), archive.as_os_str()])
        .ok();
    // Two images, each under a name of its own, in one repository.
    for architecture in ["amd64", "arm64"] {
        let line = format!("save --platform linux/{architecture} -o one.tar hello");
        context.line(&line).ok();
        let other = Context::new();
        other.copy(&context.path().join("one.tar"), "one.tar");
        other.line("load -i one.tar").ok();
        let name = format!("{host}/parts:{architecture}");
        other.line(&format!("tag hello {name}")).ok();
        other.line(&format!("push -q {name}")).ok();
    }
    // Joined by somebody who has neither, and sent to another repository.
    let context = Context::new();
    let list = format!("{host}/whole:1");
    let create = format!("manifest create {list} {host}/parts:amd64 {host}/parts:arm64");
    assert_eq!(
        context.line(&create).ok(),
        format!("Created manifest list {list}")
    );
    context.line(&create).says(1, &["already", "--amend"]);
    let annotate = format!("manifest annotate {list} {host}/parts:arm64 --variant v8");
    context.line(&annotate).ok();
    let pushed = context.line(&format!("manifest push --purge {list}"));
    let lines: Vec<String> = pushed.ok().lines().map(str::to_owned).collect();
    let (index, digest) = registry.manifest("whole", "1");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with(&format!("Pushed ref {host}/whole@sha256:")),
        "{lines:?}"
    );
    assert_eq!(lines[2], digest);
    let index = index.json();
    assert_eq!(index["manifests"][1]["platform"]["variant"], "v8");
    context
        .line(&format!("manifest rm {list}"))
        .says(1, &["there is no index"]);
    // Shown as the registry has it, and whole for whoever fetches it.
    let shown = context.line(&format!("manifest {list}"));
    assert_eq!(crate::craft::digest(shown.bytes()), digest);
    let verbose = context.line(&format!("manifest inspect -v {list}")).ok();
    let verbose: Value = serde_json::from_str(&verbose).unwrap();
    assert_eq!(verbose[0]["Ref"], lines[0].split(' ').nth(2).unwrap());
    assert!(verbose[1]["OCIManifest"]["layers"].is_array(), "{verbose}");
    let reader = Context::new();
    for platform in BOTH {
        reader
            .line(&format!("pull -q --platform {platform} {list}"))
            .ok();
        if platform == "linux/amd64" || emulated() {
            let run = format!("run -d --platform {platform} {list}");
            reader.line(&run).ok();
        }
    }
}
