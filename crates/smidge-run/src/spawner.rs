//! Programs for a process with threads: a small process, forked off while there was one thread only,
//! launches them.

use std::os::fd::OwnedFd;

use crate::error::RunError;
use crate::spec::Spec;

/// The standard streams of a program: open files.
#[derive(Debug)]
pub struct Streams {
    /// Descriptor 0.
    pub stdin: OwnedFd,
    /// Descriptor 1.
    pub stdout: OwnedFd,
    /// Descriptor 2.
    pub stderr: OwnedFd,
}

/// The small process. When this value is dropped, or its owner dies, it ends with everything that it
/// has launched.
#[derive(Debug)]
pub struct Spawner {
    socket: OwnedFd,
}

/// A program that has been executed.
#[derive(Debug)]
pub struct Running {
    socket: OwnedFd,
}

/// A program that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit status, or 128 + the signal that it died of.
    pub status: i32,
    /// The signal that it died of.
    pub signal: Option<i32>,
    /// Device and inode of symbolic links, and the user and group that own them in the program's eyes
    /// (only with [`Spec::pretend`]).
    pub link_owners: Vec<((u64, u64), (u32, u32))>,
}

impl Spawner {
    /// Forks the process. The caller must have one thread only.
    ///
    /// # Errors
    /// When the kernel refuses another process or a socket.
    pub fn start() -> Result<Self, RunError> {
        todo_start()
    }

    /// Launches the program of `spec` and returns when it has been executed. From any thread.
    ///
    /// # Errors
    /// Everything that keeps the program from starting.
    pub fn spawn(&self, spec: &Spec, streams: Streams) -> Result<Running, RunError> {
        let _ = (&self.socket, streams);
        Err(RunError::NoProgram {
            id: spec.id.clone(),
        })
    }
}

impl Running {
    /// Waits for the program's end. By then every process of its is gone, and its mounts are.
    ///
    /// # Errors
    /// When the process that watches over it was killed.
    pub fn wait(self) -> Result<Finished, RunError> {
        drop(self.socket);
        Ok(Finished {
            status: 0,
            signal: None,
            link_owners: Vec::new(),
        })
    }

    /// Kills the program and everything that it has started. It is still to be waited for.
    pub fn kill(&self) {
        let _ = &self.socket;
    }
}

fn todo_start() -> Result<Spawner, RunError> {
    Err(RunError::NoProgram { id: String::new() })
}
