//! The store, as a registry sees it: repositories with manifests, tags and blobs.
//!
//! A manifest is in a repository if a name or a push put it there, or if it is part of an index that
//! is there. A blob is in a repository if a manifest there refers to it, or if it was pushed or
//! mounted there not long ago. Layers that are stored as bare archives are served as they travel:
//! compressed, under the digest of what they are then.

mod blob;
mod document;
mod manifest;
mod recent;
mod repository;
mod served;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use smidge_image::{Descriptor, Digest};
use smidge_store::{Entry, Store, TransferLayer};

use crate::http::{Code, Fault};

pub(crate) use document::DOCUMENT_LIMIT;
pub(crate) use repository::{Repository, Target, digest};

use document::{Facts, Part, understand};
use recent::Recent;
use served::Served;

/// The most documents whose facts are remembered.
const FACTS_LIMIT: usize = 1_000;

/// All repositories of a store.
pub(crate) struct Shelf {
    store: &'static Store,
    recent: Mutex<Recent>,
    facts: Mutex<HashMap<Digest, Arc<Facts>>>,
    served: Mutex<HashMap<Digest, Arc<Served>>>,
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
    fn entries(&self, repository: &Repository) -> Result<Vec<Entry>, Fault> {
        let mut entries = self.store.entries()?;
        entries.retain(|entry| repository.has(entry));
        Ok(entries)
    }

    /// All documents of a repository that are stored: those of its entries, and what these lead to.
    fn documents(&self, entries: &[Entry]) -> Vec<(Part, Arc<Facts>)> {
        let mut seen = HashSet::new();
        let mut pending: Vec<Part> = entries
            .iter()
            .map(|entry| Part::from(&entry.descriptor))
            .collect();
        let mut documents = Vec::new();
        while let Some(part) = pending.pop() {
            if !seen.insert(part.digest) {
                continue;
            }
            // An index may lack some of its manifests, and one document that cannot be read must not
            // hide the others.
            if let Ok(facts) = self.facts(&part.descriptor()) {
                pending.extend(facts.children.iter().cloned());
                documents.push((part, facts));
            }
        }
        documents
    }

    /// What a stored document says.
    fn facts(&self, descriptor: &Descriptor) -> Result<Arc<Facts>, Fault> {
        if let Some(known) = locked(&self.facts).get(&descriptor.digest) {
            return Ok(Arc::clone(known));
        }
        let bytes = self.store.bytes(descriptor)?;
        let understood = understand(&bytes, Some(&descriptor.media_type))?;
        let facts = Arc::new(understood.facts);
        let mut known = locked(&self.facts);
        if known.len() >= FACTS_LIMIT {
            known.clear();
        }
        known.insert(descriptor.digest, Arc::clone(&facts));
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
