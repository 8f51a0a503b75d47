//! What has become of a container: `state.json` in its directory, and the processes it names.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::spec::Port;

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    #[default]
    Created,
    /// Its program runs.
    Running,
    /// Its program has ended.
    Exited,
}

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its process id on the host.
    pub pid: u32,
    /// When it started, in clock ticks since the host did (proc_pid_stat(5), field 22).
    pub start_time: u64,
}

/// What has become of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where it is in its life.
    pub status: Status,
    /// The program's process id on the host; 0 unless it runs.
    pub pid: u32,
    /// How the program ended: its exit status, or 128 + the signal that killed it.
    pub exit_code: Option<i32>,
    /// When the program was last started, RFC 3339 with nanoseconds; empty if never.
    pub started_at: String,
    /// When the program last ended; empty if never.
    pub finished_at: String,
    /// Why it could not be started or watched, if so.
    pub error: String,
    /// The published ports, with the host ports that were drawn.
    pub ports: Vec<Port>,
    /// The program's process.
    pub program: Process,
    /// The process that watches over it.
    pub supervisor: Process,
}

impl State {
    /// Reads the state of the container in `dir`. If its supervisor was killed, which kills the
    /// program too, the state is corrected: exited with 137.
    ///
    /// # Errors
    /// When the state cannot be read, or is damaged. A missing one is `Created`.
    pub fn read(dir: &Path) -> Result<Self, RunError> {
        let _ = dir;
        unimplemented!()
    }
}

/// Sends `signal` to the program of the container in `dir`.
///
/// # Errors
/// `NotRunning`, or the kernel's refusal.
pub fn signal(dir: &Path, signal: i32) -> Result<(), RunError> {
    let _ = (dir, signal);
    unimplemented!()
}

/// Waits until the container in `dir` has exited and everything it held is released; tells its exit
/// status, or `None` if `timeout` passes first. One that does not run is not waited for.
///
/// # Errors
/// When the state cannot be read.
pub fn wait(dir: &Path, timeout: Option<Duration>) -> Result<Option<i32>, RunError> {
    let _ = (dir, timeout);
    unimplemented!()
}
