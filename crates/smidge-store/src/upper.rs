//! The upper directory of an overlay, as overlayfs leaves it (overlayfs.rst): files that are new or
//! changed, devices 0:0 for what is gone, an attribute on directories that hide what is below.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chmodat, fchmod,
    fchown, fremovexattr, futimens, openat, openat2, readlinkat, statat, syncfs, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use smidge_image::{Claim, Entry, EntryKind, LayerPath, LayerWriter, Whiteout};

use crate::attribute::{self, Attributes};
use crate::beside::Owners;
use crate::found::{Found, check_name, claim_for, entry, marker, mode, modified};
use crate::sparse::SparseReader;
use crate::tree::Overlaid;
use crate::{DirTree, Error, LayeredTree, Ownership, SnapshotOptions, Store};

/// Up to so many files are synced one by one; more, with all else that the file system holds.
const FEW: usize = 4;

/// As many bytes of two files are compared at a time.
const COMPARED: usize = 1 << 16;

/// The mode of a root directory that no layer mentions.
const ROOT_MODE: u32 = 0o755;

/// An upper directory.
pub(crate) struct Upper<'a> {
    store: &'a Store,
    path: &'a Path,
    root: OwnedFd,
    options: &'a SnapshotOptions,
    /// The parent of the last file, which is most often the next one's, too.
    parent: Option<(LayerPath, OwnedFd)>,
    /// Files with several names, by device and inode number, under their first.
    links: HashMap<(u64, u64), Entry>,
    /// Whose links and pipes are, where they cannot say so.
    pub(crate) owners: Owners,
    /// Files that must reach the disk, and whether they are too many to keep them open.
    files: Vec<File>,
    many: bool,
    /// Whether its files are somebody's yet, and stay as they are.
    stays: bool,
}

impl<'a> Upper<'a> {
    pub(crate) fn open(
        store: &'a Store,
        path: &'a Path,
        options: &'a SnapshotOptions,
    ) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty())
            .map_err(|error| store.io(crate::error::READ, path, error.into()))?;
        Ok(Self {
            store,
            path,
            root,
            options,
            parent: None,
            links: HashMap::new(),
            owners: Owners::new(),
            files: Vec::new(),
            many: false,
            stays: false,
        })
    }

    /// Takes any directory, whose files stay as they are, but for what an ordinary user's claims hold.
    pub(crate) fn open_to_read(
        store: &'a Store,
        path: &'a Path,
        options: &'a SnapshotOptions,
    ) -> Result<Self, Error> {
        let stays = true;
        Ok(Self {
            stays,
            ..Self::open(store, path, options)?
        })
    }

    fn failed(&self, path: &LayerPath, error: impl Into<io::Error>) -> Error {
        let path = self.path.join(path.as_path());
        Error::carried(error.into(), |error| match error.kind() {
            // Of the file, not of the store.
            io::ErrorKind::PermissionDenied => Error::Io {
                action: "pack",
                path,
                source: error,
            },
            _ => self.store.io("pack", &path, error),
        })
    }

    /// Opens a directory. No component is a symbolic link.
    fn directory(&self, path: &LayerPath) -> Result<OwnedFd, Error> {
        let name = match path.is_root() {
            true => Path::new("."),
            false => path.as_path(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.root, name, flags, Mode::empty(), resolve)
            .map_err(|error| self.failed(path, error))
    }

    fn take_parent(&mut self, path: &LayerPath) -> Result<OwnedFd, Error> {
        let parent = path.parent().unwrap_or_default();
        match self.parent.take() {
            Some((known, directory)) if known == parent => Ok(directory),
            _ => self.directory(&parent),
        }
    }

    /// Calls `act` with a file's directory and its name there.
    fn at<T>(
        &mut self,
        path: &LayerPath,
        act: impl FnOnce(&mut Self, BorrowedFd<'_>, &OsStr) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let parent = self.take_parent(path)?;
        let name = OsStr::from_bytes(path.file_name().unwrap_or_default());
        let outcome = act(self, parent.as_fd(), name);
        self.parent = Some((path.parent().unwrap_or_default(), parent));
        outcome
    }

    /// Removes mount points that the sandbox made, as far as nothing is in them, the deepest first.
    pub(crate) fn remove_stubs(&mut self) -> Result<(), Error> {
        let stubs: BTreeSet<_> = self.options.stubs.iter().collect();
        for stub in stubs.into_iter().rev().filter(|stub| !stub.is_root()) {
            match self.remove_stub(stub) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NOTEMPTY) => {}
                Err(error) => return Err(self.failed(stub, error)),
            }
        }
        Ok(())
    }

    fn remove_stub(&self, stub: &LayerPath) -> rustix::io::Result<()> {
        let name = OsStr::from_bytes(stub.file_name().unwrap_or_default());
        let above = stub.parent().unwrap_or_default();
        let above = match above.is_root() {
            true => Path::new("."),
            false => above.as_path(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let parent = openat2(&self.root, above, flags, Mode::empty(), resolve)?;
        let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => unlinkat(&parent, name, AtFlags::REMOVEDIR),
            FileType::RegularFile if stat.st_size == 0 => unlinkat(&parent, name, AtFlags::empty()),
            _ => Ok(()),
        }
    }

    /// Lists all files, sorted by their paths. Sockets are removed: no layer can have one.
    pub(crate) fn walk(&mut self) -> Result<Vec<Found>, Error> {
        self.walk_below(LayerPath::root())
    }

    /// As [`Upper::walk`], of what is in one directory.
    pub(crate) fn walk_below(&mut self, directory: LayerPath) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        let mut pending = vec![directory];
        while let Some(path) = pending.pop() {
            let directory = self.directory(&path)?;
            let entries = Dir::read_from(&directory).map_err(|error| self.failed(&path, error))?;
            for entry in entries {
                let entry = entry.map_err(|error| self.failed(&path, error))?;
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let below = path
                    .join(name)
                    .map_err(|error| self.failed(&path, io::Error::other(error)))?;
                let file = self
                    .look(&below, directory.as_fd(), OsStr::from_bytes(name))
                    .map_err(|error| self.failed(&below, error))?;
                if let Some(file) = file {
                    if file.is_directory() {
                        pending.push(below);
                    }
                    found.push(file);
                }
            }
        }
        found.sort_by_cached_key(Found::entry_path);
        Ok(found)
    }

    pub(crate) fn look_at(&mut self, path: &LayerPath) -> Result<Option<Found>, Error> {
        self.at(path, |this, parent, name| {
            this.look(path, parent, name)
                .map_err(|error| this.failed(path, error))
        })
    }

    fn look(
        &self,
        path: &LayerPath,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> io::Result<Option<Found>> {
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        check_name(name.as_bytes())?;
        let mut found = Found {
            path: path.clone(),
            stat,
            opaque: false,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket if self.stays => return Ok(None),
            FileType::Socket if !found.is_whiteout() => {
                unlinkat(parent, name, AtFlags::empty())?;
                return Ok(None);
            }
            FileType::Directory => {
                if self.must_widen() && stat.st_mode & 0o700 != 0o700 {
                    chmodat(parent, name, mode(stat.st_mode | 0o700), AtFlags::empty())?;
                }
                let directory = open(parent, name, OFlags::DIRECTORY)?;
                found.opaque = attribute::is_opaque(&directory);
            }
            _ => {}
        }
        Ok(Some(found))
    }

    fn must_widen(&self) -> bool {
        self.options.ownership == Ownership::Caller
    }

    /// Removes what is as it was below: copies that overlayfs made because of a change that came to
    /// nothing, or of a mount point that is gone.
    pub(crate) fn drop_unchanged(
        &mut self,
        found: &mut Vec<Found>,
        below: &LayeredTree,
    ) -> Result<(), Error> {
        let mut hiding = BTreeSet::new();
        let hides = |hiding: &BTreeSet<LayerPath>, path: &LayerPath| {
            !hiding.is_empty() && path.ancestors().any(|above| hiding.contains(&above))
        };
        for file in found.iter_mut().filter(|file| file.opaque) {
            let lower = below.find(&file.path);
            let lower = lower.map_err(|error| self.failed(&file.path, error))?;
            let is_directory = |(_, stat): &(_, Stat)| Overlaid::of(stat) == Overlaid::Directory;
            // Overlayfs marks every new directory. Where nothing is hidden, nobody need know; and whoever
            // makes the same layer over other files must not find those hidden.
            file.opaque = lower.as_ref().is_some_and(is_directory) && !hides(&hiding, &file.path);
            match file.opaque {
                true => drop(hiding.insert(file.path.clone())),
                false => attribute::clear_opaque(self.directory(&file.path)?)
                    .map_err(|error| self.failed(&file.path, error))?,
            }
        }
        let mut kept: Vec<Found> = Vec::with_capacity(found.len());
        // The parents of what is kept, from the bottom up: they are kept, too.
        let mut needed: BTreeSet<LayerPath> = BTreeSet::new();
        for file in found.drain(..).rev() {
            let is_needed = needed.remove(&file.path) || file.opaque || file.is_whiteout();
            let lower = match is_needed || hides(&hiding, &file.path) {
                true => None,
                false => below
                    .find(&file.path)
                    .map_err(|error| self.failed(&file.path, error))?,
            };
            let unchanged = match lower {
                Some((layer, stat)) => self.is_unchanged(&file, layer, &stat)?,
                None => false,
            };
            if unchanged {
                self.drop_one(&file)?;
            } else {
                needed.extend(file.path.parent());
                kept.push(file);
            }
        }
        kept.reverse();
        *found = kept;
        Ok(())
    }

    /// Whether a file is what is below it. The time of a directory does not count: it tells that
    /// something in it has come or gone.
    fn is_unchanged(&mut self, file: &Found, lower: &DirTree, stat: &Stat) -> Result<bool, Error> {
        let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
        let is_directory = file.is_directory();
        if file.kind() != FileType::from_raw_mode(stat.st_mode)
            || file.has_several_names()
            || !is_directory && (file.stat.st_size, time(&file.stat)) != (stat.st_size, time(stat))
        {
            return Ok(false);
        }
        self.at(&file.path, |this, parent, name| {
            let same = || -> io::Result<bool> {
                let upper = this.open_file(file, parent, name)?;
                let opened = lower.open_any(&file.path, file.can_claim())?;
                let Some(opened) = opened.map(File::from) else {
                    return Ok(false);
                };
                let (attributes, target) = match file.can_claim() {
                    true => (attribute::read_all(opened.as_fd())?, Vec::new()),
                    false => (Attributes::new(), readlink(&opened)?),
                };
                let ownership = this.options.ownership;
                let mut old = entry(&file.path, stat, &attributes, target, ownership);
                let attributes = match &upper {
                    Some(upper) => attribute::read_all(upper.as_fd())?,
                    None => Attributes::new(),
                };
                let mut new = this.entry(file, parent, name, &attributes)?;
                if is_directory {
                    new.mtime = old.mtime;
                }
                if ownership == Ownership::Caller && !file.can_claim() {
                    (old.uid, old.gid) = lower.owner(&file.path);
                    // Nobody has given the copy away.
                    if !this.options.link_owners.contains_key(&file.id()) {
                        (new.uid, new.gid) = (old.uid, old.gid);
                    }
                }
                Ok(new == old
                    && match (&upper, &new.kind) {
                        (Some(upper), EntryKind::File { .. }) => same_content(upper, &opened)?,
                        _ => true,
                    })
            };
            same().map_err(|error| this.failed(&file.path, error))
        })
    }

    fn drop_one(&mut self, file: &Found) -> Result<(), Error> {
        let flags = match file.is_directory() {
            true => AtFlags::REMOVEDIR,
            false => AtFlags::empty(),
        };
        self.at(&file.path, |this, parent, name| {
            unlinkat(parent, name, flags).map_err(|error| this.failed(&file.path, error))
        })
    }

    /// Writes all files to a layer, and gives them on disk the times and claims that it states. Tells
    /// how many entries there are.
    pub(crate) fn write<W: Write>(
        &mut self,
        found: &[Found],
        layer: &mut LayerWriter<W>,
    ) -> Result<u64, Error> {
        let mut entries = 0;
        for file in found {
            entries += self.at(&file.path, |this, parent, name| {
                this.write_one(file, parent, name, layer)
                    .map_err(|error| this.failed(&file.path, error))
            })?;
        }
        Ok(entries)
    }

    fn write_one<W: Write>(
        &mut self,
        file: &Found,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        layer: &mut LayerWriter<W>,
    ) -> io::Result<u64> {
        if file.is_whiteout() {
            let gone = Whiteout::Removed(file.path.clone());
            layer.append(&marker(&gone)?, &mut io::empty())?;
            return Ok(1);
        }
        if let Some(first) = self.links.get(&file.id()) {
            let link = file.link_to(first);
            layer.append(&link, &mut io::empty())?;
            self.note_owner(file, &link);
            return Ok(1);
        }
        let opened = self.open_file(file, parent, name)?;
        let attributes = match &opened {
            Some(opened) => attribute::read_all(opened.as_fd())?,
            None => Attributes::new(),
        };
        let mut entry = self.entry(file, parent, name, &attributes)?;
        entry.mtime = self.options.times.of(entry.mtime);
        if self.stays {
            as_in_any_directory(&mut entry);
        }
        match &opened {
            Some(content) => layer.append(&entry, &mut SparseReader::new(content)?)?,
            None => layer.append(&entry, &mut io::empty())?,
        }
        if file.opaque {
            let opaque = Whiteout::Opaque(file.path.clone());
            layer.append(&marker(&opaque)?, &mut io::empty())?;
        }
        match opened {
            Some(opened) => {
                self.settle(file, opened.as_fd(), &entry, &attributes)?;
                self.keep_for_sync(file, opened);
            }
            None if self.stays => {}
            None => {
                let times = modified(entry.mtime);
                utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
                self.note_owner(file, &entry);
            }
        }
        if file.has_several_names() {
            entry.xattrs.clear();
            self.links.insert(file.id(), entry);
        }
        Ok(1 + u64::from(file.opaque))
    }

    fn note_owner(&mut self, file: &Found, entry: &Entry) {
        let owner = (entry.uid, entry.gid);
        if self.must_widen() && !file.can_claim() && owner != (0, 0) {
            self.owners.insert(file.path.clone(), owner);
        }
    }

    fn keep_for_sync(&mut self, file: &Found, opened: File) {
        if !file.is_regular() {
            return;
        }
        match self.files.len() < FEW {
            true => self.files.push(opened),
            false => self.many = true,
        }
    }

    /// Opens what can carry attributes.
    fn open_file(
        &self,
        file: &Found,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> io::Result<Option<File>> {
        if !file.can_claim() {
            return Ok(None);
        }
        if self.must_widen() && file.stat.st_mode & 0o600 != 0o600 {
            // Attributes can be set on what can be written. The mode is put right when they are.
            let bits = Claim::widened(file.stat.st_mode, file.is_directory()) | 0o600;
            chmodat(parent, name, mode(bits), AtFlags::empty())?;
        }
        Ok(Some(open(parent, name, OFlags::NONBLOCK)?.into()))
    }

    /// What the layer says of a file, but for its time, which is still the one on disk.
    fn entry(
        &self,
        file: &Found,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        attributes: &Attributes,
    ) -> io::Result<Entry> {
        let target = match file.kind() {
            FileType::Symlink => readlinkat(parent, name, Vec::new())?.into_bytes(),
            _ => Vec::new(),
        };
        let ownership = self.options.ownership;
        let mut entry = entry(&file.path, &file.stat, attributes, target, ownership);
        let owner = self.options.link_owners.get(&file.id());
        if let (Ownership::Caller, Some(owner)) = (ownership, owner) {
            (entry.uid, entry.gid) = *owner;
        }
        Ok(entry)
    }

    /// Brings a file on disk into the form that unpacking the layer would give it.
    fn settle(
        &self,
        file: &Found,
        fd: BorrowedFd<'_>,
        entry: &Entry,
        attributes: &Attributes,
    ) -> io::Result<()> {
        let known = attributes.keys().filter(|name| is_ours(name));
        match self.options.ownership {
            Ownership::Layer if self.stays => {}
            Ownership::Layer => {
                for name in known {
                    fremovexattr(fd, OsStr::from_bytes(name))?;
                }
            }
            Ownership::Caller => {
                let is_directory = file.is_directory();
                let bits = Claim::widened(entry.mode, is_directory);
                let claim = claim_for(entry, bits);
                if attribute::claimed(attributes).unwrap_or_default() != claim {
                    attribute::set_claim(fd, &claim)?;
                }
                attribute::settle_capability(fd, attributes, &entry.xattrs, entry.mtime)?;
                let found = file.stat.st_mode & 0o7777;
                // Not so for long if it was made writable: see `open_file`.
                if bits != found || found & 0o600 != 0o600 {
                    fchmod(fd, mode(bits))?;
                }
            }
        }
        match self.stays {
            true => Ok(()),
            false => Ok(futimens(fd, &modified(entry.mtime))?),
        }
    }

    /// The root directory is as if no layer mentioned it.
    pub(crate) fn settle_root(&self) -> Result<(), Error> {
        let settle = || -> io::Result<()> {
            for name in attribute::read_all(self.root.as_fd())?.keys() {
                if is_ours(name) {
                    fremovexattr(&self.root, OsStr::from_bytes(name))?;
                }
            }
            if self.options.ownership == Ownership::Layer {
                fchown(&self.root, Some(Uid::ROOT), Some(Gid::ROOT))?;
            }
            fchmod(&self.root, mode(ROOT_MODE))?;
            Ok(futimens(&self.root, &modified(0))?)
        };
        settle().map_err(|error| self.failed(&LayerPath::root(), error))
    }

    /// Makes the files durable.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        let synced = match self.many {
            true => syncfs(&self.root).map_err(io::Error::from),
            false => self.files.iter().try_for_each(File::sync_all),
        };
        synced.map_err(|error| self.failed(&LayerPath::root(), error))
    }
}

/// What differs from one machine to the other is left out: when something came or went in a directory,
/// and whose links and pipes are, for which an ordinary user has no place.
fn as_in_any_directory(entry: &mut Entry) {
    match entry.kind {
        EntryKind::Directory => entry.mtime = 0,
        EntryKind::Symlink { .. } | EntryKind::Fifo => (entry.uid, entry.gid) = (0, 0),
        _ => {}
    }
}

fn open(parent: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Where a symbolic link leads; nowhere for anything else.
fn readlink(file: &File) -> io::Result<Vec<u8>> {
    match readlinkat(file, "", Vec::new()) {
        Ok(target) => Ok(target.into_bytes()),
        // Not a link (readlinkat(2)).
        Err(Errno::INVAL | Errno::NOENT) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Whether an attribute is one that smidge keeps beside files.
fn is_ours(name: &[u8]) -> bool {
    name.starts_with(b"user.smidge.")
}

/// Whether two files have the same content from where they are read.
fn same_content(mut one: &File, mut other: &File) -> io::Result<bool> {
    let size = usize::try_from(one.metadata()?.len()).unwrap_or(COMPARED);
    let room = size.clamp(1, COMPARED);
    let (mut first, mut second) = (vec![0; room], vec![0; room]);
    loop {
        let read = one.read(&mut first)?;
        let wanted = &mut second[..read];
        match other.read_exact(wanted) {
            Ok(()) if first[..read] != *wanted => return Ok(false),
            Ok(()) if read == 0 => return Ok(true),
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
