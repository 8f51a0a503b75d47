//! What was built before: which files made which layer, and what programs left behind.

use std::time::{Duration, SystemTime};

use smidge_image::{Digest, Entry};
use smidge_store::{CachedStep, Squash, Store};

use crate::build::assembly::Packer;
use crate::build::content::Content;
use crate::build::draft::Stored;
use crate::build::layer::{Layer, Member};
use crate::{Progress, Result};

/// To be changed whenever the same words would stand for another outcome.
const VERSION: &str = "smidge-build-1";

/// Names something by everything that it depends on.
#[derive(Default)]
pub(super) struct KeyMaker {
    text: Vec<u8>,
}

impl KeyMaker {
    pub(super) fn new(kind: &str) -> Self {
        let mut key = Self::default();
        key.add(VERSION);
        key.add(kind);
        key
    }

    /// Adds one thing. No two sequences of things make the same key.
    pub(super) fn add(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.text.extend(part.len().to_le_bytes());
        self.text.extend(part);
    }

    pub(super) fn finish(&self) -> Digest {
        Digest::of(&self.text)
    }
}

/// Writes layers into the user's store unless their files are those of one that was written before,
/// by the word of the file system: then they are not even read.
pub(in crate::build) struct Cached<'s> {
    pub(in crate::build) store: &'s Store,
    /// Whether what is known counts.
    pub(in crate::build) trusted: bool,
}

impl Packer for Cached<'_> {
    fn pack(&self, layer: &Layer, progress: &dyn Progress) -> Result<Stored> {
        let key = key_of(layer);
        let known = key.filter(|_| self.trusted);
        let known = known.and_then(|key| self.store.cached_step(&key));
        if let Some(CachedStep { diff_id, size, .. }) = known {
            return Ok(Stored { diff_id, size });
        }
        let (diff_id, size) = layer.write(self.store, progress)?;
        if let Some(key) = key {
            let reasons = layer.members().map(|member| member.reason.as_str());
            let description = reasons
                .max_by_key(|reason| reason.len())
                .unwrap_or_default();
            let step = CachedStep {
                diff_id,
                size,
                description: description.to_owned(),
            };
            self.store.keep_step(&key, &step)?;
        }
        Ok(Stored { diff_id, size })
    }

    fn join(&self, layers: &Squash<'_>) -> Result<Stored> {
        let key = key_of_joined(layers);
        let known = self.store.cached_step(&key).filter(|_| self.trusted);
        if let Some(CachedStep { diff_id, size, .. }) = known {
            return Ok(Stored { diff_id, size });
        }
        let stored: Stored = self.store.squash(layers)?.into();
        let step = CachedStep {
            diff_id: stored.diff_id,
            size: stored.size,
            description: format!("{} layers as one", layers.layers.len()),
        };
        self.store.keep_step(&key, &step)?;
        Ok(stored)
    }
}

/// Names a layer that is made of others.
fn key_of_joined(squash: &Squash<'_>) -> Digest {
    let mut key = KeyMaker::new("joined");
    for (_, diff_id) in squash.below {
        key.add(diff_id.0.to_string());
    }
    key.add("below");
    for (_, diff_id) in squash.layers {
        key.add(diff_id.0.to_string());
    }
    for path in squash.wanted.into_iter().flatten() {
        key.add(path.as_bytes());
    }
    key.add(if squash.wanted.is_some() {
        "some"
    } else {
        "all"
    });
    key.finish()
}

/// Names a layer by its files; `None` if one of them can change without the file system telling.
fn key_of(layer: &Layer) -> Option<Digest> {
    let mut key = KeyMaker::new("files");
    for Member { entry, content, .. } in layer.members() {
        add_entry(&mut key, entry);
        if let Some(content) = content {
            key.add(identity(content)?);
        }
    }
    Some(key.finish())
}

fn add_entry(key: &mut KeyMaker, entry: &Entry) {
    key.add(entry.path.as_bytes());
    key.add(format!(
        "{:?} {:o} {} {} {}",
        entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime
    ));
    for (name, value) in &entry.xattrs {
        key.add(name);
        key.add(value);
    }
}

/// What tells a content from any other without reading it.
fn identity(content: &Content) -> Option<Vec<u8>> {
    let identity = content.identity()?;
    let changed = SystemTime::UNIX_EPOCH + identity.changed?;
    // Written to so lately that the next change may bear the same time. A file system whose clock
    // ticks seldom shows it by whole seconds.
    let coarse = identity.changed?.subsec_nanos() == 0;
    let tick = Duration::from_millis(if coarse { 2000 } else { 20 });
    let age = SystemTime::now().duration_since(changed).ok()?;
    (age > tick).then_some(identity.text)
}
