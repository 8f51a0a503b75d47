//! Removal: of images by name, and of everything that nothing refers to.

use std::path::PathBuf;

use smidge_image::{Digest, Reference};

use crate::{Error, Store};

/// A container that was made from an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// How to call the container in messages.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
}

/// Tells whether a container was made from the image with an id; a running one goes first.
pub type InUse<'a> = &'a dyn Fn(&Digest) -> Option<Use>;

/// What [`Store::remove`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// Ids of images that are gone.
    pub deleted: Vec<Digest>,
}

/// What [`Store::prune`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// Ids of images that are gone.
    pub deleted: Vec<Digest>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
    /// Directories that could not be removed because their files belong to ids of a user namespace.
    /// Who can enter that namespace may remove them.
    pub left: Vec<PathBuf>,
}

/// Bytes of disk by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blobs.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Containers' records, logs and files.
    pub containers: u64,
    /// Volumes.
    pub volumes: u64,
    /// What can be made again: compressed layers, build steps.
    pub cache: u64,
}

impl Store {
    /// Removes a name, and the image with its last name; by id, the image with all its names.
    ///
    /// As with Docker, `force` is needed for an image with several names that is given by id, and for
    /// one that a stopped container was made from. That image's files stay, nameless, until the
    /// container is gone.
    ///
    /// # Errors
    /// [`Error::ManyNames`], [`Error::ImageInUse`], as [`Store::image`], and when the store cannot be
    /// written.
    pub fn remove(&self, _name: &str, _force: bool, _in_use: InUse<'_>) -> Result<Removed, Error> {
        unimplemented!()
    }

    /// Removes nameless images that no container was made from (with `all`, named ones too), and
    /// everything that no image refers to: blobs, unpacked layers, compressed layers, and what
    /// processes left that were killed.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn prune(&self, _all: bool, _in_use: InUse<'_>) -> Result<Pruned, Error> {
        unimplemented!()
    }

    /// Adds up what is on the disk.
    pub fn usage(&self) -> Usage {
        unimplemented!()
    }
}
