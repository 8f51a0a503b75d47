//! Images as they travel: with bare layers compressed.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use smidge_image::{Descriptor, Digest};
use smidge_store::{Compression, Entry, Transfer};

use super::{Document, Halt, Shelf, locked};
use crate::http::Fault;

/// What is served in another form than it is stored in.
#[derive(Debug)]
pub(crate) struct Served {
    /// The manifest or index.
    pub(crate) document: Document,
    /// An index's manifests.
    children: Vec<Document>,
    layers: HashSet<Digest>,
}

impl Served {
    /// Its layers, as they are served.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Digest> {
        self.layers.iter()
    }

    /// Its document with a digest.
    pub(crate) fn document(&self, digest: &Digest) -> Option<&Document> {
        let mut all = std::iter::once(&self.document).chain(&self.children);
        all.find(|document| document.descriptor.digest == *digest)
    }

    fn of(transfer: Transfer) -> Self {
        let layers = transfer.layers.iter();
        Self {
            layers: layers.map(|layer| layer.descriptor.digest).collect(),
            document: Document {
                descriptor: transfer.descriptor,
                bytes: transfer.manifest,
            },
            children: Vec::new(),
        }
    }
}

impl Shelf {
    /// Whether something is served in another form than it is stored in. What some registry knows by
    /// its own digest, this one among them, is not.
    pub(crate) fn is_bare(&self, entry: &Entry) -> bool {
        let Some(name) = entry.name.as_ref().filter(|name| name.digest().is_none()) else {
            return false;
        };
        self.has_bare_layers(&entry.descriptor) && !self.is_known(&entry.descriptor, name)
    }

    fn has_bare_layers(&self, descriptor: &Descriptor) -> bool {
        let Ok(facts) = self.facts(descriptor) else {
            return false;
        };
        let mut children = facts.children.iter();
        facts.bare || children.any(|child| self.has_bare_layers(&child.descriptor()))
    }

    fn is_known(&self, descriptor: &Descriptor, name: &smidge_image::Reference) -> bool {
        let known = name.with_digest(descriptor.digest);
        let image = self.store.image(&known.to_string());
        image.is_ok_and(|image| image.repo_digests.contains(&known))
    }

    /// The form that something is served in, if it was made already.
    pub(crate) fn made(&self, entry: &Entry) -> Option<Arc<Served>> {
        locked(&self.served).get(&entry.descriptor.digest).cloned()
    }

    /// The form that something is served in.
    ///
    /// # Errors
    /// [`Halt::Unmade`] if it is not made yet.
    pub(crate) fn served(&self, entry: &Entry) -> Result<Arc<Served>, Halt> {
        let made = self.made(entry);
        made.ok_or_else(|| Halt::Unmade(Box::new(entry.clone())))
    }

    /// Makes the form that something is served in, unless it was made meanwhile.
    pub(crate) fn make(&self, entry: &Entry) -> Result<(), Fault> {
        if self.made(entry).is_some() {
            return Ok(());
        }
        let digest = entry.descriptor.digest;
        let name = match &entry.name {
            Some(name) => name.to_string(),
            None => digest.to_string(),
        };
        let served = match self.store.transfer_index(&name, Compression::Gzip)? {
            Some(index) => {
                let (mut children, mut layers) = (Vec::new(), HashSet::new());
                for served in index.images.into_iter().map(Served::of) {
                    children.push(served.document);
                    layers.extend(served.layers);
                }
                Served {
                    document: Document {
                        descriptor: index.descriptor,
                        bytes: index.index,
                    },
                    children,
                    layers,
                }
            }
            None => {
                let image = self.store.image(&digest.to_string())?;
                Served::of(self.store.transfer(&image, Compression::Gzip)?)
            }
        };
        self.let_go(&entry.descriptor);
        locked(&self.served).insert(digest, Arc::new(served));
        Ok(())
    }

    /// Releases what was held while something was read, unless it was pushed not long ago.
    pub(super) fn let_go(&self, descriptor: &Descriptor) {
        let entry = Entry {
            name: None,
            descriptor: descriptor.clone(),
            is_image: false,
            artifact_type: None,
            subject: None,
        };
        self.walk(&[entry], |part, facts| {
            self.release(part.digest);
            for blob in &facts.blobs {
                self.release(blob.digest);
            }
            ControlFlow::Continue(())
        });
    }

    pub(super) fn release(&self, digest: Digest) {
        if !locked(&self.recent).has_anywhere(&digest) {
            self.store.release(&digest);
        }
    }
}
