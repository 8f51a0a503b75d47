//! The null device among a program's streams: the container's own, whoever's was handed in.
//!
//! Root of the host's own ids may do to the host's `/dev/null` what the host's root may: with it as a stream,
//! `chmod 0 /dev/stdin` would be the end of it for the whole machine.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, makedev};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::error::RunError;
use crate::mount;

/// Who has no id in a user namespace, as the kernel shows it (user_namespaces(7)).
const NOBODY: u32 = 65_534;

/// Opens the null device anew, for each standard stream that leads to one: that of the root that the
/// process is in, or else one that nobody can change.
///
/// # Errors
/// When there is no such device, and none can be made.
pub(crate) fn reopen() -> Result<(), RunError> {
    let reopen = || {
        let own = |stream| own(stream).transpose();
        if let Some(null) = own(rustix::stdio::stdin()) {
            rustix::stdio::dup2_stdin(null?)?;
        }
        if let Some(null) = own(rustix::stdio::stdout()) {
            rustix::stdio::dup2_stdout(null?)?;
        }
        if let Some(null) = own(rustix::stdio::stderr()) {
            rustix::stdio::dup2_stderr(null?)?;
        }
        Ok(())
    };
    reopen().map_err(RunError::setup::<Errno>("open the container's `/dev/null`"))
}

/// What is to take a stream's place, if it is a null device, for the same access.
fn own(stream: BorrowedFd<'_>) -> rustix::io::Result<Option<OwnedFd>> {
    if !is_null(stream)? {
        return Ok(None);
    }
    let access = rustix::fs::fcntl_getfl(stream)? & OFlags::RWMODE;
    match there(access).or_else(|_| made(access)) {
        // In a user namespace without the host's root nobody can change it, either.
        Err(_) if rustix::fs::fstat(stream)?.st_uid == NOBODY => Ok(None),
        null => null.map(Some),
    }
}

/// Whether a file is the null device, whosoever node it is.
pub(crate) fn is_null(file: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let stat = rustix::fs::fstat(file)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    Ok(is_device && stat.st_rdev == makedev(1, 3))
}

/// The one that is there. Whoever is inside may have put anything in its place, so nothing is waited for.
fn there(access: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let plain = ResolveFlags::NO_MAGICLINKS;
    let null = rustix::fs::openat2(CWD, "/dev/null", flags, Mode::empty(), plain)?;
    if !is_null(null.as_fd())? {
        return Err(Errno::NODEV);
    }
    rustix::fs::fcntl_setfl(&null, access)?;
    Ok(null)
}

/// One in a file system of its own, that nobody can change.
fn made(access: OFlags) -> rustix::io::Result<OwnedFd> {
    let memory = mount::new("tmpfs", &[], MountAttrFlags::empty())?;
    let mode = Mode::from_raw_mode(0o666);
    let kind = FileType::CharacterDevice;
    rustix::fs::mknodat(&memory, "null", kind, mode, makedev(1, 3))?;
    mount::make_read_only(&memory, mount::Depth::Flat)?;
    rustix::fs::openat(&memory, "null", access | OFlags::CLOEXEC, Mode::empty())
}
