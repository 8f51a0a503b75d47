//! From registry to registry: nothing is stored here, and what the receiver has is not even fetched.

use std::collections::BTreeSet;
use std::io;

use smidge_image::{Descriptor, Index, Manifest, Reference};
use smidge_registry::{Document, Upload, Uploaded};

use super::{Copied, CopyRequest};
use crate::progress::{Action, Settled};
use crate::registry::attempt::Verb;
use crate::registry::parallel::{Teller, Work};
use crate::registry::remote::Remote;
use crate::{Engine, Progress, Result};

/// One end and the other.
struct Relay<'c> {
    source: Remote<'c>,
    target: Remote<'c>,
    /// Repositories of the target's registry that have the blobs.
    mount_from: Vec<String>,
}

/// Everything that goes over, in the order in which it must.
struct Load {
    blobs: Vec<Descriptor>,
    /// The manifests of an index.
    children: Vec<Document>,
    top: Document,
}

pub(super) fn relay(
    engine: &Engine,
    request: &CopyRequest,
    (from, to): (&Reference, &Reference),
    progress: &dyn Progress,
) -> Result<Copied> {
    let client = engine.client(&request.connection)?;
    let same_registry = from.domain() == to.domain() && from.path() != to.path();
    let relay = Relay {
        source: Remote::new(engine, &client, (from, Verb::Pull))?,
        target: Remote::new(engine, &client, (to, Verb::Push))?,
        mount_from: same_registry
            .then(|| from.path().to_owned())
            .into_iter()
            .collect(),
    };
    let top = relay.top(request)?;
    let digest = top.descriptor.digest;
    if relay.target.head()? != Some(digest) {
        relay.carry(relay.load(top)?, progress)?;
    }
    Ok(Copied {
        digest,
        notes: Vec::new(),
    })
}

impl Relay<'_> {
    /// The document to copy: a whole index only if that is asked for.
    fn top(&self, request: &CopyRequest) -> Result<Document> {
        let top = self.source.document()?;
        if request.all || !top.descriptor.is_index() {
            return Ok(top);
        }
        let index: Index = self.source.read("index", &top.bytes)?;
        let chosen = self.source.select(&index, request.platform.as_ref())?;
        self.source.document_of(&chosen.digest.to_string())
    }

    fn load(&self, top: Document) -> Result<Load> {
        let mut children = Vec::new();
        if top.descriptor.is_index() {
            let index: Index = self.source.read("index", &top.bytes)?;
            for entry in &index.manifests {
                children.push(self.source.document_of(&entry.digest.to_string())?);
            }
        }
        let mut blobs = Vec::new();
        let mut seen = BTreeSet::new();
        for document in children.iter().chain([&top]) {
            if document.descriptor.is_index() {
                continue;
            }
            let manifest: Manifest = self.source.read("manifest", &document.bytes)?;
            let parts = manifest.layers.into_iter().chain([manifest.config]);
            blobs.extend(parts.filter(|blob| seen.insert(blob.digest)));
        }
        Ok(Load {
            blobs,
            children,
            top,
        })
    }

    fn carry(&self, load: Load, progress: &dyn Progress) -> Result<()> {
        let bytes = load.blobs.iter().map(|blob| blob.size).sum();
        progress.expect(load.blobs.len(), bytes);
        let work = Work {
            action: Action::Copy,
            blob: |blob: &Descriptor| blob,
            act: &|blob, teller| self.blob(blob, teller),
        };
        work.run(&load.blobs, progress)?;
        for child in &load.children {
            self.put(&child.descriptor.digest.to_string(), child)?;
        }
        self.put(&self.target.target(), &load.top)
    }

    fn blob(&self, blob: &Descriptor, teller: &Teller) -> Result<()> {
        let source = &self.source;
        let open = |offset| {
            teller.moves(offset);
            let reader = source.repository.blob(blob, offset);
            let reader = reader.map_err(io::Error::other)?;
            Ok(teller.reader(reader))
        };
        let upload = Upload {
            descriptor: blob,
            mount_from: &self.mount_from,
            open: &open,
            sent: &|_| {},
        };
        let uploaded = self.target.repository.upload(&upload);
        match uploaded.map_err(|fault| self.target.attempt.failed(fault))? {
            Uploaded::Existed => teller.settled(Settled::Exists),
            Uploaded::Mounted(from) => teller.settled(Settled::Mounted(from)),
            Uploaded::Sent => {}
        }
        Ok(())
    }

    fn put(&self, target: &str, document: &Document) -> Result<()> {
        let kind = &document.descriptor.media_type;
        let put = self.target.repository.put(target, kind, &document.bytes);
        put.map_err(|fault| self.target.attempt.failed(fault))
            .map(drop)
    }
}
