//! One repository: its manifests, blobs and tags.

use std::io::{self, Read};
use std::marker::PhantomData;

use smidge_image::{Descriptor, Digest, Index};

use crate::{BlobReader, Client, Result};

/// A repository of a registry.
pub struct Repository<'c> {
    client: PhantomData<&'c Client>,
}

/// A manifest, index or other document, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Media type (that of the document itself, or else that of the answer), digest and size.
    pub descriptor: Descriptor,
    /// The bytes, verified where the digest was known beforehand.
    pub bytes: Vec<u8>,
}

/// What a registry says about a document without sending it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The media type.
    pub media_type: String,
    /// The digest, if the registry tells it.
    pub digest: Option<Digest>,
    /// Size in bytes.
    pub size: u64,
}

/// A blob to send.
pub struct Upload<'a> {
    /// Digest and size.
    pub descriptor: &'a Descriptor,
    /// Repositories of the same registry (paths) that may have it.
    pub mount_from: &'a [String],
    /// Opens the bytes from an offset on; asked again when a connection breaks.
    pub open: &'a (dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + Sync),
    /// Is told about bytes that went out.
    pub sent: &'a (dyn Fn(u64) + Sync),
}

/// How a blob came to be in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// It was there.
    Existed,
    /// It was taken over from another repository.
    Mounted(String),
    /// Its bytes were sent.
    Sent,
}

/// What a registry says to a manifest that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The manifest's digest.
    pub digest: Digest,
}

impl Repository<'_> {
    /// Fetches a document by tag or digest. An answer to a digest is verified against it. A document
    /// is at most 4 MiB.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn document(&self, _tag_or_digest: &str) -> Result<Document> {
        unimplemented!("client")
    }

    /// Asks what a tag or digest is; `None` if it is not there.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn head(&self, _tag_or_digest: &str) -> Result<Option<Head>> {
        unimplemented!("client")
    }

    /// Starts to fetch a blob from an offset on. `urls` of a foreign layer are used if the registry
    /// does not have it.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn blob(&self, _descriptor: &Descriptor, _offset: u64) -> Result<BlobReader> {
        unimplemented!("client")
    }

    /// Fetches a small blob (a config) whole, verified; at most 4 MiB.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn small_blob(&self, _descriptor: &Descriptor) -> Result<Vec<u8>> {
        unimplemented!("client")
    }

    /// Whether a blob is there.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn has_blob(&self, _digest: &Digest) -> Result<bool> {
        unimplemented!("client")
    }

    /// Sends a blob, unless it is there or can be taken over from another repository.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn upload(&self, _upload: &Upload<'_>) -> Result<Uploaded> {
        unimplemented!("client")
    }

    /// Sends a document. Where it has a `subject` and the registry knows no referrers, the list under
    /// the fallback tag is kept, too.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn put(&self, _tag_or_digest: &str, _media_type: &str, _bytes: &[u8]) -> Result<Put> {
        unimplemented!("client")
    }

    /// Removes a manifest by digest, or a tag.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn delete(&self, _tag_or_digest: &str) -> Result<()> {
        unimplemented!("client")
    }

    /// All tags, sorted as the registry has them.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn tags(&self) -> Result<Vec<String>> {
        unimplemented!("client")
    }

    /// What refers to a manifest, by the referrers API or else the fallback tag.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn referrers(&self, _subject: &Digest, _artifact_type: Option<&str>) -> Result<Index> {
        unimplemented!("client")
    }
}
