//! What has come of a blob so far, found again by the blob's digest.
//!
//! ```text
//! tmp/partial-<hex>/        locked, shared, by all who rely on it: who clears up leaves it alone
//! tmp/partial-<hex>/blob    locked, exclusively, by the one who writes or checks it
//! ```
//! Two locks, so that who has the blob whole keeps it without keeping others from it: nobody waits but
//! for one who is at work.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use smidge_image::{Descriptor, Digest};

use crate::store::retry;
use crate::{Error, Store, VerifiedReader};

/// How the names of such directories begin.
const PREFIX: &str = "partial-";

/// A blob that has come in part, or whole, but is not in the store yet. Dropping it leaves it for the
/// next who needs it.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    /// Holds the lock.
    _directory: File,
}

impl Store {
    /// Opens what has come of a blob, to go on with it. Waits for whoever is doing so already.
    pub(crate) fn partial(&self, digest: &Digest) -> Result<Partial, Error> {
        let directory = self.path("tmp");
        let path = directory.join(format!("{PREFIX}{}", digest.hex()));
        loop {
            match Partial::open(&path) {
                Ok(Some(partial)) => return Ok(partial),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => {
                    self.make_directory(&directory, 0o755)?;
                }
                Err(error) => return Err(self.io("create", &path, error)),
            }
        }
    }
}

impl Partial {
    /// `None` if somebody took it away between the steps.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let Some(directory) = present(File::open(path))? else {
            return Ok(None);
        };
        retry(|| directory.lock_shared())?;
        let blob = path.join("blob");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true);
        let Some(file) = present(options.open(&blob))? else {
            return Ok(None);
        };
        retry(|| file.lock())?;
        Ok(is_at(&file, &blob).then(|| Self {
            path: path.to_owned(),
            file,
            _directory: directory,
        }))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The file's path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets others at it, who will find it whole. It stays where it is.
    pub(crate) fn release(&self) -> io::Result<()> {
        self.file.unlock()
    }

    /// Reads it from its beginning, when it is whole.
    pub(crate) fn reader(&self, blob: &Descriptor) -> io::Result<VerifiedReader> {
        let file = File::open(self.path.join("blob"))?;
        Ok(VerifiedReader::new(file, blob.digest.to_string(), blob))
    }

    /// Makes it a blob. Another process may have done so before.
    pub(crate) fn persist(&self, store: &Store, path: &Path, size: u64) -> Result<(), Error> {
        let renamed = fs::rename(self.path.join("blob"), path);
        // Whoever else has it open finds it gone, and looks again.
        let _ = fs::remove_dir(&self.path);
        match renamed {
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_of_size(path, size) => {
                Ok(())
            }
            renamed => renamed.map_err(|error| store.io("create", path, error)),
        }
    }

    /// Removes it. Called by who has the file's lock: others who wait for it start anew.
    pub(crate) fn discard(self) {
        let _ = fs::remove_file(self.path.join("blob"));
        let _ = fs::remove_dir(&self.path);
    }
}

fn is_of_size(path: &Path, size: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.len() == size)
}

pub(crate) fn present(opened: io::Result<File>) -> io::Result<Option<File>> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Whether something in `tmp/` may be what has come of a blob.
pub(crate) fn is_partial(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// Whether an open file or directory is what a path leads to.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
