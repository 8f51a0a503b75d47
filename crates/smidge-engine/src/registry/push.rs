//! `push`: from the store to a registry.

use smidge_image::{Digest, Reference};
use smidge_store::Compression;

use super::Connection;
use crate::{Engine, Progress, Result};

/// What to send.
#[derive(Clone, Debug, Default)]
pub struct PushRequest {
    /// The image's name as the user wrote it.
    pub name: String,
    /// `-a`: every tag of the repository.
    pub all_tags: bool,
    /// How to compress layers that are not compressed yet.
    pub compression: Compression,
    /// How to talk to registries.
    pub connection: Connection,
}

/// An image that was sent.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// Its name, complete.
    pub name: Reference,
    /// The digest of what the registry has now.
    pub digest: Digest,
    /// Bytes of that manifest or index.
    pub size: u64,
    /// Whether the registry had it already, as it is.
    pub up_to_date: bool,
}

impl Engine {
    /// Sends an image. What the registry has already is not sent.
    ///
    /// # Errors
    /// When the registry refuses or cannot be reached, when the image is not there or damaged.
    pub fn push(&self, _request: &PushRequest, _progress: &dyn Progress) -> Result<Vec<Pushed>> {
        unimplemented!("push")
    }
}
