//! What the caches of builds hold, and what of it goes.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use smidge_image::{DiffId, Digest};

use super::mount::MOUNTS;
use super::step::{STEPS, read_step, seconds};
use crate::usage::disk_usage;
use crate::{Error, Pruned, Store, regular};

/// Something that a build has left for builds to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRecord {
    /// What it is.
    pub kind: CacheKind,
    /// What it is called, among those of its kind: a step's key, in hexadecimal; a mount's id.
    pub id: String,
    /// What it is, for people.
    pub description: String,
    /// Bytes of disk that it takes up.
    pub size: u64,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it was last used, in seconds since 1970.
    pub last_used: u64,
    /// How often it was used after it was made.
    pub uses: u64,
    /// Whether somebody uses it now: it cannot be removed.
    pub in_use: bool,
    /// Whether it is part of an image, too: its bytes stay when it goes.
    pub shared: bool,
}

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CacheKind {
    /// What a step made.
    Step,
    /// A directory of `RUN --mount=type=cache`.
    Mount,
}

impl Store {
    /// Everything that builds have left for builds to come.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn build_cache(&self) -> Result<Vec<CacheRecord>, Error> {
        let images = self.reachable(&self.read_index()?.manifests)?.blobs;
        let records = self.cache_files()?.into_iter();
        let records = records.filter_map(|(kind, path)| self.cache_record(kind, &path, &images));
        Ok(records.collect())
    }

    /// Removes the records that `filter` picks and that nobody uses, and the layers that nothing else
    /// needs any more.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn prune_build_cache(
        &self,
        filter: &dyn Fn(&CacheRecord) -> bool,
    ) -> Result<Pruned, Error> {
        let images = self.reachable(&self.read_index()?.manifests)?.blobs;
        let mut pruned = Pruned::default();
        let mut layers = HashSet::new();
        for (kind, path) in self.cache_files()? {
            let record = self.cache_record(kind, &path, &images);
            if record.as_ref().is_some_and(|record| !filter(record)) {
                continue;
            }
            match kind {
                CacheKind::Mount => pruned.bytes += self.remove_mount(&path)?.unwrap_or_default(),
                CacheKind::Step => {
                    layers.extend(read_step(&path).map(|(record, _)| record.layer));
                    pruned.bytes += self.discard(&path)?;
                }
            }
        }
        self.collect(|fresh| {
            let needed = self.needed()?;
            for layer in layers {
                if !needed.has(&layer.hex()) && !fresh.contains(&layer) {
                    let unpacked = self.unpacked(&layer.hex())?;
                    for path in [self.blob_path(&layer)].iter().chain(&unpacked) {
                        self.reclaim(path, &mut pruned)?;
                    }
                    self.forget_transfer(&layer.hex())?;
                }
            }
            Ok(())
        })?;
        Ok(pruned)
    }

    /// Where the records are.
    fn cache_files(&self) -> Result<Vec<(CacheKind, PathBuf)>, Error> {
        let steps = self.list(&self.path(STEPS))?;
        let mounts = self.list(&self.path(MOUNTS))?;
        let steps = steps.into_iter().map(|path| (CacheKind::Step, path));
        let mounts = mounts.into_iter().map(|path| (CacheKind::Mount, path));
        Ok(steps.chain(mounts).collect())
    }

    /// What a list shows; `None` if it cannot be understood.
    fn cache_record(
        &self,
        kind: CacheKind,
        path: &Path,
        images: &HashSet<Digest>,
    ) -> Option<CacheRecord> {
        match kind {
            CacheKind::Step => self.step_record(path, images),
            CacheKind::Mount => self.mount_record(path),
        }
    }

    fn step_record(&self, path: &Path, images: &HashSet<Digest>) -> Option<CacheRecord> {
        let (record, uses) = read_step(path)?;
        let layer = record.layer;
        let files = [self.blob_path(&layer), self.layer_path(&DiffId(layer))];
        let layers = files.iter().map(|path| disk_usage(path));
        Some(CacheRecord {
            kind: CacheKind::Step,
            id: path.file_name()?.to_str()?.to_owned(),
            description: record.description,
            size: layers.sum::<u64>() + disk_usage(path),
            created: record.created,
            last_used: modified(path)?,
            uses,
            in_use: false,
            shared: images.contains(&layer),
        })
    }

    fn mount_record(&self, path: &Path) -> Option<CacheRecord> {
        let id = String::from_utf8(regular::read(&path.join("id")).ok()?).ok()?;
        let locks = self.list(path).ok()?;
        let locks = locks.iter().filter(|path| is_lock(path));
        let mut record = CacheRecord {
            kind: CacheKind::Mount,
            description: format!("cache mount `{id}`"),
            id,
            size: disk_usage(path),
            created: modified(&path.join("id"))?,
            last_used: 0,
            uses: 0,
            in_use: false,
            shared: false,
        };
        for lock in locks {
            let file = File::open(lock).ok()?;
            record.uses += file.metadata().ok()?.len();
            record.last_used = record.last_used.max(modified(lock)?);
            record.in_use |= file.try_lock().is_err();
            let _ = file.unlock();
        }
        // The first use is the making.
        record.uses = record.uses.saturating_sub(1);
        Some(record)
    }
}

/// Whether a file of a cache mount is a lock.
pub(super) fn is_lock(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "lock")
}

/// When a file last changed, in seconds since 1970.
fn modified(path: &Path) -> Option<u64> {
    let time: SystemTime = fs::symlink_metadata(path).ok()?.modified().ok()?;
    Some(seconds(time))
}
