//! What the binary itself promises: static, small, at home under Docker's name, and helpful.

use std::process::Command;

use crate::context::{Context, smidge_binary};

/// The release binary's bound in bytes.
const LIMIT: u64 = 8_200_000;

/// A debug build is many times as large; only the release build's size is a promise.
fn is_release() -> bool {
    std::fs::metadata(smidge_binary()).unwrap().len() < 5 * LIMIT
}

#[test]
fn release_binary_is_static_and_small() {
    let context = Context::new();
    let binary = smidge_binary().display().to_string();
    let ran = context.line(&format!("ldd {binary}"));
    let said = format!("{}{}", ran.stdout(), ran.stderr());
    assert!(
        said.contains("statically linked") || said.contains("not a dynamic"),
        "{said}"
    );
    let mut ldd = Command::new("ldd");
    ldd.arg(smidge_binary());
    let real = context.finish(ldd);
    let said = format!("{}{}", real.stdout(), real.stderr());
    assert!(
        said.contains("statically linked") || said.contains("not a dynamic"),
        "{said}"
    );
    if is_release() {
        let size = std::fs::metadata(smidge_binary()).unwrap().len();
        assert!(size <= LIMIT, "{size} bytes");
    }
}

#[test]
fn answers_to_the_name_docker() {
    let context = Context::new();
    std::os::unix::fs::symlink(smidge_binary(), context.path().join("docker")).unwrap();
    let mut docker = context.program(context.path().join("docker"));
    docker.args(["images", "-a"]);
    assert!(context.finish(docker).ok().starts_with("REPOSITORY"));
}

#[test]
fn wrong_commands_are_explained() {
    let context = Context::new();
    let typo = context.line("biuld .");
    assert_ne!(typo.code(), 0);
    assert!(typo.stderr().contains("build"), "{}", typo.stderr());
    assert_ne!(context.line("run --no-such-flag x").code(), 0);
    assert_eq!(context.line("run --no-such-flag x").code(), 125);
    for verb in [
        "", "build", "run", "ps", "ldd", "images", "save", "load", "import", "inspect", "pull",
        "push", "login", "logout", "copy", "ls", "digest", "manifest", "config", "registry",
    ] {
        let help = context.line(&format!("{verb} --help")).ok();
        assert!(help.contains("Usage:"), "{help}");
    }
}

#[test]
fn output_into_a_closed_pipe_is_no_error() {
    let context = Context::new();
    let mut shell = context.program("sh");
    shell
        .arg("-c")
        .arg(format!("{} --help | true", smidge_binary().display()));
    assert_eq!(context.finish(shell).exits(0), "");
}

#[test]
fn colour_only_on_a_terminal() {
    let context = Context::new();
    let plain = context.line("inspect nothing-there").exits(1);
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    assert!(plain.starts_with("error: "), "{plain}");
}
