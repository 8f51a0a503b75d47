//! `copy`: images from one place to another.
//!
//! Between registries blobs pass through without being stored. What is in the user's store leaves it
//! from there; everything else passes through a store that lasts as long as the copying.

mod adopt;
mod bring;
mod containerd;
mod daemon;
mod deliver;
mod location;
mod relay;

use smidge_image::{Digest, Platform};
use smidge_store::Compression;

pub use location::{Location, LocationError};

use super::Connection;
use super::parallel::Alone;
use crate::build::Scratch;
use crate::{Engine, Progress, Result};

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
    /// The digest of the manifest or index at the destination; the image's id where Docker keeps none.
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
    pub fn copy(&self, request: &CopyRequest, progress: &dyn Progress) -> Result<Copied> {
        let _alone = Alone::from_here();
        match (&request.source, &request.destination) {
            (Location::Registry(from), Location::Registry(to)) => {
                relay::relay(self, request, (from, to), progress)
            }
            (Location::Store(name), _) => deliver::deliver(self, name, request, progress),
            (_, destination) => {
                let scratch = Scratch::new(&self.store)?;
                let passing = Self::open(&scratch.path().join("store"), self.host.clone())?;
                let name = bring::bring(&passing, request, progress)?;
                match destination {
                    // The names that it has elsewhere are not those that it is to have here.
                    Location::Store(text) => {
                        adopt::adopt(self, (&passing.store, &name), text, request)
                    }
                    _ => deliver::deliver(&passing, &name, request, progress),
                }
            }
        }
    }
}
