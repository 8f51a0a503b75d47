//! From a [`Spec`] to a process: the seam between the sandbox and the supervisor.

use std::os::fd::OwnedFd;

use crate::error::RunError;
use crate::spec::Spec;

/// Where the program's standard streams lead.
#[derive(Debug)]
pub enum Stdio {
    /// Three open files.
    Files {
        /// Descriptor 0.
        stdin: OwnedFd,
        /// Descriptor 1.
        stdout: OwnedFd,
        /// Descriptor 2.
        stderr: OwnedFd,
    },
    /// A new terminal, made in the container's own `/dev/pts`, which controls the program's session.
    Terminal {
        /// Its height in characters.
        rows: u16,
        /// Its width in characters.
        columns: u16,
    },
}

/// A program that has been executed in its container.
#[derive(Debug)]
pub struct Launched {
    /// Its process id on the host.
    pub pid: u32,
    /// A handle of the process that no later process can take over (`pidfd_open(2)`).
    pub pidfd: OwnedFd,
    /// The other end of the program's terminal, if it was given one.
    pub terminal: Option<OwnedFd>,
}

/// Starts the program of `spec` in a new container, and returns when it has been executed.
///
/// The caller must have one thread only, and is the program's parent: it waits for it, and when it
/// dies, the kernel kills the program.
///
/// # Errors
/// Everything that goes wrong until the kernel has accepted the program, here or inside.
pub fn launch(spec: &Spec, stdio: Stdio) -> Result<Launched, RunError> {
    let _ = (spec, stdio);
    unimplemented!()
}
