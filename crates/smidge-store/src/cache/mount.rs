//! Directories of `RUN --mount=type=cache`, which outlast the build.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use smidge_image::Digest;

use super::record::is_lock;
use crate::partial::{is_at, present};
use crate::store::{Lock, retry};
use crate::{Error, Store, regular};

/// Where the directories are.
pub(super) const MOUNTS: &str = "cache/mounts";

/// How several steps may use one cache mount at a time, as Dockerfiles say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// Each gets a directory that no other uses meanwhile: a new one, if there is none.
    Private,
    /// One after the other.
    Locked,
}

/// The right to use the directory of a cache mount, for as long as it lives.
#[derive(Debug)]
pub struct CacheMount {
    /// The directory.
    pub path: PathBuf,
    /// Whether it was made just now, and is empty.
    pub is_new: bool,
    _lock: Lock,
}

impl Store {
    /// The directory that a cache mount's id stands for, made if there is none. With
    /// [`Sharing::Locked`], waits until nobody else uses it; with [`Sharing::Shared`], until nobody uses
    /// it so. Processes and threads are all alike: one that asks twice may wait for itself.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn cache_mount(&self, id: &str, sharing: Sharing) -> Result<CacheMount, Error> {
        let mount = self.mount_path(id);
        let mut number = 0;
        loop {
            self.make_directory(&mount, 0o755)?;
            // Held until there is a lock that whoever prunes finds.
            let Some(_gate) = self.enter_mount(&mount)? else {
                continue;
            };
            let path = mount.join(number.to_string());
            let lock = mount.join(format!("{number}.lock"));
            match self.lock_mount(&lock, sharing)? {
                Locked::Gone => {}
                Locked::InUse => number += 1,
                Locked::Held(held) => {
                    self.name_mount(&mount, id)?;
                    let is_new = self.make_mount(&path)?;
                    // The time of the last use, and the number of all.
                    let _ = OpenOptions::new()
                        .append(true)
                        .open(&lock)
                        .and_then(|mut file| io::Write::write_all(&mut file, b"\n"));
                    return Ok(CacheMount {
                        path,
                        is_new,
                        _lock: held,
                    });
                }
            }
        }
    }

    /// Keeps a cache mount from being removed as long as what is returned lives; `None` if it was removed.
    fn enter_mount(&self, mount: &Path) -> Result<Option<Lock>, Error> {
        let failed = |error| self.io("lock", mount, error);
        let Some(gate) = present(File::open(mount)).map_err(failed)? else {
            return Ok(None);
        };
        retry(|| gate.lock_shared()).map_err(failed)?;
        Ok(is_at(&gate, mount).then(|| Lock::of(gate)))
    }

    /// Where everything is that belongs to a cache mount.
    pub(super) fn mount_path(&self, id: &str) -> PathBuf {
        self.path(MOUNTS).join(Digest::of(id.as_bytes()).hex())
    }

    /// Writes down what a cache mount is called.
    pub(super) fn name_mount(&self, mount: &Path, id: &str) -> Result<(), Error> {
        let name = mount.join("id");
        match regular::read(&name).ok().as_deref() == Some(id.as_bytes()) {
            true => Ok(()),
            false => self.write_atomically(&name, id.as_bytes()),
        }
    }

    pub(super) fn lock_mount(&self, path: &Path, sharing: Sharing) -> Result<Locked, Error> {
        let failed = |error| self.io("lock", path, error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = match options.open(path) {
            Ok(file) => file,
            // Removed meanwhile, with all that belongs to it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Locked::Gone),
            Err(error) => return Err(failed(error)),
        };
        match sharing {
            Sharing::Shared => retry(|| file.lock_shared()).map_err(failed)?,
            Sharing::Locked => retry(|| file.lock()).map_err(failed)?,
            Sharing::Private => match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Locked::InUse),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            },
        }
        Ok(match is_at(&file, path) {
            true => Locked::Held(Lock::of(file)),
            false => Locked::Gone,
        })
    }

    fn make_mount(&self, path: &Path) -> Result<bool, Error> {
        match fs::create_dir(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(self.io("create", path, error)),
        }
    }

    /// Removes a cache mount's directories, unless somebody uses one. Tells the bytes that are free.
    pub(super) fn remove_mount(&self, mount: &Path) -> Result<Option<u64>, Error> {
        let mut held = Vec::new();
        match File::open(mount) {
            Ok(gate) if gate.try_lock().is_ok() => held.push(Lock::of(gate)),
            _ => return Ok(None),
        }
        for path in self.list(mount)? {
            if is_lock(&path) {
                match File::open(&path) {
                    Ok(file) if file.try_lock().is_ok() => held.push(Lock::of(file)),
                    _ => return Ok(None),
                }
            }
        }
        self.discard(mount).map(Some)
    }
}

/// What came of asking for the right to use a directory.
pub(super) enum Locked {
    Held(Lock),
    InUse,
    Gone,
}
