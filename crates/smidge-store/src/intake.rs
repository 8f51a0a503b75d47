//! Images on their way into the store, blob by blob, from wherever they come.

use std::io::{self, Read};
use std::marker::PhantomData;

use smidge_image::{Descriptor, DiffId, Digest, Reference};

use crate::{Error, Image, Store};

/// Opens a blob's bytes from an offset on. Its errors, and those of what it returns, come back as
/// [`Error::Fetch`].
pub type Fetch<'f> = dyn FnMut(u64) -> io::Result<Box<dyn Read + Send>> + Send + 'f;

/// Blobs on their way into the store. Any number of threads may bring them; nothing is visible before
/// [`Intake::commit`], which makes all of it durable at once.
///
/// What came of a blob before a fault stays in `tmp/`, and is not fetched again by the next intake.
pub struct Intake<'s> {
    store: PhantomData<&'s Store>,
}

impl Store {
    /// Starts to take images in.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn intake(&self) -> Result<Intake<'_>, Error> {
        unimplemented!("intake")
    }
}

impl Intake<'_> {
    /// Whether a blob need not be fetched: it is stored, or was taken in.
    pub fn has(&self, _blob: &Descriptor) -> bool {
        unimplemented!("intake")
    }

    /// Takes in a document.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put(&self, _bytes: &[u8]) -> Result<Digest, Error> {
        unimplemented!("intake")
    }

    /// Takes in a blob as it is.
    ///
    /// # Errors
    /// [`Error::Fetch`], [`Error::Corrupt`], and when the store cannot be written.
    pub fn blob(&self, _blob: &Descriptor, _fetch: &mut Fetch<'_>) -> Result<(), Error> {
        unimplemented!("intake")
    }

    /// Takes in a layer: hashed, unpacked and its diff id checked while it arrives. Where it is
    /// stored already, it is only checked out if it is not yet.
    ///
    /// # Errors
    /// As [`Intake::blob`], and when it is no layer, or not the one that the config speaks of.
    pub fn layer(
        &self,
        _layer: &Descriptor,
        _diff_id: &DiffId,
        _fetch: &mut Fetch<'_>,
    ) -> Result<(), Error> {
        unimplemented!("intake")
    }

    /// Makes everything durable and visible: manifests or indexes that were put, with their names.
    ///
    /// # Errors
    /// When a document cannot be understood, a blob of an image is missing (an index may lack some of
    /// its images, but not all), or the store cannot be written.
    pub fn commit(self, _documents: &[(Descriptor, Vec<Reference>)]) -> Result<Vec<Image>, Error> {
        unimplemented!("intake")
    }
}
