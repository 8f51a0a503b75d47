//! Source becomes a static, small program, and the user's tree stays as it was.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use smidge_engine::build::{BuildRequest, Built, SourceKind, Transfer};
use smidge_engine::{Kind, Progress, Silent, Task};

use crate::support::{Context, example, have};

/// All files below a directory, with the times at which they changed.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, (i64, i64)> {
    let mut files = BTreeMap::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            files.insert(entry.path(), (metadata.ctime(), metadata.ctime_nsec()));
            if metadata.is_dir() && entry.file_name() != "target" {
                pending.push(entry.path());
            }
        }
    }
    files
}

/// Builds and says how big the image is in transit.
fn transfer(context: &Context, request: &BuildRequest) -> (Built, u64) {
    let built = context
        .build(request)
        .unwrap_or_else(|error| panic!("{error}"));
    let Transfer::Exact(size) = built.sizes.transfer else {
        panic!("compiled images are exact")
    };
    (built, size)
}

/// Writes a Cargo package without a lock file.
fn package(context: &Context, directory: &str, main: &str) {
    let manifest =
        "[package]\nname = \"p\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";
    context.write(&format!("{directory}/Cargo.toml"), manifest);
    context.write(&format!("{directory}/src/main.rs"), main);
}

#[derive(Default)]
struct Lines(Mutex<String>);

impl Progress for Lines {
    fn task(&self, _: &str, _: Option<u64>) -> Box<dyn Task + '_> {
        Box::new(Silent)
    }
    fn line(&self, text: &str) {
        let mut lines = self.0.lock().unwrap();
        *lines += text;
        lines.push('\n');
    }
    fn inherit_stderr(&self) -> bool {
        false
    }
}

#[test]
fn a_cargo_package_becomes_a_small_static_program() {
    let context = Context::new();
    let source = example("helloworld");
    let before = snapshot(&source);
    let mut request = BuildRequest::new(&source);
    request.cargo.small = true;
    let (built, size) = transfer(&context, &request);
    assert_eq!(snapshot(&source), before, "the user's tree is as it was");
    assert_eq!(built.source, "Cargo package");
    assert_eq!(context.layers(&built), [["/helloworld 755"]]);
    assert!(size <= 600_000, "{size} bytes to transfer");
    let stripped = built.stripped.unwrap();
    assert!(stripped.after < stripped.before, "{stripped:?}");
}

#[test]
fn the_dockerfile_wins_unless_told_otherwise() {
    let context = Context::new();
    let source = example("argserver");
    let error = context.build(&BuildRequest::new(&source)).unwrap_err();
    assert_eq!(error.to_string(), "`argserver` is not in the build context");
    assert!(
        error.hints().iter().any(|hint| hint.contains("--as cargo")),
        "{:?}",
        error.hints()
    );
    let mut request = BuildRequest {
        kind: Some(SourceKind::Cargo),
        ..BuildRequest::new(source)
    };
    request.args = ["a", "b"].map(str::to_owned).to_vec();
    let built = context.build(&request).unwrap();
    let config = built.image.config.config;
    assert_eq!(config.entrypoint.unwrap(), ["/argserver"]);
    assert_eq!(config.cmd.unwrap(), ["a", "b"]);
}

#[test]
fn a_package_without_a_lock_file_stays_without() {
    let context = Context::new();
    package(
        &context,
        "p",
        "fn main() { print!(\"{}\", include_str!(\"../text\")) }",
    );
    context.write("p/text", "one");
    let before = snapshot(&context.at("p"));
    let first = context.build(&BuildRequest::new("p")).unwrap();
    assert_eq!(snapshot(&context.at("p")), before);
    context.write("p/text", "two");
    let second = context.build(&BuildRequest::new("p")).unwrap();
    assert_ne!(first.image.id, second.image.id, "changes are seen");
}

#[test]
fn compiler_errors_are_shown_as_they_are() {
    let context = Context::new();
    package(&context, "p", "fn main() { nonsense() }");
    context.write("g/go.mod", "module g\n");
    context.write("g/main.go", "package main\nfunc main() { nonsense() }\n");
    for (path, message) in [
        ("p", "cannot find function `nonsense`"),
        ("g", "undefined: nonsense"),
    ] {
        let program = if path == "g" { "go" } else { "cargo" };
        if !have(&context, program) {
            continue;
        }
        let lines = Lines::default();
        let request = BuildRequest::new(path);
        let error = context
            .engine
            .build(&request, &lines, &mut Vec::new())
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Compile);
        assert_eq!(error.kind().exit_code(), 3);
        let shown = lines.0.into_inner().unwrap();
        assert!(shown.contains(message), "{shown}");
    }
}

#[test]
fn cargo_options_reach_cargo() {
    let context = Context::new();
    let manifest = "[package]\nname = \"p\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
                    [features]\nextra = []\n\n[profile.custom]\ninherits = \"dev\"\n\n\
                    [[bin]]\nname = \"one\"\npath = \"one.rs\"\n\n[[bin]]\nname = \"two\"\npath = \"two.rs\"\n";
    context.write("p/Cargo.toml", manifest);
    context.write("p/one.rs", "fn main() {}");
    let main = "#[cfg(all(feature = \"extra\", debug_assertions, from_config))] fn main() {}\n";
    context.write("p/two.rs", main);
    context.write(
        "p/.cargo/config.toml",
        "[build]\nrustflags = [\"--cfg\", \"from_config\"]\n",
    );
    let error = context.build(&BuildRequest::new("p")).unwrap_err();
    assert_eq!(error.to_string(), "`p` has several programs");
    let mut request = BuildRequest::new("p");
    request.cargo.bin = Some("two".into());
    request.cargo.features = vec!["extra".into()];
    request.cargo.profile = Some("custom".into());
    let built = context.build(&request).unwrap();
    assert_eq!(context.layers(&built), [["/two 755"]]);
    let plan = context.engine.plan_build(&request).unwrap().to_string();
    for part in [
        "run `cargo build ",
        "--bin=two",
        "--profile=custom",
        "--features=extra",
        "from_config",
        "crt-static",
    ] {
        assert!(
            plan.contains(part) || (part == "crt-static" && plan.contains("musl")),
            "{part} in {plan}"
        );
    }
}

#[test]
fn the_same_rust_source_gives_the_same_image_wherever_it_is() {
    let contexts = [Context::new(), Context::new()];
    let main =
        "fn main() { let n = std::env::args().count(); assert!(n > 9, \"{} {n}\", file!()); }";
    let mut ids = Vec::new();
    for (context, directory) in contexts.iter().zip(["a", "some/where/else"]) {
        package(context, directory, main);
        context.write(
            &format!("{directory}/Cargo.lock"),
            "version = 4\n\n[[package]]\nname = \"p\"\nversion = \"0.1.0\"\n",
        );
        let built = context.build(&BuildRequest::new(directory)).unwrap();
        let text = context.contents(&built).remove("/p").unwrap();
        let base = context.at("");
        assert!(
            !text.contains(base.to_str().unwrap()),
            "the path is in the program"
        );
        ids.push(built.image.id);
    }
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn go_programs_are_built_as_modules_and_as_bare_files() {
    let context = Context::new();
    if !have(&context, "go") {
        return;
    }
    let main = "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"x\") }\n";
    context.write("mod/go.mod", "module example.com/served\n\ngo 1.19\n");
    context.write("mod/main.go", main);
    context.write("bare/main.go", main);
    context.write("lib/go.mod", "module lib\n\ngo 1.19\n");
    context.write("lib/lib.go", "package lib\n");
    let before = snapshot(&context.at(""));
    let built = context.build(&BuildRequest::new("mod")).unwrap();
    assert_eq!(context.layers(&built), [["/served 755"]]);
    assert_eq!(
        built.image.config.architecture,
        context.engine.host.architecture()
    );
    let built = context.build(&BuildRequest::new("bare")).unwrap();
    assert_eq!(context.layers(&built), [["/main 755"]]);
    let error = context.build(&BuildRequest::new("lib")).unwrap_err();
    assert_eq!(error.kind(), Kind::Compile);
    assert_eq!(snapshot(&context.at("")), before);

    let request = BuildRequest {
        platforms: vec!["linux/arm64".parse().unwrap()],
        ..BuildRequest::new("mod")
    };
    let built = context.build(&request).unwrap();
    assert_eq!(built.image.config.architecture, "arm64");

    let other = Context::new();
    other.write("elsewhere/go.mod", "module example.com/served\n\ngo 1.19\n");
    other.write("elsewhere/main.go", main);
    let there = other.build(&BuildRequest::new("elsewhere")).unwrap();
    let here = context.build(&BuildRequest::new("mod")).unwrap();
    assert_eq!(here.image.id, there.image.id);
}

#[test]
fn the_tiny_example_is_a_whole_image_in_1400_bytes() {
    if !cfg!(target_arch = "x86_64") {
        println!("skipped: examples/tiny speaks to the kernel of x86-64 only");
        return;
    }
    let context = Context::new();
    let (built, size) = transfer(&context, &BuildRequest::new(example("tiny")));
    assert_eq!(context.layers(&built), [["/tiny 755"]]);
    println!("examples/tiny: {size} bytes to transfer");
    assert!(size <= 1400, "{size} bytes to transfer");
}
