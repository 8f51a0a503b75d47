//! New files of programs that believe to be somebody else than root, or that are made where a group is
//! passed on; and devices, which no container can make.

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use smidge_image::{Claim, ClaimKind};

use super::caller::{Caller, Place};
use super::credentials::MAKES_DEVICES;
use super::file::File;
use super::filter::Call;
use super::{Answer, World};

const SET_GROUP: u32 = 0o2000;

/// Bytes of `struct open_how` (`openat2(2)`): flags, mode and how to resolve, 64 bits each.
const HOW: usize = 24;

/// What `open(2)` and its like are asked for.
struct Wish {
    place: Place,
    flags: OFlags,
    mode: u32,
}

impl World {
    /// `open`, `creat`, `openat`, `openat2`, where they may make a file.
    pub(super) fn open(&mut self, call: Call, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let Ok(Some(wish)) = wish(call, caller) else {
            return Ok(Answer::Continue);
        };
        let unnamed = wish.flags.contains(OFlags::TMPFILE);
        let directory = if unnamed {
            wish.place.clone()
        } else {
            wish.place.parent()
        };
        let Some(owner) = self.owner(caller, &directory) else {
            return Ok(Answer::Continue);
        };
        let mode = self.mode(caller, wish.mode)?;
        let open = |flags| rustix::fs::openat(CWD, &wish.place.path, flags, mode);
        let flags = wish.flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        let opened = if unnamed {
            open(flags)
        } else {
            open(flags | OFlags::EXCL)
        };
        let (file, owner) = match opened {
            Err(Errno::EXIST) if !wish.flags.contains(OFlags::EXCL) => {
                match File::open(&wish.place) {
                    // A link that leads nowhere: the file is made where it leads. Should there be a
                    // pipe by now, nobody waits for its other end.
                    Err(Errno::NOENT) => {
                        let file = File::held(open(flags | OFlags::NONBLOCK)?)?;
                        rustix::fs::fcntl_setfl(file.as_fd(), wish.flags)?;
                        let directory = file.place()?.parent();
                        (file, self.owner(caller, &directory).unwrap_or_default())
                    }
                    _ => return Ok(Answer::Continue),
                }
            }
            opened => (File::held(opened?)?, owner),
        };
        self.book.set(&file, &owner)?;
        let close_on_exec = wish.flags.contains(OFlags::CLOEXEC);
        Ok(Answer::File(file.into_handle(), close_on_exec))
    }

    /// `mkdir`, `mkdirat`.
    pub(super) fn make_directory(
        &mut self,
        call: Call,
        caller: &Caller<'_>,
    ) -> Result<Answer, Errno> {
        let first = usize::from(call == Call::Mkdirat);
        let Some((place, owner)) = self.named(caller, first, first == 1)? else {
            return Ok(Answer::Continue);
        };
        let mode = self.mode(caller, caller.number(first + 1))?;
        rustix::fs::mkdirat(CWD, &place.path, mode)?;
        self.book.set(&File::made(&place)?, &owner)?;
        Ok(Answer::Value(0))
    }

    /// `symlink`, `symlinkat`.
    pub(super) fn make_link(&mut self, call: Call, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let target = caller.text(0)?;
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        let path = if call == Call::Symlinkat { 2 } else { 1 };
        let named = self.named(caller, path, call == Call::Symlinkat);
        let (place, owner) = match named? {
            Some((place, owner)) => (place, Some(owner)),
            None if self.book.is_empty() => return Ok(Answer::Continue),
            // Its inode may be that of a link which had another owner.
            None => (name(caller, path, call == Call::Symlinkat)?, None),
        };
        rustix::fs::symlinkat(&target, CWD, &place.path)?;
        let file = File::made(&place)?;
        match owner {
            Some(owner) => self.book.set(&file, &owner)?,
            None => self.book.forget(&file),
        }
        Ok(Answer::Value(0))
    }

    /// `mknod`, `mknodat`.
    pub(super) fn make_node(&mut self, call: Call, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let path = usize::from(call == Call::Mknodat);
        let (mode, device) = (caller.number(path + 1), caller.number(path + 2));
        let numbers = (
            rustix::fs::major(device.into()),
            rustix::fs::minor(device.into()),
        );
        let named = self.named(caller, path, path == 1)?;
        let (major, minor) = numbers;
        let kind = match FileType::from_raw_mode(mode) {
            FileType::CharacterDevice => ClaimKind::CharDevice { major, minor },
            FileType::BlockDevice => ClaimKind::BlockDevice { major, minor },
            _ => ClaimKind::AsIs,
        };
        if kind != ClaimKind::AsIs && !self.identities.of(caller).may(MAKES_DEVICES) {
            // The kernel refuses that to everybody here.
            return Ok(Answer::Continue);
        }
        let (place, owner) = match named {
            Some(named) => named,
            None if kind == ClaimKind::AsIs && self.book.is_empty() => return Ok(Answer::Continue),
            None => (name(caller, path, path == 1)?, Claim::default()),
        };
        let made = match kind {
            ClaimKind::AsIs if mode & libc::S_IFMT == 0 => FileType::RegularFile,
            ClaimKind::AsIs => FileType::from_raw_mode(mode),
            _ => FileType::RegularFile,
        };
        let mode = self.mode(caller, mode)?;
        rustix::fs::mknodat(CWD, &place.path, made, mode, 0)?;
        self.book
            .set(&File::made(&place)?, &Claim { kind, ..owner })?;
        Ok(Answer::Value(0))
    }

    /// The place that a call names, and whose a new file there is; `None` if it is plainly root's.
    fn named(
        &self,
        caller: &Caller<'_>,
        path: usize,
        from: bool,
    ) -> Result<Option<(Place, Claim)>, Errno> {
        let place = name(caller, path, from)?;
        let directory = Place {
            path: place.without_slashes().to_vec(),
            ..place
        }
        .parent();
        Ok(self.owner(caller, &directory).map(|owner| (place, owner)))
    }

    /// Whose a new file in a directory is; `None` if it is plainly root's, or if there is no directory,
    /// which the kernel tells best.
    fn owner(&self, caller: &Caller<'_>, directory: &Place) -> Option<Claim> {
        let mode = rustix::fs::stat(&directory.path).ok()?.st_mode;
        let believed = self.identities.of(caller);
        // The set-group-ID bit is the same on disk as it is claimed to be.
        let gid = if mode & SET_GROUP == 0 {
            believed.group.files
        } else {
            self.book.claim(&File::open(directory).ok()?).gid
        };
        let claim = Claim {
            uid: believed.user.files,
            gid,
            ..Claim::default()
        };
        (!claim.is_empty() && caller.still_waits()).then_some(claim)
    }

    /// A new file's mode.
    fn mode(&self, caller: &Caller<'_>, asked: u32) -> Result<Mode, Errno> {
        Ok(Mode::from_raw_mode(asked & 0o7777 & !caller.umask()?))
    }
}

/// The place that the argument `path` names, relative to the one before it if `from`.
fn name(caller: &Caller<'_>, path: usize, from: bool) -> Result<Place, Errno> {
    let from = match path.checked_sub(1) {
        Some(place) if from => caller.number(place).cast_signed(),
        _ => libc::AT_FDCWD,
    };
    let no_link = libc::AT_SYMLINK_NOFOLLOW.cast_unsigned();
    caller.place(from, &caller.text(path)?, no_link)
}

/// What a call asks for; `None` if it is nothing that is known here.
fn wish(call: Call, caller: &Caller<'_>) -> Result<Option<Wish>, Errno> {
    let (from, path) = match call {
        Call::Open | Call::Creat => (libc::AT_FDCWD, caller.text(0)?),
        _ => (caller.number(0).cast_signed(), caller.text(1)?),
    };
    let (flags, mode) = match call {
        Call::Open => (caller.number(1), caller.number(2)),
        Call::Creat => {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
            (flags.bits(), caller.number(1))
        }
        Call::Openat => (caller.number(2), caller.number(3)),
        _ => match how(caller)? {
            Some(how) => how,
            None => return Ok(None),
        },
    };
    let flags = OFlags::from_bits_retain(flags);
    let makes = flags.intersects(OFlags::CREATE) || flags.contains(OFlags::TMPFILE);
    if !makes || flags.contains(OFlags::PATH) {
        return Ok(None);
    }
    let link = if flags.intersects(OFlags::NOFOLLOW | OFlags::EXCL) {
        libc::AT_SYMLINK_NOFOLLOW.cast_unsigned()
    } else {
        0
    };
    Ok(Some(Wish {
        place: caller.place(from, &path, link)?,
        flags,
        mode,
    }))
}

/// Flags and mode of `openat2(2)`; `None` if it is to resolve its path in a way of its own.
fn how(caller: &Caller<'_>) -> Result<Option<(u32, u32)>, Errno> {
    let mut bytes = [0; HOW];
    if caller.argument(3) != HOW as u64 {
        return Ok(None);
    }
    caller.read(caller.argument(2), &mut bytes)?;
    let (words, _) = bytes.as_chunks::<8>();
    let [flags, mode, resolve] = [0, 1, 2].map(|place| {
        let word = words.get(place).copied().unwrap_or_default();
        u64::from_ne_bytes(word)
    });
    let plain = resolve & !ResolveFlags::NO_MAGICLINKS.bits() == 0;
    match (u32::try_from(flags), u32::try_from(mode)) {
        (Ok(flags), Ok(mode)) if plain => Ok(Some((flags, mode))),
        _ => Ok(None),
    }
}
