//! Blobs of a repository.

use std::collections::HashSet;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::time::Instant;

use smidge_image::{Descriptor, Digest};
use smidge_store::{BlobWriter, Entry, TransferLayer};

use super::{Blob, Halt, Repository, Shelf, locked};
use crate::http::{Code, Fault};

/// The media type of a blob of which nothing else is known.
const ANY: &str = "application/octet-stream";

impl Blob {
    pub(super) fn of(digest: Digest, file: TransferLayer) -> Self {
        Self {
            digest,
            size: file.descriptor.size,
            file,
        }
    }

    /// As a descriptor, for the store.
    fn descriptor(&self) -> Descriptor {
        Descriptor::new(ANY, self.digest, self.size)
    }
}

impl Shelf {
    /// A blob of a repository.
    ///
    /// # Errors
    /// `BLOB_UNKNOWN`, `NAME_UNKNOWN`.
    pub(crate) fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Blob, Halt> {
        let entries = self.entries(repository)?;
        if let Some(blob) = self.find_blob(repository, &entries, digest)? {
            return Ok(blob);
        }
        let what = format!("blob `{digest}`");
        Err(self
            .unknown(repository, &entries, Code::BlobUnknown, &what)
            .into())
    }

    fn find_blob(
        &self,
        repository: &Repository,
        entries: &[Entry],
        digest: &Digest,
    ) -> Result<Option<Blob>, Halt> {
        let Some(file) = self.store.transfer_blob(digest) else {
            return Ok(None);
        };
        let now = Instant::now();
        let recent = locked(&self.recent).touch(&repository.key, digest, now);
        let there = recent
            || self
                .unreferred(entries, HashSet::from([*digest]))?
                .is_empty();
        Ok(there.then(|| Blob::of(*digest, file)))
    }

    /// Those of some blobs that no manifest refers to, neither as it is stored nor as it is served.
    pub(super) fn unreferred(
        &self,
        entries: &[Entry],
        mut blobs: HashSet<Digest>,
    ) -> Result<HashSet<Digest>, Halt> {
        self.walk(entries, |_, facts| {
            for blob in &facts.blobs {
                blobs.remove(&blob.digest);
            }
            match blobs.is_empty() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        // Nothing that is served was made of what is not there.
        let mut left = blobs.iter();
        if left.any(|digest| self.store.transfer_blob(digest).is_some()) {
            for entry in entries.iter().filter(|entry| self.is_bare(entry)) {
                for layer in self.served(entry)?.layers() {
                    blobs.remove(layer);
                }
            }
        }
        Ok(blobs)
    }

    /// As [`Shelf::blob`], for somebody who may mean to push a manifest that refers to it: it is kept
    /// for a while, whatever becomes of others.
    pub(crate) fn rely_on_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Blob, Halt> {
        let blob = self.blob(repository, digest)?;
        if self.store.has(&blob.descriptor()) {
            locked(&self.recent).add(&repository.key, blob.digest, Instant::now());
        } else {
            self.store.release(digest);
        }
        Ok(blob)
    }

    /// Opens a blob's bytes from an offset on. All of them are verified on the way; of a part, that
    /// is up to who asked for it.
    pub(crate) fn open(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + Send>, Fault> {
        if offset == 0 {
            return Ok(Box::new(blob.file.open()?));
        }
        let mut file = blob.file.file()?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }

    /// Starts a blob.
    pub(crate) fn writer(&self) -> Result<BlobWriter<'static>, Fault> {
        Ok(self.store.blob_writer()?)
    }

    /// Ends a blob that was pushed to a repository.
    ///
    /// # Errors
    /// `DIGEST_INVALID` when it is something else than it should be.
    pub(crate) fn keep(
        &self,
        repository: &Repository,
        writer: BlobWriter<'static>,
        digest: Digest,
        size: u64,
    ) -> Result<(), Fault> {
        let descriptor = Descriptor::new(ANY, digest, size);
        writer.commit_as(&descriptor).map_err(|error| match error {
            smidge_store::Error::Corrupt { received, .. } => Fault::bad_request(
                Code::DigestInvalid,
                format!(
                    "the blob should be `{digest}`, but what came is `{received}`, {size} bytes"
                ),
            ),
            other => other.into(),
        })?;
        locked(&self.recent).add(&repository.key, digest, Instant::now());
        Ok(())
    }

    /// Puts a blob that is in another repository, or in any, into this one; tells whether there is
    /// such a blob.
    pub(crate) fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool, Halt> {
        let found = match from {
            Some(from) => self.find_blob(from, &self.entries(from)?, digest)?,
            None => self.find_anywhere(digest)?,
        };
        let Some(blob) = found else {
            return Ok(false);
        };
        self.settle(&blob, blob.size)?;
        locked(&self.recent).add(&repository.key, *digest, Instant::now());
        Ok(true)
    }

    fn find_anywhere(&self, digest: &Digest) -> Result<Option<Blob>, Halt> {
        let Some(file) = self.store.transfer_blob(digest) else {
            return Ok(None);
        };
        if locked(&self.recent).has_anywhere(digest) {
            return Ok(Some(Blob::of(*digest, file)));
        }
        for entries in self.catalog.repositories(self.store)?.values() {
            if self
                .unreferred(entries, HashSet::from([*digest]))?
                .is_empty()
            {
                return Ok(Some(Blob::of(*digest, file)));
            }
        }
        Ok(None)
    }

    /// Makes sure that the store itself has a blob of a size, and keeps it.
    pub(super) fn settle(&self, blob: &Blob, size: u64) -> Result<(), Fault> {
        if blob.size != size {
            let message = format!(
                "`{}` has {} bytes, but the manifest says {size}",
                blob.digest, blob.size
            );
            return Err(Fault::bad_request(Code::ManifestInvalid, message));
        }
        if self.store.has(&blob.descriptor()) {
            return Ok(());
        }
        let mut writer = self.store.blob_writer()?;
        io::copy(&mut self.open(blob, 0)?, &mut writer)?;
        Ok(writer.commit_as(&blob.descriptor())?)
    }

    /// Takes a blob out of a repository.
    ///
    /// # Errors
    /// As [`Shelf::blob`], and when a manifest of the repository refers to it.
    pub(crate) fn remove_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), Fault> {
        let entries = self.entries(repository)?;
        if let Some(manifest) = self.user_of(&entries, digest) {
            let message = format!(
                "`{digest}` is part of `{manifest}` in `{}`: delete that first",
                repository.name
            );
            return Err(Fault::unsupported(message));
        }
        let mut recent = locked(&self.recent);
        if recent.remove(&repository.key, digest) {
            if !recent.has_anywhere(digest) {
                self.store.release(digest);
            }
            return Ok(());
        }
        drop(recent);
        let what = format!("blob `{digest}`");
        Err(self.unknown(repository, &entries, Code::BlobUnknown, &what))
    }

    /// A manifest that refers to a blob.
    fn user_of(&self, entries: &[Entry], digest: &Digest) -> Option<Digest> {
        let mut user = None;
        self.walk(entries, |document, facts| {
            if facts.blobs.iter().all(|part| part.digest != *digest) {
                return ControlFlow::Continue(());
            }
            user = Some(document.digest);
            ControlFlow::Break(())
        });
        user.or_else(|| {
            let mut made = entries.iter().filter_map(|entry| self.made(entry));
            made.find(|served| served.layers().any(|layer| layer == digest))
                .map(|served| served.document.descriptor.digest)
        })
    }
}
