//! Images become archives, layouts and root file systems.

use std::io::Write;
use std::path::Path;

use smidge_image::Reference;

use crate::{Error, Image, Store};

impl Store {
    /// Writes images as `docker save` does, layers as they are stored.
    ///
    /// # Errors
    /// When a blob is missing or corrupt, when `output` cannot be written.
    pub fn save_docker_archive(
        &self,
        _images: &[(Image, Vec<Reference>)],
        _output: &mut dyn Write,
    ) -> Result<(), Error> {
        unimplemented!()
    }

    /// Writes images as a tar archive of an OCI layout, layers compressed.
    ///
    /// # Errors
    /// As [`Store::save_docker_archive`].
    pub fn save_oci_archive(
        &self,
        _images: &[(Image, Vec<Reference>)],
        _output: &mut dyn Write,
    ) -> Result<(), Error> {
        unimplemented!()
    }

    /// Writes images to a directory as an OCI layout, layers compressed. In a directory that is one
    /// already, they are added to it.
    ///
    /// # Errors
    /// As [`Store::save_docker_archive`].
    pub fn save_oci_layout(
        &self,
        _images: &[(Image, Vec<Reference>)],
        _directory: &Path,
    ) -> Result<(), Error> {
        unimplemented!()
    }

    /// Writes the image's files as one tar archive.
    ///
    /// # Errors
    /// As [`Store::checkout`], and when `output` cannot be written.
    pub fn save_rootfs(&self, _image: &Image, _output: &mut dyn Write) -> Result<(), Error> {
        unimplemented!()
    }

    /// Writes the image's files to a directory, which is made if it is missing.
    ///
    /// # Errors
    /// As [`Store::checkout`], and when the directory cannot be written.
    pub fn save_rootfs_directory(&self, _image: &Image, _directory: &Path) -> Result<(), Error> {
        unimplemented!()
    }
}
