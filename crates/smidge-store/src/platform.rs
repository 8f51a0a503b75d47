//! One name for several machines: indexes, and which of their images is meant.

use std::collections::HashSet;

use smidge_image::{Descriptor, Digest, Platform, Reference};

use crate::catalog::{Held, Item, Target};
use crate::document::{New, Terms};
use crate::index::bare;
use crate::{Error, Image, Store};

/// What a name has for one platform.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// The entry of the index; of a plain image, its manifest's.
    pub descriptor: Descriptor,
    /// The image, if it is stored, and is one: attestations are not.
    pub image: Option<Image>,
    /// Whether it is stored, with everything that it needs.
    pub stored: bool,
}

/// Linux on this machine's architecture, in Go's words.
pub(crate) fn host_platform() -> Platform {
    Platform::linux(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    })
    .normalized()
}

impl Item {
    /// The image that stands for it: this machine's, else the first.
    pub(crate) fn representative(&self) -> Option<&Held> {
        self.choose(&host_platform())
            .or_else(|| self.images.first())
    }

    fn choose(&self, wanted: &Platform) -> Option<&Held> {
        let best = wanted.best(self.images.iter().map(|held| &held.manifest))?;
        let mut images = self.images.iter();
        images.find(|held| held.manifest.digest == best.digest)
    }

    /// The image for a platform; without one, this machine's or the only one.
    fn image_for(&self, platform: Option<&Platform>) -> Option<&Held> {
        match (platform, &*self.images) {
            (Some(platform), _) => self.choose(platform),
            (None, [only]) => Some(only),
            (None, _) => self.choose(&host_platform()),
        }
    }
}

impl Store {
    /// As [`Store::image`], of a name that stands for several platforms the image for one of them.
    /// Without a platform it is this machine's, or the only one that is stored.
    ///
    /// # Errors
    /// As [`Store::image`]; [`Error::NoSuchPlatform`].
    pub fn image_for(&self, name: &str, platform: Option<&Platform>) -> Result<Image, Error> {
        let catalog = self.current()?;
        let absent = |available: Vec<Platform>| Error::NoSuchPlatform {
            name: name.to_owned(),
            wanted: platform.cloned().unwrap_or_else(host_platform),
            available,
        };
        let (item, held) = match catalog.find(name) {
            Err(Error::NoSuchImage(_)) if name == crate::image::SCRATCH => {
                return Ok(Image::scratch());
            }
            Err(error) => return Err(error),
            Ok(Target::Image(_, held)) => (None, held),
            Ok(Target::Entry(item)) if item.entry.is_index() => {
                let images = item.images.iter();
                let offered = || images.filter_map(|held| held.manifest.platform.clone());
                let held = item.image_for(platform);
                (Some(item), held.ok_or_else(|| absent(offered().collect()))?)
            }
            Ok(Target::Entry(item)) => match item.images.first() {
                Some(held) => (None, held),
                None => return Err(self.no_image(&item.entry)),
            },
        };
        let mut image = self.read_image(&catalog, held)?;
        if let (Some(wanted), None) = (platform, item) {
            let own = image.config.platform();
            if !own.architecture.is_empty() && !wanted.matches(&own) {
                return Err(absent(vec![own]));
            }
        }
        if platform.is_none() {
            image.index = item.map(|item| bare(&item.entry));
        }
        Ok(image)
    }

    /// Why an entry is no image.
    fn no_image(&self, entry: &Descriptor) -> Error {
        match self.examine(entry).map(|examined| examined.image) {
            Ok(Err(error)) | Err(error) => error,
            Ok(Ok(_)) => Error::NoSuchImage(entry.digest.to_string()),
        }
    }

    /// What a name has for each platform, in the order of its index.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn variants(&self, name: &str) -> Result<Vec<Variant>, Error> {
        let catalog = self.current()?;
        let item = match catalog.find(name) {
            Ok(Target::Entry(item)) if item.entry.is_index() => item,
            Ok(Target::Entry(item)) if item.images.is_empty() => {
                return Ok(vec![Variant {
                    descriptor: bare(&item.entry),
                    image: None,
                    stored: true,
                }]);
            }
            _ => {
                let image = self.image(name)?;
                return Ok(vec![Variant {
                    descriptor: image.descriptor(),
                    image: Some(image),
                    stored: true,
                }]);
            }
        };
        let stored: HashSet<Digest> = self
            .documents_of(&item.entry)?
            .iter()
            .map(|document| document.digest)
            .collect();
        let variant = |descriptor: Descriptor| {
            let mut images = item.images.iter();
            let held = images.find(|held| held.manifest.digest == descriptor.digest);
            Ok(Variant {
                image: held
                    .map(|held| self.read_image(&catalog, held))
                    .transpose()?,
                stored: stored.contains(&descriptor.digest),
                descriptor,
            })
        };
        let leaves = self.leaves(&item.entry, &stored)?;
        leaves.into_iter().map(variant).collect()
    }

    /// The documents that an index lists, with those of stored indexes in place of these.
    fn leaves(
        &self,
        index: &Descriptor,
        stored: &HashSet<Digest>,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut leaves = Vec::new();
        let mut opened = HashSet::from([index.digest]);
        let mut pending = self.index_document(index)?.manifests;
        pending.reverse();
        while let Some(document) = pending.pop() {
            if !document.is_index() || !stored.contains(&document.digest) {
                leaves.push(document);
            } else if opened.insert(document.digest) {
                let nested = self.index_document(&document)?.manifests;
                pending.extend(nested.into_iter().rev());
            }
        }
        Ok(leaves)
    }

    /// The documents below an index that are stored.
    pub(crate) fn documents_of(&self, index: &Descriptor) -> Result<Vec<Descriptor>, Error> {
        match crate::index::stored_in(index) {
            Some(documents) => Ok(documents),
            None => self.documents_below(index),
        }
    }

    /// Gives names to an index whose manifests (at least one of them) are stored.
    ///
    /// # Errors
    /// When it cannot be understood, when none of its images is stored, when the store cannot be
    /// written.
    pub fn add_index(&self, index: &[u8], names: &[Reference]) -> Result<Descriptor, Error> {
        let new = New {
            bytes: index,
            media_type: None,
            names,
            terms: Terms::Some,
        };
        let digest = Digest::of(index);
        let entry = self.enter(&[new])?.pop();
        entry
            .map(|entry| bare(&entry))
            .ok_or(Error::NoImages(digest))
    }
}
