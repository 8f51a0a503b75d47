//! Files become an archive.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, makedev, openat,
    openat2, readlinkat, statat,
};
use rustix::io::Errno;
use smidge_image::{Entry, EntryKind, LayerPath, LayerWriter, Whiteout};

use super::room::kind;
use super::{Place, refused};
use crate::attribute::{self, Attributes};
use crate::found::{check_name, entry, marker};
use crate::sparse::SparseReader;
use crate::tree::Overlaid;
use crate::{Error, Ownership};

/// Bytes that gather before they are written.
const BUFFER: usize = 1 << 18;

/// Whose files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Whose they are on disk.
    Disk,
    /// What is this process's is whose its [claim](smidge_image::Claim) says it is, or root's: the files
    /// of an ordinary user's containers.
    Claims,
}

/// Writes what is at a place, and all that is below it, to an archive. Its entries are below `name`; with
/// an empty one they are those of a directory, which is the archive's root then. Sockets are left out, and
/// what vanishes meanwhile is, too.
///
/// # Errors
/// When there is nothing, when something cannot be read, when `output` cannot be written.
pub fn pack(
    place: &Place,
    name: &LayerPath,
    owners: Owners,
    output: &mut dyn Write,
) -> Result<(), Error> {
    if !place.exists() {
        return Err(refused("open", &place.shown, Errno::NOENT));
    }
    let packer = Packer {
        top: Top::At(place),
        shown: &place.shown,
        base: name.clone(),
        owners,
        is_layer: false,
        layer: LayerWriter::new(BufWriter::with_capacity(BUFFER, Output(output))),
        links: HashMap::new(),
        entries: 0,
        device: 0,
    };
    packer.pack().map(drop)
}

/// Writes what overlayfs has left in an upper directory as a layer: with marks for what is gone, and
/// without the root directory itself. Nothing is changed. Tells the number of entries.
///
/// # Errors
/// When something cannot be read, when `output` cannot be written.
pub fn pack_changes(upper: &Path, owners: Owners, output: &mut dyn Write) -> Result<u64, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top =
        openat(CWD, upper, flags, Mode::empty()).map_err(|error| refused("open", upper, error))?;
    let packer = Packer {
        top: Top::Upper(top),
        shown: upper,
        base: LayerPath::root(),
        owners,
        is_layer: true,
        layer: LayerWriter::new(BufWriter::with_capacity(BUFFER, Output(output))),
        links: HashMap::new(),
        entries: 0,
        device: 0,
    };
    packer.pack()
}

/// What is packed.
enum Top<'p> {
    At(&'p Place),
    Upper(OwnedFd),
}

struct Packer<'p, W: Write> {
    top: Top<'p>,
    shown: &'p Path,
    base: LayerPath,
    owners: Owners,
    is_layer: bool,
    layer: LayerWriter<W>,
    /// Files with several names, by device and inode number, under their first.
    links: HashMap<(u64, u64), Entry>,
    entries: u64,
    /// The device that the top is on.
    device: u64,
}

impl<W: Write> Packer<'_, W> {
    fn pack(mut self) -> Result<u64, Error> {
        let top = self.open_top()?;
        let mut pending = vec![LayerPath::root()];
        while let Some(path) = pending.pop() {
            let names = self
                .one(&path, top.as_ref())
                .map_err(|error| self.failed(&path, error))?;
            for name in names.into_iter().rev() {
                let below = path
                    .join(&name)
                    .map_err(|error| self.failed(&path, io::Error::other(error)))?;
                pending.push(below);
            }
        }
        self.layer
            .finish()
            .and_then(|mut output| output.flush())
            .map_err(|error| match error.downcast::<Unwritten>() {
                Ok(Unwritten(error)) | Err(error) => Error::Output(error),
            })?;
        Ok(self.entries)
    }

    fn failed(&self, path: &LayerPath, error: io::Error) -> Error {
        let path: PathBuf = match path.is_root() {
            true => self.shown.to_owned(),
            false => self.shown.join(path.as_path()),
        };
        match error.downcast::<Unwritten>() {
            Ok(Unwritten(error)) => Error::Output(error),
            Err(error) => refused("read", &path, error),
        }
    }

    /// The directory that everything is below, if it is one.
    fn open_top(&self) -> Result<Option<OwnedFd>, Error> {
        match &self.top {
            Top::At(place) if place.is_directory() => place.open_directory().map(Some),
            Top::At(_) => Ok(None),
            Top::Upper(directory) => {
                let again = rustix::io::fcntl_dupfd_cloexec(directory, 0);
                Ok(Some(
                    again.map_err(|error| refused("open", self.shown, error))?,
                ))
            }
        }
    }

    /// Writes one file; the names that are in it, if it is a directory. What has vanished, or become
    /// something else, since it was listed, is left out.
    fn one(&mut self, path: &LayerPath, top: Option<&OwnedFd>) -> io::Result<Vec<Vec<u8>>> {
        let is_top = path.is_root();
        let packed = match (&self.top, top) {
            (Top::At(place), _) if is_top => {
                let directory = rustix::io::fcntl_dupfd_cloexec(&place.directory, 0)?;
                self.at(path, directory.as_fd(), &place.name.clone())
            }
            (_, Some(top)) if is_top => return names(top.as_fd()),
            (_, Some(top)) => match parent(top, path) {
                Ok(directory) => {
                    let name = path.file_name().unwrap_or_default();
                    self.at(path, directory.as_fd(), OsStr::from_bytes(name))
                }
                Err(error) => Err(error.into()),
            },
            (_, None) => Ok(Vec::new()),
        };
        match packed {
            Err(error) if !is_top && is_passing(&error) => Ok(Vec::new()),
            packed => packed,
        }
    }

    fn at(
        &mut self,
        path: &LayerPath,
        directory: BorrowedFd<'_>,
        name: &OsStr,
    ) -> io::Result<Vec<Vec<u8>>> {
        if self.is_layer {
            check_name(name.as_bytes())?;
        }
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match kind(&stat) {
            _ if self.is_layer && Overlaid::of(&stat) == Overlaid::Whiteout => {
                let gone = Whiteout::Removed(path.clone());
                self.append(&marker(&gone)?, &mut io::empty())
            }
            FileType::Directory => self.directory(path, directory, name),
            FileType::RegularFile => self.file(path, directory, name),
            FileType::Socket => Ok(Vec::new()),
            of => {
                let target = match of {
                    FileType::Symlink => readlinkat(directory, name, Vec::new())?.into_bytes(),
                    _ => Vec::new(),
                };
                let entry = self.entry(path, &stat, &Attributes::new(), target)?;
                self.append_once(&stat, entry, &mut io::empty())
            }
        }
    }

    fn directory(
        &mut self,
        path: &LayerPath,
        directory: BorrowedFd<'_>,
        name: &OsStr,
    ) -> io::Result<Vec<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(directory, name, flags, Mode::empty())?;
        let attributes = attribute::read_all(opened.as_fd())?;
        let stat = fstat(&opened)?;
        let entry = self.entry(path, &stat, &attributes, Vec::new())?;
        self.append(&entry, &mut io::empty())?;
        if path.is_root() {
            self.device = stat.st_dev;
        } else if !self.is_layer && stat.st_dev != self.device && is_kernels(&opened)? {
            return Ok(Vec::new());
        }
        if self.is_layer && attribute::is_opaque(&opened) {
            let marker = marker(&Whiteout::Opaque(path.clone()))?;
            self.append(&marker, &mut io::empty())?;
        }
        names(opened.as_fd())
    }

    fn file(
        &mut self,
        path: &LayerPath,
        directory: BorrowedFd<'_>,
        name: &OsStr,
    ) -> io::Result<Vec<Vec<u8>>> {
        // Opening what was put in its place meanwhile must not wait, nor do anything.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(directory, name, flags, Mode::empty())?);
        let stat = fstat(&file)?;
        if kind(&stat) != FileType::RegularFile {
            return Err(Errno::NOENT.into());
        }
        let attributes = attribute::read_all(file.as_fd())?;
        let entry = self.entry(path, &stat, &attributes, Vec::new())?;
        let mut content = Exactly {
            content: SparseReader::new(&file)?,
            left: entry.size(),
        };
        self.append_once(&stat, entry, &mut content)
    }

    /// What the archive says of a file.
    fn entry(
        &self,
        path: &LayerPath,
        stat: &Stat,
        attributes: &Attributes,
        target: Vec<u8>,
    ) -> io::Result<Entry> {
        let own = stat.st_uid == rustix::process::geteuid().as_raw();
        let ownership = match self.owners == Owners::Claims && own {
            true => Ownership::Caller,
            false => Ownership::Layer,
        };
        Ok(Entry {
            path: below(&self.base, path)?,
            ..entry(path, stat, attributes, target, ownership)
        })
    }

    /// Writes a file with its content, or as another name of what is there already.
    fn append_once(
        &mut self,
        stat: &Stat,
        entry: Entry,
        content: &mut dyn Read,
    ) -> io::Result<Vec<Vec<u8>>> {
        if stat.st_nlink < 2 {
            return self.append(&entry, content);
        }
        let id = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&id) {
            let link = Entry {
                path: entry.path,
                kind: EntryKind::Hardlink {
                    target: first.path.clone(),
                },
                ..first.clone()
            };
            return self.append(&link, &mut io::empty());
        }
        self.append(&entry, content)?;
        let bare = Entry {
            xattrs: Attributes::new(),
            ..entry
        };
        self.links.insert(id, bare);
        Ok(Vec::new())
    }

    fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<Vec<Vec<u8>>> {
        self.layer.append(entry, content)?;
        self.entries += 1;
        Ok(Vec::new())
    }
}

/// Whether what is in a directory is no file of anybody's, but the kernel's: `/proc`, `/sys`, `/dev`.
fn is_kernels(directory: &OwnedFd) -> io::Result<bool> {
    // As statfs(2) has them: proc, sysfs, devpts, mqueue, cgroup, cgroup2.
    const KERNELS: [u64; 6] = [
        0x9fa0,
        0x6265_6572,
        0x1cd1,
        0x1980_0202,
        0x0027_e0eb,
        0x6367_7270,
    ];
    let magic = u64::try_from(fstatfs(directory)?.f_type).unwrap_or_default();
    if KERNELS.contains(&magic) {
        return Ok(true);
    }
    // A container's `/dev` is memory; so are other places, which have no such file.
    let null = statat(directory, "null", AtFlags::SYMLINK_NOFOLLOW);
    Ok(null.is_ok_and(|null| {
        kind(&null) == FileType::CharacterDevice && null.st_rdev == makedev(1, 3)
    }))
}

/// A path below another one.
fn below(base: &LayerPath, path: &LayerPath) -> io::Result<LayerPath> {
    let mut joined = base.clone();
    for name in path.components() {
        joined = joined.join(name).map_err(io::Error::other)?;
    }
    Ok(joined)
}

/// Opens the directory that a path is in; no link is on the way.
fn parent(top: &OwnedFd, path: &LayerPath) -> rustix::io::Result<OwnedFd> {
    let parent = path.parent().unwrap_or_default();
    let name = match parent.is_root() {
        true => Path::new("."),
        false => parent.as_path(),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(top, name, flags, Mode::empty(), resolve)
}

/// Whether somebody has removed or exchanged what was there.
fn is_passing(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO)
    )
}

/// The names in a directory, sorted.
fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The output, whose errors are told from those of what is read.
struct Output<'o>(&'o mut dyn Write);

/// The output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the archive")]
struct Unwritten(#[source] io::Error);

impl Write for Output<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer).map_err(unwritten)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(unwritten)
    }
}

fn unwritten(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::Interrupted => error,
        _ => io::Error::other(Unwritten(error)),
    }
}

/// As many bytes as were promised, whatever becomes of the file: zeros where it has become shorter.
struct Exactly<R> {
    content: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let piece = &mut buffer[..most];
        let read = match self.content.read(piece)? {
            0 => {
                piece.fill(0);
                most
            }
            read => read,
        };
        self.left -= read as u64;
        Ok(read)
    }
}
