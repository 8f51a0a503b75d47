//! A root file system becomes an image.

use std::io::Read;

use smidge_image::{ImageConfig, Reference};

use crate::{Error, Image, Store};

impl Store {
    /// Makes an image of one layer of a tar archive, gzip- or zstd-compressed or not, in one pass; of
    /// no layer, if the archive holds nothing. `config` tells everything but the layers.
    ///
    /// # Errors
    /// When the archive is no layer, when the store cannot be written.
    pub fn import(
        &self,
        _tar: &mut dyn Read,
        _config: ImageConfig,
        _names: &[Reference],
    ) -> Result<Image, Error> {
        unimplemented!()
    }
}
