//! What files are said to be.

use rustix::fs::FileType;
use rustix::io::Errno;
use smidge_image::{Claim, ClaimKind};

use super::caller::{Caller, Place};
use super::file::File;
use super::filter::Call;
use super::{Answer, World};
use crate::sys::{self, Plain};

/// Flags of `fstatat(2)` and `statx(2)` that are known here.
const KNOWN: u32 = (libc::AT_EMPTY_PATH
    | libc::AT_SYMLINK_NOFOLLOW
    | libc::AT_NO_AUTOMOUNT
    | libc::AT_STATX_SYNC_TYPE)
    .cast_unsigned();

/// `XATTR_LIST_MAX` of `linux/limits.h`.
const LONGEST_LIST: usize = 65_536;

/// How a file is said to be.
struct Said {
    mode: u32,
    uid: u32,
    gid: u32,
    /// The numbers of a device.
    device: Option<(u32, u32)>,
}

impl World {
    /// `stat`, `lstat`, `fstat`, `newfstatat`.
    pub(super) fn stat(&self, call: Call, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let nofollow = libc::AT_SYMLINK_NOFOLLOW.cast_unsigned();
        let (place, to) = match call {
            Call::Fstat => (caller.descriptor(0), 1),
            Call::Fstatat => (at(caller, caller.number(3)), 2),
            Call::Lstat => (here(caller, nofollow), 1),
            _ => (here(caller, 0), 1),
        };
        let Some((file, said)) = self.said(place) else {
            return Ok(Answer::Continue);
        };
        let Ok(mut status) = sys::status(file.as_fd()) else {
            return Ok(Answer::Continue);
        };
        status.st_mode = said.mode;
        status.st_uid = said.uid;
        status.st_gid = said.gid;
        if let Some((major, minor)) = said.device {
            status.st_rdev = rustix::fs::makedev(major, minor);
        }
        caller.write(caller.argument(to), status.bytes())?;
        Ok(Answer::Value(0))
    }

    /// `statx`.
    pub(super) fn statx(&self, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let (flags, mask) = (caller.number(2), caller.number(3));
        let Some((file, said)) = self.said(at(caller, flags)) else {
            return Ok(Answer::Continue);
        };
        let flags = (flags & libc::AT_STATX_SYNC_TYPE.cast_unsigned()).cast_signed();
        let Ok(mut status) = sys::extended_status(file.as_fd(), flags, mask) else {
            return Ok(Answer::Continue);
        };
        status.stx_mode = u16::try_from(said.mode).unwrap_or(status.stx_mode);
        status.stx_uid = said.uid;
        status.stx_gid = said.gid;
        if let Some((major, minor)) = said.device {
            (status.stx_rdev_major, status.stx_rdev_minor) = (major, minor);
        }
        caller.write(caller.argument(4), status.bytes())?;
        Ok(Answer::Value(0))
    }

    /// `listxattr`, `llistxattr`, `flistxattr`: what is claimed of a file is no attribute of it, and must
    /// not be copied to another as one.
    pub(super) fn attributes(&self, call: Call, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let place = match call {
            Call::Flistxattr => caller.descriptor(0),
            Call::Llistxattr => here(caller, libc::AT_SYMLINK_NOFOLLOW.cast_unsigned()),
            _ => here(caller, 0),
        };
        let Ok(place) = place else {
            return Ok(Answer::Continue);
        };
        let mut buffer = vec![0; LONGEST_LIST];
        let read = if place.follow {
            rustix::fs::listxattr(&place.path, &mut buffer)
        } else {
            rustix::fs::llistxattr(&place.path, &mut buffer)
        };
        let names = read.ok().and_then(|length| buffer.get(..length));
        let names = names.unwrap_or_default().split_inclusive(|byte| *byte == 0);
        let (private, public): (Vec<_>, Vec<_>) = names.partition(|name| Claim::is_private(name));
        if private.is_empty() {
            return Ok(Answer::Continue);
        }
        let public = public.concat();
        let room = caller.argument(2);
        let length = u64::try_from(public.len()).unwrap_or(u64::MAX);
        if room > 0 && room < length {
            return Err(Errno::RANGE);
        }
        if room > 0 && length > 0 {
            caller.write(caller.argument(1), &public)?;
        }
        Ok(Answer::Value(i64::try_from(length).unwrap_or(0)))
    }

    /// What is said of a file at a place, if it is something else than the kernel says. Whatever goes
    /// wrong, the kernel says better.
    fn said(&self, place: Result<Place, Errno>) -> Option<(File, Said)> {
        let place = place.ok()?;
        if !self.book.mentions(&place) {
            return None;
        }
        let file = File::open(&place).ok()?;
        let claim = self.book.claimed(&file)?;
        let said = said(&claim, &file);
        Some((file, said))
    }
}

fn said(claim: &Claim, file: &File) -> Said {
    let (kind, device) = match claim.kind {
        ClaimKind::AsIs => (file.kind(), None),
        ClaimKind::Fifo => (FileType::Fifo, None),
        ClaimKind::CharDevice { major, minor } => (FileType::CharacterDevice, Some((major, minor))),
        ClaimKind::BlockDevice { major, minor } => (FileType::BlockDevice, Some((major, minor))),
    };
    Said {
        mode: kind.as_raw_mode() | claim.mode_of(file.mode(), file.is_directory()),
        uid: claim.uid,
        gid: claim.gid,
        device,
    }
}

/// The place of a call with a path only.
fn here(caller: &Caller<'_>, flags: u32) -> Result<Place, Errno> {
    caller.place(libc::AT_FDCWD, &caller.text(0)?, flags)
}

/// The place of a call with a directory and a path.
fn at(caller: &Caller<'_>, flags: u32) -> Result<Place, Errno> {
    if flags & !KNOWN != 0 {
        return Err(Errno::INVAL);
    }
    let from = caller.number(0).cast_signed();
    let empty = flags & libc::AT_EMPTY_PATH.cast_unsigned() != 0;
    // Since Linux 6.11 no path is as good as an empty one.
    if empty && caller.argument(1) == 0 {
        return caller.place(from, b"", flags);
    }
    caller.place(from, &caller.text(1)?, flags)
}
