//! `copy`: images from one place to another.
//!
//! Between registries blobs pass through without being stored. What is in the user's store leaves it
//! from there, and what is to be there comes straight in where it can; everything else passes through
//! a store that lasts as long as the copying. The destination is opened before the source is read.

mod bring;
mod containerd;
mod daemon;
mod deliver;
mod file;
mod location;
mod origin;
mod relay;
mod sender;

use smidge_image::{Digest, Platform};
use smidge_store::{Compression, Store};

pub(crate) use deliver::check_layout;
pub use location::{Location, LocationError};

use super::Connection;
use super::parallel::Alone;
use crate::build::Scratch;
use crate::{Engine, Error, Kind, Progress, Result};
use deliver::Receiver;

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

fn copied(digest: Digest) -> Copied {
    Copied {
        digest,
        notes: Vec::new(),
    }
}

impl Engine {
    /// Copies an image. Manifests keep their digests wherever the destination can hold them as they
    /// are.
    ///
    /// # Errors
    /// When the source does not have it, when the destination refuses it.
    pub fn copy(&self, request: &CopyRequest, progress: &dyn Progress) -> Result<Copied> {
        let _alone = Alone::from_here();
        request.check_destination()?;
        match (&request.source, &request.destination) {
            (Location::Registry(from), Location::Registry(to)) => {
                return relay::relay(self, request, (from, to), progress);
            }
            (Location::Registry(_) | Location::Containerd(_), Location::Store(text)) => {
                let name = super::parse_name(text)?;
                let digest = bring::bring(self, request, Some(&name), progress)?;
                return Ok(copied(digest));
            }
            _ => {}
        }
        let receiver =
            Receiver::open(self, request, progress).map_err(|e| request.blame_destination(e))?;
        if let Location::Store(name) = &request.source {
            return self.hand_over(name, request, receiver);
        }
        if let (Location::Registry(from), Receiver::Docker(daemon, to)) =
            (&request.source, &receiver)
            && let Some(copied) = daemon::spare(self, request, from, (daemon, to))?
        {
            return Ok(copied);
        }
        let scratch = Scratch::new(&self.store)?;
        let store = Store::open_passing(&scratch.path().join("store"))?;
        let passing = Self::new(store, self.host.clone());
        let digest = bring::bring(&passing, request, None, progress)?;
        passing.hand_over(&digest.to_string(), request, receiver)
    }

    /// Gives what this engine's store has to a receiver.
    fn hand_over(
        &self,
        name: &str,
        request: &CopyRequest,
        receiver: Receiver<'_>,
    ) -> Result<Copied> {
        let image = deliver::find(self, name, request).map_err(|e| request.blame_source(e))?;
        let delivered = deliver::deliver(self, (name, image), request, receiver);
        delivered.map_err(|e| request.blame_destination(e))
    }
}

impl CopyRequest {
    /// A fault of the source.
    fn blame_source(&self, fault: Error) -> Error {
        framed(fault, &format!("cannot copy from `{}`", self.source))
    }

    /// A fault of the destination.
    fn blame_destination(&self, fault: Error) -> Error {
        framed(fault, &format!("cannot copy to `{}`", self.destination))
    }

    /// Refuses digests as names: what they stand for is what they say already.
    fn check_destination(&self) -> Result<()> {
        let name = match &self.destination {
            Location::Registry(name)
            | Location::DockerDaemon(name)
            | Location::Containerd(name) => Some(name.clone()),
            Location::Store(text) | Location::DockerArchive(_, Some(text)) => {
                Some(super::parse_name(text).map_err(|e| self.blame_destination(e))?)
            }
            Location::Oci(..) | Location::OciArchive(..) | Location::DockerArchive(..) => None,
        };
        match name.filter(|name| name.digest().is_some()) {
            None => Ok(()),
            Some(name) => {
                let fault = Error::new(Kind::Input, "a digest is no name");
                let hint = format!("give it a tag: `{}:TAG`", name.familiar_name());
                Err(self.blame_destination(fault.with_hint(hint)))
            }
        }
    }
}

/// Says what was tried, where the fault does not say it itself.
fn framed(fault: Error, tried: &str) -> Error {
    match fault.message().starts_with("cannot copy ") {
        true => fault,
        false => fault.framed(tried),
    }
}
