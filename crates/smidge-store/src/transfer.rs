//! Images as they travel.

use std::path::PathBuf;

use smidge_image::{Descriptor, Digest, Effort};

use crate::{Error, Image, Store, VerifiedReader};

/// An image as it leaves the store: every layer compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The manifest's bytes: those that came, if no layer had to be compressed.
    pub manifest: Vec<u8>,
    /// The manifest's descriptor.
    pub descriptor: Descriptor,
    /// The config's bytes.
    pub config: Vec<u8>,
    /// The layers, bottom first.
    pub layers: Vec<TransferLayer>,
}

/// A layer as it leaves the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferLayer {
    /// What the manifest says about it.
    pub descriptor: Descriptor,
    path: PathBuf,
}

impl Transfer {
    /// Bytes that go over the wire: manifest, config and layers.
    pub fn size(&self) -> u64 {
        let layers = self.layers.iter().map(|layer| layer.descriptor.size);
        self.manifest.len() as u64 + self.config.len() as u64 + layers.sum::<u64>()
    }

    /// The manifest's digest.
    pub fn digest(&self) -> Digest {
        self.descriptor.digest
    }
}

impl TransferLayer {
    /// Opens the layer's bytes.
    ///
    /// # Errors
    /// When they are gone or cannot be read.
    pub fn open(&self) -> Result<VerifiedReader, Error> {
        let what = self.path.display().to_string();
        match std::fs::File::open(&self.path) {
            Ok(file) => Ok(VerifiedReader::new(file, what, &self.descriptor)),
            Err(source) => Err(Error::Io {
                action: crate::error::READ,
                path: self.path.clone(),
                source,
            }),
        }
    }
}

impl Store {
    /// The image as it travels. Layers that are stored as bare tar archives are compressed by the
    /// canonical encoder, once: the outcome is kept.
    ///
    /// # Errors
    /// When a blob is missing or corrupt, when the store cannot be written.
    pub fn transfer(&self, _image: &Image, _effort: Effort) -> Result<Transfer, Error> {
        unimplemented!()
    }
}
