//! Paths that are found below a directory, whatever links and `..` lie on the way.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

/// How often a path is tried that other processes make uncertain.
const TRIES: usize = 1000;

/// Opens a path as `how` says. A mount or a rename anywhere on the machine makes `..` uncertain for a
/// moment (openat2(2), EAGAIN), so it is tried again.
///
/// # Errors
/// Those of openat2(2).
pub(crate) fn open(
    root: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        match openat2(root.as_fd(), path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}
