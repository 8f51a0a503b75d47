//! `manifest create`, `annotate`, `push`: indexes made by hand.

use smidge_image::{Descriptor, Digest};

use super::Connection;
use crate::{Engine, Progress, Result};

/// An index to make.
#[derive(Clone, Debug, Default)]
pub struct ManifestCreate {
    /// Its name.
    pub name: String,
    /// The images it is to hold: names in the store, or else in a registry.
    pub images: Vec<String>,
    /// `--amend`: add to an index that exists.
    pub amend: bool,
    /// How to talk to registries.
    pub connection: Connection,
}

/// What to say about an image in an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    /// `--os`.
    pub os: Option<String>,
    /// `--arch`.
    pub architecture: Option<String>,
    /// `--variant`.
    pub variant: Option<String>,
    /// `--os-version`.
    pub os_version: Option<String>,
    /// `--os-features`.
    pub os_features: Vec<String>,
    /// `--annotation KEY=VALUE`.
    pub annotations: Vec<(String, String)>,
}

impl Engine {
    /// Makes an index of images, and keeps it in the store under its name.
    ///
    /// # Errors
    /// When there is one already (unless it is to be amended), when an image is nowhere to be found.
    pub fn manifest_create(
        &self,
        _request: &ManifestCreate,
        _progress: &dyn Progress,
    ) -> Result<Descriptor> {
        unimplemented!("manifest")
    }

    /// Changes what an index says about one of its images.
    ///
    /// # Errors
    /// When there is no such index, or the image is not in it.
    pub fn manifest_annotate(
        &self,
        _index: &str,
        _image: &str,
        _annotation: &Annotation,
    ) -> Result<()> {
        unimplemented!("manifest")
    }

    /// Takes images out of an index.
    ///
    /// # Errors
    /// As [`Engine::manifest_annotate`].
    pub fn manifest_remove(&self, _index: &str, _images: &[Digest]) -> Result<()> {
        unimplemented!("manifest")
    }
}
