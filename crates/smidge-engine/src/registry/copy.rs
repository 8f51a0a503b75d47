//! `copy`: images from one place to another.

use std::path::PathBuf;
use std::str::FromStr;

use smidge_image::{Digest, Platform, Reference};
use smidge_store::Compression;

use super::Connection;
use crate::{Engine, Progress, Result};

/// A place that images are in, or go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `docker://NAME`, or a bare NAME: a registry.
    Registry(Reference),
    /// `store:NAME`: the store.
    Store(String),
    /// `oci:DIR[:NAME]`: an OCI image layout.
    Oci(PathBuf, Option<String>),
    /// `oci-archive:FILE[:NAME]`: a layout in a tar archive.
    OciArchive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:NAME]`: what `docker save` writes.
    DockerArchive(PathBuf, Option<String>),
    /// `docker-daemon:NAME`, `docker:NAME`: Docker's own store, through its socket.
    DockerDaemon(Reference),
    /// `containerd:NAME`: containerd's store, through its socket.
    Containerd(Reference),
}

/// Why a text is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a place for images: {why}")]
pub struct LocationError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(_text: &str) -> std::result::Result<Self, LocationError> {
        unimplemented!("copy")
    }
}

/// What to copy where.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// From where.
    pub source: Location,
    /// To where.
    pub destination: Location,
    /// The one platform to copy; this machine's if `None` and not `all`.
    pub platform: Option<Platform>,
    /// Every platform, index and all.
    pub all: bool,
    /// How to compress layers that are not compressed yet.
    pub compression: Compression,
    /// How to talk to registries.
    pub connection: Connection,
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The digest of the manifest or index at the destination.
    pub digest: Digest,
    /// What is worth knowing: "sent all 3 layers: the API of …".
    pub notes: Vec<String>,
}

impl Engine {
    /// Copies an image. Manifests keep their digests wherever the destination can hold them as they
    /// are.
    ///
    /// # Errors
    /// When the source does not have it, when the destination refuses it.
    pub fn copy(&self, _request: &CopyRequest, _progress: &dyn Progress) -> Result<Copied> {
        unimplemented!("copy")
    }
}
