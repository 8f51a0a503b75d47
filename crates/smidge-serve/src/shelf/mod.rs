//! The store, as a registry sees it: repositories with manifests, tags and blobs.
//!
//! A manifest is in a repository if a name or a push put it there, or if it is part of an index that
//! is there. A blob is in a repository if a manifest there refers to it, or if it was pushed or
//! mounted there not long ago. Layers that are stored as bare archives are served as they travel:
//! compressed, under the digest of what they are then.

mod blob;
mod catalog;
mod document;
mod manifest;
mod recent;
mod repository;
mod served;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use smidge_image::{Descriptor, Digest};
use smidge_store::{Entry, Store, TransferLayer};

use crate::http::{Code, Fault};

pub(crate) use document::DOCUMENT_LIMIT;
pub(crate) use repository::{Repository, Target, digest};

use catalog::Catalog;
use document::{Facts, Part, understand};
use recent::Recent;
use served::Served;

/// The most parts of documents that are remembered: some 10 MB.
const REMEMBERED: usize = 100_000;

/// All repositories of a store.
pub(crate) struct Shelf {
    store: &'static Store,
    catalog: Catalog,
    recent: Mutex<Recent>,
    facts: Mutex<Remembered>,
    served: Mutex<HashMap<Digest, Arc<Served>>>,
}

/// What documents say, as long as that is not too much.
#[derive(Default)]
struct Remembered {
    facts: HashMap<Digest, Arc<Facts>>,
    parts: usize,
}

/// A manifest or an index, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
}

/// A blob, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    file: TransferLayer,
}

/// Why something is not there.
#[derive(Debug)]
pub(crate) enum Halt {
    /// It never will be.
    Fault(Fault),
    /// It is served in another form than it is stored in, which has to be made first: that takes its
    /// time, and is done once, however many ask for it.
    Unmade(Box<Entry>),
}

impl<E: Into<Fault>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelf {
    pub(crate) fn new(store: &'static Store) -> Self {
        Self {
            store,
            catalog: Catalog::default(),
            recent: Mutex::default(),
            facts: Mutex::default(),
            served: Mutex::default(),
        }
    }

    /// Lets go of what was pushed and then forgotten.
    pub(crate) fn expire(&self, now: Instant) {
        for digest in locked(&self.recent).expire(now) {
            self.store.release(&digest);
        }
    }

    /// What names and pushes put into a repository.
    fn entries(&self, repository: &Repository) -> Result<Arc<[Entry]>, Fault> {
        let repositories = self.catalog.repositories(self.store)?;
        let entries = repositories.get(&repository.key).map(Arc::clone);
        Ok(entries.unwrap_or_else(|| Arc::new([])))
    }

    /// Visits all documents that are stored, of entries and of what these lead to, until `visit` has
    /// seen enough.
    fn walk(&self, entries: &[Entry], mut visit: impl FnMut(&Part, &Facts) -> ControlFlow<()>) {
        let mut seen = HashSet::new();
        let roots = entries.iter().map(|entry| Part::from(&entry.descriptor));
        let mut pending: Vec<Part> = roots.collect();
        while let Some(part) = pending.pop() {
            if !seen.insert(part.digest) {
                continue;
            }
            // An index may lack some of its manifests, and one document that cannot be read must not
            // hide the others.
            let Ok(facts) = self.facts(&part.descriptor()) else {
                continue;
            };
            if visit(&part, &facts).is_break() {
                return;
            }
            pending.extend(facts.children.iter().cloned());
        }
    }

    /// What a stored document says.
    fn facts(&self, descriptor: &Descriptor) -> Result<Arc<Facts>, Fault> {
        if let Some(known) = locked(&self.facts).facts.get(&descriptor.digest) {
            return Ok(Arc::clone(known));
        }
        let bytes = self.store.bytes(descriptor)?;
        let understood = understand(&bytes, Some(&descriptor.media_type))?;
        let facts = Arc::new(understood.facts);
        locked(&self.facts).add(descriptor.digest, &facts);
        Ok(facts)
    }

    /// The fault of something that a repository has not.
    fn unknown(&self, repository: &Repository, entries: &[Entry], code: Code, what: &str) -> Fault {
        let name = &repository.name;
        if entries.is_empty() && !locked(&self.recent).knows(&repository.key) {
            return Fault::not_found(
                Code::NameUnknown,
                format!("there is no repository `{name}`"),
            );
        }
        Fault::not_found(code, format!("`{name}` has no {what}"))
    }
}

impl Remembered {
    fn add(&mut self, digest: Digest, facts: &Arc<Facts>) {
        let parts = 1 + facts.blobs.len() + facts.children.len();
        if self.parts + parts > REMEMBERED {
            *self = Self::default();
        }
        if self.facts.insert(digest, Arc::clone(facts)).is_none() {
            self.parts += parts;
        }
    }
}
