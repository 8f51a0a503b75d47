//! Layers unpacked: the lower directories of overlays.

use std::path::PathBuf;

use crate::{Error, Image, LayeredTree, Store};

/// Who is to own the files of an unpacked layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Whoever the layer says, as far as this process may do that: root may, and so may the root of a
    /// user namespace for the ids that it maps.
    Layer,
    /// The caller. Directories get `u+rwx`, files `u+r`, so that the caller can read and remove them;
    /// the blob keeps the truth.
    Caller,
}

impl Store {
    /// The image's layers as directories for overlayfs' `lowerdir`, the top one first, unpacked where
    /// they are not yet.
    ///
    /// # Errors
    /// When a layer is missing or corrupt, cannot be unpacked, or does not fit on the disk.
    pub fn checkout(&self, image: &Image) -> Result<Vec<PathBuf>, Error> {
        let root = rustix::process::geteuid().is_root();
        let ownership = if root {
            Ownership::Layer
        } else {
            Ownership::Caller
        };
        self.checkout_with(image, ownership, &mut |_| {})
    }

    /// As [`Store::checkout`], told who is to own the files, and telling what could not be made as the
    /// layer has it.
    ///
    /// # Errors
    /// As [`Store::checkout`].
    pub fn checkout_with(
        &self,
        _image: &Image,
        _ownership: Ownership,
        _note: &mut dyn FnMut(String),
    ) -> Result<Vec<PathBuf>, Error> {
        unimplemented!()
    }

    /// Whether every layer of the image is unpacked already.
    pub fn is_checked_out(&self, image: &Image) -> bool {
        image
            .config
            .rootfs
            .diff_ids
            .iter()
            .all(|diff_id| self.layer_path(diff_id).is_dir())
    }

    /// The image's files as one view, unpacked where they are not yet.
    ///
    /// # Errors
    /// As [`Store::checkout`].
    pub fn tree(&self, _image: &Image) -> Result<LayeredTree, Error> {
        unimplemented!()
    }
}
