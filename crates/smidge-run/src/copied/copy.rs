//! Copies of single files and of plain trees.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{
    DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink,
};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, SeekFrom, Timespec, Timestamps, XattrFlags, copy_file_range,
    fsetxattr, ioctl_ficlone, lgetxattr, llistxattr, lsetxattr, mknodat, seek, utimensat,
};
use rustix::io::Errno;

/// Attributes that belong to overlayfs or to the machine.
const LEFT: [&[u8]; 3] = [b"user.overlay.", b"trusted.", b"security.selinux"];

/// As many bytes of a file are copied by one call.
const PIECE: u64 = 1 << 30;

/// Files that have several names, by device and inode: where the first copy is.
#[derive(Debug, Default)]
pub(crate) struct Links(HashMap<(u64, u64), PathBuf>);

/// Copies a file or a directory with all that is in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    copy_into(from, to, &mut Links::default())
}

/// Copies what is in a directory into another, which gets its owner and mode.
pub(crate) fn copy_contents(from: &Path, to: &Path) -> io::Result<()> {
    let mut links = Links::default();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy_into(&entry.path(), &to.join(entry.file_name()), &mut links)?;
    }
    let metadata = fs::metadata(from)?;
    chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))
}

fn copy_into(from: &Path, to: &Path, links: &mut Links) -> io::Result<()> {
    let metadata = from.symlink_metadata()?;
    if !metadata.is_dir() {
        return copy_file(from, &metadata, to, links);
    }
    make_directory(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy_into(&entry.path(), &to.join(entry.file_name()), links)?;
    }
    dress(from, &metadata, to)
}

/// Makes a directory that [`dress`] is to finish.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Copies what is no directory. Further names of a file become further names of its copy.
pub(crate) fn copy_file(
    from: &Path,
    metadata: &Metadata,
    to: &Path,
    links: &mut Links,
) -> io::Result<()> {
    if metadata.nlink() > 1 {
        let id = (metadata.dev(), metadata.ino());
        if let Some(first) = links.0.get(&id) {
            return fs::hard_link(first, to);
        }
        links.0.insert(id, to.to_owned());
    }
    let kind = metadata.file_type();
    if kind.is_file() {
        return copy_regular(from, metadata, to);
    }
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if kind.is_socket() {
        // Whoever listens has it by its inode.
        return fs::hard_link(from, to);
    } else {
        let kind = FileType::from_raw_mode(metadata.mode());
        mknodat(CWD, to, kind, Mode::RUSR | Mode::WUSR, metadata.rdev())?;
    }
    dress(from, metadata, to)
}

fn copy_regular(from: &Path, metadata: &Metadata, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    if ioctl_ficlone(&target, &source).is_err() {
        copy_content(&source, &target, metadata.len())?;
    }
    own(metadata, to)?;
    for (name, value) in attributes(from)? {
        let name = OsStr::from_bytes(&name);
        tolerated(fsetxattr(&target, name, &value, XattrFlags::empty()))?;
    }
    target.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    Ok(rustix::fs::futimens(&target, &times(metadata))?)
}

/// Copies a file's bytes, not its holes.
fn copy_content(source: &File, target: &File, length: u64) -> io::Result<()> {
    let mut at = 0;
    while at < length {
        let start = match seek(source, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole to the end.
            Err(Errno::NXIO) => break,
            Err(_) => at,
        };
        let end = seek(source, SeekFrom::Hole(start)).unwrap_or(length);
        let (mut from, mut to) = (start, start);
        while from < end {
            let piece = usize::try_from((end - from).min(PIECE)).unwrap_or(usize::MAX);
            match copy_file_range(source, Some(&mut from), target, Some(&mut to), piece) {
                // It has become shorter.
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                    copy_by_hand(source, target, (from, end))?;
                    from = end;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        at = end.max(start + 1);
    }
    target.set_len(length)
}

fn copy_by_hand(source: &File, target: &File, (from, to): (u64, u64)) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom, copy};
    let (mut source, mut target) = (source, target);
    source.seek(SeekFrom::Start(from))?;
    target.seek(SeekFrom::Start(from))?;
    copy(&mut source.take(to - from), &mut target).map(drop)
}

/// Gives a copy that is no regular file what else the file system says of the original.
pub(crate) fn dress(from: &Path, metadata: &Metadata, to: &Path) -> io::Result<()> {
    own(metadata, to)?;
    for (name, value) in attributes(from)? {
        let name = OsStr::from_bytes(&name);
        tolerated(lsetxattr(to, name, &value, XattrFlags::empty()))?;
    }
    if !metadata.is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    set_time(to, metadata)
}

/// Gives a file the time that another one has, or had.
pub(crate) fn set_time(path: &Path, metadata: &Metadata) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(utimensat(CWD, path, &times(metadata), flags)?)
}

fn own(metadata: &Metadata, to: &Path) -> io::Result<()> {
    let made = to.symlink_metadata()?;
    if (made.uid(), made.gid()) == (metadata.uid(), metadata.gid()) {
        return Ok(());
    }
    lchown(to, Some(metadata.uid()), Some(metadata.gid()))
}

fn attributes(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; 1 << 16];
    let length = match llistxattr(path, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let names = names.get(..length).unwrap_or_default();
    let mut found = Vec::new();
    let names = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    for name in names.filter(|name| !LEFT.iter().any(|left| name.starts_with(left))) {
        let mut value = vec![0; 1 << 16];
        match lgetxattr(path, OsStr::from_bytes(name), value.as_mut_slice()) {
            Ok(length) => value.truncate(length),
            Err(_) => continue,
        }
        found.push((name.to_vec(), value));
    }
    Ok(found)
}

/// Attributes that this process may not set, or this file system not hold, are done without.
fn tolerated(set: rustix::io::Result<()>) -> io::Result<()> {
    match set {
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS) => Ok(()),
        set => Ok(set?),
    }
}

/// A file's own time of change, for `utimensat(2)` and its like.
fn times(metadata: &Metadata) -> Timestamps {
    let stamp = |tv_sec, nanoseconds: i64| Timespec {
        tv_sec,
        tv_nsec: nanoseconds,
    };
    Timestamps {
        last_access: stamp(metadata.atime(), metadata.atime_nsec()),
        last_modification: stamp(metadata.mtime(), metadata.mtime_nsec()),
    }
}
