//! `system df`: what takes up how much of the disk, and what of it nothing needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use smidge_image::Digest;
use smidge_store::{Container, file_usage};

use crate::container::{Known, Outline};
use crate::image::{CacheRecord, ImageQuery, Listed};
use crate::volume::VolumeRow;
use crate::{Engine, Result};

/// What the store holds.
#[derive(Clone, Debug)]
pub struct DiskUse {
    /// Images, a line for each name.
    pub images: Vec<ImageUse>,
    /// How many images there are.
    pub image_count: usize,
    /// Bytes of all layers, each counted once.
    pub image_bytes: u64,
    /// Of these, bytes of layers that no container needs.
    pub image_bytes_free: u64,
    /// Containers.
    pub containers: Vec<ContainerUse>,
    /// Volumes, and the bytes of each.
    pub volumes: Vec<(VolumeRow, u64)>,
    /// What builds have left for builds to come.
    pub cache: Vec<CacheRecord>,
}

/// An image's part of the disk.
#[derive(Clone, Debug)]
pub struct ImageUse {
    /// The image.
    pub image: Listed,
    /// Bytes of layers that other images have, too.
    pub shared: u64,
    /// Bytes of layers that it alone has.
    pub unique: u64,
}

/// A container's part of the disk.
#[derive(Clone, Debug)]
pub struct ContainerUse {
    /// The container.
    pub known: Known<Outline>,
    /// Bytes of what it has changed.
    pub size: u64,
}

impl ContainerUse {
    /// Whether it runs.
    pub fn is_active(&self) -> bool {
        self.known.state.status.is_active()
    }
}

impl Engine {
    /// Adds up what is on the disk.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn disk_use(&self) -> Result<DiskUse> {
        let containers = self.outlines()?;
        let mut uses: BTreeMap<Digest, usize> = BTreeMap::new();
        for known in &containers {
            *uses.entry(known.record.image_id).or_default() += 1;
        }
        // Which images have a layer, and how large it is.
        let mut layers: BTreeMap<Digest, (u64, BTreeSet<Digest>)> = BTreeMap::new();
        let mut of_image: HashMap<Digest, BTreeSet<Digest>> = HashMap::new();
        for image in self.store.all_images()? {
            for layer in &image.manifest.layers {
                let (size, holders) = layers.entry(layer.digest).or_default();
                *size = layer.size;
                holders.insert(image.id);
                of_image.entry(image.id).or_default().insert(layer.digest);
            }
            of_image.entry(image.id).or_default();
        }
        let bytes = |id: &Digest, shared: bool| -> u64 {
            let own = of_image.get(id).into_iter().flatten();
            let layers = own.filter_map(|digest| layers.get(digest));
            layers
                .filter(|(_, holders)| (holders.len() > 1) == shared)
                .map(|(size, _)| size)
                .sum()
        };
        let everything = ImageQuery {
            all: true,
            ..ImageQuery::default()
        };
        let listed = self.images_used(&uses, &everything)?;
        let images = listed.into_iter().map(|image| ImageUse {
            shared: bytes(&image.id, true),
            unique: bytes(&image.id, false),
            image,
        });
        let free = layers
            .values()
            .filter(|(_, holders)| !holders.iter().any(|id| uses.contains_key(id)));
        let mut volumes = Vec::new();
        for row in self.volumes_of(&containers, &[])? {
            let size = row.volume.size();
            volumes.push((row, size));
        }
        Ok(DiskUse {
            images: images.collect(),
            image_count: of_image.len(),
            image_bytes: layers.values().map(|(size, _)| size).sum(),
            image_bytes_free: free.map(|(size, _)| size).sum(),
            containers: containers
                .into_iter()
                .map(|known| ContainerUse {
                    size: changed_bytes(&known.container),
                    known,
                })
                .collect(),
            volumes,
            cache: self.build_cache()?,
        })
    }

    /// Bytes of what a container has changed, and with those of its image.
    ///
    /// # Errors
    /// When the store cannot be read. An image that is gone counts nothing.
    pub fn container_size(&self, container: &Container, image: &Digest) -> Result<(u64, u64)> {
        let changed = changed_bytes(container);
        if smidge_run::copied_root(&container.dir).is_some() {
            return Ok((changed, changed));
        }
        let image = self.store.image(&image.to_string());
        let below: u64 = image.map_or(0, |image| {
            image.manifest.layers.iter().map(|layer| layer.size).sum()
        });
        Ok((changed, changed + below))
    }
}

/// As far as it can be read: what belongs to ids of a user namespace may be closed. As in Docker, directories
/// count for nothing. Of a copy of the image's files all is the container's own.
fn changed_bytes(container: &Container) -> u64 {
    let copy = smidge_run::copied_root(&container.dir);
    file_usage(&copy.unwrap_or_else(|| container.dir.join("upper")))
}
