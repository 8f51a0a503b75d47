//! The same input gives the same bytes, whoever builds it, wherever and whenever.

use std::path::Path;
use std::process::Command;

use crate::context::{Context, have, identities, repository};
use crate::fixture;

/// The id, and the transfer bytes' digest, of what a context's directory builds into.
fn built(context: &Context, mut build: Command) -> (String, String) {
    let id = context.finish({
        build.args(["-q", "-t", "promise"]);
        build.arg("project");
        build
    });
    let id = id.ok();
    context
        .line("save --format oci-archive -o promise.tar promise")
        .ok();
    let mut sum = context.program("sha256sum");
    sum.arg("promise.tar");
    (id, context.finish(sum).ok())
}

/// A context with a directory whose files are made in the given order.
fn project(context: &Context, names: &[&str]) {
    for name in names {
        context.write(
            &format!("project/data/{name}"),
            format!("content of {name}"),
        );
    }
    context.copy(fixture::hello(), "project/hello");
    context.write(
        "project/Dockerfile",
        "FROM scratch\nCOPY data /data\nADD hello /hello\nENV A=b\nENTRYPOINT [\"/hello\"]\n",
    );
}

const NAMES: [&str; 4] = ["b", "a", "sub/z", "sub/c"];

fn reference() -> (String, String) {
    let context = Context::new();
    project(&context, &NAMES);
    built(&context, context.line_command("build"))
}

#[test]
fn same_bytes_under_another_umask() {
    let context = Context::new();
    project(&context, &NAMES);
    let mut shell = context.program("sh");
    shell
        .args(["-c", "umask 077; exec \"$0\" \"$@\""])
        .arg(crate::context::smidge_binary())
        .arg("build");
    assert_eq!(built(&context, shell), reference());
}

#[test]
fn same_bytes_in_another_time_zone_and_locale() {
    let context = Context::new();
    project(&context, &NAMES);
    let mut build = context.line_command("build");
    build
        .env("TZ", "Pacific/Kiritimati")
        .env("LC_ALL", "tr_TR.UTF-8")
        .env("LANG", "tr_TR.UTF-8");
    assert_eq!(built(&context, build), reference());
}

#[test]
fn same_bytes_for_another_user_and_path() {
    let expected = reference();
    for identity in identities() {
        let context = Context::of(identity);
        project(&context, &NAMES);
        assert_eq!(
            built(&context, context.line_command("build")),
            expected,
            "{identity:?}"
        );
    }
}

#[test]
fn same_bytes_whatever_the_order_of_directory_entries() {
    let context = Context::new();
    let mut names = NAMES;
    names.reverse();
    project(&context, &names);
    assert_eq!(built(&context, context.line_command("build")), reference());
}

#[test]
fn same_bytes_at_another_time() {
    let context = Context::new();
    project(&context, &NAMES);
    let mut touch = context.program("sh");
    touch.args([
        "-c",
        "find project -exec touch -d 2001-02-03T04:05:06Z {} +",
    ]);
    context.finish(touch).ok();
    assert_eq!(built(&context, context.line_command("build")), reference());
}

#[test]
fn source_date_epoch_is_the_only_clock() {
    let context = Context::new();
    project(&context, &NAMES);
    let mut build = context.line_command("build");
    build.env("SOURCE_DATE_EPOCH", "1000000000");
    let (id, _) = built(&context, build);
    assert_ne!(id, reference().0);
    let created = context
        .smidge(["inspect", "-f", "{{.Created}}", "promise"])
        .ok();
    assert!(created.starts_with("2001-09-09T01:46:40"), "{created}");
}

/// Compiled programs too: two copies of a source, at paths of different lengths.
#[test]
fn same_program_from_another_source_path() {
    let mut examples = vec!["helloworld"];
    if have("go") {
        examples.push("go/helloworld");
    }
    for example in examples {
        let ids = ["a", "a/much/longer/way/down"].map(|place| {
            let context = Context::new();
            let to = context.path().join(place).join("helloworld");
            copy_tree(&context, &repository().join("examples").join(example), &to);
            context
                .smidge(["build".as_ref(), "-q".as_ref(), to.as_os_str()])
                .ok()
        });
        assert_eq!(ids[0], ids[1], "{example}");
    }
}

fn copy_tree(context: &Context, from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let mut copy = context.program("cp");
    copy.arg("-r").arg(from).arg(to);
    context.finish(copy).ok();
}
