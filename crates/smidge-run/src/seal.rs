//! Processes that a container can look into show it no binary that it could write to.
//!
//! A process that joins others hides, and becomes a sealed program before it executes anything. But root of
//! the host's own ids with `CAP_SYS_PTRACE` sees through that: for a moment, `/proc/PID/exe` leads it to
//! smidge, and once smidge has ended, nothing keeps it from writing there (CVE-2019-5736). So, where there
//! is such a one, smidge goes on as a copy of itself in memory that nobody can change.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::thread::CapabilitySet;

use crate::error::RunError;
use crate::idmap::IdMap;
use crate::spec::Spec;
use crate::sys;

/// Whether programs of a container may look into processes of smidge's that come among them. Those of
/// another user namespace may not; those that are hardly shut in need not.
#[must_use]
pub fn looks_into_others(spec: &Spec) -> bool {
    let may = spec.capabilities & CapabilitySet::SYS_PTRACE.bits() != 0;
    may && spec.id_map == IdMap::None && !spec.insecure
}

/// Begins this program anew, as a copy in memory that nobody can change; comes back if it is one. To be
/// called before it has done anything.
///
/// # Errors
/// When there is no copy to be made, or it cannot be executed.
pub fn seal() -> Result<(), RunError> {
    let copy = copy().map_err(RunError::setup("make a sealed copy of smidge"))?;
    let Some(copy) = copy else {
        return Ok(());
    };
    let mut words = std::env::args_os();
    let mut command = Command::new(format!("/proc/self/fd/{}", copy.as_raw_fd()));
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    let refused = command.args(words).exec();
    Err(RunError::setup("go on as a sealed copy of smidge")(refused))
}

/// A copy of this program; none if it is one.
fn copy() -> io::Result<Option<File>> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    let mut own = File::open("/proc/self/exe")?;
    if rustix::fs::fcntl_get_seals(&own).is_ok_and(|held| held.contains(seals)) {
        return Ok(None);
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(sys::executable_in_memory(c"smidge", flags)?);
    io::copy(&mut own, &mut copy)?;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(Some(copy))
}
