//! Archives become images.

use std::io::Read;
use std::path::Path;

use crate::{Error, Image, Store};

impl Store {
    /// Stores every image of a docker-archive or an OCI archive, compressed or not, or none of them.
    /// `input` is read once, to its end.
    ///
    /// # Errors
    /// When the archive is neither, is incomplete, corrupt or hostile; when the store cannot be
    /// written. Nothing is stored then.
    pub fn load(&self, _input: &mut dyn Read) -> Result<Vec<Image>, Error> {
        unimplemented!()
    }

    /// Stores every image of an OCI layout, or none of them.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn load_oci_layout(&self, _directory: &Path) -> Result<Vec<Image>, Error> {
        unimplemented!()
    }
}
