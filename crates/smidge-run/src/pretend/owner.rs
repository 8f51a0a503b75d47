//! Changes of files' owners and modes.

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use smidge_image::Claim;

use super::caller::{Caller, Place};
use super::credentials::{Credentials, GIVES_AWAY, KEEPS_SET_ID, OWNS_ALL};
use super::file::File;
use super::filter::Call;
use super::{Answer, World};

/// Flags that `fchownat(2)` takes.
const KNOWN: u32 = (libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW).cast_unsigned();

const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o010;

impl World {
    /// `chown`, `lchown`, `fchown`, `fchownat`.
    pub(super) fn chown(&mut self, call: Call, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let (place, ids) = match call {
            Call::Fchown if caller.is_handle(0) => return Ok(Answer::Continue),
            Call::Fchown => (caller.descriptor(0)?, 1),
            Call::Fchownat => (at(caller, 4)?, 2),
            Call::Lchown => (here(caller, libc::AT_SYMLINK_NOFOLLOW)?, 1),
            _ => (here(caller, 0)?, 1),
        };
        let (uid, gid) = (caller.id(ids), caller.id(ids + 1));
        let Ok(mut file) = File::open(&place) else {
            return Ok(Answer::Continue);
        };
        if !caller.still_waits() {
            return Err(Errno::SRCH);
        }
        let mut claim = self.book.claim(&file);
        let believed = self.identities.of(caller);
        let owns = believed.user.files == claim.uid || believed.may(OWNS_ALL);
        let has_set_id = file.mode() & (SET_USER | SET_GROUP) != 0;
        // A call that changes no id still takes the bits away, which is a change of the mode.
        let nothing_else = uid.or(gid).is_none() && !file.is_directory();
        if !may_give_away(believed, &claim, (uid, gid)) || nothing_else && has_set_id && !owns {
            return Err(Errno::PERM);
        }
        // The kernel's part: set-id bits and file capabilities go, the change time comes.
        let own = (uid.map(|_| Uid::ROOT), gid.map(|_| Gid::ROOT));
        match rustix::fs::chownat(file.as_fd(), "", own.0, own.1, AtFlags::EMPTY_PATH) {
            // Somebody else's, such as what is in `/proc`: nothing is lost by pretending.
            Ok(()) | Err(Errno::PERM | Errno::OVERFLOW | Errno::INVAL) => (),
            Err(errno) => return Err(errno),
        }
        file.refresh()?;
        claim.uid = uid.unwrap_or(claim.uid);
        claim.gid = gid.unwrap_or(claim.gid);
        if file.kind() == FileType::RegularFile {
            claim.mode = claim.mode.map(without_set_id);
        }
        self.book.set(&file, &claim)?;
        Ok(Answer::Value(0))
    }

    /// `chmod`, `fchmod`, `fchmodat`, `fchmodat2`: the kernel's business, but for what was claimed.
    pub(super) fn chmod(&mut self, call: Call, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let place = match call {
            Call::Fchmod if caller.is_handle(0) => return Ok(Answer::Continue),
            Call::Fchmod => caller.descriptor(0),
            Call::Fchmodat2 => at(caller, 3),
            Call::Fchmodat => caller
                .text(1)
                .and_then(|path| caller.place(caller.number(0).cast_signed(), &path, 0)),
            _ => here(caller, 0),
        };
        let Ok(file) = place.and_then(|place| File::open(&place)) else {
            return Ok(Answer::Continue);
        };
        let claim = self.book.claim(&file);
        let believed = self.identities.of(caller);
        if !believed.may(OWNS_ALL) && believed.user.files != claim.uid {
            return Err(Errno::PERM);
        }
        let group_is_own = believed.may(KEEPS_SET_ID) || believed.is_member(claim.gid);
        if claim.mode.is_some() && caller.still_waits() {
            self.book.set(
                &file,
                &Claim {
                    mode: None,
                    ..claim
                },
            )?;
        }
        let mode = caller.number(match call {
            Call::Chmod | Call::Fchmod => 1,
            _ => 2,
        });
        if mode & SET_GROUP != 0 && !group_is_own && caller.still_waits() {
            let mode = Mode::from_raw_mode(mode & 0o7777 & !SET_GROUP);
            rustix::fs::chmod(file.name(), mode)?;
            return Ok(Answer::Value(0));
        }
        Ok(Answer::Continue)
    }
}

/// `chown(2)`: only root gives files away; an owner may change the group to one that it is in.
fn may_give_away(
    believed: &Credentials,
    claim: &Claim,
    (uid, gid): (Option<u32>, Option<u32>),
) -> bool {
    if believed.may(GIVES_AWAY) {
        return true;
    }
    let owns = believed.user.files == claim.uid;
    uid.is_none_or(|uid| owns && uid == claim.uid)
        && gid.is_none_or(|gid| owns && (gid == claim.gid || believed.is_member(gid)))
}

/// What `chown(2)` leaves of a mode.
fn without_set_id(mode: u32) -> u32 {
    let lost = if mode & GROUP_EXECUTES == 0 {
        SET_USER
    } else {
        SET_USER | SET_GROUP
    };
    mode & !lost
}

fn here(caller: &Caller<'_>, flags: i32) -> Result<Place, Errno> {
    caller.place(libc::AT_FDCWD, &caller.text(0)?, flags.cast_unsigned())
}

/// The place of a call with a directory, a path and, at the argument `flags`, flags.
fn at(caller: &Caller<'_>, flags: usize) -> Result<Place, Errno> {
    let flags = caller.number(flags);
    if flags & !KNOWN != 0 {
        return Err(Errno::INVAL);
    }
    caller.place(caller.number(0).cast_signed(), &caller.text(1)?, flags)
}
