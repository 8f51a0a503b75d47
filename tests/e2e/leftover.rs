//! What containers must not leave: processes, mounts, namespaces, control groups, files, half of a record.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::context::Context;
use crate::process::running;
use smidge_tests::until;

/// A control group that a test's containers have theirs in, where this user may have any.
pub(crate) struct Groups(Option<String>);

impl Groups {
    pub(crate) fn new(context: &Context, test: &str) -> Self {
        let may = context.identity().ids.is_none() && rustix::process::geteuid().is_root();
        Self(may.then(|| format!("smidge-{test}-{}", std::process::id())))
    }

    /// Options that take all sorts of controllers.
    pub(crate) fn options(&self) -> String {
        match &self.0 {
            Some(name) => format!("-m 64m --pids-limit 64 --cgroup-parent {name}"),
            None => String::new(),
        }
    }

    /// The groups that are in it now, and itself last.
    fn paths(&self) -> Vec<PathBuf> {
        let Some(name) = &self.0 else {
            return Vec::new();
        };
        let hierarchies = names(Path::new("/sys/fs/cgroup"));
        let mut found = Vec::new();
        for hierarchy in hierarchies {
            let path = Path::new("/sys/fs/cgroup").join(hierarchy).join(name);
            let below = names(&path).into_iter().map(|name| path.join(name));
            found.extend(below.filter(|path| path.is_dir()));
            found.push(path);
        }
        found
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for path in self.paths() {
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// Checks that all containers that there were in a store are gone, and everything of theirs. Their processes
/// have `marker` on their command lines.
#[track_caller]
pub(crate) fn nothing_is_left(context: &Context, marker: &str, groups: &Groups) {
    let store = context.store();
    assert_eq!(context.line("ps -aq").ok(), "");
    until("the end of smidge's processes", || {
        processes(&store).is_empty()
    });
    until("the end of containers' processes", || running(marker) == 0);
    until("the end of mounts", || mounted(context.path()).is_empty());
    let groups = groups.paths();
    let is_container = |path: &&PathBuf| groups.iter().any(|other| path.parent() == Some(other));
    let left: Vec<_> = groups.iter().filter(is_container).collect();
    assert!(left.is_empty(), "{left:?}");
    for (directory, kept) in [
        ("containers", &["names"][..]),
        ("containers/names", &[]),
        ("tmp", &[]),
    ] {
        assert_eq!(names(&store.join(directory)), kept, "{directory}");
    }
    documents(&store)
        .iter()
        .for_each(|path| check_document(path));
}

/// A process of smidge's.
pub(crate) struct Process {
    pub(crate) name: String,
    handle: OwnedFd,
}

impl Process {
    /// `kill -9`.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

/// The processes that work on a store: their environment names it, whatever they have become.
pub(crate) fn processes(store: &Path) -> Vec<Process> {
    let variable = format!("SMIDGE_ROOT={}", store.display());
    let is_of_store = |pid: Pid| {
        let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
        let environment = std::fs::read(path).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|one| one == variable.as_bytes())
    };
    let found = pids().filter(|pid| is_of_store(*pid)).filter_map(|pid| {
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).ok()?;
        // The number may have passed to another process before, but not after, the handle was made.
        let name = name.trim().to_owned();
        is_of_store(pid).then_some(Process { name, handle })
    });
    found.collect()
}

/// Whether a process with a word on its command line is stopped by a signal (proc_pid_stat(5)).
pub(crate) fn stopped(word: &str) -> bool {
    let read = |pid: Pid, file: &str| {
        let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let mut marked = pids().filter(|pid| read(*pid, "cmdline").split('\0').any(|one| one == word));
    marked.any(|pid| {
        read(pid, "stat")
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" T"))
    })
}

fn pids() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// The processes that see something mounted that has to do with a directory.
fn mounted(directory: &Path) -> Vec<Pid> {
    let directory = directory.display().to_string();
    let sees = |pid: &Pid| {
        let path = format!("/proc/{}/mountinfo", pid.as_raw_nonzero());
        let table = std::fs::read_to_string(path).unwrap_or_default();
        table.contains(&directory)
    };
    pids().filter(sees).collect()
}

/// What is in a directory, sorted; nothing, if it is not there.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Every JSON file of a store that is no blob.
fn documents(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending: Vec<PathBuf> = names(store).iter().map(|name| store.join(name)).collect();
    pending.retain(|path| !path.ends_with("blobs") && !path.ends_with("layers"));
    while let Some(path) = pending.pop() {
        if path.is_dir() && !path.is_symlink() {
            pending.extend(names(&path).iter().map(|name| path.join(name)));
        } else if path
            .extension()
            .is_some_and(|end| end == "json" || end == "jsonl")
        {
            found.push(path);
        }
    }
    found
}

fn check_document(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let is_list = path.extension().is_some_and(|end| end == "jsonl");
    let documents: Vec<&str> = if is_list {
        text.lines().collect()
    } else {
        vec![&text]
    };
    for document in documents {
        let parsed = serde_json::from_str::<serde_json::Value>(document);
        assert!(parsed.is_ok(), "{}: `{document}`", path.display());
    }
}
