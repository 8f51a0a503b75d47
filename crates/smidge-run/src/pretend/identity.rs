//! Answers to who a program is, and to whom it wants to be.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::caller::{Caller, Place};
use super::credentials::{ANY_GROUP, ANY_USER, Credentials, Ids};
use super::file::File;
use super::filter::Call;
use super::{Answer, World};

/// `NGROUPS_MAX` of `linux/limits.h`.
const MOST_GROUPS: usize = 65_536;

/// Of `linux/prctl.h` and `linux/securebits.h`.
const SET_KEEPCAPS: u32 = 8;
const SET_SECUREBITS: u32 = 28;
const NO_SETUID_FIXUP: u64 = 1 << 2;
const KEEP_CAPS: u64 = 1 << 4;

const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o010;

impl World {
    /// `get*id`, `set*id`, `getgroups`, `setgroups`.
    pub(super) fn identify(&mut self, call: Call, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let believed = self.identities.of(caller);
        let number = |id: u32| Ok(Answer::Value(i64::from(id)));
        match call {
            Call::Getuid => number(believed.user.real),
            Call::Geteuid => number(believed.user.effective),
            Call::Getgid => number(believed.group.real),
            Call::Getegid => number(believed.group.effective),
            Call::Getresuid => tell(caller, &believed.user),
            Call::Getresgid => tell(caller, &believed.group),
            Call::Getgroups => groups(caller, &believed.groups),
            _ => {
                let mut believed = believed.clone();
                let value = change(call, caller, &mut believed)?;
                if !caller.still_waits() {
                    return Err(Errno::SRCH);
                }
                self.identities.set(caller, believed)?;
                number(value)
            }
        }
    }

    /// `prctl`: the kernel's business, but whether the caller stays capable is good to know.
    pub(super) fn control(&mut self, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let mut believed = self.identities.of(caller).clone();
        let argument = caller.argument(1);
        match caller.number(0) {
            SET_KEEPCAPS => believed.keeps = argument != 0,
            SET_SECUREBITS => {
                believed.keeps = argument & KEEP_CAPS != 0;
                believed.detached = argument & NO_SETUID_FIXUP != 0;
            }
            _ => return Ok(Answer::Continue),
        }
        self.identities.set(caller, believed)?;
        Ok(Answer::Continue)
    }

    /// `capset`: the kernel's business as well, which knows of more capabilities than the caller believes
    /// to have.
    pub(super) fn limit(&mut self, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let mut sets = [0; 8];
        caller.read(caller.argument(1), &mut sets)?;
        let (words, _) = sets.as_chunks::<4>();
        let [effective, permitted] =
            [0, 1].map(|place| u32::from_ne_bytes(words.get(place).copied().unwrap_or_default()));
        let mut believed = self.identities.of(caller).clone();
        believed.limit(effective, permitted);
        self.identities.set(caller, believed)?;
        Ok(Answer::Continue)
    }

    /// `execve`, `execveat`: the kernel's business, but the program may be set to another user. One
    /// that the kernel will refuse should not change anything, as far as can be told.
    pub(super) fn execute(&mut self, call: Call, caller: &Caller<'_>) -> Result<Answer, Errno> {
        if self.identities.are_plain() {
            return Ok(Answer::Continue);
        }
        let place = match call {
            Call::Execve => caller.place(libc::AT_FDCWD, &caller.text(0)?, 0)?,
            _ => {
                let from = caller.number(0).cast_signed();
                caller.place(from, &caller.text(1)?, caller.number(4))?
            }
        };
        let Ok(file) = File::open(&place) else {
            return Ok(Answer::Continue);
        };
        let claim = self.book.claim(&file);
        let mode = claim.mode_of(file.mode(), false);
        if file.kind() != FileType::RegularFile || mode & 0o111 == 0 || !caller.still_waits() {
            return Ok(Answer::Continue);
        }
        let both = SET_GROUP | GROUP_EXECUTES;
        let user = Some(claim.uid).filter(|_| mode & SET_USER != 0);
        let group = Some(claim.gid).filter(|_| mode & both == both);
        let mut believed = self.identities.of(caller).clone();
        if user.or(group).is_some() && may_be_set(caller, &place) {
            believed.execute(user, group);
        } else {
            believed.execute(None, None);
        }
        self.identities.set(caller, believed)?;
        Ok(Answer::Continue)
    }
}

/// Whether the kernel heeds a program's set-id bits: not those of scripts, and not for those who gave
/// up new privileges (`execve(2)`).
fn may_be_set(caller: &Caller<'_>, place: &Place) -> bool {
    let head = || -> Result<[u8; 2], Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file: OwnedFd = rustix::fs::openat(CWD, &place.path, flags, Mode::empty())?;
        let mut head = [0; 2];
        rustix::io::read(&file, &mut head)?;
        Ok(head)
    };
    head().is_ok_and(|head| head != *b"#!") && caller.status("NoNewPrivs").as_deref() == Ok("0")
}

/// Changes credentials as a call asks, and gives its answer.
fn change(call: Call, caller: &Caller<'_>, believed: &mut Credentials) -> Result<u32, Errno> {
    let before = believed.user;
    let any_user = believed.may(ANY_USER);
    let any_group = believed.may(ANY_GROUP);
    let (user, group) = (&mut believed.user, &mut believed.group);
    let [first, second, third] = [0, 1, 2].map(|place| caller.id(place));
    match call {
        Call::Setuid => user.set(first, any_user)?,
        Call::Setgid => group.set(first, any_group)?,
        Call::Setreuid => user.set_two(first, second, any_user)?,
        Call::Setregid => group.set_two(first, second, any_group)?,
        Call::Setresuid => user.set_three([first, second, third], any_user)?,
        Call::Setresgid => group.set_three([first, second, third], any_group)?,
        Call::Setfsuid => {
            let old = user.set_files(first, any_user);
            believed.follow_files(&before);
            return Ok(old);
        }
        Call::Setfsgid => return Ok(group.set_files(first, any_group)),
        Call::Setgroups if any_group => believed.groups = new_groups(caller)?,
        Call::Setgroups => return Err(Errno::PERM),
        _ => return Err(Errno::NOSYS),
    }
    if believed.user != before {
        believed.follow_user(&before);
    }
    Ok(0)
}

/// Writes the real, the effective and the saved id to where the arguments say.
fn tell(caller: &Caller<'_>, ids: &Ids) -> Result<Answer, Errno> {
    for (place, id) in [ids.real, ids.effective, ids.saved].into_iter().enumerate() {
        caller.write(caller.argument(place), &id.to_ne_bytes())?;
    }
    Ok(Answer::Value(0))
}

/// `getgroups(2)`.
fn groups(caller: &Caller<'_>, groups: &[u32]) -> Result<Answer, Errno> {
    let count = caller.number(0).cast_signed();
    let count = usize::try_from(count).map_err(|_| Errno::INVAL)?;
    if count > 0 {
        if count < groups.len() {
            return Err(Errno::INVAL);
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|id| id.to_ne_bytes()).collect();
        if !bytes.is_empty() {
            caller.write(caller.argument(1), &bytes)?;
        }
    }
    Ok(Answer::Value(i64::try_from(groups.len()).unwrap_or(0)))
}

fn new_groups(caller: &Caller<'_>) -> Result<Vec<u32>, Errno> {
    let count = usize::try_from(caller.number(0)).unwrap_or(usize::MAX);
    if count > MOST_GROUPS {
        return Err(Errno::INVAL);
    }
    let mut bytes = vec![0; count * size_of::<u32>()];
    if count > 0 {
        caller.read(caller.argument(1), &mut bytes)?;
    }
    let (ids, _) = bytes.as_chunks::<4>();
    let mut groups: Vec<u32> = ids.iter().map(|id| u32::from_ne_bytes(*id)).collect();
    if groups.contains(&u32::MAX) {
        return Err(Errno::INVAL);
    }
    groups.sort_unstable();
    Ok(groups)
}
