//! What a step has changed becomes a layer: the upper directory of its overlay, written down as a tar
//! archive once, and then itself the layer unpacked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use smidge_image::{DiffId, LayerPath, LayerWriter};

use crate::beside::Beside;
use crate::upper::Upper;
use crate::{Error, LayeredTree, Ownership, Store};

/// How [`Store::snapshot`] is to read an upper directory.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// Whose the files are: with [`Ownership::Layer`], whose they are on disk; with
    /// [`Ownership::Caller`], whose their claims say, or root's.
    pub ownership: Ownership,
    /// What becomes of times.
    pub times: Times,
    /// Files and directories that the sandbox made as mount points. They are removed if they are
    /// (still) empty.
    pub stubs: Vec<LayerPath>,
    /// With [`Ownership::Caller`]: uid and gid of symbolic links and pipes, which cannot carry a claim,
    /// by device and inode number in the upper directory.
    pub link_owners: BTreeMap<(u64, u64), (u32, u32)>,
    /// The directories that were below the upper one, the top one first, as [`Store::checkout`] tells
    /// them. What is in the upper directory as it was below is left out: copies that nothing changed.
    /// If there is none, all that the upper directory holds is taken for changed.
    pub lower: Vec<PathBuf>,
}

/// What becomes of the times of files, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// A file that was changed at this time or later has been changed by the step, and gets `value`.
    pub since: Option<i64>,
    /// Whether a file that was changed later than `value` gets `value`.
    pub clamp: bool,
    /// The time of what the step has changed.
    pub value: i64,
}

/// A layer that [`Store::snapshot`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The layer's digest. It is stored as it is, so this is its blob's digest, too.
    pub diff_id: DiffId,
    /// Bytes of the tar archive.
    pub size: u64,
    /// Entries of the archive; 0 if nothing was changed.
    pub entries: u64,
}

impl SnapshotOptions {
    /// Takes everything as it is.
    pub fn new(ownership: Ownership) -> Self {
        Self {
            ownership,
            times: Times::default(),
            stubs: Vec::new(),
            link_owners: BTreeMap::new(),
            lower: Vec::new(),
        }
    }
}

impl Times {
    /// The time that the layer states for a file that was changed at `mtime`.
    pub fn of(&self, mtime: i64) -> i64 {
        let is_new = self.since.is_some_and(|since| mtime >= since);
        match is_new || (self.clamp && mtime > self.value) {
            true => self.value,
            false => mtime,
        }
    }
}

impl Store {
    /// Makes a layer of what overlayfs has left in an upper directory, which becomes that layer
    /// unpacked: the directory is gone from its place. It must be on the store's file system, and
    /// nothing may use it any more.
    ///
    /// The archive is canonical: the same changes give the same bytes. Sockets are left out, and so is
    /// the root directory itself, as Docker does.
    ///
    /// # Errors
    /// When the directory cannot be read or changed, when a file in it cannot be in a layer, and when
    /// the store cannot be written.
    pub fn snapshot(&self, upper: &Path, options: &SnapshotOptions) -> Result<Snapshot, Error> {
        let mut files = Upper::open(self, upper, options)?;
        files.remove_stubs()?;
        let mut found = files.walk()?;
        if !options.lower.is_empty() {
            let below = LayeredTree::open(&options.lower)
                .map_err(|error| self.io(crate::error::READ, &self.path("layers"), error))?;
            files.drop_unchanged(&mut found, &below)?;
        }
        let mut layer = LayerWriter::new(self.blob_writer()?);
        let entries = files.write(&found, &mut layer)?;
        let blob = layer
            .finish()
            .map_err(|error| self.io("write", &self.path("tmp"), error))?
            .spool()?;
        files.settle_root()?;
        if !self.is_passing() {
            files.sync()?;
        }
        let (digest, size) = self.adopt(blob)?;
        let diff_id = DiffId(digest);
        let beside = Beside {
            owners: files.owners,
            ..Beside::default()
        };
        self.keep_beside(&self.layer_path(&diff_id), &beside)?;
        self.keep_unpacked(upper, &diff_id)?;
        Ok(Snapshot {
            diff_id,
            size,
            entries,
        })
    }

    /// Moves a directory to where a layer is unpacked, or removes it if that layer is unpacked already.
    fn keep_unpacked(&self, directory: &Path, diff_id: &DiffId) -> Result<(), Error> {
        let path = self.layer_path(diff_id);
        match renameat_with(CWD, directory, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => self.discard(directory).map(drop),
            Err(error) => Err(self.io("create", &path, error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_what_a_step_has_changed_are_one() {
        let times = |since, clamp| Times {
            since,
            clamp,
            value: 100,
        };
        for (times, mtime, expected) in [
            (times(None, false), 500, 500),
            (times(Some(400), false), 399, 399),
            (times(Some(400), false), 400, 100),
            (times(Some(400), true), 399, 100),
            (times(Some(400), true), 99, 99),
            (times(Some(50), true), 60, 100),
            (times(None, true), -1, -1),
        ] {
            assert_eq!(times.of(mtime), expected, "{times:?} {mtime}");
        }
    }
}
