//! This machine's processes: which belong together, what they are doing, and their end.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process, as it was when the table was made.
#[derive(Debug)]
struct Process {
    pid: i32,
    parent: i32,
}

/// All processes of this machine.
#[derive(Debug)]
pub struct Table(Vec<Process>);

impl Table {
    /// As it is now.
    #[must_use]
    pub fn now() -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Self(pids.filter_map(Process::of).collect())
    }

    /// The processes that began with `variable` in their environment (`NAME=VALUE`) or are children of such,
    /// but for the calling one.
    #[must_use]
    pub fn with_variable(&self, variable: &str) -> BTreeSet<i32> {
        let has = |process: &&Process| {
            let began = read(process.pid, "environ");
            began.split('\0').any(|one| one == variable)
        };
        self.family(self.0.iter().filter(has).map(|process| process.pid))
    }

    /// These and all their children, and theirs, but for the calling process.
    pub fn family(&self, first: impl IntoIterator<Item = i32>) -> BTreeSet<i32> {
        let mut all: BTreeSet<i32> = first.into_iter().collect();
        all.retain(|pid| self.0.iter().any(|process| process.pid == *pid));
        loop {
            let is_new =
                |process: &&Process| all.contains(&process.parent) && !all.contains(&process.pid);
            let new: Vec<i32> = self.0.iter().filter(is_new).map(|one| one.pid).collect();
            if new.is_empty() {
                break;
            }
            all.extend(new);
        }
        all.remove(&own());
        all
    }

    /// Some of them as a tree, each with what it is doing: its state, the kernel's function that it waits
    /// in, and its system call.
    #[must_use]
    pub fn show(&self, some: &BTreeSet<i32>) -> String {
        let mut text = String::new();
        for process in &self.0 {
            if some.contains(&process.pid) && !some.contains(&process.parent) {
                self.branch(process, some, 0, &mut text);
            }
        }
        text
    }

    fn branch(&self, process: &Process, some: &BTreeSet<i32>, depth: usize, text: &mut String) {
        let indent = "  ".repeat(depth);
        let pid = process.pid;
        let words = read(pid, "cmdline").replace('\0', " ");
        let _ = writeln!(text, "{indent}{pid} {} {words}", state(pid));
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
        for thread in threads.flatten().flatten() {
            let thread = thread.file_name();
            let path = format!("{pid}/task/{}", thread.to_string_lossy());
            let of = |name: &str| read(&path, name).trim_end().replace('\n', " < ");
            let (name, waits, call) = (of("comm"), of("wchan"), of("syscall"));
            let stack = of("stack").replace("[<0>] ", "");
            let _ = writeln!(
                text,
                "{indent}    {name}: wchan {waits}, syscall {call}, stack {stack}"
            );
        }
        for child in self.0.iter().filter(|child| child.parent == pid) {
            if some.contains(&child.pid) {
                self.branch(child, some, depth + 1, text);
            }
        }
    }
}

impl Process {
    fn of(pid: i32) -> Option<Self> {
        // Behind the name, which may hold anything: state and parent.
        let stat = read(pid, "stat");
        let (_, rest) = stat.rsplit_once(") ")?;
        let parent = rest.split(' ').nth(1)?.parse().ok()?;
        Some(Self { pid, parent })
    }
}

/// The letter of a process's state (proc(5)).
fn state(pid: i32) -> String {
    let stat = read(pid, "stat");
    let rest = stat.rsplit_once(") ").map_or("?", |(_, rest)| rest);
    rest.split(' ').next().unwrap_or("?").to_owned()
}

/// A file of a process; nothing if it cannot be read.
fn read(process: impl std::fmt::Display, name: &str) -> String {
    let bytes = fs::read(format!("/proc/{process}/{name}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn own() -> i32 {
    i32::try_from(std::process::id()).unwrap_or_default()
}

/// What a process began with in its environment: `NAME=VALUE`.
pub(crate) fn variable(pid: u32, name: &str) -> Option<String> {
    let environ = read(pid, "environ");
    let mut all = environ.split('\0');
    let found = all.find(|one| one.split_once('=').is_some_and(|(key, _)| key == name));
    found.map(str::to_owned)
}

/// The processes that have one of these pipes open, but for the calling one.
pub(crate) fn holders(pipes: &[String]) -> Vec<i32> {
    let all = Table::now().0;
    let holds = |pid: i32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd"));
        let links = open.into_iter().flatten().flatten();
        links
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|link| pipes.iter().any(|pipe| link.as_os_str() == pipe.as_str()))
    };
    let pids = all.iter().map(|process| process.pid);
    pids.filter(|pid| *pid != own() && holds(*pid)).collect()
}

/// Ends processes at once.
pub fn kill(some: &BTreeSet<i32>) {
    for pid in some.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}
