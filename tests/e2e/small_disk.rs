//! A disk that is soon full, and containers on it.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use smidge_tests::{InTime as _, until};

use crate::context::{Context, skip};
use crate::craft;
use crate::fixture::load_busybox;
use crate::process::{marker, running};

/// A small disk of its own.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn new(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        let mounted = mount.arg(&at).output_in_time();
        match mounted.is_ok_and(|output| output.status.success()) {
            true => Some(Self(at)),
            false => {
                skip("only root can mount a small disk");
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What a test that has failed leaves runs on, and is ended only after this.
        if std::thread::panicking() {
            let _ = Command::new("umount")
                .arg("-l")
                .arg(&self.0)
                .output_in_time();
            return;
        }
        // A supervisor that has said how its program ended may still have its log open.
        until("the disk is let go of", || {
            let unmounted = Command::new("umount").arg(&self.0).output_in_time();
            unmounted.unwrap().status.success()
        });
    }
}

/// Fills the disk with the log of a container that goes on.
fn fill(context: &Context, name: &str, marker: &str) {
    let program = format!("seq 1 400000; exec sleep {marker}");
    let line = format!("run -d --name {name} busybox sh -c");
    context
        .smidge(line.split_whitespace().chain([program.as_str()]))
        .ok();
    until("the program has said everything", || running(marker) == 1);
}

/// Checks that every line of a container's log is one.
fn log_is_whole(context: &Context, name: &str) {
    let id = inspected(context, name, "{{.Id}}");
    let path = context
        .store()
        .join(format!("containers/{id}/{id}-json.log"));
    let log = std::fs::read_to_string(path).unwrap();
    let is_whole = |line: &str| line.starts_with('{') && line.ends_with('}');
    assert!(log.lines().all(is_whole), "{:?}", log.lines().last());
}

fn kill_supervisor(context: &Context, name: &str) {
    let pid = inspected(context, name, "{{.State.Pid}}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines();
    let parent = lines.find_map(|line| line.strip_prefix("PPid:")).unwrap();
    let parent = Pid::from_raw(parent.trim().parse().unwrap()).unwrap();
    kill_process(parent, Signal::KILL).unwrap();
}

fn inspected(context: &Context, name: &str, template: &str) -> String {
    context.smidge(["inspect", "-f", template, name]).ok()
}

#[test]
fn a_program_survives_a_full_disk_and_its_container_can_be_removed() {
    let context = Context::new();
    let Some(_disk) = Disk::new(context.store(), "12m") else {
        return;
    };
    load_busybox(&context);
    context.line("run -d --name other busybox sleep 1000").ok();
    let marker = marker();
    fill(&context, "full", &marker);
    let store = context.store();
    let full = format!(
        "no space left on the disk of the store `{}`",
        store.display()
    );
    context.write("noise", craft::noise(3, 1 << 20));
    for (line, code) in [
        ("run --rm busybox true", 125),
        ("run -d --name new busybox true", 125),
        ("create busybox true", 1),
        ("commit other", 1),
        ("rename other another", 1),
        ("tag busybox b", 1),
    ] {
        context.line(line).says(code, &[&full, "`smidge prune`"]);
    }
    context.line("cp noise full:/").says(1, &["No space left"]);
    context.line("exec full true").ok();
    assert_eq!(context.line("ps -q").ok().lines().count(), 2);
    log_is_whole(&context, "full");
    // What has ended is known, whoever wrote it down, or could not.
    context.line("stop full").ok();
    assert_eq!(
        inspected(&context, "full", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 143"
    );
    kill_supervisor(&context, "other");
    assert_eq!(context.line("wait other").ok(), "137");
    assert_eq!(context.line("ps -aq").ok().lines().count(), 2);
    let left: Vec<_> = crate::leftover::names(&store.join("tmp"));
    assert!(left.is_empty(), "{left:?}");
    context.line("rm -f full other").ok();
    assert_eq!(context.line("run --rm busybox echo well").ok(), "well");
    let events = context.smidge([
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--format",
        "{{.Action}}",
    ]);
    assert!(events.ok().lines().any(|action| action == "destroy"));
}

#[test]
fn what_ended_makes_room_on_a_full_disk() {
    let context = Context::new();
    let Some(_disk) = Disk::new(context.store(), "12m") else {
        return;
    };
    load_busybox(&context);
    let marker = marker();
    fill(&context, "full", &marker);
    context.line("kill full").ok();
    context.line("system prune -f").ok();
    assert_eq!(context.line("run --rm busybox echo well").ok(), "well");
}

#[test]
fn a_log_with_a_limit_fills_no_disk() {
    let context = Context::new();
    let Some(_disk) = Disk::new(context.store(), "12m") else {
        return;
    };
    load_busybox(&context);
    let line = "run --name brief --log-opt max-size=100k --log-opt max-file=3 busybox seq 1 100000";
    context.line(line).ok();
    let said = context.line("logs --tail 2 brief").ok();
    assert_eq!(said, "99999\n100000");
    let id = inspected(&context, "brief", "{{.Id}}");
    let directory = context.store().join("containers").join(id);
    let logs = crate::leftover::names(&directory)
        .into_iter()
        .filter(|name| name.contains("-json.log"));
    let sizes: Vec<u64> = logs
        .map(|name| directory.join(name).metadata().unwrap().len())
        .collect();
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|size| *size <= 140_000), "{sizes:?}");
}

/// What reads the changes ends early then, and who has packed them finds nobody who takes them.
#[test]
fn changes_that_are_larger_than_the_disk_become_no_image() {
    let context = Context::new();
    let Some(_disk) = Disk::new(context.store(), "12m") else {
        return;
    };
    load_busybox(&context);
    // The layer once more takes more than there is left.
    let change = "head -c 5000000 /dev/urandom > /noise";
    let line = "run --name web busybox sh -c".split_whitespace();
    context.smidge(line.chain([change])).ok();
    let full = format!(
        "no space left on the disk of the store `{}`",
        context.store().display()
    );
    context.line("commit web made").says(1, &[&full]);
    context.line("image inspect made").exits(1);
    let left = crate::leftover::names(&context.store().join("tmp"));
    assert!(left.is_empty(), "{left:?}");
    context.line("rm web").ok();
}
