//! Removal: of images by name, and of everything that nothing refers to.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use smidge_image::{Descriptor, Digest, Index, Reference};

use crate::image::parse;
use crate::index::{is_index, is_manifest, name_of, set_names};
use crate::temp::disk_usage;
use crate::{Error, Store};

/// A container that was made from an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// How to call the container in messages.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
}

/// Tells whether a container was made from the image with an id; a running one goes first.
///
/// Called while the index is locked: it may read the store, but must not write it.
pub type InUse<'a> = &'a dyn Fn(&Digest) -> Option<Use>;

/// What [`Store::remove`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// Ids of images that are gone.
    pub deleted: Vec<Digest>,
}

impl Removed {
    fn untagged(names: Vec<Reference>) -> Self {
        Self {
            untagged: names,
            deleted: Vec::new(),
        }
    }
}

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
struct Reachable {
    blobs: HashSet<Digest>,
    layers: HashSet<String>,
}

impl Store {
    /// Removes a name, and the image with its last name; by id, the image with all its names.
    ///
    /// As with Docker, `force` is needed for an image with several names that is given by id, and for
    /// one that a stopped container was made from. That image's files stay, nameless, until the
    /// container is gone.
    ///
    /// # Errors
    /// [`Error::ManyNames`], [`Error::ImageInUse`], as [`Store::image`], and when the store cannot be
    /// written.
    pub fn remove(&self, name: &str, force: bool, in_use: InUse<'_>) -> Result<Removed, Error> {
        let (removed, gone) = self.update_index(|index| {
            let entry = self.find_image(index, name)?.clone();
            let id = self.id_of(&entry)?;
            let names = self.names_of_id(index, &id)?;
            let by_name = name.parse().ok().filter(|name| names.contains(name));
            match by_name {
                Some(name) if names.len() > 1 => {
                    self.forget(index, &id, Some(&name))?;
                    return Ok((Removed::untagged(vec![name]), Vec::new()));
                }
                None if names.len() > 1 && !force => return Err(Error::ManyNames { id, names }),
                _ => {}
            }
            let kept = match in_use(&id) {
                Some(Use { container, running }) if running || !force || names.is_empty() => {
                    return Err(Error::ImageInUse {
                        id,
                        container,
                        running,
                    });
                }
                used => used.is_some(),
            };
            let gone = self.forget(index, &id, None)?;
            let mut removed = Removed::untagged(names);
            if kept {
                set_names(index, &bare(&entry), &id, &[]);
                return Ok((removed, Vec::new()));
            }
            removed.deleted.push(id);
            Ok((removed, gone))
        })?;
        self.collect_images(&gone)?;
        Ok(removed)
    }

    /// Removes nameless images that no container was made from (with `all`, named ones too), and
    /// everything that no image refers to: blobs, unpacked layers, compressed layers, and what
    /// processes left that were killed.
    ///
    /// While other processes add images, blobs are left for the next time.
    ///
    /// # Errors
    /// When the store cannot be written, and when an image of the index cannot be read: its blobs are
    /// unknown then.
    pub fn prune(&self, all: bool, in_use: InUse<'_>) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        self.update_index(|index| {
            let entries: Vec<_> = index
                .manifests
                .iter()
                .filter(|entry| is_manifest(entry))
                .cloned()
                .collect();
            for entry in entries {
                let id = self.id_of(&entry)?;
                let names = self.names_of_id(index, &id)?;
                let wanted = in_use(&id).is_some() || !(all || names.is_empty());
                if wanted || pruned.deleted.contains(&id) {
                    continue;
                }
                self.forget(index, &id, None)?;
                pruned.untagged.extend(names);
                pruned.deleted.push(id);
            }
            Ok(())
        })?;
        self.collect(|fresh| self.sweep_unreachable(fresh, &mut pruned))?;
        for orphan in self.orphans()? {
            self.reclaim(&orphan, &mut pruned)?;
        }
        self.sweep_temporary(|leftover| self.reclaim(leftover, &mut pruned))?;
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

    fn names_of_id(&self, index: &Index, id: &Digest) -> Result<Vec<Reference>, Error> {
        let mut names = Vec::new();
        for entry in index.manifests.iter().filter(|entry| is_manifest(entry)) {
            if let Some(name) = name_of(entry)
                && self.id_of(entry)? == *id
            {
                names.push(name);
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Removes an image's entries (those with one name, if it is given), and tells which they were.
    fn forget(
        &self,
        index: &mut Index,
        id: &Digest,
        name: Option<&Reference>,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut gone = Vec::new();
        for entry in std::mem::take(&mut index.manifests) {
            let named = name.is_none() || name_of(&entry).as_ref() == name;
            if named && is_manifest(&entry) && self.id_of(&entry)? == *id {
                gone.push(entry);
            } else {
                index.manifests.push(entry);
            }
        }
        Ok(gone)
    }

    /// Removes the files of images that have left the index, as far as no other image shares them.
    fn collect_images(&self, gone: &[Descriptor]) -> Result<(), Error> {
        if gone.is_empty() {
            return Ok(());
        }
        self.collect(|fresh| {
            let index = Index::new(gone.to_vec());
            // An image that cannot be read leaves garbage, but must not keep others from going.
            let (Ok(candidates), Ok(needed)) =
                (self.reachable(&index), self.reachable(&self.read_index()?))
            else {
                return Ok(());
            };
            for digest in candidates.blobs.difference(&needed.blobs) {
                if !fresh.contains(digest) {
                    self.discard(&self.blob_path(digest))?;
                }
            }
            for layer in candidates.layers.difference(&needed.layers) {
                self.discard(&self.path("layers").join(layer))?;
                self.forget_transfer(layer)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    fn sweep_unreachable(&self, fresh: &HashSet<Digest>, pruned: &mut Pruned) -> Result<(), Error> {
        let reachable = self.reachable(&self.read_index()?)?;
        for path in self.list(&self.path("blobs/sha256"))? {
            let digest = Digest::from_hex(&file_name(&path));
            if digest.is_ok_and(|d| !reachable.blobs.contains(&d) && !fresh.contains(&d)) {
                self.reclaim(&path, pruned)?;
            }
        }
        for path in self.list(&self.path("layers"))? {
            if !reachable.layers.contains(&file_name(&path)) {
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
                .partition(|link| reachable.layers.contains(&file_name(link)));
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

    /// Everything that an index leads to, through manifests and further indexes.
    fn reachable(&self, index: &Index) -> Result<Reachable, Error> {
        let mut reachable = Reachable::default();
        let mut pending: Vec<Descriptor> = index.manifests.clone();
        while let Some(entry) = pending.pop() {
            if !reachable.blobs.insert(entry.digest) {
                continue;
            }
            if is_manifest(&entry) {
                let image = self.read_image(index, &entry)?;
                reachable.blobs.insert(image.id);
                reachable
                    .blobs
                    .extend(image.manifest.layers.iter().map(|layer| layer.digest));
                reachable
                    .layers
                    .extend(image.config.rootfs.diff_ids.iter().map(|id| id.0.hex()));
            } else if is_index(&entry) {
                let nested: Index = parse(
                    &entry.digest.to_string(),
                    "image index",
                    &self.bytes(&entry)?,
                )?;
                pending.extend(nested.manifests);
            }
        }
        Ok(reachable)
    }

    /// As [`Store::discard`], into the account of [`Store::prune`].
    fn reclaim(&self, path: &Path, pruned: &mut Pruned) -> Result<(), Error> {
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

/// An entry without what the index adds to a manifest's descriptor.
fn bare(entry: &Descriptor) -> Descriptor {
    Descriptor::new(entry.media_type.clone(), entry.digest, entry.size)
}
