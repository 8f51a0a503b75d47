//! Manifests and indexes of a repository.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::time::Instant;

use serde_json::{Map, Value, json};
use smidge_image::{Descriptor, Digest};
use smidge_store::{Completeness, Entry, Use};

use super::document::{Facts, Part, Understood, missing, understand};
use super::{Blob, Document, Halt, Repository, Shelf, Target, locked};
use crate::http::{Code, Fault};

/// What became of a manifest that was pushed.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) digest: Digest,
    pub(crate) subject: Option<Digest>,
}

impl Shelf {
    /// A manifest of a repository, as it is served.
    ///
    /// # Errors
    /// `MANIFEST_UNKNOWN`, `NAME_UNKNOWN`.
    pub(crate) fn manifest(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Document, Halt> {
        let entries = self.entries(repository)?;
        let found = match target {
            Target::Tag(tag) => match entries.iter().find(|entry| has_tag(entry, tag)) {
                Some(entry) => Some(self.document(entry)?),
                None => None,
            },
            Target::Digest(digest) => self.find_document(repository, &entries, digest)?,
        };
        found.ok_or_else(|| self.unknown_manifest(repository, &entries, target).into())
    }

    fn unknown_manifest(
        &self,
        repository: &Repository,
        entries: &[Entry],
        target: &Target,
    ) -> Fault {
        let what = format!("manifest `{target}`");
        self.unknown(repository, entries, Code::ManifestUnknown, &what)
    }

    /// What an entry of the index leads to, as it is served.
    fn document(&self, entry: &Entry) -> Result<Document, Halt> {
        if self.is_bare(entry) {
            return Ok(self.served(entry)?.document.clone());
        }
        Ok(self.load(&entry.descriptor)?)
    }

    fn load(&self, descriptor: &Descriptor) -> Result<Document, Fault> {
        Ok(Document {
            descriptor: descriptor.clone(),
            bytes: self.store.bytes(descriptor)?,
        })
    }

    fn find_document(
        &self,
        repository: &Repository,
        entries: &[Entry],
        digest: &Digest,
    ) -> Result<Option<Document>, Halt> {
        let name = repository.reference()?.with_digest(*digest).to_string();
        match self.store.document(&name) {
            // A name may lead to what the registry that it came from calls so, in another form.
            Ok((descriptor, bytes)) if descriptor.digest == *digest => {
                return Ok(Some(Document { descriptor, bytes }));
            }
            Ok(_) | Err(smidge_store::Error::NoSuchImage(_)) => {}
            Err(error) => return Err(error.into()),
        }
        for entry in entries.iter().filter(|entry| self.is_bare(entry)) {
            if let Some(document) = self.served(entry)?.document(digest) {
                return Ok(Some(document.clone()));
            }
        }
        Ok(None)
    }

    /// Takes in a manifest or an index.
    ///
    /// # Errors
    /// `MANIFEST_INVALID`, `MANIFEST_BLOB_UNKNOWN`; `DIGEST_INVALID` when it is not what it is to be
    /// called.
    pub(crate) fn put_manifest(
        &self,
        repository: &Repository,
        target: &Target,
        media_type: Option<&str>,
        bytes: &[u8],
    ) -> Result<Placed, Halt> {
        let Understood {
            facts, media_type, ..
        } = understand(bytes, media_type)?;
        let descriptor = Descriptor::of(media_type, bytes);
        let tag = match target {
            Target::Tag(tag) => Some(repository.tagged(tag)?),
            Target::Digest(wanted) if *wanted == descriptor.digest => None,
            Target::Digest(wanted) => {
                let message = format!(
                    "the manifest should be `{wanted}`, but what came is `{}`",
                    descriptor.digest
                );
                return Err(Fault::bad_request(Code::DigestInvalid, message).into());
            }
        };
        let own = repository.reference()?.with_digest(descriptor.digest);
        let names: Vec<_> = tag.into_iter().chain([own]).collect();
        let outcome = self.check_parts(repository, &facts).and_then(|()| {
            let kind = &descriptor.media_type;
            let added = self
                .store
                .add_document(bytes, kind, &names, Completeness::Whole);
            added.map_err(|error| refused(error, &facts).into())
        });
        for part in facts.blobs.iter().chain(&facts.children) {
            self.release(part.digest);
        }
        self.release(descriptor.digest);
        outcome.map(|_| Placed {
            digest: descriptor.digest,
            subject: facts.subject,
        })
    }

    /// Checks that the repository has everything that a document refers to.
    fn check_parts(&self, repository: &Repository, facts: &Facts) -> Result<(), Halt> {
        let entries = self.entries(repository)?;
        let mut lacking = Vec::new();
        for child in &facts.children {
            match self.find_document(repository, &entries, &child.digest)? {
                Some(document) => drop(self.store.put(&document.bytes)?),
                None => lacking.push(child.clone()),
            }
        }
        let mut others: HashSet<Digest> = facts.blobs.iter().map(|blob| blob.digest).collect();
        let now = Instant::now();
        others.retain(|blob| !locked(&self.recent).touch(&repository.key, blob, now));
        let others = self.unreferred(&entries, others)?;
        for blob in &facts.blobs {
            let there = !others.contains(&blob.digest);
            match self.store.transfer_blob(&blob.digest).filter(|_| there) {
                Some(file) => self.settle(&Blob::of(blob.digest, file), blob.size)?,
                None if blob.foreign => {}
                None => lacking.push(blob.clone()),
            }
        }
        match lacking.is_empty() {
            true => Ok(()),
            false => Err(missing(&lacking).into()),
        }
    }

    /// Takes a tag, or a manifest with all its tags, out of a repository.
    ///
    /// # Errors
    /// As [`Shelf::manifest`], and when an index of the repository refers to it.
    pub(crate) fn remove_manifest(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<(), Fault> {
        let entries = self.entries(repository)?;
        let unknown = || self.unknown_manifest(repository, &entries, target);
        let digest = match target {
            Target::Tag(tag) => {
                let found = self.store.remove_name_entry(&repository.tagged(tag)?)?;
                return found.then_some(()).ok_or_else(unknown);
            }
            Target::Digest(digest) => digest,
        };
        let made = entries.iter().find(|entry| {
            let made = self.made(entry);
            made.is_some_and(|made| made.document.descriptor.digest == *digest)
        });
        let stored = made.map_or(*digest, |entry| entry.descriptor.digest);
        self.walk(&entries, |part, facts| {
            if part.digest == stored {
                self.keep_recent(repository, facts);
            }
            ControlFlow::Continue(())
        });
        let in_use = |id: &Digest| self.in_use(id);
        let reference = repository.reference()?;
        let found = self.store.remove_document(&reference, &stored, &in_use)?;
        found.then_some(()).ok_or_else(unknown)
    }

    /// A container that was made from an image. Whether it runs is for those to know who may stop it.
    fn in_use(&self, id: &Digest) -> Option<Use> {
        let containers = self.store.containers().unwrap_or_default();
        let mut users = containers.into_iter().filter(|container| {
            let record: Value = container.record().unwrap_or_default();
            record["imageId"].as_str() == Some(&id.to_string())
        });
        users.next().map(|container| Use {
            container: container.name,
            running: true,
        })
    }

    /// Blobs that were pushed not long ago outlive their manifest: the next one may refer to them.
    fn keep_recent(&self, repository: &Repository, facts: &Facts) {
        let now = Instant::now();
        for blob in &facts.blobs {
            if locked(&self.recent).touch(&repository.key, &blob.digest, now) {
                self.store.has(&blob.descriptor());
            }
        }
    }

    /// The tags of a repository, sorted by their bytes.
    ///
    /// # Errors
    /// `NAME_UNKNOWN`.
    pub(crate) fn tags(&self, repository: &Repository) -> Result<BTreeSet<String>, Fault> {
        let entries = self.entries(repository)?;
        if entries.is_empty() && !locked(&self.recent).knows(&repository.key) {
            return Err(self.unknown(repository, &entries, Code::NameUnknown, "tags"));
        }
        let names = entries.iter().filter_map(|entry| entry.name.as_ref());
        Ok(names
            .filter_map(|name| name.tag().map(str::to_owned))
            .collect())
    }

    /// The names of all repositories that can be asked for, sorted.
    pub(crate) fn repositories(&self) -> Result<BTreeSet<String>, Fault> {
        let repositories = self.catalog.repositories(self.store)?;
        let keys = repositories.keys().filter_map(|key| key.parse().ok());
        Ok(keys
            .filter_map(|name| Some(Repository::of(&name)?.name))
            .collect())
    }

    /// Descriptors of all manifests that say to be about another one.
    pub(crate) fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Value>, Fault> {
        let mut about = Vec::new();
        self.walk(&self.entries(repository)?, |part, facts| {
            if facts.subject.as_ref() == Some(subject) {
                about.push(part.clone());
            }
            ControlFlow::Continue(())
        });
        let mut referrers = Vec::new();
        for part in &about {
            let bytes = self.store.bytes(&part.descriptor())?;
            let understood = understand(&bytes, Some(&part.media_type))?;
            if artifact_type.is_none() || artifact_type == understood.artifact_type.as_deref() {
                referrers.push(referrer(part, understood));
            }
        }
        referrers.sort_by_key(|referrer| referrer["digest"].to_string());
        Ok(referrers)
    }
}

/// The fault of a document that the store did not take.
fn refused(error: smidge_store::Error, facts: &Facts) -> Fault {
    use smidge_store::Error as E;
    match error {
        E::MissingBlob { digest, .. } => {
            let parts = facts.blobs.iter().chain(&facts.children);
            let parts: Vec<_> = parts.filter(|p| p.digest == digest).cloned().collect();
            missing(&parts)
        }
        E::Document { .. } | E::OtherType { .. } | E::UnknownType { .. } | E::Invalid { .. } => {
            Fault::bad_request(Code::ManifestInvalid, crate::http::explained(&error))
        }
        other => other.into(),
    }
}

fn has_tag(entry: &Entry, tag: &str) -> bool {
    entry.name.as_ref().and_then(|name| name.tag()) == Some(tag)
}

fn referrer(part: &Part, understood: Understood) -> Value {
    let mut referrer = Map::new();
    referrer.insert("mediaType".to_owned(), json!(part.media_type));
    referrer.insert("digest".to_owned(), json!(part.digest.to_string()));
    referrer.insert("size".to_owned(), json!(part.size));
    if let Some(artifact_type) = understood.artifact_type {
        referrer.insert("artifactType".to_owned(), json!(artifact_type));
    }
    if !understood.annotations.is_empty() {
        referrer.insert("annotations".to_owned(), json!(understood.annotations));
    }
    Value::Object(referrer)
}
