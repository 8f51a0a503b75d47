//! Removal of everything that nothing refers to.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use smidge_image::{Descriptor, Digest, ImageConfig, Manifest, Reference};

use crate::beside::layer_of;
use crate::catalog::Item;
use crate::image::parse;
use crate::index::{IMAGE_ID, is_known, version};
use crate::usage::disk_usage;
use crate::{Error, InUse, Store};

/// What [`Store::prune`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// Ids of images that are gone.
    pub deleted: Vec<Digest>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
    /// Directories that could not be removed because their files belong to ids of a user namespace.
    /// Who can enter that namespace may remove them.
    pub left: Vec<PathBuf>,
}

/// Bytes of disk by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blobs.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Containers' records, logs and files.
    pub containers: u64,
    /// Volumes.
    pub volumes: u64,
    /// What can be made again: compressed layers, build steps.
    pub cache: u64,
}

/// What the images of the index refer to.
#[derive(Debug, Default)]
pub(crate) struct Reachable {
    pub(crate) blobs: HashSet<Digest>,
    layers: HashSet<String>,
}

impl Reachable {
    /// Whether a layer's diff id, or a blob's digest, is among it.
    pub(crate) fn has(&self, hex: &str) -> bool {
        let blob = Digest::from_hex(hex).is_ok_and(|digest| self.blobs.contains(&digest));
        blob || self.layers.contains(hex)
    }
}

impl Store {
    /// Removes images without a tag that no container was made from (with `all`, tagged ones and
    /// other documents, too), and everything that no image refers to: blobs, unpacked layers,
    /// compressed layers, and what processes left that were killed.
    ///
    /// While other processes add images, blobs are left for the next time.
    ///
    /// # Errors
    /// When the store cannot be written, and when an image of the index cannot be read: its blobs are
    /// unknown then.
    pub fn prune(&self, all: bool, in_use: InUse<'_>) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        // First what takes no room to be removed: the disk may be full.
        for orphan in self.orphans()? {
            self.reclaim(&orphan, &mut pruned)?;
        }
        self.sweep_names()?;
        self.sweep_temporary(|leftover| self.reclaim(leftover, &mut pruned))?;
        self.update_index(|index| {
            let catalog = self.catalog(std::mem::take(&mut index.manifests));
            let wanted: HashSet<Digest> = catalog
                .0
                .iter()
                .filter(|item| is_wanted(item, all, in_use))
                .map(|item| item.entry.digest)
                .collect();
            let (kept, gone): (Vec<_>, Vec<_>) = catalog
                .0
                .into_iter()
                .partition(|item| wanted.contains(&item.entry.digest));
            let ids = |items: &[Item]| -> Vec<Digest> {
                let images = items.iter().flat_map(|item| item.images.iter());
                images.map(|held| held.id).collect()
            };
            let mut known: HashSet<Digest> = ids(&kept).into_iter().collect();
            pruned.deleted = ids(&gone);
            pruned.deleted.retain(|id| known.insert(*id));
            pruned.untagged = gone.iter().filter_map(Item::tagged).cloned().collect();
            index.manifests = kept.into_iter().map(|item| item.entry).collect();
            Ok(())
        })?;
        self.collect(|fresh| self.sweep_unreachable(fresh, &mut pruned))?;
        Ok(pruned)
    }

    /// Adds up what is on the disk.
    pub fn usage(&self) -> Usage {
        let below = |directory| disk_usage(&self.path(directory));
        Usage {
            blobs: below("blobs"),
            layers: below("layers"),
            containers: below("containers"),
            volumes: below("volumes"),
            cache: below("cache"),
        }
    }

    /// Removes the files of documents that have left the index, as far as no other shares them. Gives what
    /// is out of its place, and cannot be removed by this user alone.
    pub(crate) fn collect_documents(&self, gone: &[Descriptor]) -> Result<Vec<PathBuf>, Error> {
        let mut left = Vec::new();
        if gone.is_empty() {
            return Ok(left);
        }
        self.collect(|fresh| {
            // One that cannot be read leaves garbage, but must not keep others from going.
            let (Ok(candidates), Ok(needed)) = (self.reachable(gone), self.needed()) else {
                return Ok(());
            };
            for digest in candidates.blobs.difference(&needed.blobs) {
                if !fresh.contains(digest) {
                    self.discard(&self.blob_path(digest))?;
                    self.forget_transfer(&digest.hex())?;
                }
            }
            for layer in candidates.layers.difference(&needed.layers) {
                for path in self.unpacked(layer)? {
                    match self.discard(&path) {
                        Ok(_) => {}
                        Err(Error::Undeletable { path, .. }) => left.push(path),
                        Err(error) => return Err(error),
                    }
                }
                self.forget_transfer(layer)?;
            }
            Ok(())
        })?;
        Ok(left)
    }

    fn sweep_unreachable(&self, fresh: &HashSet<Digest>, pruned: &mut Pruned) -> Result<(), Error> {
        let mut reachable = self.needed()?;
        // Layers that are stored as they are have their blobs' digests.
        reachable.layers.extend(fresh.iter().map(Digest::hex));
        for path in self.list(&self.path("blobs/sha256"))? {
            let digest = Digest::from_hex(&file_name(&path));
            if digest.is_ok_and(|d| !reachable.blobs.contains(&d) && !fresh.contains(&d)) {
                self.reclaim(&path, pruned)?;
            }
        }
        for path in self.list(&self.path("layers"))? {
            let name = file_name(&path);
            if !reachable.layers.contains(layer_of(&name)) {
                self.reclaim(&path, pruned)?;
            }
        }
        for encoder in self.list(&self.path("cache/transfer"))? {
            let (links, blobs): (Vec<_>, Vec<_>) = self
                .list(&encoder)?
                .into_iter()
                .partition(|path| path.is_symlink());
            let (kept, gone): (Vec<_>, Vec<_>) = links
                .into_iter()
                .partition(|link| reachable.has(&file_name(link)));
            let targets: HashSet<_> = kept
                .iter()
                .filter_map(|link| link.read_link().ok())
                .collect();
            let blobs = blobs
                .into_iter()
                .filter(|blob| !targets.contains(Path::new(&file_name(blob))));
            for path in gone.into_iter().chain(blobs) {
                self.reclaim(&path, pruned)?;
            }
        }
        Ok(())
    }

    /// Everything that the index leads to, and what build steps made.
    pub(crate) fn needed(&self) -> Result<Reachable, Error> {
        let mut needed = self.reachable(&self.read_index()?.manifests)?;
        let layers = self.cached_layers()?;
        needed.layers.extend(layers.iter().map(Digest::hex));
        needed.blobs.extend(layers);
        Ok(needed)
    }

    /// Everything that entries lead to, through manifests and indexes.
    pub(crate) fn reachable(&self, entries: &[Descriptor]) -> Result<Reachable, Error> {
        let mut reachable = Reachable::default();
        let mut looked_at = HashSet::new();
        let mut followed = HashSet::new();
        for entry in entries {
            reachable.blobs.insert(entry.digest);
            let below = match entry.is_index() && followed.insert(version(entry)) {
                true => self.documents_of(entry)?,
                false => Vec::new(),
            };
            for document in std::iter::once(entry).chain(&below) {
                if document.is_manifest() && looked_at.insert(document.digest) {
                    self.reach(document, &mut reachable)?;
                } else {
                    reachable.blobs.insert(document.digest);
                }
            }
        }
        Ok(reachable)
    }

    fn reach(&self, document: &Descriptor, reachable: &mut Reachable) -> Result<(), Error> {
        let bytes = self.bytes(document)?;
        let what = document.digest.to_string();
        let manifest: Manifest = parse(&what, "image manifest", &bytes)?;
        reachable.blobs.insert(document.digest);
        reachable.blobs.insert(manifest.config.digest);
        let layers = manifest.layers.iter().map(|layer| layer.digest);
        reachable.blobs.extend(layers);
        let is_image = document.annotations.contains_key(IMAGE_ID);
        if !is_image && (is_known(document) || !manifest.is_image()) {
            return Ok(());
        }
        let what = manifest.config.digest.to_string();
        let config = self.bytes(&manifest.config);
        let config = config.and_then(|bytes| parse::<ImageConfig>(&what, "image config", &bytes));
        match config {
            Ok(config) => {
                let layers = config.rootfs.diff_ids.iter().map(|id| id.0.hex());
                reachable.layers.extend(layers);
            }
            Err(error) if is_image => return Err(error),
            // Another program's, and no image of this store.
            Err(_) => {}
        }
        Ok(())
    }

    /// As [`Store::discard`], into the account of [`Store::prune`].
    pub(crate) fn reclaim(&self, path: &Path, pruned: &mut Pruned) -> Result<(), Error> {
        match self.discard(path) {
            Ok(bytes) => pruned.bytes += bytes,
            Err(Error::Undeletable { path, .. }) => pruned.left.push(path),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Whether an entry is to survive [`Store::prune`].
fn is_wanted(item: &Item, all: bool, in_use: InUse<'_>) -> bool {
    let is_used = item.images.iter().any(|held| in_use(&held.id).is_some());
    let is_named = match item.images.is_empty() {
        true => item.name.is_some(),
        false => item.tagged().is_some(),
    };
    is_used || (is_named && !all)
}
