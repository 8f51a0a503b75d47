//! A root file system becomes an image.

use std::io::{self, Read, Write};

use smidge_image::{Descriptor, DiffId, ImageConfig, Manifest, Reference, media_type, read_layer};

use crate::checkout::{Budget, Stop, unpacked};
use crate::{BlobWriter, Error, Image, Store};

/// What the layer is called in messages.
const WHAT: &str = "the imported archive";

/// Writes down what it reads.
struct Tee<'s, R> {
    input: R,
    output: BlobWriter<'s>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.output.write_all(&buffer[..read])?;
        Ok(read)
    }
}

impl Store {
    /// Makes an image of one layer of a tar archive, gzip- or zstd-compressed or not, in one pass; of
    /// no layer, if the archive holds nothing. `config` tells everything but the layers.
    ///
    /// The archive's bytes, without their compression, are the layer.
    ///
    /// # Errors
    /// When the archive is no layer, when the store cannot be written.
    pub fn import(
        &self,
        tar: &mut dyn Read,
        mut config: ImageConfig,
        names: &[Reference],
    ) -> Result<Image, Error> {
        let mut layers = Vec::new();
        if let Some(layer) = self.import_layer(tar)? {
            config.rootfs.diff_ids = vec![DiffId(layer.digest)];
            layers.push(layer);
        }
        let config = config.to_bytes();
        self.put(&config)?;
        let manifest = Manifest::new(Descriptor::of(media_type::CONFIG, &config), layers);
        self.add_image(&manifest.to_bytes(), names)
    }

    fn import_layer(&self, tar: &mut dyn Read) -> Result<Option<Descriptor>, Error> {
        let mut budget = Budget::new(self)?;
        let mut empty = true;
        let (_, input) = unpacked(tar).map_err(Error::Input)?;
        let mut tee = Tee {
            input,
            output: self.blob_writer()?,
        };
        let outcome = read_layer(&mut tee, |entry, _| {
            empty = false;
            budget.spend(entry.size(), WHAT).map_err(Stop::Visit)
        });
        outcome.map_err(|stop| stop.into_error(WHAT))?;
        if empty {
            return Ok(None);
        }
        let (digest, size) = tee.output.commit()?;
        Ok(Some(Descriptor::new(media_type::LAYER, digest, size)))
    }
}
