//! An archive becomes files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags, chownat, fchmod, fchown, fsetxattr,
    futimens, linkat, makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use smidge_image::{Entry, EntryKind, LayerError, LayerPath, decompress, read_layer, sniff};

use super::room::kind;
use super::{Place, Room, refused};
use crate::Error;
use crate::attribute::is_kept;
use crate::found::{mode, owner, times, unmapped_is_fine};
use crate::within;

/// Bytes of the archive that are read at a time.
const BUFFER: usize = 1 << 18;

/// What files keep of what the archive says of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Whose they are, as far as the system allows it, and with it what they may do as somebody else.
    Owner,
    /// Their modes and times. They are the caller's.
    Mode,
}

/// Puts all that an archive holds into a directory.
///
/// # Errors
/// When there is no directory, when it is no archive, when a file cannot be made.
pub fn place_all(room: &Room, to: &Place, keep: Keep, archive: &mut dyn Read) -> Result<(), Error> {
    if !to.exists() {
        return Err(refused("open", &to.shown, Errno::NOENT));
    }
    if !to.is_directory() {
        let fault = format!(
            "`{}` is not a directory: an archive needs one",
            to.shown.display()
        );
        return Err(Error::Copy(fault));
    }
    let mut placer = Placer::new(room, to.open_directory()?, &to.shown, keep);
    let mut archive = BufReader::with_capacity(BUFFER, archive);
    let head = archive.fill_buf().map_err(Error::Input)?;
    let archive = decompress(sniff(head), archive).map_err(Error::Input)?;
    read_layer(archive, |entry, content| placer.place(entry, content))?;
    placer.finish()
}

/// Puts what [`pack`](super::pack) has written below one name to a place, by the rules of `docker cp`: into
/// a directory that is there, under the name of one that is not. With `contents`, what is in a directory
/// goes there, without the directory itself.
///
/// # Errors
/// When the rules forbid it, when a file cannot be made.
pub fn place(
    room: &Room,
    to: &Place,
    contents: bool,
    keep: Keep,
    archive: &mut dyn Read,
) -> Result<(), Error> {
    let mut placer: Option<(Placer<'_>, LayerPath)> = None;
    read_layer(archive, |entry, content| {
        let (placer, prefix) = match &mut placer {
            Some(known) => known,
            unknown => unknown.insert(destination(room, to, contents, keep, &entry)?),
        };
        let moved = |path: &LayerPath| moved(path, prefix);
        let kind = match entry.kind {
            EntryKind::Hardlink { target } => EntryKind::Hardlink {
                target: moved(&target)?,
            },
            kind => kind,
        };
        let entry = Entry {
            path: moved(&entry.path)?,
            kind,
            ..entry
        };
        placer.place(entry, content)
    })?;
    match placer {
        Some((placer, _)) => placer.finish(),
        None => Ok(()),
    }
}

/// Where an archive's files go whose first entry is `first`: a directory, and the name in it that takes
/// the place of the archive's first one.
fn destination<'r>(
    room: &'r Room,
    to: &'r Place,
    contents: bool,
    keep: Keep,
    first: &Entry,
) -> Result<(Placer<'r>, LayerPath), Error> {
    let refuse = |what: String| Err(Error::Copy(what));
    let path = &to.shown;
    let shown = path.display();
    let is_directory = first.kind == EntryKind::Directory;
    let ends_with_slash = matches!(
        to.shown.as_os_str().as_bytes(),
        [.., b'/'] | [.., b'/', b'.']
    );
    let name = first.path.components().next().map(<[u8]>::to_vec);
    if to.is_directory() {
        let name = name.filter(|_| !(contents && is_directory));
        let placer = Placer::new(room, to.open_directory()?, &to.shown, keep);
        return Ok((placer, named(name.as_deref())?));
    }
    if to.exists() && is_directory {
        return refuse(format!("cannot copy directory: `{shown}` is a file"));
    }
    if ends_with_slash && to.exists() {
        return refuse(format!("`{shown}` is not a directory"));
    }
    if ends_with_slash && !is_directory {
        return refuse(format!(
            "no such directory: the destination `{shown}` does not exist"
        ));
    }
    // A link that is copied to where a link is takes that one's place, not that of the file it leads to: the
    // file would be gone, and the link might lead to itself.
    let link = match first.kind {
        EntryKind::Symlink { .. } => Some(room.find(&to.shown, false)?),
        _ => None,
    };
    let to = link.as_ref().unwrap_or(to);
    let directory = rustix::io::fcntl_dupfd_cloexec(&to.directory, 0)
        .map_err(|error| refused("open", &to.shown, error))?;
    let above = path.parent().unwrap_or(path);
    let placer = Placer::new(room, directory, above, keep);
    Ok((placer, named(Some(to.name.as_bytes()))?))
}

fn named(name: Option<&[u8]>) -> Result<LayerPath, Error> {
    let path = LayerPath::parse(name.unwrap_or_default());
    path.map_err(|error| Error::Copy(error.to_string()))
}

/// A path with another first name, or without one.
fn moved(path: &LayerPath, prefix: &LayerPath) -> Result<LayerPath, Error> {
    let mut moved = prefix.clone();
    for name in path.components().skip(1) {
        moved = moved
            .join(name)
            .map_err(|error| Error::Copy(error.to_string()))?;
    }
    Ok(moved)
}

struct Placer<'r> {
    room: &'r Room,
    base: OwnedFd,
    shown: &'r Path,
    keep: Keep,
    /// Directories get their attributes last: what is put in them would change their times.
    directories: BTreeMap<LayerPath, Entry>,
}

impl<'r> Placer<'r> {
    fn new(room: &'r Room, base: OwnedFd, shown: &'r Path, keep: Keep) -> Self {
        Self {
            room,
            base,
            shown,
            keep,
            directories: BTreeMap::new(),
        }
    }

    fn place(&mut self, entry: Entry, content: &mut dyn Read) -> Result<(), Error> {
        // The directory that is there already stays as it is.
        if entry.path.is_root() {
            return Ok(());
        }
        let made = self.make(&entry, content);
        made.map_err(|fault| self.explain(&entry.path, fault))?;
        if entry.kind == EntryKind::Directory {
            self.directories.insert(entry.path.clone(), entry);
        }
        Ok(())
    }

    fn explain(&self, path: &LayerPath, fault: Fault) -> Error {
        let shown = self.shown.join(path.as_path());
        match fault {
            Fault::Input(error) => Error::Input(error),
            Fault::System(error) => refused("write", &shown, error),
            Fault::OverDirectory => Error::Copy(format!(
                "cannot overwrite the directory `{}` with a file",
                shown.display()
            )),
            Fault::OverFile => Error::Copy(format!(
                "cannot overwrite the file `{}` with a directory",
                shown.display()
            )),
        }
    }

    /// Gives all directories their attributes.
    fn finish(self) -> Result<(), Error> {
        for (path, entry) in self.directories.iter().rev() {
            let settle = || -> rustix::io::Result<()> {
                let parent = self.directory(&path.parent().unwrap_or_default())?;
                let name = OsStr::from_bytes(path.file_name().unwrap_or_default());
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = openat(&parent, name, flags, Mode::empty())?;
                self.set_attributes(entry, directory.as_fd())
            };
            match settle() {
                // Somebody has exchanged it.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(self.explain(path, Fault::System(error.into()))),
            }
        }
        Ok(())
    }

    /// Opens a directory below the base, made with those above it where they are missing.
    fn directory(&self, path: &LayerPath) -> rustix::io::Result<OwnedFd> {
        let name = match path.is_root() {
            true => Path::new("."),
            false => path.as_path(),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match within::open(&self.base, name, flags, self.room.named) {
            Err(Errno::NOENT) => {}
            opened => return opened,
        }
        let parent = self.directory(&path.parent().ok_or(Errno::NOENT)?)?;
        let name = OsStr::from_bytes(path.file_name().unwrap_or_default());
        match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&parent, name, flags, Mode::empty(), beneath)
    }

    fn make(&self, entry: &Entry, content: &mut dyn Read) -> Result<(), Fault> {
        let directory = self.directory(&entry.path.parent().unwrap_or_default())?;
        let parent = directory.as_fd();
        let name = OsStr::from_bytes(entry.path.file_name().unwrap_or_default());
        match &entry.kind {
            EntryKind::Directory => return make_directory(parent, name),
            EntryKind::File { .. } => {
                let mut file = create(parent, name)?;
                copy(content, &mut file)?;
                return Ok(self.set_attributes(entry, file.as_fd())?);
            }
            EntryKind::Symlink { target } => {
                let target = OsStr::from_bytes(target);
                replacing(parent, name, &|| symlinkat(target, parent, name))?;
            }
            EntryKind::Hardlink { target } => return self.link(target, parent, name),
            EntryKind::CharDevice { major, minor } => {
                let device = makedev(*major, *minor);
                self.make_node(entry, parent, name, (FileType::CharacterDevice, device))?;
            }
            EntryKind::BlockDevice { major, minor } => {
                let device = makedev(*major, *minor);
                self.make_node(entry, parent, name, (FileType::BlockDevice, device))?;
            }
            EntryKind::Fifo => self.make_node(entry, parent, name, (FileType::Fifo, 0))?,
        }
        Ok(self.set_attributes_at(entry, parent, name)?)
    }

    fn make_node(
        &self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        (kind, device): (FileType, u64),
    ) -> Result<(), Fault> {
        let bits = mode(self.bits(entry));
        replacing(parent, name, &|| mknodat(parent, name, kind, bits, device))
    }

    fn link(&self, target: &LayerPath, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Fault> {
        let directory = self.directory(&target.parent().unwrap_or_default())?;
        let old = OsStr::from_bytes(target.file_name().unwrap_or_default());
        let link = || linkat(&directory, old, parent, name, AtFlags::empty());
        replacing(parent, name, &link)
    }

    /// Owner, then mode (chown clears set-id bits) and attributes (chown clears capabilities), then time.
    fn set_attributes(&self, entry: &Entry, file: BorrowedFd<'_>) -> rustix::io::Result<()> {
        if self.keep == Keep::Owner {
            let (uid, gid) = owner(entry);
            unmapped_is_fine(fchown(file, uid, gid))?;
        }
        fchmod(file, mode(self.bits(entry)))?;
        let kept = |name: &[u8]| {
            is_kept(name) && (self.keep == Keep::Owner || !name.starts_with(b"security."))
        };
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| kept(name)) {
            match fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
                // Not every file system has them.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(error) => return Err(error),
            }
        }
        futimens(file, &times(entry))
    }

    /// What a file does for whoever runs it as somebody else counts for its owner alone.
    fn bits(&self, entry: &Entry) -> u32 {
        match self.keep {
            Keep::Owner => entry.mode,
            Keep::Mode if entry.kind == EntryKind::Directory => entry.mode,
            Keep::Mode => entry.mode & 0o1777,
        }
    }

    fn set_attributes_at(
        &self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> rustix::io::Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if self.keep == Keep::Owner {
            let (uid, gid) = owner(entry);
            unmapped_is_fine(chownat(parent, name, uid, gid, nofollow))?;
        }
        utimensat(parent, name, &times(entry), nofollow)
    }
}

/// Why a file was not made.
enum Fault {
    Input(io::Error),
    System(io::Error),
    OverDirectory,
    OverFile,
}

impl From<Errno> for Fault {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

impl From<LayerError> for Error {
    fn from(error: LayerError) -> Self {
        Self::Input(error.into())
    }
}

fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Fault> {
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match kind(&stat) {
                FileType::Directory => Ok(()),
                _ => Err(Fault::OverFile),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes an empty file, in place of one that is there. Where that one cannot be removed, because it is a
/// mount point, its content goes.
fn create(parent: BorrowedFd<'_>, name: &OsStr) -> Result<File, Fault> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = replacing(parent, name, &|| {
        let flags = flags | OFlags::CREATE | OFlags::EXCL;
        openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
    });
    match made {
        Err(Fault::System(error)) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
            let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if kind(&stat) != FileType::RegularFile {
                return Err(Fault::System(error));
            }
            let flags = flags | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::NOCTTY;
            Ok(openat(parent, name, flags, Mode::empty())?.into())
        }
        made => Ok(made?.into()),
    }
}

/// Makes something, in place of a file that has its name.
fn replacing<T>(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    make: &dyn Fn() -> rustix::io::Result<T>,
) -> Result<T, Fault> {
    match make() {
        Err(Errno::EXIST) => {}
        made => return Ok(made?),
    }
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(make()?),
        Err(Errno::ISDIR) => Err(Fault::OverDirectory),
        Err(error) => Err(error.into()),
    }
}

fn copy(content: &mut dyn Read, file: &mut File) -> Result<(), Fault> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = match content.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Fault::Input(error)),
        };
        file.write_all(&buffer[..read]).map_err(Fault::System)?;
    }
}
