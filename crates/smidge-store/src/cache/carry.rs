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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use smidge_image::{Entry, EntryKind, media_type};

    use super::*;

    fn store(directory: &Path, name: &str) -> Store {
        Store::open(&directory.join(name)).unwrap()
    }

    fn bare(layer: &Snapshot) -> Descriptor {
        Descriptor::new(media_type::LAYER, layer.diff_id.0, layer.size)
    }

    #[test]
    fn a_mount_is_packed_as_it_is_and_fills_one_that_holds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (from, passing, to) = (
            store(directory.path(), "from"),
            store(directory.path(), "passing"),
            store(directory.path(), "to"),
        );
        assert!(from.pack_mount("m", &passing).unwrap().is_none());
        let path = from.cache_mount("m", Sharing::Shared).unwrap().path;
        assert!(from.is_mount_empty("m"));
        assert!(from.pack_mount("m", &passing).unwrap().is_none());
        fs::create_dir(path.join("d")).unwrap();
        fs::write(path.join("d/file"), "kept").unwrap();
        symlink("file", path.join("d/link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
        let before = fs::metadata(path.join("d/file"))
            .unwrap()
            .modified()
            .unwrap();
        let packed = from.pack_mount("m", &passing).unwrap().unwrap();
        assert_eq!(packed.entries, 4);
        assert_eq!(from.pack_mount("m", &passing).unwrap(), Some(packed));
        // Nothing of it has changed.
        let after = fs::metadata(path.join("d/file"))
            .unwrap()
            .modified()
            .unwrap();
        assert_eq!(after, before);
        assert!(path.join("socket").exists());

        let layer = bare(&packed);
        let fill = || {
            to.fill_mount("m", &passing, (&layer, &packed.diff_id))
                .unwrap()
        };
        {
            let _used = to.cache_mount("m", Sharing::Shared).unwrap();
            assert!(!fill());
        }
        assert!(fill());
        let mount = to.cache_mount("m", Sharing::Shared).unwrap();
        assert!(!mount.is_new);
        let read = fs::read_to_string(mount.path.join("d/link")).unwrap();
        assert_eq!(read, "kept");
        fs::write(mount.path.join("d/file"), "own").unwrap();
        drop(mount);
        assert!(!fill());
    }

    #[test]
    fn a_layer_that_would_lead_elsewhere_fills_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), "store");
        let mut layer = LayerWriter::new(store.blob_writer().unwrap());
        let kind = EntryKind::Symlink {
            target: b"/etc".to_vec(),
        };
        let entry = Entry::new(LayerPath::try_from(FIRST).unwrap(), kind);
        layer.append(&entry, &mut io::empty()).unwrap();
        let (digest, size) = layer.finish().unwrap().commit().unwrap();
        let layer = Descriptor::new(media_type::LAYER, digest, size);
        let filled = store.fill_mount("m", &store, (&layer, &DiffId(digest)));
        assert!(matches!(filled, Err(Error::Entry { .. })));
        assert!(store.is_mount_empty("m"));
        assert!(store.cache_mount("m", Sharing::Shared).unwrap().is_new);
    }
}
