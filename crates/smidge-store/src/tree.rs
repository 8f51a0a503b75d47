//! Directories of the machine as trees.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, major, minor, openat,
    openat2, readlinkat, statat,
};
use rustix::io::Errno;
use smidge_image::{Claim, ClaimKind, Identity, LayerPath, Node, NodeKind, ReadAt, Tree};

use crate::attribute::{Attributes, claim_of_path, for_layer, is_opaque, read_all};
use crate::beside::Beside;

/// A directory and all below it, as if it were `/`: no symbolic link leads out of it.
///
/// What files are and whose they are, their [claims](Claim) say; without one, a file of the caller's is
/// root's.
///
/// Needs openat2(2), Linux 5.6.
#[derive(Debug)]
pub struct DirTree {
    root: OwnedFd,
    /// What is known of an unpacked layer.
    beside: Beside,
}

/// An open file of the machine.
#[derive(Debug)]
pub struct FileAt {
    file: File,
    size: u64,
}

/// What overlayfs makes of a file in one of its lower directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlaid {
    /// It hides what is below.
    Whiteout,
    /// It merges with what is below, unless it is opaque.
    Directory,
    /// It replaces what is below.
    Other,
}

impl FileAt {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(File::open(path)?)
    }

    /// Takes a file that is open.
    ///
    /// # Errors
    /// When its size cannot be told.
    pub fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }

    /// The file, to be read from its beginning.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl ReadAt for FileAt {
    fn size(&self) -> u64 {
        self.size
    }

    fn identity(&self) -> Option<Identity> {
        let of = self.file.metadata().ok()?;
        let text = format!(
            "{} {} {} {}.{} {}.{}",
            of.dev(),
            of.ino(),
            of.size(),
            of.mtime(),
            of.mtime_nsec(),
            of.ctime(),
            of.ctime_nsec()
        );
        let seconds = u64::try_from(of.ctime()).ok()?;
        let changed = Duration::new(seconds, u32::try_from(of.ctime_nsec()).ok()?);
        Some(Identity {
            text: text.into_bytes(),
            changed: Some(changed),
        })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

impl DirTree {
    /// Takes a directory as a tree.
    ///
    /// # Errors
    /// When it is none, or cannot be read.
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: openat(CWD, root, flags, Mode::empty())?,
            beside: Beside::default(),
        })
    }

    /// Takes an unpacked layer as a tree.
    pub(crate) fn open_layer(root: &Path) -> io::Result<Self> {
        let mut tree = Self::open(root)?;
        tree.beside = Beside::load(root)?;
        Ok(tree)
    }

    /// Whose a symbolic link or pipe is in an ordinary user's layer.
    pub(crate) fn owner(&self, path: &LayerPath) -> (u32, u32) {
        self.beside.owners.get(path).copied().unwrap_or_default()
    }

    /// Opens what is at a path that does not lead through symbolic links; `None` if nothing is.
    fn beneath(&self, path: &LayerPath, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        let name = if path.is_root() {
            Path::new(".")
        } else {
            path.as_path()
        };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(&self.root, name, flags, Mode::empty(), resolve) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn must<T>(found: Option<T>) -> io::Result<T> {
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(crate) fn stat(&self, path: &LayerPath) -> io::Result<Option<Stat>> {
        match self.beneath(path, OFlags::PATH)? {
            Some(fd) => Ok(Some(fstat(fd)?)),
            None => Ok(None),
        }
    }

    /// What tells a file that has several names from all others: device and inode number.
    pub(crate) fn several_names(&self, path: &LayerPath) -> io::Result<Option<(u64, u64)>> {
        let shared = |stat: &Stat| {
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            stat.st_nlink > 1 && !is_directory
        };
        let stat = self.stat(path)?.filter(shared);
        Ok(stat.map(|stat| (stat.st_dev, stat.st_ino)))
    }

    /// Opens a regular file below the directory. Links are not followed.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open_file(&self, path: &LayerPath) -> io::Result<FileAt> {
        let stat = Self::must(self.stat(path)?)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(io::ErrorKind::IsADirectory.into()),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "not a regular file",
                ));
            }
        }
        let fd = self.beneath(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        FileAt::new(Self::must(fd)?.into())
    }

    fn open_directory(&self, path: &LayerPath) -> io::Result<OwnedFd> {
        Self::must(self.beneath(path, OFlags::RDONLY | OFlags::DIRECTORY)?)
    }

    /// What overlayfs makes of a path below what is known to be a directory: no link is in the way.
    pub(crate) fn overlaid_in_directory(&self, path: &LayerPath) -> io::Result<Option<Overlaid>> {
        if path.is_root() {
            return Ok(Some(Overlaid::Directory));
        }
        match statat(&self.root, path.as_path(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Overlaid::of(&stat))),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a directory hides what lower layers have in it.
    pub(crate) fn is_opaque(&self, path: &LayerPath) -> io::Result<bool> {
        Ok(is_opaque(self.open_directory(path)?))
    }

    /// Opens whatever is at a path: to be read, or for nothing but its path.
    pub(crate) fn open_any(&self, path: &LayerPath, to_read: bool) -> io::Result<Option<OwnedFd>> {
        self.beneath(
            path,
            match to_read {
                true => OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
                false => OFlags::PATH,
            },
        )
    }
}

impl Overlaid {
    pub(crate) fn of(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Self::Directory,
            // What stands for one where overlayfs lies below, which makes none: see `make_whiteout`.
            FileType::Socket if stat.st_mode & 0o7777 == 0 => Self::Whiteout,
            FileType::CharacterDevice if (major(stat.st_rdev), minor(stat.st_rdev)) == (0, 0) => {
                Self::Whiteout
            }
            _ => Self::Other,
        }
    }

    pub(crate) fn at(directory: impl AsFd, name: &[u8]) -> rustix::io::Result<Self> {
        statat(
            directory,
            OsStr::from_bytes(name),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map(|stat| Self::of(&stat))
    }
}

impl Tree for DirTree {
    fn node(&self, path: &LayerPath) -> io::Result<Option<Node>> {
        let Some(fd) = self.beneath(path, OFlags::PATH)? else {
            return Ok(None);
        };
        let stat = fstat(&fd)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => NodeKind::File {
                size: stat.st_size.try_into().unwrap_or(0),
            },
            FileType::Directory => NodeKind::Directory,
            FileType::Symlink => NodeKind::Symlink {
                target: readlinkat(&fd, "", Vec::new())?.into_bytes(),
            },
            _ => NodeKind::Other,
        };
        let node = Node {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
        };
        let claim = match node.kind {
            NodeKind::File { .. } | NodeKind::Directory => claim_of_path(&fd),
            _ => self.beside.owners.get(path).map(|(uid, gid)| Claim {
                uid: *uid,
                gid: *gid,
                ..Claim::default()
            }),
        };
        Ok(Some(as_claimed(node, claim)))
    }

    fn open(&self, path: &LayerPath) -> io::Result<Box<dyn ReadAt + '_>> {
        Ok(Box::new(self.open_file(path)?))
    }

    fn attributes(&self, path: &LayerPath) -> io::Result<Attributes> {
        let fd = self.beneath(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let fd = Self::must(fd)?;
        let all = read_all(fd.as_fd())?;
        if all.is_empty() {
            return Ok(all);
        }
        Ok(for_layer(&all, fstat(&fd)?.st_mtime))
    }

    fn links(&self, path: &LayerPath) -> io::Result<Option<(u64, u64)>> {
        self.several_names(path)
    }

    fn list(&self, path: &LayerPath) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in Dir::new(self.open_directory(path)?)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// A file as it should be. What an ordinary user unpacks belongs to that user, and is root's unless it
/// claims otherwise.
fn as_claimed(node: Node, claim: Option<Claim>) -> Node {
    let caller = rustix::process::geteuid();
    let claim = match claim {
        Some(claim) => claim,
        None if !caller.is_root() && node.uid == caller.as_raw() => Claim::default(),
        None => return node,
    };
    let is_directory = node.kind == NodeKind::Directory;
    Node {
        mode: claim.mode_of(node.mode, is_directory),
        uid: claim.uid,
        gid: claim.gid,
        kind: match (claim.kind, node.kind) {
            (ClaimKind::AsIs, kind) => kind,
            (_, NodeKind::File { size: 0 }) => NodeKind::Other,
            (_, kind) => kind,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(text: &str) -> LayerPath {
        LayerPath::try_from(text).unwrap()
    }

    #[test]
    fn a_directory_is_seen_as_a_tree_that_nothing_leads_out_of() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("secret"), "outside").unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("etc/conf.d")).unwrap();
        fs::write(root.join("etc/passwd"), "root:x:0:0").unwrap();
        symlink("../secret", root.join("up")).unwrap();
        symlink(directory.path(), root.join("absolute")).unwrap();
        symlink("etc", root.join("inside")).unwrap();
        let tree = DirTree::open(&root).unwrap();

        assert_eq!(
            tree.list(&path("/")).unwrap(),
            [&b"absolute"[..], b"etc", b"inside", b"up"]
        );
        assert_eq!(tree.read(&path("etc/passwd"), 100).unwrap(), b"root:x:0:0");
        assert_eq!(
            tree.resolve(b"inside/passwd").unwrap().unwrap().0,
            path("etc/passwd")
        );
        assert_eq!(tree.resolve(b"up").unwrap(), None);
        assert_eq!(tree.resolve(b"absolute/secret").unwrap(), None);
        for bad in [
            "up",
            "absolute/secret",
            "inside/passwd",
            "etc",
            "missing",
            "etc/passwd/x",
        ] {
            assert!(tree.read(&path(bad), 100).is_err(), "{bad}");
        }
        assert_eq!(tree.node(&path("inside/passwd")).unwrap(), None);
        assert!(matches!(
            tree.node(&path("up")).unwrap().unwrap().kind,
            NodeKind::Symlink { target } if target == b"../secret"
        ));
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(
            CWD,
            directory.path().join("pipe"),
            FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        let tree = DirTree::open(directory.path()).unwrap();
        assert_eq!(
            tree.node(&path("pipe")).unwrap().unwrap().kind,
            NodeKind::Other
        );
        assert!(Tree::open(&tree, &path("pipe")).is_err());
    }
}
