//! Images as they travel.

use std::fs;
use std::io::BufWriter;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;

use smidge_image::{
    Descriptor, DiffId, Digest, ENCODER, Effort, HashingWriter, LayerKind, compress_gzip,
    media_type,
};

use crate::error::READ;
use crate::{Error, Image, Store, VerifiedReader, regular};

/// Bytes of compressed layer that gather before they are written.
const BUFFER: usize = 1 << 18;

/// How layers that are stored as bare tar archives are compressed when they leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The canonical gzip encoder.
    #[default]
    Gzip,
    /// The smallest gzip there is, whatever it takes.
    SmallestGzip,
    /// The canonical zstd encoder.
    Zstd,
    /// The smallest zstd there is, whatever it takes.
    SmallestZstd,
    /// Not at all.
    None,
}

/// Images for several platforms as they leave the store under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexTransfer {
    /// The index's bytes: those that came, if no layer had to be compressed.
    pub index: Vec<u8>,
    /// The index's descriptor.
    pub descriptor: Descriptor,
    /// The images, in the order of the index.
    pub images: Vec<Transfer>,
    /// Entries whose images are not stored.
    pub missing: Vec<Descriptor>,
}

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
        match regular::open(&self.path) {
            Ok(file) => Ok(VerifiedReader::new(file, what, &self.descriptor)),
            Err(source) => Err(Error::Io {
                action: READ,
                path: self.path.clone(),
                source,
            }),
        }
    }
}

impl Store {
    /// Everything that a name leads to, as it travels; `None` if it is one image and no index.
    ///
    /// # Errors
    /// As [`Store::transfer`].
    pub fn transfer_index(
        &self,
        _name: &str,
        _compression: Compression,
    ) -> Result<Option<IndexTransfer>, Error> {
        unimplemented!("platforms")
    }

    /// The image as it travels. Layers that are stored as bare tar archives are compressed by the
    /// canonical encoder, once: the outcome is kept.
    ///
    /// # Errors
    /// When a blob is missing or corrupt, when the store cannot be written.
    pub fn transfer(&self, image: &Image, effort: Effort) -> Result<Transfer, Error> {
        let (bytes, config) = self.documents(image)?;
        let mut manifest = image.manifest.clone();
        let mut layers = Vec::with_capacity(manifest.layers.len());
        for (layer, diff_id) in manifest
            .layers
            .iter_mut()
            .zip(&image.config.rootfs.diff_ids)
        {
            let path = match LayerKind::of(&layer.media_type) {
                Some(LayerKind::Tar) => self.compress(layer, diff_id, effort)?,
                _ => self.blob_path(&layer.digest),
            };
            layers.push(TransferLayer {
                descriptor: layer.clone(),
                path,
            });
        }
        let unchanged = manifest.layers == image.manifest.layers;
        let manifest = if unchanged {
            bytes
        } else {
            manifest.to_bytes()
        };
        let descriptor = Descriptor::of(image.descriptor().media_type, &manifest);
        Ok(Transfer {
            manifest,
            descriptor,
            config,
            layers,
        })
    }

    /// Turns a layer's descriptor into that of its compressed form, and tells where that is.
    fn compress(
        &self,
        layer: &mut Descriptor,
        diff_id: &DiffId,
        effort: Effort,
    ) -> Result<PathBuf, Error> {
        let directory = self.path("cache/transfer").join(encoder(effort));
        let link = directory.join(diff_id.0.hex());
        let (digest, size) = match compressed(&link) {
            Some(known) => known,
            None => {
                let made = self.compress_anew(layer, &directory, effort)?;
                self.link_atomically(&made.0.hex(), &link)?;
                made
            }
        };
        let docker = layer.media_type == media_type::DOCKER_LAYER;
        let kind = if docker {
            media_type::DOCKER_LAYER_GZIP
        } else {
            media_type::LAYER_GZIP
        };
        layer.media_type = kind.to_owned();
        (layer.digest, layer.size) = (digest, size);
        Ok(directory.join(digest.hex()))
    }

    fn compress_anew(
        &self,
        layer: &Descriptor,
        directory: &Path,
        effort: Effort,
    ) -> Result<(Digest, u64), Error> {
        let mut input = self.blob(layer)?;
        let mut output = BufWriter::with_capacity(BUFFER, HashingWriter::new(self.temp_file()?));
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let io = |error| self.io("write", directory, error);
        compress_gzip(&mut input, &mut output, effort, threads).map_err(io)?;
        let (temp, digest, size) = output
            .into_inner()
            .map_err(|error| io(error.into_error()))?
            .finish();
        temp.persist(self, &directory.join(digest.hex()))?;
        Ok((digest, size))
    }

    fn link_atomically(&self, target: &str, link: &Path) -> Result<(), Error> {
        let temp = self.temp_dir()?;
        let made = temp.path().join("link");
        symlink(target, &made)
            .and_then(|()| fs::rename(&made, link))
            .map_err(|error| self.io("create", link, error))
    }

    /// Removes the compressed forms of a layer.
    pub(crate) fn forget_transfer(&self, diff_id_hex: &str) -> Result<(), Error> {
        for encoder in self.list(&self.path("cache/transfer"))? {
            let link = encoder.join(diff_id_hex);
            if let Ok(target) = link.read_link() {
                self.discard(&link)?;
                self.discard(&encoder.join(target))?;
            }
        }
        Ok(())
    }
}

/// The name of what an encoder makes of a layer: changes whenever the bytes would.
fn encoder(effort: Effort) -> String {
    match effort {
        Effort::Canonical => ENCODER.to_owned(),
        Effort::Smallest => format!("{ENCODER}-smallest"),
    }
}

/// Digest and size of what a link in the cache leads to.
fn compressed(link: &Path) -> Option<(Digest, u64)> {
    let target = link.read_link().ok()?;
    let digest = Digest::from_hex(target.to_str()?).ok()?;
    let metadata = fs::symlink_metadata(link.with_file_name(target)).ok()?;
    Some((digest, metadata.len()))
}
