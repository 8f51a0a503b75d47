//! `pull`: from a registry into the store.

use smidge_image::{Digest, Platform, Reference};
use smidge_store::Image;

use super::Connection;
use crate::{Engine, Progress, Result};

/// What to fetch.
#[derive(Clone, Debug, Default)]
pub struct PullRequest {
    /// The image's name as the user wrote it.
    pub name: String,
    /// `-a`: every tag of the repository.
    pub all_tags: bool,
    /// The platform, if not this machine's.
    pub platform: Option<Platform>,
    /// Every platform of an index.
    pub all_platforms: bool,
    /// How to talk to registries.
    pub connection: Connection,
}

/// An image that was fetched.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Its name, complete.
    pub name: Reference,
    /// The digest that the registry knows it by: the index's, if there is one.
    pub digest: Digest,
    /// The image.
    pub image: Image,
    /// Whether it was there already, as it is.
    pub up_to_date: bool,
}

impl Engine {
    /// Fetches an image. What is there already is not fetched.
    ///
    /// # Errors
    /// When the registry refuses or cannot be reached, when the image is none for the platform, is
    /// corrupt, or does not fit on the disk. The store is then as it was.
    pub fn pull(&self, _request: &PullRequest, _progress: &dyn Progress) -> Result<Vec<Pulled>> {
        unimplemented!("pull")
    }
}
