//! Stopping a container's processes for a while, so that their files stay as they are.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::RunError;
use crate::session;
use crate::state::{self, State, Status};
use crate::sys;

/// Processes that were stopped. They go on when this is dropped, and when its owner is killed.
#[derive(Debug)]
pub struct Halt {
    processes: Vec<OwnedFd>,
    _supervised: OwnedFd,
}

impl Drop for Halt {
    fn drop(&mut self) {
        for process in &self.processes {
            let _ = sys::send_signal(process.as_fd(), libc::SIGCONT);
        }
    }
}

/// Stops all processes of the running container in `dir`; none, if it shares the host's.
///
/// # Errors
/// When it does not run.
pub fn halt(dir: &Path) -> Result<Halt, RunError> {
    let not_running = || RunError::NotRunning { id: state::id(dir) };
    let state = State::read(dir)?;
    if state.status != Status::Running || state.pid == 0 {
        return Err(not_running());
    }
    // Before the first is stopped: from now on the supervisor sees to it that they go on.
    let supervised = session::halt(dir).map_err(|_| not_running())?;
    let mut halt = Halt {
        processes: Vec::new(),
        _supervised: supervised,
    };
    let mut seen = BTreeSet::new();
    // Those that run may start others meanwhile.
    loop {
        let before = seen.len();
        for (pid, process) in members(state.pid) {
            if seen.insert(pid) && sys::send_signal(process.as_fd(), libc::SIGSTOP).is_ok() {
                halt.processes.push(process);
            }
        }
        if seen.len() == before {
            return Ok(halt);
        }
    }
}

/// Lets all processes go on of the container whose first is `program`, as far as they were stopped.
pub(crate) fn resume(program: u32) {
    for (_, process) in members(program) {
        let _ = sys::send_signal(process.as_fd(), libc::SIGCONT);
    }
}

/// The processes in the PID namespace of `program`, if it is not the host's.
fn members(program: u32) -> Vec<(i32, OwnedFd)> {
    let (Some(host), Some(inside)) = (namespace("self"), namespace(&program.to_string())) else {
        return Vec::new();
    };
    if host == inside {
        return Vec::new();
    }
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let open = |number: &str| {
        let is_inside = || namespace(number).as_ref() == Some(&inside);
        let pid = Pid::from_raw(number.parse().ok()?).filter(|_| is_inside())?;
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The number may have passed to another process before, but not after, the handle was made.
        is_inside().then_some((pid.as_raw_nonzero().get(), process))
    };
    entries
        .filter_map(|entry| open(entry.file_name().to_str()?))
        .collect()
}

fn namespace(process: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/pid")).ok()
}
