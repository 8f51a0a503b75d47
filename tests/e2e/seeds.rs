//! The rows of what smidge is for: each thing that people did by hand to get a small container.
//!
//! The programs are the two classic ones, a greeting server and a server that shows its
//! arguments, in Rust and in Go.

use std::io::{Read as _, Write as _};
use std::path::Path;

use smidge_tests::InTime as _;

use crate::context::{Context, Ran, have, identities, repository, smidge_binary};
use crate::fixture::{self, example};
use crate::http::{fetch, page};

const GREETING: &str = "Started, serving at 8080";

/// The host port that a running container's port 8080 is published at.
fn published(context: &Context, container: &str) -> u16 {
    let format = r#"{{(index (index .NetworkSettings.Ports "8080/tcp") 0).HostPort}}"#;
    context
        .smidge(["inspect", "-f", format, container])
        .ok()
        .parse()
        .unwrap()
}

fn load(context: &Context, archive: &Path) {
    context
        .smidge([
            "load".as_ref(),
            "-q".as_ref(),
            "-i".as_ref(),
            archive.as_os_str(),
        ])
        .ok();
}

/// Where the two languages' versions of an example are, and how to name them in a message.
fn versions(name: &str) -> Vec<String> {
    let mut versions = vec![name.to_owned()];
    if have("go") {
        versions.push(format!("go/{name}"));
    }
    versions
}

#[test]
fn s01_scratch_needs_no_network() {
    let context = Context::new();
    let pulled = context.line("pull scratch");
    pulled.ok();
    assert!(format!("{}{}", pulled.stdout(), pulled.stderr()).contains("built in"));

    context.write("empty.tar", [0; 10240]);
    let id = context.line("import empty.tar nothing").ok();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(
        context
            .smidge(["inspect", "-f", "{{.Size}}", "nothing"])
            .code(),
        0
    );

    context.write("nil.tar", []);
    context.line("import nil.tar nothing/at-all:1").ok();

    context.write("Dockerfile", "FROM scratch\nLABEL empty=yes\n");
    context.line("build -q -t labelled .").ok();
}

#[test]
fn s01_docker_import_dash_scratch() {
    let context = Context::new();
    let mut tar = context.program("sh");
    tar.arg("-c").arg(format!(
        "tar cv --files-from /dev/null | {} import - scratch",
        smidge_binary().display()
    ));
    assert!(context.finish(tar).ok().starts_with("sha256:"));
}

#[test]
fn s02_hello_server_builds_packs_runs_and_answers() {
    for version in versions("helloworld") {
        let archive = example(&version, &[]);
        for identity in identities() {
            let context = Context::of(identity);
            load(&context, &archive);
            context
                .line(&format!("run -d --name hello -p 0:8080 example/{version}"))
                .ok();
            let body = page(published(&context, "hello"), "/");
            assert_eq!(body.trim_end().lines().count(), 1, "{body:?}");
            assert!(context.line("logs hello").ok().contains(GREETING));
            context.line("rm -f hello").ok();
        }
    }
}

/// A directory as the articles have it: a Dockerfile and `bin/helloworld`.
fn hello_directory(context: &Context, program: &Path) {
    context.copy(program, "work/bin/helloworld");
    context.write(
        "work/Dockerfile",
        "FROM scratch\nADD bin/helloworld /helloworld\nCMD [\"/helloworld\"]\n",
    );
}

#[test]
fn s03_dockerfile_from_scratch_builds_as_with_docker() {
    for identity in identities() {
        let context = Context::of(identity);
        hello_directory(&context, fixture::hello());
        let built = context.line("build -t adejonge/helloworld work").ok();
        assert!(built.starts_with("sha256:") && built.len() == 71, "{built}");
        let tag = context
            .smidge(["images", "--format", "{{.Repository}}:{{.Tag}}"])
            .ok();
        assert_eq!(tag, "adejonge/helloworld:latest");
        assert_eq!(context.line("run --rm adejonge/helloworld").ok(), "hello");
    }
}

#[test]
fn s04_dynamic_binary_is_named() {
    let wanted = [
        "cannot start",
        "/lib64/ld-linux-x86-64.so.2",
        "libc.so.6",
        "libm.so.6",
        "hint:",
    ];
    for identity in identities() {
        let context = Context::of(identity);
        hello_directory(&context, fixture::dynamic());
        let refused = context.line("build -t adejonge/hellobroken work");
        refused.says(1, &wanted);
        refused.says(1, &["Dockerfile:3:6", "--with-libs"]);
        context.line("inspect adejonge/hellobroken").exits(1);

        context
            .line("build -q --no-prove -t adejonge/hellobroken work")
            .ok();
        context
            .line("run --name hellobroken adejonge/hellobroken")
            .says(127, &wanted);
    }
}

#[test]
fn s04_dynamic_program_runs_with_its_libraries() {
    for identity in identities() {
        let context = Context::of(identity);
        context.copy(fixture::dynamic(), "dynamic");
        context
            .line("build dynamic")
            .says(1, &["--with-libs", "libm.so.6"]);
        context
            .line("build -q --with-libs -t dynamic ./dynamic")
            .ok();
        assert_eq!(context.line("run --rm dynamic a").ok(), "hello a");
    }
}

#[test]
fn s05_ldd_says_what_ldd_says() {
    let context = Context::new();
    let dynamic = context.copy(fixture::dynamic(), "dynamic");
    let ours = context.line("ldd dynamic").ok();
    for part in [
        "libc.so.6 => /",
        "libm.so.6 => /",
        "/lib64/ld-linux-x86-64.so.2",
    ] {
        assert!(ours.contains(part), "{ours}");
    }
    if have("ldd") {
        let mut ldd = context.program("ldd");
        ldd.arg(&dynamic);
        let names = |text: String| -> Vec<String> {
            let word = |line: &str| line.trim().split(" (").next().map(str::to_owned);
            text.lines()
                .filter_map(word)
                .filter(|line| !line.contains("vdso"))
                .collect()
        };
        assert_eq!(names(ours), names(context.finish(ldd).ok()));
    }
    context.copy(fixture::hello(), "static");
    let ran = context.line("ldd static");
    assert!(format!("{}{}", ran.stdout(), ran.stderr()).contains("not a dynamic executable"));
}

#[test]
fn s06_source_becomes_a_static_stripped_program() {
    for version in versions("helloworld") {
        let context = Context::new();
        let source = repository().join("examples").join(&version);
        let built = context.smidge(
            ["build", "-t", "hello"]
                .map(AsRef::as_ref)
                .into_iter()
                .chain([source.as_os_str()]),
        );
        built.ok();
        assert!(built.stderr().contains("stripped"), "{}", built.stderr());
        context.line("save -o hello.tar hello").ok();
        context
            .smidge(
                ["build", "-q", "--output", "type=rootfs,dest=root"]
                    .map(AsRef::as_ref)
                    .into_iter()
                    .chain([source.as_os_str()]),
            )
            .ok();
        let ran = context.line("ldd root/helloworld");
        assert!(
            format!("{}{}", ran.stdout(), ran.stderr()).contains("not a dynamic executable")
                || ran.stdout().contains("statically linked")
        );
    }
}

#[test]
fn s06_ready_programs_can_be_stripped() {
    let context = Context::new();
    context.copy(fixture::hello(), "hello");
    let before = std::fs::metadata(fixture::hello()).unwrap().len();
    context.line("build -q --strip -t hello hello").ok();
    let program = |name: &str| -> u64 {
        let format = "{{.Size}}";
        context
            .smidge(["inspect", "-f", format, name])
            .ok()
            .parse()
            .unwrap()
    };
    context.line("build -q --no-strip -t whole hello").ok();
    assert!(
        program("hello") < program("whole"),
        "{} {}",
        program("hello"),
        program("whole")
    );
    assert!(program("whole") >= before);
    assert_eq!(context.line("run --rm hello again").ok(), "hello again");
}

/// Runs `smidge ARGS` on a terminal of its own, types `keys` when `prompt` has appeared, and
/// gives what the terminal showed and the exit status.
fn on_terminal(context: &Context, args: &str, prompt: &str, keys: &[u8]) -> (String, i32) {
    let mut script = context.program("script");
    let command = format!("{} {args}", smidge_binary().display());
    script.args([
        "--quiet",
        "--return",
        "--flush",
        "--command",
        &command,
        "/dev/null",
    ]);
    let mut child = context.spawn(script);
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut buffer) = (String::new(), [0; 4096]);
    let mut typed = false;
    loop {
        let read = stdout.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        shown += &String::from_utf8_lossy(&buffer[..read]);
        if !typed && shown.contains(prompt) {
            stdin.write_all(keys).unwrap();
            typed = true;
        }
    }
    (shown, child.status_in_time().unwrap().code().unwrap())
}

#[test]
fn s07_control_c_reaches_the_program() {
    if !have("script") {
        return;
    }
    for version in versions("helloworld") {
        let archive = example(&version, &[]);
        for identity in identities() {
            let context = Context::of(identity);
            load(&context, &archive);
            let run = format!("run -ti --name helloworld example/{version}");
            let (shown, code) = on_terminal(&context, &run, GREETING, b"\x03");
            assert!(shown.contains(GREETING), "{shown}");
            // Go's runtime dies of the interrupt with 2, a program without handler with 130.
            assert!([0, 2, 130].contains(&code), "{code}: {shown}");
            let status = context.smidge([
                "inspect",
                "-f",
                "{{.State.Status}} {{.State.ExitCode}}",
                "helloworld",
            ]);
            assert_eq!(status.ok(), format!("exited {code}"));
        }
    }
}

#[test]
fn s08_smidge_works_inside_a_container_of_itself() {
    for identity in identities() {
        let context = Context::of(identity);
        context.copy(fixture::hello(), "hello");
        let binary = smidge_binary().display().to_string();
        context.line(&format!("build -q -t smidge {binary}")).ok();
        assert!(
            context
                .line("run --rm smidge version")
                .ok()
                .contains("ersion")
        );
        context
            .smidge([
                "build",
                "-q",
                "-t",
                "maker",
                "--include",
                "hello:/hello",
                "--entrypoint",
                r#"["/smidge"]"#,
                &binary,
            ])
            .ok();
        let id = context
            .line("run --rm maker --root /store build -q -t made /hello")
            .ok();
        assert_eq!(
            id,
            context.line("build -q hello").ok(),
            "the same bytes inside and outside"
        );
    }
}

#[test]
fn s10_lists_and_removals_have_dockers_columns() {
    for identity in identities() {
        let context = Context::of(identity);
        hello_directory(&context, fixture::hello());
        context.line("build -q -t adejonge/helloworld work").ok();
        context
            .line("run --name helloworld adejonge/helloworld")
            .ok();
        let heads = |command: &str| {
            let shown = context.line(command).ok();
            let mut lines = shown
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            (lines.next().unwrap(), lines.count())
        };
        assert_eq!(
            heads("ps -a"),
            (
                "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES".to_owned(),
                1
            )
        );
        assert_eq!(
            heads("images -a"),
            ("REPOSITORY TAG IMAGE ID CREATED SIZE".to_owned(), 1)
        );
        assert_eq!(context.line("rm -f helloworld").ok(), "helloworld");
        let removed = context.line("rmi -f adejonge/helloworld").ok();
        assert!(
            removed.starts_with("Untagged: adejonge/helloworld:latest\nDeleted: sha256:"),
            "{removed}"
        );
        assert_eq!((heads("ps -a").1, heads("images -a").1), (0, 0));
    }
}

/// Bytes to transfer, as a docker push would send: config, manifest and compressed layers.
fn to_transfer(context: &Context, archive: &Path) -> u64 {
    load(context, archive);
    let list = context.smidge(["images", "-q"]).ok();
    let id = list.lines().next().unwrap();
    context
        .line(&format!("save --format oci-archive -o oci.tar {id}"))
        .ok();
    let mut tar = context.program("tar");
    tar.args(["--numeric-owner", "-tvf", "oci.tar"]);
    let listing = context.finish(tar).ok();
    let blob = |line: &str| -> Option<u64> {
        let mut words = line.split_whitespace();
        let (size, name) = (words.nth(2)?.parse().ok()?, line.split_whitespace().last()?);
        name.starts_with("blobs/sha256/").then_some(size)
    };
    listing.lines().filter_map(blob).sum()
}

#[test]
fn s12_s15_images_are_small() {
    for (name, options, limit) in [
        ("helloworld", &["--small"][..], 600_000),
        ("argserver", &["--small", "--as", "cargo"], 600_000),
        ("tiny", &[], 1_400),
    ] {
        let context = Context::new();
        let size = to_transfer(&context, &example(name, options));
        assert!(size <= limit, "{name}: {size} bytes to transfer");
        println!("{name}: {size} bytes to transfer");
    }
}

#[test]
fn s12_the_tiniest_server_serves_everybody() {
    let archive = example("tiny", &[]);
    for identity in identities() {
        let context = Context::of(identity);
        load(&context, &archive);
        context
            .line("run -d --name tiny -p 0:8080 example/tiny")
            .ok();
        let port = published(&context, "tiny");
        // An idle client in the middle of its request keeps nobody waiting.
        let mut idle = smidge_tests::connect(("127.0.0.1", port)).unwrap();
        idle.write_all(b"GET / HT").unwrap();
        for _ in 0..20 {
            let (status, body) = fetch(port, "/");
            assert_eq!(
                (status.as_str(), body.as_str()),
                ("HTTP/1.0 200 OK", "Hello World from Rust!\n")
            );
        }
        idle.write_all(b"TP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        idle.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("Rust!\n"), "{answer:?}");
        if have("curl") {
            let mut curl = context.program("curl");
            curl.args(["-sSf", &format!("http://127.0.0.1:{port}/")]);
            assert_eq!(context.finish(curl).ok(), "Hello World from Rust!");
        }
        context.line("stop tiny").ok();
        assert_eq!(context.line("wait tiny").ok(), "0");
    }
}

/// `argserver` as a context directory: the compiled program beside the article's Dockerfile.
fn argserver(context: &Context, version: &str) {
    let source = repository().join("examples").join(version);
    let output = [
        "build",
        "-q",
        "--as",
        if version.starts_with("go/") {
            "go"
        } else {
            "cargo"
        },
    ];
    let dest = ["--output", "type=rootfs,dest=context"];
    context
        .smidge(
            output
                .iter()
                .chain(&dest)
                .map(AsRef::as_ref)
                .chain([source.as_os_str()]),
        )
        .ok();
    context.write(
        "context/Dockerfile",
        "FROM scratch\nADD argserver /argserver\nENTRYPOINT [\"/argserver\"]\nCMD [\"a\", \"b\", \"c\", \"d\"]\n",
    );
    context.line("build -q -t argserver context").ok();
}

#[test]
fn s13_s14_entrypoint_and_cmd_meet_in_the_arguments() {
    for version in versions("argserver") {
        let builder = Context::new();
        argserver(&builder, &version);
        builder.line("save -o argserver.tar argserver").ok();
        for identity in identities() {
            let context = Context::of(identity);
            let archive = context.copy(&builder.path().join("argserver.tar"), "argserver.tar");
            load(&context, &archive);
            for (arguments, expected) in [
                ("", "[/argserver a b c d]"),
                (" g h i j", "[/argserver g h i j]"),
            ] {
                let id = context
                    .line(&format!("run -d -p 0:8080 argserver{arguments}"))
                    .ok();
                let shown = page(published(&context, &id), "/args");
                assert_eq!(shown.trim_end(), expected);
                context.line(&format!("rm -f {id}")).ok();
            }
        }
    }
}

#[test]
fn s19_one_command_does_it_all() {
    for version in versions("helloworld") {
        let context = Context::new();
        let source = repository().join("examples").join(&version);
        let mut build = context.command(["build", "."]);
        build.current_dir(source);
        let built: Ran = context.finish(build);
        let id = built.ok();
        assert!(id.starts_with("sha256:"), "{id}");
        for part in ["on disk", "to transfer", "program"] {
            assert!(
                built.stderr().contains(part),
                "no `{part}` in:\n{}",
                built.stderr()
            );
        }
        let id = context.line(&format!("run -d -p 0:8080 {id}")).ok();
        page(published(&context, &id), "/");
    }
}
