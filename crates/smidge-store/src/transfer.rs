//! Images as they travel.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{iter, thread};

use rustix::fs::ioctl_ficlone;
use serde::Deserialize;
use smidge_image::{
    Descriptor, Digest, ENCODER, Effort, HashingWriter, Index, LayerKind, Manifest, ZSTD_ENCODER,
    annotation, compress_gzip, compress_zstd, media_type,
};

use crate::blob::DOCUMENT_LIMIT;
use crate::error::READ;
use crate::image::parse;
use crate::partial::is_at;
use crate::{Error, Image, Store, VerifiedReader, regular};

/// Bytes of compressed layer that gather before they are written.
const BUFFER: usize = 1 << 18;

/// Bytes of a layer that is compressed beside others, and how many at a time: each takes 20 MiB.
const SMALL: u64 = 4 << 20;
const SIDE_BY_SIDE: usize = 2;

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

/// What makes one form of a layer.
#[derive(Clone, Copy)]
struct Encoder {
    kind: LayerKind,
    effort: Effort,
}

impl Compression {
    /// What a manifest says of layers that are compressed so: the name of the encoder.
    pub fn encoder_name(self) -> Option<String> {
        self.encoder().map(Encoder::name)
    }

    fn encoder(self) -> Option<Encoder> {
        let (kind, effort) = match self {
            Self::Gzip => (LayerKind::Gzip, Effort::Canonical),
            Self::SmallestGzip => (LayerKind::Gzip, Effort::Smallest),
            Self::Zstd => (LayerKind::Zstd, Effort::Canonical),
            Self::SmallestZstd => (LayerKind::Zstd, Effort::Smallest),
            Self::None => return None,
        };
        Some(Encoder { kind, effort })
    }
}

impl Encoder {
    /// The name of what it makes of a layer: changes whenever the bytes would.
    fn name(self) -> String {
        let encoder = match self.kind {
            LayerKind::Zstd => ZSTD_ENCODER,
            _ => ENCODER,
        };
        match self.effort {
            Effort::Canonical => encoder.to_owned(),
            Effort::Smallest => format!("{encoder}-smallest"),
        }
    }
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
    /// Entries whose images are not stored, or that are indexes themselves.
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
    /// Whether the file was verified when it was written, and will not be needed here.
    is_passing: bool,
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
        Ok(VerifiedReader::new(self.file()?, what, &self.descriptor))
    }

    /// As [`TransferLayer::open`], from an offset on. The bytes before it are verified, too.
    ///
    /// # Errors
    /// When they are gone, cannot be read, or are fewer.
    pub fn open_from(&self, offset: u64) -> Result<VerifiedReader, Error> {
        let mut reader = self.open()?;
        io::copy(&mut (&mut reader).take(offset), &mut io::sink())
            .map_err(|error| Error::carried(error, |source| self.unreadable(source)))?;
        Ok(reader)
    }

    /// Opens the layer's file, for who sends parts of it to somebody who verifies the whole.
    ///
    /// # Errors
    /// When it is gone or cannot be read.
    pub fn file(&self) -> Result<File, Error> {
        regular::open(&self.path).map_err(|source| self.unreadable(source))
    }

    /// Whether the file was verified when it was written, and is nobody else's.
    pub(crate) fn is_passing(&self) -> bool {
        self.is_passing
    }

    /// Whether a path leads to the very file.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        File::open(&self.path).is_ok_and(|file| is_at(&file, path))
    }

    /// Gives the file another name.
    pub(crate) fn link(&self, path: &Path) -> io::Result<()> {
        fs::hard_link(&self.path, path)
    }

    /// Makes a file share the bytes on disk, on file systems that can do that. They are not verified.
    pub(crate) fn share(&self, file: &File) -> io::Result<()> {
        Ok(ioctl_ficlone(file, regular::open(&self.path)?)?)
    }

    fn unreadable(&self, source: io::Error) -> Error {
        Error::Io {
            action: READ,
            path: self.path.clone(),
            source,
        }
    }
}

impl Store {
    /// The image as it travels. Layers that are stored as bare tar archives are compressed by the
    /// encoder that is asked for, once: the outcome is kept. What is compressed already travels as it
    /// came. (Docker's own manifest knows no zstd: its layers are compressed with gzip then.)
    ///
    /// # Errors
    /// When a blob is missing or corrupt, when the store cannot be written.
    pub fn transfer(&self, image: &Image, compression: Compression) -> Result<Transfer, Error> {
        let (manifest, config) = self.documents(image)?;
        self.pack(image.descriptor(), manifest, config, compression)
    }

    /// Everything that a name leads to, as it travels; `None` if it is one image and no index.
    ///
    /// # Errors
    /// As [`Store::transfer`].
    pub fn transfer_index(
        &self,
        name: &str,
        compression: Compression,
    ) -> Result<Option<IndexTransfer>, Error> {
        let (stored, bytes) = self.document(name)?;
        if !stored.is_index() {
            return Ok(None);
        }
        let before: Index = parse(&stored.digest.to_string(), "image index", &bytes)?;
        let mut after = before.clone();
        let (mut images, mut missing) = (Vec::new(), Vec::new());
        for entry in &mut after.manifests {
            let Some(image) = self.pack_entry(entry, compression)? else {
                missing.push(entry.clone());
                continue;
            };
            let Descriptor {
                media_type,
                digest,
                size,
                ..
            } = image.descriptor.clone();
            (entry.media_type, entry.digest, entry.size) = (media_type, digest, size);
            images.push(image);
        }
        let mut transfer = IndexTransfer {
            index: bytes,
            descriptor: Descriptor::new(stored.media_type, stored.digest, stored.size),
            images,
            missing,
        };
        if after != before {
            transfer.index = after.to_bytes();
            transfer.descriptor = Descriptor::of(transfer.descriptor.media_type, &transfer.index);
            self.remember(compression, &stored.digest, &transfer.index)?;
        }
        Ok(Some(transfer))
    }

    /// Layers as they travel, in their order; see [`Store::transfer`].
    ///
    /// # Errors
    /// As [`Store::transfer`].
    pub fn transfer_layers(
        &self,
        layers: &[Descriptor],
        compression: Compression,
    ) -> Result<Vec<TransferLayer>, Error> {
        if let Some(encoder) = compression.encoder() {
            self.compress_small(layers, encoder)?;
        }
        let mut travelling = Vec::with_capacity(layers.len());
        for layer in layers {
            let mut descriptor = layer.clone();
            let path = match compression.encoder() {
                Some(encoder) if is_bare(layer) => self.compress(&mut descriptor, encoder)?,
                _ => self.blob_path(&layer.digest),
            };
            travelling.push(TransferLayer {
                descriptor,
                path,
                is_passing: self.is_passing(),
            });
        }
        Ok(travelling)
    }

    /// A blob by its digest as it travels: one that is stored, or that [`Store::transfer`] made.
    pub fn transfer_blob(&self, digest: &Digest) -> Option<TransferLayer> {
        let hex = digest.hex();
        let encoders = self.list(&self.path("cache/transfer")).unwrap_or_default();
        let made = encoders.into_iter().map(|encoder| encoder.join(&hex));
        let mut places = [self.blob_path(digest)].into_iter().chain(made);
        places.find_map(|path| {
            let metadata = fs::symlink_metadata(&path).ok()?;
            let descriptor = Descriptor::new("application/octet-stream", *digest, metadata.len());
            metadata.is_file().then_some(TransferLayer {
                descriptor,
                path,
                is_passing: self.is_passing(),
            })
        })
    }

    /// A manifest or index by its digest as it travels; see [`Store::transfer_blob`].
    ///
    /// # Errors
    /// When it is corrupt or cannot be read.
    pub fn transfer_manifest(
        &self,
        digest: &Digest,
    ) -> Result<Option<(Descriptor, Vec<u8>)>, Error> {
        let Some(blob) = self.transfer_blob(digest) else {
            return Ok(None);
        };
        if blob.descriptor.size > DOCUMENT_LIMIT {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = blob.open()?.read_to_end(&mut bytes);
        read.map_err(|error| Error::carried(error, |source| blob.unreadable(source)))?;
        let document: Option<Outline> = serde_json::from_slice(&bytes).ok();
        let media_type = document.and_then(Outline::media_type);
        Ok(media_type.map(|media_type| (Descriptor::of(media_type, &bytes), bytes)))
    }

    /// The image of an index's entry; `None` if it is not here, or not whole.
    fn pack_entry(
        &self,
        entry: &Descriptor,
        compression: Compression,
    ) -> Result<Option<Transfer>, Error> {
        if !entry.is_manifest() {
            return Ok(None);
        }
        let packed = self.bytes(entry).and_then(|bytes| {
            let manifest: Manifest = parse(&entry.digest.to_string(), "image manifest", &bytes)?;
            let config = self.bytes(&manifest.config)?;
            if let Some(lacking) = manifest.layers.iter().find(|layer| !self.has(layer)) {
                return Err(Error::MissingBlob {
                    root: self.root().to_owned(),
                    digest: lacking.digest,
                });
            }
            let stored = Descriptor::new(entry.media_type.clone(), entry.digest, entry.size);
            self.pack(stored, bytes, config, compression)
        });
        match packed {
            Err(Error::MissingBlob { .. }) => Ok(None),
            packed => packed.map(Some),
        }
    }

    fn pack(
        &self,
        stored: Descriptor,
        bytes: Vec<u8>,
        config: Vec<u8>,
        compression: Compression,
    ) -> Result<Transfer, Error> {
        let before: Manifest = parse(&stored.digest.to_string(), "image manifest", &bytes)?;
        let mut after = before.clone();
        let compression = match before.is_image() {
            true => compression,
            false => Compression::None,
        };
        let layers = self.transfer_layers(&before.layers, compression)?;
        after.layers = layers
            .iter()
            .map(|layer| layer.descriptor.clone())
            .collect();
        let mut transfer = Transfer {
            manifest: bytes,
            descriptor: stored,
            config,
            layers,
        };
        if after != before {
            let stored = transfer.digest();
            transfer.manifest = after.to_bytes();
            let kind = transfer.descriptor.media_type;
            transfer.descriptor = Descriptor::of(kind, &transfer.manifest);
            self.remember(compression, &stored, &transfer.manifest)?;
        }
        Ok(transfer)
    }

    /// Compresses the layers of one chunk side by side; larger ones use all processors by themselves.
    fn compress_small(&self, layers: &[Descriptor], encoder: Encoder) -> Result<(), Error> {
        let small = |layer: &&Descriptor| is_bare(layer) && layer.size <= SMALL;
        let waiting = Mutex::new(layers.iter().filter(small).cloned());
        let work = || {
            let next = || {
                waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .next()
            };
            iter::from_fn(next)
                .try_for_each(|mut layer| self.compress(&mut layer, encoder).map(drop))
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(layers.len()).min(SIDE_BY_SIDE);
        if threads < 2 {
            return Ok(());
        }
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    /// Turns a layer's descriptor into that of its compressed form, and tells where that is.
    fn compress(&self, layer: &mut Descriptor, encoder: Encoder) -> Result<PathBuf, Error> {
        let docker = layer.media_type == media_type::DOCKER_LAYER;
        let kind = if docker {
            LayerKind::Gzip
        } else {
            encoder.kind
        };
        let encoder = Encoder { kind, ..encoder };
        let directory = self.transfers(encoder);
        let link = directory.join(layer.digest.hex());
        let (digest, size) = match compressed(&link) {
            Some(known) => known,
            None => self.compress_anew(layer, encoder, &link)?,
        };
        if docker {
            layer.media_type = media_type::DOCKER_LAYER_GZIP.to_owned();
        } else {
            layer.media_type = kind.media_type().to_owned();
            let name = annotation::ENCODER.to_owned();
            layer.annotations.insert(name, encoder.name());
        }
        (layer.digest, layer.size) = (digest, size);
        Ok(directory.join(digest.hex()))
    }

    fn compress_anew(
        &self,
        layer: &Descriptor,
        encoder: Encoder,
        link: &Path,
    ) -> Result<(Digest, u64), Error> {
        let mut input = self.blob(layer)?;
        let mut output = BufWriter::with_capacity(BUFFER, HashingWriter::new(self.temp_file()?));
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let io = |error| self.io("write", link, error);
        let (size, effort) = (layer.size, encoder.effort);
        match encoder.kind {
            LayerKind::Zstd => compress_zstd(&mut input, size, &mut output, effort, threads),
            _ => compress_gzip(&mut input, &mut output, effort, threads),
        }
        .map_err(io)?;
        let (temp, digest, size) = output
            .into_inner()
            .map_err(|error| io(error.into_error()))?
            .finish();
        // The link goes first: what no link leads to is garbage.
        self.link_atomically(&digest.hex(), link)?;
        temp.persist(self, &link.with_file_name(digest.hex()))?;
        Ok((digest, size))
    }

    /// Keeps a document that was made of a stored one, to be found by its digest.
    fn remember(
        &self,
        compression: Compression,
        stored: &Digest,
        made: &[u8],
    ) -> Result<(), Error> {
        let Some(encoder) = compression.encoder() else {
            return Ok(());
        };
        let digest = Digest::of(made);
        let link = self.transfers(encoder).join(stored.hex());
        if compressed(&link) == Some((digest, made.len() as u64)) {
            return Ok(());
        }
        let kept = self
            .link_atomically(&digest.hex(), &link)
            .and_then(|()| self.write_atomically(&link.with_file_name(digest.hex()), made));
        match kept {
            // Nothing can be found there then, but it travels all the same.
            Err(Error::ReadOnly { .. }) => Ok(()),
            kept => kept,
        }
    }

    /// Where everything is that an encoder made.
    fn transfers(&self, encoder: Encoder) -> PathBuf {
        self.path("cache/transfer").join(encoder.name())
    }

    fn link_atomically(&self, target: &str, link: &Path) -> Result<(), Error> {
        if let Some(directory) = link.parent() {
            self.make_directory(directory, 0o755)?;
        }
        let temp = self.temp_dir()?;
        let made = temp.path().join("link");
        symlink(target, &made)
            .and_then(|()| fs::rename(&made, link))
            .map_err(|error| self.io("create", link, error))
    }

    /// Removes what was made for the way of a layer, by its diff id, or of a manifest or index.
    pub(crate) fn forget_transfer(&self, stored_hex: &str) -> Result<(), Error> {
        for encoder in self.list(&self.path("cache/transfer"))? {
            let link = encoder.join(stored_hex);
            if let Ok(target) = link.read_link() {
                self.discard(&link)?;
                self.discard(&encoder.join(target))?;
            }
        }
        Ok(())
    }
}

/// As much of a document as tells what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Outline {
    fn media_type(self) -> Option<String> {
        let shape = match (self.config, self.layers, self.manifests) {
            (Some(_), Some(_), None) => media_type::MANIFEST,
            (None, None, Some(_)) => media_type::INDEX,
            _ => return None,
        };
        let stated = self.media_type.unwrap_or_else(|| shape.to_owned());
        (self.schema_version == 2).then_some(stated)
    }
}

/// Whether a layer may be compressed, and is not. Those that are not to be distributed keep their form.
fn is_bare(layer: &Descriptor) -> bool {
    matches!(
        layer.media_type.as_str(),
        media_type::LAYER | media_type::DOCKER_LAYER
    )
}

/// Digest and size of what a link in the cache leads to.
fn compressed(link: &Path) -> Option<(Digest, u64)> {
    let target = link.read_link().ok()?;
    let digest = Digest::from_hex(target.to_str()?).ok()?;
    let metadata = fs::symlink_metadata(link.with_file_name(target)).ok()?;
    Some((digest, metadata.len()))
}
