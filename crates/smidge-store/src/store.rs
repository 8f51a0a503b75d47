//! The store's root, its layout and its locks.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smidge_image::{DiffId, Digest, Index};

use crate::error::{Error, READ};
use crate::regular;

const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT_VERSION: &str = "1.0.0";

/// How often a lock is tried that somebody is about to let go of, a millisecond after the other.
const TRIES: usize = 50;

/// Everything that may stand in a store's root; `lost+found` when it is a file system's own.
const ENTRIES: [&str; 13] = [
    LAYOUT_FILE,
    "index.json",
    "blobs",
    "layers",
    "containers",
    "volumes",
    "cache",
    "events",
    "tmp",
    "lock",
    "gc.lock",
    "gc.turn",
    "lost+found",
];

/// A store on disk. Cheap to open; any number of processes may have the same one open.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    pins: Mutex<Pins>,
    /// Whether it is gone soon: see [`Store::open_passing`].
    passing: bool,
}

/// Blobs that were added (or found and relied upon), but that no image in the index refers to yet.
/// While there are any, the shared lock keeps other processes from removing blobs.
#[derive(Debug, Default)]
struct Pins {
    lock: Option<Lock>,
    fresh: HashSet<Digest>,
}

/// A right that others wait for, for as long as it lives.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes over a file that is locked.
    pub(crate) fn of(file: File) -> Self {
        Self(file)
    }
}

impl Drop for Lock {
    /// Closing the file is not enough: a child that was forked meanwhile would keep the lock.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

impl Store {
    /// Opens the store in `root`, which is made if it is missing or empty. A store that cannot be
    /// written opens for reading.
    ///
    /// # Errors
    /// When `root` holds something else, or a layout of another version; when it cannot be read, or
    /// made.
    pub fn open(root: &Path) -> Result<Self, Error> {
        Self::open_as(root, false)
    }

    /// Opens a store that lasts no longer than the caller, who alone knows of it. Nothing in it is made
    /// durable, and what leaves it may take its blobs along instead of copying them.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_passing(root: &Path) -> Result<Self, Error> {
        Self::open_as(root, true)
    }

    fn open_as(root: &Path, passing: bool) -> Result<Self, Error> {
        let store = Self {
            root: root.to_owned(),
            pins: Mutex::default(),
            passing,
        };
        let path = store.path(LAYOUT_FILE);
        match regular::read(&path) {
            Ok(text) => store.check_version(&path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => store.create()?,
            Err(error) => return Err(store.io(READ, &path, error)),
        }
        Ok(store)
    }

    /// The directory that holds everything.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether it lasts no longer than the caller.
    pub(crate) fn is_passing(&self) -> bool {
        self.passing
    }

    /// Waits for the right to rewrite `index.json`, and to give and take containers' names.
    ///
    /// Hold it briefly: every command that names an image or makes a container waits.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn lock(&self) -> Result<Lock, Error> {
        let path = self.path("lock");
        let file = self.open_lock(&path)?;
        retry(|| file.lock()).map_err(|error| self.io("lock", &path, error))?;
        Ok(Lock(file))
    }

    fn check_version(&self, path: &Path, text: &[u8]) -> Result<(), Error> {
        let layout: Layout = serde_json::from_slice(text).map_err(|source| Error::Document {
            what: path.display().to_string(),
            kind: "OCI layout file",
            source,
        })?;
        if layout.image_layout_version == LAYOUT_VERSION {
            return Ok(());
        }
        Err(Error::LayoutVersion {
            root: self.root.clone(),
            found: layout.image_layout_version,
        })
    }

    /// Makes an empty store. Others may be doing the same; the version file comes last, so that who
    /// finds it finds a whole store.
    fn create(&self) -> Result<(), Error> {
        self.make_directory(&self.root, 0o700)?;
        let entries = fs::read_dir(&self.root).map_err(|e| self.io(READ, &self.root, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| self.io(READ, &self.root, e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !ENTRIES.contains(&name.as_str()) {
                let path = self.path(LAYOUT_FILE);
                return match regular::read(&path) {
                    // Somebody else was quicker, and has gone on with it.
                    Ok(text) => self.check_version(&path, &text),
                    Err(_) => Err(Error::NotStore {
                        root: self.root.clone(),
                        found: name,
                    }),
                };
            }
        }
        for directory in [
            "tmp",
            "blobs/sha256",
            "layers",
            "containers/names",
            "volumes",
            "cache",
        ] {
            self.make_directory(&self.path(directory), 0o755)?;
        }
        let _lock = self.lock()?;
        if !self.path("index.json").exists() {
            self.write_index(&Index::new(Vec::new()))?;
        }
        self.write_atomically(&self.path(LAYOUT_FILE), &layout_file())
    }

    pub(crate) fn make_directory(&self, path: &Path, mode: u32) -> Result<(), Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(|error| self.io("create", path, error))
    }

    fn open_lock(&self, path: &Path) -> Result<File, Error> {
        // For both, since opening a pipe in its place for one would wait for the other.
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| self.io("open", path, error))
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn layer_path(&self, diff_id: &DiffId) -> PathBuf {
        self.path("layers").join(diff_id.0.hex())
    }

    pub(crate) fn io(&self, action: &'static str, path: &Path, source: io::Error) -> Error {
        Error::io(&self.root, action, path, source)
    }

    /// Keeps blobs from being removed, by whomever, until an image refers to them or the store is
    /// closed.
    pub(crate) fn pin(&self, digest: &Digest) -> Result<(), Error> {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if pins.lock.is_none() {
            let path = self.path("gc.lock");
            let file = self.open_lock(&path)?;
            retry(|| file.lock_shared()).map_err(|error| self.io("lock", &path, error))?;
            pins.lock = Some(Lock(file));
        }
        pins.fresh.insert(*digest);
        Ok(())
    }

    /// The counterpart of [`Store::pin`].
    pub(crate) fn unpin<'d>(&self, digests: impl IntoIterator<Item = &'d Digest>) {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in digests {
            pins.fresh.remove(digest);
        }
        if pins.fresh.is_empty() {
            pins.lock = None;
        }
    }

    /// Calls `remove` with the blobs of this process that must stay, while no other process relies on
    /// any blob that is not in the index. If one does, nothing happens, and the answer is `None`:
    /// what is garbage now still is at the next occasion.
    pub(crate) fn collect<T>(
        &self,
        remove: impl FnOnce(&HashSet<Digest>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever removes has the turn, so that nobody else does while the lock that keeps this process's
        // own blobs is let go of.
        let turn = self.open_lock(&self.path("gc.turn"))?;
        if briefly(|| turn.try_lock()).is_err() {
            return Ok(None);
        }
        let path = self.path("gc.lock");
        let file = self.open_lock(&path)?;
        pins.lock = None;
        let outcome = match briefly(|| file.try_lock()) {
            Ok(()) => remove(&pins.fresh).map(Some),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(self.io("lock", &path, error)),
        };
        if !pins.fresh.is_empty() {
            retry(|| file.lock_shared()).map_err(|error| self.io("lock", &path, error))?;
            pins.lock = Some(Lock(file));
        }
        outcome
    }
}

pub(crate) fn layout_file() -> Vec<u8> {
    format!("{{\"imageLayoutVersion\":\"{LAYOUT_VERSION}\"}}").into_bytes()
}

/// Tries for a moment to take a lock: a program that is just being started has all that its parent had open, locks
/// too, until it is executed (flock(2)).
fn briefly(
    mut lock: impl FnMut() -> std::result::Result<(), fs::TryLockError>,
) -> std::result::Result<(), fs::TryLockError> {
    for _ in 0..TRIES {
        match lock() {
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            tried => return tried,
        }
    }
    lock()
}

/// Takes a lock, whatever signals come.
pub(crate) fn retry(mut lock: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the child of a fork holds it until it executes its program.
    #[test]
    fn a_lock_that_is_let_go_of_at_once_keeps_nothing_from_being_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let file = store.open_lock(&dir.path().join("gc.lock")).unwrap();
        file.lock_shared().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(5));
                drop(file);
            });
            assert!(store.collect(|_| Ok(())).unwrap().is_some());
        });
        let file = store.open_lock(&dir.path().join("gc.lock")).unwrap();
        file.lock_shared().unwrap();
        assert!(store.collect(|_| Ok(())).unwrap().is_none());
    }

    #[test]
    fn a_store_that_somebody_else_has_made_meanwhile_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::create_dir(dir.path().join("networks")).unwrap();
        store.create().unwrap();
        fs::remove_file(dir.path().join(LAYOUT_FILE)).unwrap();
        assert!(matches!(store.create(), Err(Error::NotStore { .. })));
    }
}
