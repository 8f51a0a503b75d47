//! Cache mounts that are carried from one store to another: as a layer whose one directory is the mount.

use std::fs;
use std::io;
use std::path::Path;

use smidge_image::{Descriptor, DiffId, LayerPath, LayerWriter};

use super::mount::{Locked, Sharing};
use crate::checkout::Unpacking;
use crate::upper::Upper;
use crate::{Error, Ownership, Snapshot, SnapshotOptions, Store};

/// The directory that is carried: the one that all use who do not want one for themselves. Its name in
/// the layer is the same. Changing it is a format break.
const FIRST: &str = "0";

impl Store {
    /// Writes what a cache mount holds into a store as a layer: the same files give the same bytes,
    /// whoever packs them. Waits until nobody uses the mount. `None` if it holds nothing.
    ///
    /// Sockets are left out. Directories date from 1970, and links and pipes belong to root.
    ///
    /// # Errors
    /// When the mount cannot be read, when a file in it cannot be in a layer, and when `into` cannot be
    /// written.
    pub fn pack_mount(&self, id: &str, into: &Store) -> Result<Option<Snapshot>, Error> {
        let mount = self.mount_path(id);
        if is_empty(&mount.join(FIRST)) {
            return Ok(None);
        }
        let lock = mount.join(format!("{FIRST}.lock"));
        let Locked::Held(_held) = self.lock_mount(&lock, Sharing::Locked)? else {
            return Ok(None);
        };
        let first = LayerPath::try_from(FIRST)
            .map_err(|error| self.io("pack", &mount, io::Error::other(error)))?;
        let options = SnapshotOptions::new(Ownership::of_caller());
        let mut files = Upper::open_to_read(self, &mount, &options)?;
        let mut found: Vec<_> = files.look_at(&first)?.into_iter().collect();
        found.extend(files.walk_below(first)?);
        let mut layer = LayerWriter::new(into.blob_writer()?);
        let entries = files.write(&found, &mut layer)?;
        let blob = layer
            .finish()
            .map_err(|error| into.io("write", &into.path("tmp"), error))?;
        let (digest, size) = blob.commit()?;
        Ok(Some(Snapshot {
            diff_id: DiffId(digest),
            size,
            entries,
        }))
    }

    /// Fills a cache mount that holds nothing with a layer that [`Store::pack_mount`] made, and that
    /// `from` has, compressed or not. Tells whether it did: one that holds something, or that somebody
    /// uses, stays as it is.
    ///
    /// # Errors
    /// When the layer is missing or corrupt, is no such layer, or does not fit on the disk.
    pub fn fill_mount(
        &self,
        id: &str,
        from: &Store,
        (layer, diff_id): (&Descriptor, &DiffId),
    ) -> Result<bool, Error> {
        let mount = self.mount_path(id);
        self.make_directory(&mount, 0o755)?;
        let lock = mount.join(format!("{FIRST}.lock"));
        let Locked::Held(_held) = self.lock_mount(&lock, Sharing::Private)? else {
            return Ok(false);
        };
        let path = mount.join(FIRST);
        if !is_empty(&path) {
            return Ok(false);
        }
        let unpacking = Unpacking {
            digest: &layer.digest,
            diff_id,
            ownership: Ownership::of_caller(),
            durable: false,
        };
        let unpacked = self.unpack_from(from.blob(layer)?, &unpacking, &mut |_| {})?;
        let first = unpacked.path().join(FIRST);
        // A link would show programs another directory of this machine.
        if !fs::symlink_metadata(&first).is_ok_and(|first| first.is_dir()) {
            return Err(Error::Entry {
                layer: diff_id.to_string(),
                entry: FIRST.to_owned(),
                why: "it is no directory, as that of a cache mount is".to_owned(),
            });
        }
        self.name_mount(&mount, id)?;
        // An empty directory is replaced.
        fs::rename(first, &path).map_err(|error| self.io("create", &path, error))?;
        Ok(true)
    }

    /// Whether a cache mount holds nothing here, or is not there.
    pub fn is_mount_empty(&self, id: &str) -> bool {
        is_empty(&self.mount_path(id).join(FIRST))
    }
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}
