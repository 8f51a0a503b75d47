//! A directory for what a build needs only while it lasts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use smidge_store::Store;

use crate::{Error, Result};

/// Numbers what is made here.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// A directory in the store's `tmp/`. As the store wants it there, it is locked while it is in use
/// (flock(2) ends with the process, however that ends), so that `smidge prune` can tell garbage.
///
/// # Drop
/// Removes it with all it holds.
pub(crate) struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes a new one.
    pub(crate) fn new(store: &Store) -> Result<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = store
            .root()
            .join("tmp")
            .join(format!("build-{}-{number}", process::id()));
        let failed = |source| {
            Error::io(
                format!("cannot make the directory `{}`", path.display()),
                source,
            )
        };
        // A process of this number may have been killed here before.
        if path.exists() {
            fs::remove_dir_all(&path).map_err(failed)?;
        }
        fs::create_dir_all(&path).map_err(failed)?;
        let lock = File::open(&path).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A new directory in it.
    pub(super) fn subdirectory(&self) -> Result<PathBuf> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(number.to_string());
        fs::create_dir(&path)
            .map_err(|e| Error::io(format!("cannot make `{}`", path.display()), e))?;
        Ok(path)
    }

    /// A new file in it that has no name any more.
    pub(super) fn spool(&self) -> Result<File> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("spool-{number}"));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        file.and_then(|file| fs::remove_file(&path).map(|()| file))
            .map_err(|source| Error::io(format!("cannot make `{}`", path.display()), source))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is garbage that `smidge prune` removes.
        let _ = fs::remove_dir_all(&self.path);
    }
}
