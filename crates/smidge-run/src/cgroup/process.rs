//! Which processes a container has.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::RunError;
use crate::state::{self, Process, State, Status, stat_fields};

/// The program of the running container in `dir`.
///
/// # Errors
/// When it does not run.
pub(super) fn program(dir: &Path) -> Result<Process, RunError> {
    let state = State::read(dir)?;
    if state.status != Status::Running || state.pid == 0 {
        return Err(RunError::NotRunning { id: state::id(dir) });
    }
    Ok(state.program)
}

/// The processes of the container whose first is `program`: its descendants, and what is in its PID
/// namespace without being one, as commands that joined it are. Where that is shared with others, its mount
/// namespace tells them apart.
pub(crate) fn of_container(program: u32) -> Vec<u32> {
    let kind = if is_first(program) { "pid" } else { "mnt" };
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let (own, inside) = (namespace(std::process::id()), namespace(program));
    let mut parents = BTreeMap::new();
    let mut found = vec![program];
    for pid in all() {
        if pid != program && inside.is_some() && inside != own && namespace(pid) == inside {
            found.push(pid);
        } else if let Some(parent) = parent(pid) {
            parents.insert(pid, parent);
        }
    }
    let mut next = 0;
    while let Some(ancestor) = found.get(next).copied() {
        next += 1;
        let children = parents.iter().filter(|(_, parent)| **parent == ancestor);
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        for child in children {
            parents.remove(&child);
            if !found.contains(&child) {
                found.push(child);
            }
        }
    }
    found
}

/// The processes of the running container in `dir`, by their ids on the host, in order.
///
/// # Errors
/// When it does not run.
pub fn processes(dir: &Path) -> Result<Vec<u32>, RunError> {
    let mut found = of_container(program(dir)?.pid);
    found.sort_unstable();
    Ok(found)
}

/// Whether a process is the first of its PID namespace (proc_pid_status(5)).
fn is_first(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut lines = status.lines();
    let numbers = lines.find_map(|line| line.strip_prefix("NSpid:"));
    numbers.and_then(|numbers| numbers.split_whitespace().last()) == Some("1")
}

/// Every process that is seen.
fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// A process's parent (proc_pid_stat(5), field 4).
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    stat_fields(&stat)?.nth(1)?.parse().ok()
}
