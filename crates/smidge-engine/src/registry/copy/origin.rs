//! What a registry has under a name, with everything that belongs to it.

use std::collections::BTreeSet;

use smidge_image::{Descriptor, Digest, Index, Manifest, Reference};
use smidge_registry::{Client, Document};

use super::CopyRequest;
use crate::registry::attempt::Verb;
use crate::registry::remote::Remote;
use crate::{Engine, Kind, Result};

/// As deep as indexes may hold indexes.
pub(super) const DEPTH: usize = 4;

/// An image in a registry.
pub(super) struct Origin<'c> {
    pub(super) remote: Remote<'c>,
}

/// Everything that is to be copied, in the order in which it must arrive.
pub(super) struct Load {
    pub(super) blobs: Vec<Descriptor>,
    /// The documents that an index lists: what others refer to comes first.
    pub(super) children: Vec<Document>,
    pub(super) top: Document,
}

/// A load in the making.
#[derive(Default)]
struct Gathered {
    seen: BTreeSet<Digest>,
    blobs: Vec<Descriptor>,
    children: Vec<Document>,
}

impl<'c> Origin<'c> {
    pub(super) fn new(engine: &Engine, client: &'c Client, name: &Reference) -> Result<Self> {
        let remote = Remote::new(engine, client, (name, Verb::CopyFrom))?;
        Ok(Self { remote })
    }

    /// The document to copy: an index as a whole only if that is asked for.
    pub(super) fn top(&self, request: &CopyRequest) -> Result<Document> {
        let top = self.remote.document()?;
        let wanted = request.platform.as_ref();
        if top.descriptor.is_index() {
            if request.all {
                return Ok(top);
            }
            let index: Index = self.remote.read("index", &top.bytes)?;
            let chosen = self.remote.select(&index, wanted)?;
            return self.remote.document_of(&chosen.digest.to_string());
        }
        if wanted.is_some() {
            let manifest: Manifest = self.remote.read("manifest", &top.bytes)?;
            let config = self.remote.config(&manifest)?;
            let config = self.remote.read("config", &config)?;
            self.remote.check_platform(&config, wanted)?;
        }
        Ok(top)
    }

    /// Reads all documents that belong to one.
    pub(super) fn load(&self, top: Document) -> Result<Load> {
        let mut gathered = Gathered::default();
        self.gather(&top, DEPTH, &mut gathered)?;
        Ok(Load {
            blobs: gathered.blobs,
            children: gathered.children,
            top,
        })
    }

    fn gather(&self, document: &Document, depth: usize, gathered: &mut Gathered) -> Result<()> {
        if document.descriptor.is_manifest() {
            let manifest: Manifest = self.remote.read("manifest", &document.bytes)?;
            let parts = manifest.layers.into_iter().chain([manifest.config]);
            let new = parts.filter(|blob| gathered.seen.insert(blob.digest));
            gathered.blobs.extend(new);
            return Ok(());
        }
        if !document.descriptor.is_index() {
            return Ok(());
        }
        let Some(depth) = depth.checked_sub(1) else {
            let why = "it is an index of indexes without end";
            return Err(self.remote.attempt.fault(Kind::Input, why));
        };
        let index: Index = self.remote.read("index", &document.bytes)?;
        for entry in &index.manifests {
            if gathered.seen.insert(entry.digest) {
                let child = self.remote.document_of(&entry.digest.to_string())?;
                self.gather(&child, depth, gathered)?;
                gathered.children.push(child);
            }
        }
        Ok(())
    }
}
