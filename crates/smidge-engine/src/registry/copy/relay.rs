//! From registry to registry: nothing is stored here, and what the receiver has is not even fetched.

use std::io;

use smidge_image::{Descriptor, Reference};
use smidge_registry::{Document, Upload, Uploaded};

use super::origin::{Load, Origin};
use super::{Copied, CopyRequest, copied};
use crate::progress::{Action, Settled};
use crate::registry::attempt::Verb;
use crate::registry::parallel::{Teller, Work};
use crate::registry::remote::Remote;
use crate::{Engine, Progress, Result};

/// One end and the other.
struct Relay<'c> {
    origin: Origin<'c>,
    target: Remote<'c>,
    /// Repositories of the target's registry that have the blobs.
    mount_from: Vec<String>,
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
        origin: Origin::new(engine, &client, from)?,
        target: Remote::new(engine, &client, (to, Verb::CopyTo))?,
        mount_from: same_registry
            .then(|| from.path().to_owned())
            .into_iter()
            .collect(),
    };
    let top = relay.origin.top(request)?;
    let digest = top.descriptor.digest;
    if relay.target.head()? != Some(digest) {
        relay.carry(relay.origin.load(top)?, progress)?;
    }
    Ok(copied(digest))
}

impl Relay<'_> {
    fn carry(&self, mut load: Load, progress: &dyn Progress) -> Result<()> {
        // What may not be handed on is not: others know where to fetch it.
        load.blobs.retain(|blob| blob.urls().is_empty());
        load.blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
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
        let source = &self.origin.remote.repository;
        let open = |offset| {
            teller.moves(offset);
            let reader = source.blob(blob, offset).map_err(io::Error::other)?;
            Ok(teller.reader(reader))
        };
        let upload = Upload {
            descriptor: blob,
            mount_from: &self.mount_from,
            open: &open,
            sent: &|_| {},
        };
        let uploaded = self.target.repository.upload(&upload);
        match uploaded.map_err(|fault| self.failed(fault))? {
            Uploaded::Existed => teller.settled(Settled::Exists),
            Uploaded::Mounted(from) => teller.settled(Settled::Mounted(from)),
            Uploaded::Sent => {}
        }
        Ok(())
    }

    fn put(&self, target: &str, document: &Document) -> Result<()> {
        let kind = &document.descriptor.media_type;
        let put = self.target.repository.put(target, kind, &document.bytes);
        put.map(drop).map_err(|fault| self.failed(fault))
    }

    /// What one end did not send is not the other's fault.
    fn failed(&self, fault: smidge_registry::Error) -> crate::Error {
        match fault {
            smidge_registry::Error::Source { request, source } => match source.downcast() {
                Ok(fault) => self.origin.remote.attempt.failed(fault),
                Err(source) => {
                    let fault = smidge_registry::Error::Source { request, source };
                    self.target.attempt.failed(fault)
                }
            },
            fault => self.target.attempt.failed(fault),
        }
    }
}
