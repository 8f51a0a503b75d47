//! A directory for what a build needs only while it lasts.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use smidge_store::{Error as StoreError, Store, Workspace};

use crate::{Error, Result};

/// Numbers what is made here.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// A directory in the store.
///
/// # Drop
/// Removes it with all it holds. If the process is killed, the next that makes one does.
pub(crate) struct Scratch {
    workspace: Workspace,
    root: PathBuf,
}

impl Scratch {
    /// Makes a new one.
    pub(crate) fn new(store: &Store) -> Result<Self> {
        Ok(Self {
            workspace: store.workspace()?,
            root: store.root().to_owned(),
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.workspace.path()
    }

    /// A new directory in it.
    pub(super) fn subdirectory(&self) -> Result<PathBuf> {
        let path = self.fresh("");
        let made = fs::create_dir(&path);
        made.map_err(self.failed(format!("cannot make `{}`", path.display())))?;
        Ok(path)
    }

    /// A new file in it that has no name any more.
    pub(super) fn spool(&self) -> Result<File> {
        let path = self.fresh("spool-");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        file.and_then(|file| fs::remove_file(&path).map(|()| file))
            .map_err(self.failed(format!("cannot make `{}`", path.display())))
    }

    /// The error of something that was to be written here.
    pub(super) fn failed(&self, message: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let full = StoreError::NoSpace {
                    root: self.root.clone(),
                    needed: None,
                    source,
                };
                Error::from(full).with_fact(message)
            }
            _ => Error::io(message, source),
        }
    }

    /// Whether next to nothing can be written here any more.
    pub(super) fn is_full(&self) -> bool {
        const LITTLE: u64 = 1 << 20;
        let disk = rustix::fs::statvfs(self.path());
        disk.is_ok_and(|disk| {
            disk.f_bavail.saturating_mul(disk.f_frsize) < LITTLE
                || (disk.f_files > 0 && disk.f_favail == 0)
        })
    }

    fn fresh(&self, prefix: &str) -> PathBuf {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        self.path().join(format!("{prefix}{number}"))
    }
}
