//! Who changes, starts or removes a container waits for whoever does so already, and finds what has become of it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Child;

use smidge_tests::{InTime as _, until};

use crate::context::Context;
use crate::fixture::with_busybox;
use crate::process::{marker, running};

fn directory(context: &Context, name: &str) -> PathBuf {
    let id = context.line(&format!("inspect -f {{{{.Id}}}} {name}")).ok();
    context.store().join("containers").join(id)
}

/// A command that waits for its turn, which the test has.
struct Waiting {
    turn: File,
    child: Child,
}

impl Waiting {
    fn new(context: &Context, directory: &std::path::Path, line: &str) -> Self {
        let turn = File::open(directory.join("etc")).unwrap();
        turn.lock().unwrap();
        let number = format!(":{} ", turn.metadata().unwrap().ino());
        let mut child = context.spawn(context.line_command(line));
        // proc_locks(5)
        let waits = |line: &str| line.contains("-> ") && line.contains(&number);
        until("the command waits", || {
            assert!(child.try_wait().unwrap().is_none(), "{line} did not wait");
            let locks = fs::read_to_string("/proc/locks").unwrap();
            locks.lines().any(waits)
        });
        Self { turn, child }
    }

    /// Lets it go on: its exit status, and what it says.
    fn finish(self) -> (Option<i32>, String) {
        drop(self.turn);
        let output = self.child.output_in_time().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }
}

/// Makes a container look as if it ran, watched over by the test.
fn pretend_to_run(context: &Context, directory: &std::path::Path) -> PathBuf {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let began = fields.split(' ').nth(19).unwrap();
    let own = std::process::id();
    let state =
        format!(r#"{{"status":"running","supervisor":{{"pid":{own},"start_time":{began}}}}}"#);
    let path = directory.join("state.json");
    let name = path.strip_prefix(context.path()).unwrap().to_owned();
    context.write(name.to_str().unwrap(), state)
}

#[test]
fn what_is_started_meanwhile_is_not_removed() {
    with_busybox(|context| {
        context.line("create --name box busybox true").ok();
        let directory = directory(context, "box");
        for (line, code, told) in [
            ("rm box", 1, "container is running"),
            ("container prune -f", 0, ""),
            ("prune -f", 0, ""),
        ] {
            let waiting = Waiting::new(context, &directory, line);
            let state = pretend_to_run(context, &directory);
            let (ended, said) = waiting.finish();
            assert_eq!(ended, Some(code), "{line}: {said}");
            assert!(said.contains(told), "{line}: {said}");
            assert_eq!(context.line("ps -q").ok().lines().count(), 1, "{line}");
            fs::remove_file(state).unwrap();
        }
        assert_eq!(context.line("start -a box").exits(0), "");
        context.line("container prune -f").ok();
        assert!(!directory.exists());
    });
}

#[test]
fn what_is_removed_twice_at_once_is_removed() {
    with_busybox(|context| {
        context.line("create --name box busybox true").ok();
        let waiting = Waiting::new(context, &directory(context, "box"), "rm box");
        let other = context.spawn(context.line_command("rm -f box"));
        let (ended, said) = waiting.finish();
        assert_eq!(ended, Some(0), "{said}");
        let other = other.output_in_time().unwrap();
        assert_eq!(other.status.code(), Some(0), "{other:?}");
    });
}

/// Both write down which control groups a container has.
#[test]
fn a_pause_waits_for_an_update() {
    with_busybox(|context| {
        context.line("run -d --name box busybox sleep 1000").ok();
        let directory = directory(context, "box");
        for line in ["pause box", "unpause box"] {
            // Not everybody has the groups that it takes.
            let (ended, _) = Waiting::new(context, &directory, line).finish();
            assert!(ended.is_some_and(|code| code < 2), "{line}: {ended:?}");
        }
        context.line("rm -f box").ok();
    });
}

#[test]
fn a_damaged_container_can_be_removed() {
    with_busybox(|context| {
        for file in ["config.json", "state.json"] {
            let marker = marker();
            let line = format!("run -d --name box busybox sleep {marker}");
            context.line(&line).ok();
            let path = directory(context, "box").join(file);
            if file == "state.json" {
                // A supervisor would mend it.
                context.line("kill box").ok();
            }
            fs::write(&path, "{\"status\":").unwrap();
            context
                .line("rm box")
                .says(1, &[file, "`smidge rm -f box`"]);
            context.line("start box").says(1, &["`smidge rm -f box`"]);
            let removed = context.line("rm -f box");
            assert_eq!(removed.ok(), "box");
            removed.says(0, &["container `box` was damaged"]);
            assert_eq!(running(&marker), 0);
            assert!(!path.parent().unwrap().exists());
            context.line("run --rm --name box busybox true").ok();
        }
    });
}
