//! What is being made: files and directories in `tmp/` that become visible whole, or not at all.
//!
//! Their maker holds a flock(2) on each, which ends with the maker, however it ends. What is not
//! locked is garbage.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, CWD, RenameFlags, fadvise, renameat_with};
use rustix::io::Errno;

use crate::beside::Beside;
use crate::erase::remove_tree;
use crate::partial::{is_at, is_partial, present};
use crate::sparse::End;
use crate::store::retry;
use crate::usage::disk_usage;
use crate::{Error, Store};

/// After so many bytes, the disk is set to work, so that little is left to be waited for at the end.
const STRIDE: u64 = 8 << 20;

/// A file in the making. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct TempFile {
    pub(crate) file: File,
    path: PathBuf,
    persisted: bool,
    /// What was written last.
    pub(crate) end: End,
}

/// A directory in the making. Dropping it removes it with all it holds.
#[derive(Debug)]
pub(crate) struct TempDir {
    lock: File,
    path: PathBuf,
    persisted: bool,
    /// Of an unpacked layer: whose files are that cannot say so.
    pub(crate) beside: Beside,
}

/// A directory of the caller's own on the store's file system. Dropping it removes it with all it
/// holds; when the process is killed, the next [`Store::workspace`] does, or [`Store::prune`].
#[derive(Debug)]
pub struct Workspace(TempDir);

impl Workspace {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Store {
    /// Makes a directory to work in, such as that of an overlay whose upper directory is to become a
    /// layer. What killed processes have left of theirs is removed: it may be large, and nobody will
    /// ever ask for it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn workspace(&self) -> Result<Workspace, Error> {
        let made = self.temp_dir().map(Workspace)?;
        // What cannot be removed now is left to `prune`, which says so.
        let _ = self.sweep_temporary(|leftover| {
            if !is_partial(leftover) {
                let _ = remove_tree(leftover);
            }
            Ok(())
        });
        Ok(made)
    }

    /// Starts a file.
    pub(crate) fn temp_file(&self) -> Result<TempFile, Error> {
        let (file, path) = self.make_temp(|path| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(path)
                .map(Some)
        })?;
        Ok(TempFile {
            file,
            path,
            persisted: false,
            end: End::default(),
        })
    }

    /// A second name for a file that its owner gives away; `None` where that cannot be, as between
    /// disks.
    pub(crate) fn temp_link(&self, path: &Path) -> Option<TempFile> {
        let made = self.make_temp(|link| {
            fs::hard_link(path, link)?;
            present(File::open(link))
        });
        made.ok().map(|(file, path)| TempFile {
            file,
            path,
            persisted: false,
            end: End::default(),
        })
    }

    /// Starts a directory.
    pub(crate) fn temp_dir(&self) -> Result<TempDir, Error> {
        let (lock, path) = self.make_temp(|path| {
            DirBuilder::new().mode(0o700).create(path)?;
            present(File::open(path))
        })?;
        Ok(TempDir {
            lock,
            path,
            persisted: false,
            beside: Beside::default(),
        })
    }

    /// Makes something under a name that nobody has, and locks it. Meanwhile a sweep may have taken it for
    /// garbage: then it is gone, and the next name is tried.
    fn make_temp(
        &self,
        make: impl Fn(&Path) -> io::Result<Option<File>>,
    ) -> Result<(File, PathBuf), Error> {
        let directory = self.path("tmp");
        loop {
            let path = self.temp_name();
            let locked = make(&path).and_then(|made| {
                let Some(file) = made else { return Ok(None) };
                retry(|| file.lock())?;
                Ok(is_at(&file, &path).then_some(file))
            });
            match locked {
                Ok(None) => {}
                Ok(Some(file)) => return Ok((file, path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => {
                    self.make_directory(&directory, 0o755)?;
                }
                Err(error) => return Err(self.io("create", &path, error)),
            }
        }
    }

    /// Replaces a file: whoever reads it sees the old content or the new.
    pub(crate) fn write_atomically(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let mut temp = self.temp_file()?;
        temp.file
            .write_all(content)
            .map_err(|error| match self.io("write", path, error) {
                Error::NoSpace { root, source, .. } => Error::NoSpace {
                    root,
                    needed: Some(content.len() as u64),
                    source,
                },
                other => other,
            })?;
        temp.persist(self, path)
    }

    /// Removes what is in `tmp/` of processes that are gone, by means of `remove`. Its lock is held
    /// meanwhile: a maker who has not locked it yet will find it gone, not lose it later.
    pub(crate) fn sweep_temporary(
        &self,
        mut remove: impl FnMut(&Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for path in self.list(&self.path("tmp"))? {
            let Ok(lock) = File::open(&path) else {
                continue;
            };
            // What has left meanwhile may have made room for something of the same name.
            if lock.try_lock().is_ok() && is_at(&lock, &path) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes a file or a directory, and tells how many bytes of disk it took up. A directory leaves
    /// its place at once and whole: half of it is never seen there.
    pub(crate) fn discard(&self, path: &Path) -> Result<u64, Error> {
        let bytes = disk_usage(path);
        let doomed = match path.is_dir() && !path.is_symlink() {
            true => self.move_away(path)?,
            false => path.to_owned(),
        };
        remove_tree(&doomed).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Undeletable {
                path: doomed,
                source,
            },
            _ => self.io("remove", &doomed, source),
        })?;
        Ok(bytes)
    }

    fn move_away(&self, path: &Path) -> Result<PathBuf, Error> {
        loop {
            let name = self.temp_name();
            match renameat_with(CWD, path, CWD, &name, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(name),
                // Where `tmp` is missing, somebody has cleared up too well.
                Err(Errno::NOENT) if path.is_symlink() || path.exists() => {
                    self.make_directory(&self.path("tmp"), 0o755)?;
                }
                Err(Errno::NOENT) => return Ok(name),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(self.io("remove", path, error.into())),
            }
        }
    }

    /// A name in `tmp/` that this process has not used yet.
    fn temp_name(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.path("tmp").join(format!("{}.{number}", process::id()))
    }
}

impl TempFile {
    /// Makes the content durable and the file visible as `path`.
    pub(crate) fn persist(self, store: &Store, path: &Path) -> Result<(), Error> {
        if !store.is_passing() {
            let synced = self.file.sync_all();
            synced.map_err(|error| store.io("write", path, error))?;
        }
        self.place(store, path)
    }

    /// Makes the file visible as `path`, when the caller has made its content durable.
    pub(crate) fn place(mut self, store: &Store, path: &Path) -> Result<(), Error> {
        let renamed = fs::rename(&self.path, path).or_else(|error| {
            let parent = path
                .parent()
                .filter(|p| error.kind() == io::ErrorKind::NotFound && !p.exists());
            let Some(parent) = parent else {
                return Err(error);
            };
            fs::create_dir_all(parent)?;
            fs::rename(&self.path, path)
        });
        renamed.map_err(|error| store.io("create", path, error))?;
        self.persisted = true;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.persisted {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl TempDir {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn directory(&self) -> &File {
        &self.lock
    }

    /// Makes the directory visible as `path`. If there is one already, that one stays: it was made by
    /// somebody who did the same at the same time. The lock lasts as long as what is returned.
    pub(crate) fn persist(mut self, store: &Store, path: &Path) -> Result<Self, Error> {
        store.keep_beside(path, &self.beside)?;
        match renameat_with(CWD, &self.path, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.persisted = true;
                Ok(self)
            }
            Err(Errno::EXIST) => Ok(self),
            Err(error) => Err(store.io("create", path, error.into())),
        }
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if !self.persisted {
            let _ = remove_tree(&self.path);
        }
    }
}

/// Sets the disk to work on the strides of a file that are complete. A hint: what it does not bring
/// about now is done at the end.
pub(crate) fn write_back(file: &File, before: u64, now: u64) {
    let start = before / STRIDE * STRIDE;
    let end = now / STRIDE * STRIDE;
    if let Some(length) = NonZeroU64::new(end - start) {
        let _ = fadvise(file, start, Some(length), Advice::DontNeed);
    }
}
