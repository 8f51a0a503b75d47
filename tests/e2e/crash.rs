//! `kill -9` at any point, and several commands at once: nothing is lost.

use std::time::Duration;

use smidge_tests::InTime as _;

use crate::context::Context;
use crate::fixture::{self, with_busybox};

/// Delays that spread kills over a command's life, from its first instructions to its end.
fn moments() -> impl Iterator<Item = Duration> {
    (0..25).map(|n| Duration::from_micros(n * n * 40))
}

/// Starts a command and kills it after a while.
fn kill_after(context: &Context, line: &str, delay: Duration) {
    let mut child = context.spawn(context.line_command(line));
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.output_in_time().unwrap();
}

#[test]
fn killed_builds_leave_a_good_store() {
    let context = Context::new();
    context.copy(fixture::hello(), "hello");
    context.copy(fixture::exits(), "other");
    context.line("build -q -t good hello").ok();
    for moment in moments() {
        kill_after(&context, "build -q -t other other", moment);
        assert_eq!(
            context.line("run --rm good").ok(),
            "hello",
            "killed after {moment:?}"
        );
        let named = context
            .smidge(["images", "--format", "{{.Repository}}"])
            .ok();
        assert!(named == "good" || named.lines().count() == 2, "{named}");
    }
    context.line("prune -f").ok();
    context.line("build -q -t other other").ok();
    assert_eq!(context.line("run --rm other 3").code(), 3);
}

#[test]
fn killed_loads_leave_a_good_store() {
    let context = Context::new();
    context.copy(fixture::hello(), "hello");
    context.line("build -q -t good hello").ok();
    context.line("save -o good.tar good").ok();
    for moment in moments() {
        kill_after(&context, "load -i good.tar", moment);
        assert_eq!(
            context.line("run --rm good").ok(),
            "hello",
            "killed after {moment:?}"
        );
    }
    context.line("load -i good.tar").ok();
}

#[test]
fn killed_runs_leave_no_name_taken_and_no_process() {
    with_busybox(|context| {
        for moment in moments() {
            kill_after(context, "run --rm --name victim busybox sleep 1000", moment);
            // Whatever was reached, `rm -f` ends it, and the name is free again.
            let _ = context.line("rm -f victim").code();
            assert_eq!(
                context
                    .line("run --rm --name victim busybox echo free")
                    .ok(),
                "free"
            );
        }
        assert_eq!(context.line("ps -aq").ok(), "");
    });
}

#[test]
fn a_killed_supervisor_ends_its_container() {
    with_busybox(|context| {
        context.line("run -d --name orphan busybox sleep 1000").ok();
        let pid = context
            .smidge(["inspect", "-f", "{{.State.Pid}}", "orphan"])
            .ok();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let parent = status
            .lines()
            .find_map(|line| line.strip_prefix("PPid:"))
            .unwrap();
        let parent = parent
            .trim()
            .parse()
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .unwrap();
        rustix::process::kill_process(parent, rustix::process::Signal::KILL).unwrap();
        assert_eq!(context.line("wait orphan").ok(), "137");
        assert!(context.line("ps -a").ok().contains("Exited (137)"));
        context.line("rm orphan").ok();
    });
}

#[test]
fn two_builds_of_one_tag_at_once() {
    let context = Context::new();
    context.copy(fixture::hello(), "one");
    context.copy(fixture::exits(), "two");
    for _ in 0..10 {
        let children = ["one", "two", "one", "two"]
            .map(|name| context.spawn(context.line_command(&format!("build -q -t same {name}"))));
        let ids = children.map(|child| {
            let output = child.output_in_time().unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        });
        assert_eq!((&ids[0], &ids[1]), (&ids[2], &ids[3]));
        let tagged = context.smidge(["inspect", "-f", "{{.Id}}", "same"]).ok();
        assert!(ids.contains(&tagged), "{tagged} is none of {ids:?}");
    }
    assert_eq!(
        context
            .smidge(["images", "same", "-q"])
            .ok()
            .lines()
            .count(),
        1
    );
}

#[test]
fn many_tags_at_once_are_all_kept() {
    let context = Context::new();
    context.copy(fixture::hello(), "hello");
    context.line("build -q -t hello hello").ok();
    let children: Vec<_> = (0..30)
        .map(|n| context.spawn(context.line_command(&format!("tag hello many:{n}"))))
        .collect();
    for child in children {
        assert!(child.output_in_time().unwrap().status.success());
    }
    assert_eq!(context.line("images many -q").ok().lines().count(), 30);
}
