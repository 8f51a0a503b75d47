//! Makes the files that a layer describes, and never one outside the directory that is given.
//!
//! A layer may hold anything. What keeps it inside: every parent directory is opened by openat2(2)
//! with `RESOLVE_IN_ROOT`, so that symbolic links of the layer lead where they would in a container;
//! the last component is never followed, and always made anew.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, XattrFlags, chmodat, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat,
    syncfs, unlinkat, utimensat,
};
use rustix::io::Errno;
use smidge_image::{Claim, Entry, EntryKind, LayerPath, Whiteout};

use crate::Ownership;
use crate::attribute::{self, OPAQUE, is_kept};
use crate::beside::Beside;
use crate::found::{claim_for, mode, owner, times, unmapped_is_fine};
use crate::sparse::{self, End};
use crate::temp::write_back;
use crate::tree::Overlaid;
use crate::within;

/// Bytes that are copied at a time.
const BUFFER: usize = 1 << 18;

/// Up to so many files are synced one by one; more, with all else that the file system holds.
const FEW: usize = 16;

/// The most bytes that the attributes of a layer's directories may have. They are held until the end, and
/// a layer that is small when it is compressed can have any number.
const HELD: usize = 16 << 20;

/// What a whiteout becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whiteouts {
    /// What overlayfs takes for one: a device 0:0, an attribute.
    Overlay,
    /// Nothing: the entries are those of a whole root file system.
    None,
}

/// Why an entry was not made.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The content cannot be read.
    Content(io::Error),
    /// The system refused.
    System(io::Error),
    /// The layer makes no sense.
    Refused(String),
}

impl From<Errno> for Fault {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

/// Fills one directory.
pub(crate) struct Extractor<'a> {
    root: BorrowedFd<'a>,
    ownership: Ownership,
    whiteouts: Whiteouts,
    note: &'a mut dyn FnMut(String),
    /// The parent of the last entry, which is most often the next one's, too.
    parent: Option<(LayerPath, OwnedFd)>,
    /// Directories get their attributes last: what is put in them would change their times.
    directories: BTreeMap<LayerPath, Entry>,
    /// Bytes of their attributes.
    held: usize,
    /// What cannot be seen in the directory.
    beside: Beside,
    files: Vec<File>,
    many: bool,
    buffer: Vec<u8>,
}

impl<'a> Extractor<'a> {
    pub(crate) fn new(
        root: BorrowedFd<'a>,
        ownership: Ownership,
        whiteouts: Whiteouts,
        note: &'a mut dyn FnMut(String),
    ) -> Self {
        let implied = Entry::new(LayerPath::root(), EntryKind::Directory);
        let mut directories = BTreeMap::new();
        if whiteouts == Whiteouts::Overlay {
            directories.insert(LayerPath::root(), implied);
        }
        Self {
            root,
            ownership,
            whiteouts,
            note,
            parent: None,
            directories,
            held: 0,
            beside: Beside::default(),
            files: Vec::new(),
            many: false,
            buffer: Vec::new(),
        }
    }

    /// Makes one entry.
    pub(crate) fn extract(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Fault> {
        let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.file_name()) else {
            return self.root_entry(entry);
        };
        if self.whiteouts == Whiteouts::Overlay && name.starts_with(b".wh.") {
            return match Whiteout::of(&entry.path) {
                Some(Whiteout::Opaque(directory)) => self.make_opaque(&directory),
                // Bookkeeping of aufs, of which image-spec keeps the opaque marker only.
                _ if name.starts_with(b".wh..wh.") => Ok(()),
                Some(Whiteout::Removed(path)) => self.white_out(&path),
                None => Err(Fault::Refused("it is not a whiteout".to_owned())),
            };
        }
        let directory = self.take_parent(parent.clone())?;
        let made = self.make(entry, directory.as_fd(), OsStr::from_bytes(name), content);
        self.parent = Some((parent, directory));
        made
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), Fault> {
        if entry.kind != EntryKind::Directory {
            return Err(Fault::Refused(
                "the root can only be a directory".to_owned(),
            ));
        }
        self.hold(entry)
    }

    /// Keeps what the layer says of a directory until the end.
    fn hold(&mut self, entry: &Entry) -> Result<(), Fault> {
        let mut entry = entry.clone();
        entry.xattrs.retain(|name, _| is_kept(name));
        self.held += attribute::length(&entry.xattrs);
        if self.held > HELD {
            let why = "the attributes of the layer's directories take more than 16 MiB";
            return Err(Fault::Refused(why.to_owned()));
        }
        self.directories.insert(entry.path.clone(), entry);
        Ok(())
    }

    fn make(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        content: &mut dyn Read,
    ) -> Result<(), Fault> {
        self.beside.meet(entry);
        match &entry.kind {
            EntryKind::Directory => self.make_directory(entry, parent, name),
            EntryKind::File { size } => {
                let file = self.create(parent, name)?;
                self.copy(content, &file, *size)?;
                self.set_attributes(entry, file.as_fd())?;
                self.keep_for_sync(file);
                Ok(())
            }
            EntryKind::Symlink { target } => {
                let target = OsStr::from_bytes(target);
                self.replacing(parent, name, &|| symlinkat(target, parent, name))?;
                self.set_owner_at(entry, parent, name)
            }
            EntryKind::Hardlink { target } => self.link(entry, target, parent, name),
            EntryKind::CharDevice { major, minor } => self.make_node(
                entry,
                parent,
                name,
                (FileType::CharacterDevice, *major, *minor),
            ),
            EntryKind::BlockDevice { major, minor } => {
                self.make_node(entry, parent, name, (FileType::BlockDevice, *major, *minor))
            }
            EntryKind::Fifo => self.make_node(entry, parent, name, (FileType::Fifo, 0, 0)),
        }
    }

    /// What cannot be seen in the directory.
    pub(crate) fn take_beside(&mut self) -> Beside {
        std::mem::take(&mut self.beside)
    }

    /// Gives all directories their attributes, and makes everything durable.
    pub(crate) fn finish(mut self) -> Result<(), (LayerPath, Fault)> {
        self.set_directories()?;
        let synced = if self.many {
            syncfs(self.root).map_err(io::Error::from)
        } else {
            self.files.iter().try_for_each(File::sync_all)
        };
        synced.map_err(|error| (LayerPath::root(), Fault::System(error)))
    }

    /// As [`Extractor::finish`], for a caller who makes it durable together with other things.
    pub(crate) fn settle(mut self) -> Result<(), (LayerPath, Fault)> {
        self.set_directories()
    }

    fn set_directories(&mut self) -> Result<(), (LayerPath, Fault)> {
        let directories = std::mem::take(&mut self.directories);
        for (path, entry) in directories.iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let outcome = match self.open(path, flags) {
                Ok(directory) => self.set_attributes(entry, directory.as_fd()),
                // A later entry replaced it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(error) => Err(error.into()),
            };
            outcome.map_err(|fault| (path.clone(), fault))?;
        }
        Ok(())
    }

    fn open(&self, path: &LayerPath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let name = if path.is_root() {
            Path::new(".")
        } else {
            path.as_path()
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        within::open(self.root, name, flags, resolve)
    }

    fn take_parent(&mut self, path: LayerPath) -> Result<OwnedFd, Fault> {
        match self.parent.take() {
            Some((known, directory)) if known == path => Ok(directory),
            _ => self.directory(&path),
        }
    }

    /// Opens a directory, made with those above it where the layer does not mention them.
    fn directory(&mut self, path: &LayerPath) -> Result<OwnedFd, Fault> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(path, flags) {
            Ok(directory) => return Ok(directory),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOTDIR.into());
        };
        let above = self.directory(&parent)?;
        let implied = Entry::new(path.clone(), EntryKind::Directory);
        self.beside.implied.insert(path.clone());
        match Overlaid::at(&above, name) {
            Err(Errno::NOENT) | Ok(Overlaid::Whiteout) => {
                self.make_directory(&implied, above.as_fd(), OsStr::from_bytes(name))?;
            }
            Err(error) => return Err(error.into()),
            Ok(_) => return Err(Fault::Refused(format!("`{path}` is not a directory"))),
        }
        Ok(self.open(path, flags)?)
    }

    fn make_directory(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), Fault> {
        let make = || mkdirat(parent, name, Mode::RWXU);
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => match Overlaid::at(parent, name.as_bytes())? {
                Overlaid::Directory => {}
                Overlaid::Whiteout if self.whiteouts == Whiteouts::Overlay => {
                    unlinkat(parent, name, AtFlags::empty())?;
                    make()?;
                    self.set_opaque(parent, name)?;
                }
                Overlaid::Whiteout | Overlaid::Other => {
                    unlinkat(parent, name, AtFlags::empty())?;
                    make()?;
                }
            },
            Err(error) => return Err(error.into()),
        }
        self.hold(entry)
    }

    fn create(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<File, Fault> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = self.replacing(parent, name, &|| {
            openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        Ok(fd.into())
    }

    /// Makes something, in place of whatever has its name.
    fn replacing<T>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        make: &dyn Fn() -> rustix::io::Result<T>,
    ) -> Result<T, Fault> {
        match make() {
            Err(Errno::EXIST) => {
                remove_at(parent, name)?;
                Ok(make()?)
            }
            made => Ok(made?),
        }
    }

    fn copy(&mut self, content: &mut dyn Read, file: &File, size: u64) -> Result<(), Fault> {
        let capacity = usize::try_from(size).unwrap_or(BUFFER).min(BUFFER);
        if self.buffer.len() < capacity {
            self.buffer.resize(capacity, 0);
        }
        let mut left = size;
        let mut end = End::default();
        while left > 0 {
            let read = match content.read(&mut self.buffer) {
                Ok(0) => return Err(Fault::Content(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Fault::Content(error)),
            };
            end = sparse::write_all(file, &self.buffer[..read]).map_err(Fault::System)?;
            let before = size - left;
            left = left.saturating_sub(read as u64);
            write_back(file, before, size - left);
        }
        match end {
            End::Hole => file.set_len(size).map_err(Fault::System),
            End::Written => Ok(()),
        }
    }

    fn keep_for_sync(&mut self, file: File) {
        if self.files.len() < FEW {
            self.files.push(file);
        } else {
            self.many = true;
        }
    }

    fn link(
        &mut self,
        entry: &Entry,
        target: &LayerPath,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), Fault> {
        let lost = || Fault::Refused(format!("it is a link to `{target}`, which the layer lacks"));
        let (Some(directory), Some(target_name)) = (target.parent(), target.file_name()) else {
            return Err(lost());
        };
        if *target == entry.path {
            return Ok(());
        }
        let directory = self
            .open(&directory, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|_| lost())?;
        match Overlaid::at(&directory, target_name) {
            Ok(Overlaid::Other) => {}
            Ok(Overlaid::Directory) => {
                return Err(Fault::Refused(format!(
                    "it is a link to the directory `{target}`"
                )));
            }
            Ok(Overlaid::Whiteout) | Err(_) => return Err(lost()),
        }
        let target_name = OsStr::from_bytes(target_name);
        let link = || linkat(&directory, target_name, parent, name, AtFlags::empty());
        self.replacing(parent, name, &link)
    }

    /// Makes a device or a pipe. Who may not make devices gets an empty file with a claim, as a
    /// container gets its devices from the sandbox anyway.
    fn make_node(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        (kind, major, minor): (FileType, u32, u32),
    ) -> Result<(), Fault> {
        let device = makedev(major, minor);
        let refuse = self.ownership == Ownership::Caller && kind != FileType::Fifo;
        let made = self.replacing(parent, name, &|| match refuse {
            // The kernel would let 0:0 pass, and take it for a whiteout.
            true => Err(Errno::PERM),
            false => mknodat(parent, name, kind, Mode::RUSR, device),
        });
        match made {
            Err(Fault::System(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                (self.note)(format!(
                    "`{}` is an empty file instead of a device",
                    entry.path
                ));
                let file = self.create(parent, name)?;
                return self.set_attributes(entry, file.as_fd());
            }
            made => made?,
        }
        self.set_owner_at(entry, parent, name)?;
        Ok(chmodat(parent, name, mode(entry.mode), AtFlags::empty())?)
    }

    /// Hides what lower layers have at a path. What this layer itself has there stays.
    fn white_out(&mut self, path: &LayerPath) -> Result<(), Fault> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Fault::Refused("the root cannot be removed".to_owned()));
        };
        let directory = self.directory(&parent)?;
        let name = OsStr::from_bytes(name);
        match make_whiteout(directory.as_fd(), name) {
            Err(Errno::EXIST) => match Overlaid::at(&directory, name.as_bytes())? {
                Overlaid::Directory => self.set_opaque(directory.as_fd(), name),
                Overlaid::Whiteout | Overlaid::Other => Ok(()),
            },
            made => Ok(made?),
        }
    }

    fn make_opaque(&mut self, path: &LayerPath) -> Result<(), Fault> {
        let directory = self.directory(path)?;
        self.set_opaque(directory.as_fd(), OsStr::new("."))
    }

    /// Only who administers the machine may set the attribute that mounts without `userxattr` look
    /// for; all others mount with it (overlayfs.rst, "User xattr").
    fn set_opaque(&self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(parent, name, flags, Mode::empty())?;
        let [trusted, user] = OPAQUE;
        match fsetxattr(&directory, trusted, b"y", XattrFlags::empty()) {
            Err(Errno::PERM) => Ok(fsetxattr(&directory, user, b"y", XattrFlags::empty())?),
            set => Ok(set?),
        }
    }

    /// Owner, then mode (chown clears set-id bits) and attributes (chown clears capabilities), then
    /// time.
    fn set_attributes(&mut self, entry: &Entry, file: BorrowedFd<'_>) -> Result<(), Fault> {
        match self.ownership {
            Ownership::Layer => {
                let (uid, gid) = owner(entry);
                let given = fchown(file, uid, gid);
                let bits = match given {
                    // It stays the caller's, whom nobody is to become by running it.
                    Err(Errno::INVAL) => entry.mode & !0o6000,
                    _ => entry.mode,
                };
                unmapped_is_fine(given)?;
                fchmod(file, mode(bits))?;
                self.set_extended(entry, file);
            }
            Ownership::Caller => {
                let is_directory = entry.kind == EntryKind::Directory;
                let bits = Claim::widened(entry.mode, is_directory);
                // While the file can be written: others can only be set by root (xattr(7)).
                self.set_extended(entry, file);
                self.set_claim(entry, &claim_for(entry, bits), file);
                fchmod(file, mode(bits))?;
            }
        }
        Ok(futimens(file, &times(entry))?)
    }

    fn set_extended(&mut self, entry: &Entry, file: BorrowedFd<'_>) {
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
            let set = fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty());
            let Err(error) = set else { continue };
            let name_and_value = (name.as_slice(), value.as_slice());
            if self.keeps_claims()
                && attribute::keep_capability(file, name_and_value, entry.mtime) == Ok(true)
            {
                continue;
            }
            self.note_missing(entry, &String::from_utf8_lossy(name), error);
        }
    }

    fn note_missing(&mut self, entry: &Entry, name: &str, error: Errno) {
        (self.note)(format!(
            "`{}` lacks the attribute `{name}`: {error}",
            entry.path
        ));
    }

    /// Whether what the disk cannot hold is kept beside files: in the store, not in a directory that
    /// somebody wants to have.
    fn keeps_claims(&self) -> bool {
        self.ownership == Ownership::Caller && self.whiteouts == Whiteouts::Overlay
    }

    /// Without it, the file is root's and as it is on disk.
    fn set_claim(&mut self, entry: &Entry, claim: &Claim, file: BorrowedFd<'_>) {
        if claim.is_empty() || !self.keeps_claims() {
            return;
        }
        if let Err(error) = attribute::set_claim(file, claim) {
            self.note_missing(entry, Claim::ATTRIBUTE, error);
        }
    }

    fn set_owner_at(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), Fault> {
        let (uid, gid) = owner(entry);
        if self.ownership == Ownership::Layer {
            unmapped_is_fine(chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW))?;
        } else if (entry.uid, entry.gid) != (0, 0) {
            self.beside
                .owners
                .insert(entry.path.clone(), (entry.uid, entry.gid));
        }
        Ok(utimensat(
            parent,
            name,
            &times(entry),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }
}

/// Hides a name of lower layers. Overlayfs lets nobody make its own marks on it, so where the store is
/// on an overlay, as in a container, something stands for one that no layer has: a socket that nobody
/// may use. No overlay can be made of such layers; they are copied.
fn make_whiteout(directory: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    let make = |kind| mknodat(directory, name, kind, Mode::empty(), makedev(0, 0));
    match make(FileType::CharacterDevice) {
        Err(Errno::PERM) => make(FileType::Socket),
        made => made,
    }
}

/// Removes a file, or a directory with all it holds.
fn remove_at(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return unlinkat(parent, name, AtFlags::empty());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if child != b"." && child != b".." {
            remove_at(directory.as_fd(), OsStr::from_bytes(child))?;
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}
