//! To containerd's store.

use std::time::Duration;

use smidge_image::{Descriptor, Manifest, Reference};
use smidge_registry::Containerd;
use smidge_store::{IndexTransfer, Transfer};

use super::containerd::{connect, failed, parse};
use crate::progress::{Action, Settled};
use crate::{Engine, Progress, Result};

/// How long containerd keeps what no image refers to yet, if we cannot say that we are done.
const LEASE: Duration = Duration::from_secs(24 * 3600);

/// Sends images to containerd: what it has already is not sent.
pub(super) struct Sender<'p> {
    containerd: Containerd,
    progress: &'p dyn Progress,
}

impl<'p> Sender<'p> {
    pub(super) fn open(engine: &Engine, progress: &'p dyn Progress) -> Result<Self> {
        let mut containerd = connect(engine)?;
        let expires = time::OffsetDateTime::from(engine.host.now) + LEASE;
        let format = &time::format_description::well_known::Rfc3339;
        let expires = expires.format(format).unwrap_or_default();
        containerd.hold(&expires).map_err(failed)?;
        Ok(Self {
            containerd,
            progress,
        })
    }

    /// Sends everything of an index that there is.
    pub(super) fn index(&self, index: &IndexTransfer, name: &Reference) -> Result<()> {
        for image in &index.images {
            self.parts(image)?;
        }
        let children: Vec<_> = index.images.iter().map(|image| &image.descriptor).collect();
        self.document(&index.descriptor, &children, &index.index)?;
        self.name(name, &index.descriptor)
    }

    /// Sends one image.
    pub(super) fn image(&self, image: &Transfer, name: &Reference) -> Result<()> {
        self.parts(image)?;
        self.name(name, &image.descriptor)
    }

    fn name(&self, name: &Reference, target: &Descriptor) -> Result<()> {
        self.containerd.name(name, target).map_err(failed)
    }

    fn parts(&self, image: &Transfer) -> Result<()> {
        for layer in &image.layers {
            let blob = &layer.descriptor;
            if self.containerd.has(&blob.digest).map_err(failed)? {
                self.progress
                    .settled(&blob.digest, Action::Copy, &Settled::Exists);
                continue;
            }
            let task = self
                .progress
                .blob(&blob.digest, Action::Copy, Some(blob.size));
            let sent = |bytes| task.advance(bytes);
            let written = self.containerd.write(blob, &[], &mut layer.open()?, &sent);
            written.map_err(failed)?;
            task.finish();
        }
        let manifest: Manifest = parse(&image.manifest)?;
        self.document(&manifest.config, &[], &image.config)?;
        let refers_to: Vec<_> = manifest.layers.iter().chain([&manifest.config]).collect();
        self.document(&image.descriptor, &refers_to, &image.manifest)
    }

    fn document(&self, blob: &Descriptor, refers_to: &[&Descriptor], bytes: &[u8]) -> Result<()> {
        let written = self
            .containerd
            .write(blob, refers_to, &mut { bytes }, &|_| {});
        written.map_err(failed)
    }
}
