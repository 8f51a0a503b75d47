//! Images: a manifest, a config, and the names they go by.

use std::collections::HashSet;

use smidge_image::{Descriptor, Digest, ImageConfig, Manifest, Reference, media_type};

use crate::catalog::{Catalog, Held, Names};
use crate::document::{New, Terms};
use crate::index::{bare, is_known, nameless, set_names};
use crate::platform::host_platform;
use crate::{Error, Store};

/// An image of the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The digest of the config: Docker's image id.
    pub id: Digest,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The config.
    pub config: ImageConfig,
    /// Its names, sorted; none if it is nameless ("dangling"). The names of an index are those of
    /// all its images.
    pub names: Vec<Reference>,
    /// How registries know it: `name@digest` of what was pulled or pushed, sorted.
    pub repo_digests: Vec<Reference>,
    /// The index that it was found in, if the index was meant: by its name or its digest, and not by
    /// anything that only this image has.
    pub index: Option<Descriptor>,
    manifest_size: u64,
}

/// The name of the image without files that is always there.
pub(crate) const SCRATCH: &str = "scratch";

impl Image {
    pub(crate) fn new(descriptor: &Descriptor, manifest: Manifest, config: ImageConfig) -> Self {
        Self {
            id: manifest.config.digest,
            digest: descriptor.digest,
            manifest,
            config,
            names: Vec::new(),
            repo_digests: Vec::new(),
            index: None,
            manifest_size: descriptor.size,
        }
    }

    /// Bytes on disk: manifest, config and layers as they are stored.
    pub fn size(&self) -> u64 {
        self.manifest_size
            .saturating_add(self.manifest.blobs_size())
    }

    /// The manifest's descriptor, without a name.
    pub fn descriptor(&self) -> Descriptor {
        let kind = self
            .manifest
            .media_type
            .as_deref()
            .unwrap_or(media_type::MANIFEST);
        Descriptor::new(kind, self.digest, self.manifest_size)
    }

    /// The image without layers, for this machine.
    pub(crate) fn scratch() -> Self {
        let config = ImageConfig::new(&host_platform());
        let config_bytes = config.to_bytes();
        let manifest = Manifest::new(
            Descriptor::of(media_type::CONFIG, &config_bytes),
            Vec::new(),
        );
        let descriptor = Descriptor::of(media_type::MANIFEST, &manifest.to_bytes());
        Self::new(&descriptor, manifest, config)
    }

    pub(crate) fn take_names(&mut self, names: Option<Names>) {
        let names = names.unwrap_or_default();
        self.names = names.tags.into_iter().collect();
        self.repo_digests = names.digests.into_iter().collect();
    }
}

impl Store {
    /// Makes an image of blobs that are in the store, under any number of names. A name that
    /// another image had is moved; that image stays, without it.
    ///
    /// # Errors
    /// When the manifest or its config cannot be understood or do not fit together, when a blob is
    /// missing, when the store cannot be written.
    pub fn add_image(&self, manifest: &[u8], names: &[Reference]) -> Result<Image, Error> {
        let mut images = self.add_images(&[(manifest.to_vec(), names.to_vec())])?;
        images
            .pop()
            .ok_or_else(|| Error::NoSuchImage(Digest::of(manifest).to_string()))
    }

    /// As [`Store::add_image`], all or none.
    pub(crate) fn add_images(
        &self,
        new: &[(Vec<u8>, Vec<Reference>)],
    ) -> Result<Vec<Image>, Error> {
        let new: Vec<_> = new
            .iter()
            .map(|(bytes, names)| New {
                bytes,
                media_type: None,
                names,
                terms: Terms::Image,
            })
            .collect();
        let entries = self.enter(&new)?;
        self.images_entered(&entries, false)
    }

    pub(crate) fn read_image(&self, catalog: &Catalog, held: &Held) -> Result<Image, Error> {
        let mut image = self.read_manifest(&held.manifest)?;
        image.take_names(Some(catalog.names_of(&held.manifest.digest)));
        Ok(image)
    }

    pub(crate) fn read_manifest(&self, descriptor: &Descriptor) -> Result<Image, Error> {
        let what = descriptor.digest.to_string();
        let manifest: Manifest = parse(&what, "image manifest", &self.bytes(descriptor)?)?;
        let config = self.bytes(&manifest.config)?;
        let what = manifest.config.digest.to_string();
        let config = parse(&what, "image config", &config)?;
        Ok(Image::new(descriptor, manifest, config))
    }

    /// All images that have a name of their own or none at all, in the order in which they came: of
    /// an index this machine's image, or the first that is stored.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        self.listed(false)
    }

    /// As [`Store::images`], with the images for all platforms.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn all_images(&self) -> Result<Vec<Image>, Error> {
        self.listed(true)
    }

    fn listed(&self, all: bool) -> Result<Vec<Image>, Error> {
        let catalog = self.current()?;
        let mut names = catalog.names();
        let mut seen = HashSet::new();
        let mut images = Vec::new();
        for item in &catalog.0 {
            let shown: Vec<&Held> = match all {
                true => item.images.iter().collect(),
                false => item.representative().into_iter().collect(),
            };
            for held in shown {
                if !seen.insert(held.manifest.digest) {
                    continue;
                }
                let mut image = self.read_manifest(&held.manifest)?;
                image.take_names(names.remove(&held.manifest.digest));
                image.index = item.entry.is_index().then(|| bare(&item.entry));
                images.push(image);
            }
        }
        Ok(images)
    }

    /// The image with a name, an id, the beginning of an id, or a manifest digest. `scratch` is
    /// always there. What stands for several platforms means this machine's image, or the only one
    /// that is stored.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::AmbiguousImage`], [`Error::NoSuchPlatform`];
    /// [`Error::Reference`] for a text that can be none of these; [`Error::Invalid`] for what is no
    /// image; when the store cannot be read.
    pub fn image(&self, name: &str) -> Result<Image, Error> {
        self.image_for(name, None)
    }

    /// Gives an image one more name, or the index that it was found in. If another had it, that one
    /// loses it.
    ///
    /// # Errors
    /// When the image is gone, when the store cannot be written.
    pub fn tag(&self, image: &Image, name: &Reference) -> Result<(), Error> {
        let names = std::slice::from_ref(name);
        let digest = image
            .index
            .as_ref()
            .map_or(image.digest, |index| index.digest);
        let known = self.update_index(|index| {
            let entry = index.manifests.iter().find(|entry| entry.digest == digest);
            let entry = entry.filter(|entry| is_known(entry)).map(nameless);
            if let Some(entry) = &entry {
                set_names(index, &[(entry.clone(), names.to_vec())]);
            }
            Ok(entry.is_some())
        })?;
        if known {
            return Ok(());
        }
        let (bytes, terms) = match &image.index {
            Some(index) => (self.bytes(index)?, Terms::Some),
            None => {
                let (manifest, config) = self.documents(image)?;
                self.put(&config)?;
                (manifest, Terms::Image)
            }
        };
        let new = New {
            bytes: &bytes,
            media_type: None,
            names,
            terms,
        };
        self.enter(&[new]).map(drop)
    }

    /// Remembers under which digest a registry knows a name.
    ///
    /// # Errors
    /// When the name is gone, when the store cannot be written.
    pub fn set_repo_digest(&self, name: &Reference, digest: Digest) -> Result<(), Error> {
        if name.digest().is_some() {
            // Such a name says it itself.
            return Ok(());
        }
        self.update_index(|index| {
            let mut found = false;
            for entry in &mut index.manifests {
                if crate::index::name_of(entry).as_ref() == Some(name) {
                    let key = crate::index::REPO_DIGEST.to_owned();
                    entry.annotations.insert(key, digest.to_string());
                    found = true;
                }
            }
            match found {
                true => Ok(()),
                false => Err(Error::NoSuchImage(name.familiar())),
            }
        })
    }

    /// The digest under which a registry knows a name, if one does.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn repo_digest(&self, name: &Reference) -> Result<Option<Digest>, Error> {
        let index = self.read_index()?;
        let mut entries = index.manifests.iter();
        let entry = entries.find(|entry| crate::index::name_of(entry).as_ref() == Some(name));
        let known = entry.and_then(|entry| crate::index::repo_digest_of(entry, name));
        Ok(known.and_then(|known| known.digest()))
    }

    /// The manifest's and the config's bytes.
    pub(crate) fn documents(&self, image: &Image) -> Result<(Vec<u8>, Vec<u8>), Error> {
        match self.bytes(&image.descriptor()) {
            Err(Error::MissingBlob { .. }) if image.digest == Image::scratch().digest => {
                Ok((image.manifest.to_bytes(), image.config.to_bytes()))
            }
            manifest => Ok((manifest?, self.bytes(&image.manifest.config)?)),
        }
    }
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    what: &str,
    kind: &'static str,
    bytes: &[u8],
) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Document {
        what: what.to_owned(),
        kind,
        source,
    })
}
