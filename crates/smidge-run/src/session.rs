//! A client's side of a running container: its terminal and streams, passed to and fro.

use std::path::Path;

use crate::error::RunError;
use crate::spec::Port;

/// Which of the caller's streams are joined with the program's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// Whether the caller's standard input goes to the program.
    pub stdin: bool,
    /// Whether the program's output comes to the caller's.
    pub stdout: bool,
    /// Whether the program's error output comes to the caller's. With a terminal there is none.
    pub stderr: bool,
    /// The keys that detach, when the program has a terminal; [`Attach::DETACH_KEYS`] by default, none if empty.
    pub detach_keys: Vec<u8>,
}

impl Attach {
    /// Ctrl-P Ctrl-Q.
    pub const DETACH_KEYS: [u8; 2] = [0x10, 0x11];
}

/// A container whose program has been executed.
#[derive(Debug)]
pub struct Started {
    /// The program's process id on the host.
    pub pid: u32,
    /// The published ports, with the host ports that were drawn.
    pub ports: Vec<Port>,
}

/// How an attached session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The program ended: its exit status, or 128 + the signal that killed it.
    Exited(i32),
    /// The program goes on without the caller.
    Detached,
}

impl Started {
    /// Passes streams, window sizes and signals to and fro until the program has ended, or the
    /// user detaches. When it has ended, everything that the container held is released already.
    ///
    /// Without an [`Attach`] it only waits.
    ///
    /// # Errors
    /// When the supervisor was killed.
    pub fn wait(self) -> Result<Ended, RunError> {
        unimplemented!()
    }
}

/// Attaches to the running container in `dir`.
///
/// # Errors
/// `NotRunning`, or why its supervisor cannot be reached.
pub fn attach(dir: &Path, attach: &Attach) -> Result<Started, RunError> {
    let _ = (dir, attach);
    unimplemented!()
}
