//! Where paths start: this machine's root, or a container's.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, openat, readlinkat, statat,
};
use rustix::io::Errno;

use super::refused;
use crate::{Error, within};

/// How many symbolic links a path may end in (path_resolution(7)).
const LINKS: usize = 40;

/// A root directory, and how far what is below it is trusted.
#[derive(Debug)]
pub struct Room {
    root: OwnedFd,
    /// For paths that were asked for.
    asked: ResolveFlags,
    /// For paths that an archive names.
    pub(super) named: ResolveFlags,
}

/// A name in an open directory. There may be nothing of that name.
#[derive(Debug)]
pub struct Place {
    pub(super) directory: OwnedFd,
    pub(super) name: OsString,
    /// As it was asked for, for messages.
    pub(super) shown: PathBuf,
    /// What is there, links not followed.
    pub(super) stat: Option<Stat>,
}

impl Room {
    /// The root of this process, which is a container's: whatever its links lead to is the container's.
    /// Links of the kernel's own, in `/proc`, lead elsewhere and are not followed.
    ///
    /// # Errors
    /// When the root cannot be opened.
    pub fn container() -> Result<Self, Error> {
        Self::open(
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            ResolveFlags::NO_MAGICLINKS,
        )
    }

    /// The root of this process, which is the caller's: links lead where they lead, but for those that
    /// an archive brings.
    ///
    /// # Errors
    /// When the root cannot be opened.
    pub fn host() -> Result<Self, Error> {
        Self::open(
            ResolveFlags::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
    }

    fn open(asked: ResolveFlags, named: ResolveFlags) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, "/", flags, Mode::empty())
            .map_err(|error| refused("open", Path::new("/"), error))?;
        Ok(Self { root, asked, named })
    }

    /// Finds the place that an absolute path names; with `follow`, the one that it leads to if it is a
    /// link. A path that ends with `/` or `/.` is a directory's, and always followed.
    ///
    /// # Errors
    /// When a directory on the way is none, is missing, or cannot be opened.
    pub fn find(&self, path: &Path, follow: bool) -> Result<Place, Error> {
        let shown = path.to_owned();
        let mut path = path.as_os_str().as_bytes().to_vec();
        let follow = follow || path.ends_with(b"/") || path.ends_with(b"/.");
        for _ in 0..=LINKS {
            let (parent, name) = split(&path);
            let directory = self
                .directory(Path::new(OsStr::from_bytes(&parent)))
                .map_err(|error| refused("open", &shown, error))?;
            let name = OsString::from_vec(name);
            let stat = match statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(refused("look at", &shown, error)),
            };
            let is_link = stat.is_some_and(|s| kind(&s) == FileType::Symlink);
            if !follow || !is_link {
                return Ok(Place {
                    directory,
                    name,
                    shown,
                    stat,
                });
            }
            let target = readlinkat(&directory, &name, Vec::new())
                .map_err(|error| refused("read the link", &shown, error))?
                .into_bytes();
            path = match target.starts_with(b"/") {
                true => target,
                false => [parent.as_slice(), b"/", &target].concat(),
            };
        }
        Err(refused("open", &shown, Errno::LOOP))
    }

    fn directory(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        within::open(&self.root, path, flags, self.asked)
    }
}

impl Place {
    /// Whether there is a directory.
    pub fn is_directory(&self) -> bool {
        self.stat.is_some_and(|s| kind(&s) == FileType::Directory)
    }

    /// Whether there is anything.
    pub fn exists(&self) -> bool {
        self.stat.is_some()
    }

    /// Opens the directory that is there, and nothing that a link leads to.
    pub(super) fn open_directory(&self) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.directory, &self.name, flags, Mode::empty())
            .map_err(|error| refused("open", &self.shown, error))
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The directory that a path is in, and its last name; `.` for the root, and for what ends with `..`.
fn split(path: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut end = path.len();
    loop {
        let trimmed = &path[..end];
        if trimmed.ends_with(b"/") {
            end -= 1;
        } else if trimmed.ends_with(b"/.") {
            end -= 2;
        } else {
            break;
        }
    }
    let path = &path[..end];
    let start = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    match &path[start..] {
        b"" | b"." | b".." => ([b"/", path].concat(), b".".to_vec()),
        name => ([b"/", &path[..start]].concat(), name.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_in_a_name() {
        for (path, parent, name) in [
            ("/etc/passwd", "//etc/", "passwd"),
            ("/etc/", "//", "etc"),
            ("/etc/.", "//", "etc"),
            ("/etc/././/", "//", "etc"),
            ("/", "/", "."),
            ("/.", "/", "."),
            ("/etc/..", "//etc/..", "."),
            ("/a/../b", "//a/../", "b"),
        ] {
            let (found, last) = split(path.as_bytes());
            let found = String::from_utf8(found).unwrap();
            assert_eq!(
                (found.as_str(), last.as_slice()),
                (parent, name.as_bytes()),
                "{path}"
            );
        }
    }
}
