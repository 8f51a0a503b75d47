//! Images: a manifest, a config, and the names they go by.

use std::collections::BTreeSet;
use std::iter;

use smidge_image::{
    Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, media_type, validate,
};

use crate::index::{find, is_manifest, names_of, set_names};
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
    /// Its names, sorted; none if it is nameless ("dangling").
    pub names: Vec<Reference>,
    /// How registries know it: `name@digest` of what was pulled or pushed, sorted.
    pub repo_digests: Vec<Reference>,
    manifest_size: u64,
}

/// What a name has for one platform.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// The entry of the index; of a plain image, its manifest's.
    pub descriptor: Descriptor,
    /// The image, if it is stored.
    pub image: Option<Image>,
}

/// The name of the image without files that is always there.
pub(crate) const SCRATCH: &str = "scratch";

impl Image {
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
    fn scratch() -> Self {
        let config = ImageConfig::new(&host_platform());
        let config_bytes = config.to_bytes();
        let manifest = Manifest::new(
            Descriptor::of(media_type::CONFIG, &config_bytes),
            Vec::new(),
        );
        let manifest_bytes = manifest.to_bytes();
        Self {
            id: manifest.config.digest,
            digest: Digest::of(&manifest_bytes),
            manifest,
            config,
            names: Vec::new(),
            repo_digests: Vec::new(),
            manifest_size: manifest_bytes.len() as u64,
        }
    }
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
        let mut images = Vec::with_capacity(new.len());
        for (bytes, names) in new {
            let mut image = self.admit(bytes)?;
            image.names.clone_from(names);
            self.put(bytes)?;
            images.push(image);
        }
        let index = self.update_index(|index| {
            for image in &images {
                set_names(index, &image.descriptor(), &image.id, &image.names);
            }
            Ok(index.clone())
        })?;
        for image in &mut images {
            image.names = names_of(&index, &image.digest);
            let layers = image.manifest.layers.iter().map(|layer| &layer.digest);
            self.unpin(layers.chain([&image.id, &image.digest]));
        }
        Ok(images)
    }

    /// Checks that a manifest describes an image whose blobs are all there.
    fn admit(&self, bytes: &[u8]) -> Result<Image, Error> {
        let digest = Digest::of(bytes);
        let image = self.parse_image(digest, bytes)?;
        validate(&image.manifest, &image.config).map_err(|source| Error::Invalid {
            what: digest.to_string(),
            source,
        })?;
        let blobs = iter::once(&image.manifest.config).chain(&image.manifest.layers);
        let missing = blobs.into_iter().find(|blob| !self.has(blob));
        match missing {
            Some(blob) => Err(Error::MissingBlob {
                root: self.root().to_owned(),
                digest: blob.digest,
            }),
            None => Ok(image),
        }
    }

    fn parse_image(&self, digest: Digest, bytes: &[u8]) -> Result<Image, Error> {
        let manifest: Manifest = parse(&digest.to_string(), "image manifest", bytes)?;
        let config = self.bytes(&manifest.config)?;
        Ok(Image {
            id: manifest.config.digest,
            digest,
            config: parse(&manifest.config.digest.to_string(), "image config", &config)?,
            manifest,
            names: Vec::new(),
            repo_digests: Vec::new(),
            manifest_size: bytes.len() as u64,
        })
    }

    pub(crate) fn read_image(&self, index: &Index, entry: &Descriptor) -> Result<Image, Error> {
        let mut image = self.parse_image(entry.digest, &self.bytes(entry)?)?;
        image.names = names_of(index, &entry.digest);
        Ok(image)
    }

    /// All images, in the order in which they came.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        let index = self.read_index()?;
        let mut seen = BTreeSet::new();
        index
            .manifests
            .iter()
            .filter(|entry| is_manifest(entry) && seen.insert(entry.digest))
            .map(|entry| self.read_image(&index, entry))
            .collect()
    }

    /// The image with a name, an id, the beginning of an id, or a manifest digest. `scratch` is
    /// always there.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::AmbiguousImage`]; [`Error::Reference`] for a text that can be
    /// none of these; when the store cannot be read.
    pub fn image(&self, name: &str) -> Result<Image, Error> {
        let index = self.read_index()?;
        match self.find_image(&index, name) {
            Err(Error::NoSuchImage(_)) if name == SCRATCH => Ok(Image::scratch()),
            found => self.read_image(&index, found?),
        }
    }

    /// As [`Store::image`], of a name that stands for several platforms the image for one of them.
    /// Without a platform it is this machine's, or the only one that is stored.
    ///
    /// # Errors
    /// As [`Store::image`]; [`Error::NoSuchPlatform`].
    pub fn image_for(&self, name: &str, _platform: Option<&Platform>) -> Result<Image, Error> {
        self.image(name)
    }

    /// What a name has for each platform, in the order of its index.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn variants(&self, _name: &str) -> Result<Vec<Variant>, Error> {
        unimplemented!("platforms")
    }

    /// The document that a name leads to, manifest or index, as it came.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn document(&self, _name: &str) -> Result<(Descriptor, Vec<u8>), Error> {
        unimplemented!("platforms")
    }

    /// Gives names to an index whose manifests (at least one of them) are stored.
    ///
    /// # Errors
    /// When it cannot be understood, when none of its images is stored, when the store cannot be
    /// written.
    pub fn add_index(&self, _index: &[u8], _names: &[Reference]) -> Result<Descriptor, Error> {
        unimplemented!("platforms")
    }

    /// Remembers under which digest a registry knows a name.
    ///
    /// # Errors
    /// When the name is gone, when the store cannot be written.
    pub fn set_repo_digest(&self, _name: &Reference, _digest: Digest) -> Result<(), Error> {
        unimplemented!("platforms")
    }

    pub(crate) fn find_image<'i>(
        &self,
        index: &'i Index,
        name: &str,
    ) -> Result<&'i Descriptor, Error> {
        find(index, name, &|entry| self.id_of(entry))
    }

    /// Gives an image one more name. If another image had it, that one loses it.
    ///
    /// # Errors
    /// When the image is gone, when the store cannot be written.
    pub fn tag(&self, image: &Image, name: &Reference) -> Result<(), Error> {
        let (manifest, config) = self.documents(image)?;
        self.put(&config)?;
        self.add_image(&manifest, std::slice::from_ref(name))
            .map(drop)
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

    /// The image id of an entry of the index: from its annotation, else from the manifest.
    pub(crate) fn id_of(&self, entry: &Descriptor) -> Result<Digest, Error> {
        let annotated = entry.annotations.get(crate::index::IMAGE_ID);
        if let Some(id) = annotated.and_then(|id| id.parse().ok()) {
            return Ok(id);
        }
        let bytes = self.bytes(entry)?;
        let manifest: Manifest = parse(&entry.digest.to_string(), "image manifest", &bytes)?;
        Ok(manifest.config.digest)
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
