//! A file of an upper directory, and what a layer says of it.

use std::io;

use rustix::fs::{
    FileType, Gid, Mode, RawMode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, major, minor,
};
use rustix::io::Errno;
use smidge_image::{Claim, ClaimKind, Entry, EntryKind, LayerPath, Whiteout};

use crate::Ownership;
use crate::attribute::{self, Attributes};
use crate::tree::Overlaid;

/// A file that an upper directory holds.
pub(crate) struct Found {
    pub(crate) path: LayerPath,
    /// As it was before its mode was widened.
    pub(crate) stat: Stat,
    /// Whether it is a directory that hides one below.
    pub(crate) opaque: bool,
}

impl Found {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }

    pub(crate) fn is_regular(&self) -> bool {
        self.kind() == FileType::RegularFile
    }

    /// Whether it can carry attributes of users' own (xattr(7)), and so a claim.
    pub(crate) fn can_claim(&self) -> bool {
        self.is_directory() || self.is_regular()
    }

    /// Overlayfs may give all of them one inode with many names.
    pub(crate) fn is_whiteout(&self) -> bool {
        Overlaid::of(&self.stat) == Overlaid::Whiteout
    }

    /// Where its entry is in a layer.
    pub(crate) fn entry_path(&self) -> LayerPath {
        let gone = || Whiteout::Removed(self.path.clone()).path();
        let marker = self.is_whiteout().then(gone).flatten();
        marker.unwrap_or_else(|| self.path.clone())
    }

    pub(crate) fn has_several_names(&self) -> bool {
        !self.is_directory() && self.stat.st_nlink > 1
    }

    /// Its device and inode number.
    pub(crate) fn id(&self) -> (u64, u64) {
        (self.stat.st_dev, self.stat.st_ino)
    }

    /// The entry that makes it another name of `first`.
    pub(crate) fn link_to(&self, first: &Entry) -> Entry {
        Entry {
            path: self.path.clone(),
            kind: EntryKind::Hardlink {
                target: first.path.clone(),
            },
            ..first.clone()
        }
    }
}

/// What a layer says of a file on disk, but for what [`crate::Times`] makes of its time. `target` is
/// where a symbolic link leads.
pub(crate) fn entry(
    path: &LayerPath,
    stat: &Stat,
    attributes: &Attributes,
    target: Vec<u8>,
    ownership: Ownership,
) -> Entry {
    let kind = kind(stat, target);
    let mut entry = Entry {
        path: path.clone(),
        mode: match kind {
            EntryKind::Symlink { .. } => 0o777,
            _ => stat.st_mode & 0o7777,
        },
        kind,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        xattrs: attribute::for_layer(attributes, stat.st_mtime),
    };
    if ownership == Ownership::Caller {
        let claim = attribute::claimed(attributes).unwrap_or_default();
        let is_directory = entry.kind == EntryKind::Directory;
        (entry.uid, entry.gid) = (claim.uid, claim.gid);
        entry.mode = claim.mode_of(entry.mode, is_directory);
        if let (EntryKind::File { size: 0 }, Some(device)) = (&entry.kind, claimed_kind(claim.kind))
        {
            entry.kind = device;
        }
    }
    entry
}

fn kind(stat: &Stat, target: Vec<u8>) -> EntryKind {
    let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink { target },
        FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
        FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
        FileType::Fifo => EntryKind::Fifo,
        _ => EntryKind::File {
            size: stat.st_size.try_into().unwrap_or(0),
        },
    }
}

fn claimed_kind(kind: ClaimKind) -> Option<EntryKind> {
    match kind {
        ClaimKind::AsIs => None,
        ClaimKind::CharDevice { major, minor } => Some(EntryKind::CharDevice { major, minor }),
        ClaimKind::BlockDevice { major, minor } => Some(EntryKind::BlockDevice { major, minor }),
        ClaimKind::Fifo => Some(EntryKind::Fifo),
    }
}

/// What a file has to claim that has the mode `bits` on disk, and is a directory or a regular file.
pub(crate) fn claim_for(entry: &Entry, bits: u32) -> Claim {
    let kind = match entry.kind {
        EntryKind::CharDevice { major, minor } => ClaimKind::CharDevice { major, minor },
        EntryKind::BlockDevice { major, minor } => ClaimKind::BlockDevice { major, minor },
        EntryKind::Fifo => ClaimKind::Fifo,
        _ => ClaimKind::AsIs,
    };
    Claim {
        uid: entry.uid,
        gid: entry.gid,
        mode: (entry.mode != bits).then_some(entry.mode),
        kind,
    }
}

/// Refuses a name that a layer cannot give to a file.
pub(crate) fn check_name(name: &[u8]) -> io::Result<()> {
    match name.starts_with(b".wh.") {
        true => Err(io::Error::other(
            "in a layer, a name that starts with `.wh.` means that something is gone",
        )),
        false => Ok(()),
    }
}

/// The entry that says that something is gone. It dates from 1970, as nothing has its time.
pub(crate) fn marker(whiteout: &Whiteout) -> io::Result<Entry> {
    let path = whiteout.path();
    let path = path.ok_or_else(|| io::Error::other("the root cannot be removed"))?;
    Ok(Entry::new(path, EntryKind::File { size: 0 }))
}

pub(crate) fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode((bits & 0o7777) as RawMode)
}

/// -1 means "leave it" to chown(2), so it cannot be an owner.
pub(crate) fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    let real = |id: u32| (id != u32::MAX).then_some(id);
    (
        real(entry.uid).map(Uid::from_raw),
        real(entry.gid).map(Gid::from_raw),
    )
}

/// Sets the time of the last change, and leaves that of the last access.
pub(crate) fn modified(mtime: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime,
            tv_nsec: 0,
        },
    }
}

/// Both times, as a layer has them: one, in whole seconds.
pub(crate) fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// In a user namespace, files cannot belong to ids that it does not map: they stay the caller's.
pub(crate) fn unmapped_is_fine(outcome: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match outcome {
        Err(Errno::INVAL) => Ok(()),
        outcome => outcome,
    }
}
