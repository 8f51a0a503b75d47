//! To and from containerd's store.

use std::io;
use std::path::Path;
use std::time::Duration;

use smidge_image::{Descriptor, Index, Manifest, Platform, Reference};
use smidge_registry::Containerd;
use smidge_store::{IndexTransfer, Transfer};

use super::CopyRequest;
use crate::progress::{Action, Settled};
use crate::{Engine, Error, Kind, Progress, Result};

const SOCKET: &str = "/run/containerd/containerd.sock";

/// How long containerd keeps what no image refers to yet, if we cannot say that we are done.
const LEASE: Duration = Duration::from_secs(24 * 3600);

/// Documents are at most this many bytes.
const DOCUMENT_LIMIT: u64 = 4 << 20;

/// containerd, where the surroundings say that it is.
pub(super) fn connect(engine: &Engine) -> Result<Containerd> {
    let variable = |name: &str| {
        let value = engine.host.env.get(name);
        value.map(String::as_str).filter(|value| !value.is_empty())
    };
    let socket = variable("CONTAINERD_ADDRESS").unwrap_or(SOCKET);
    let socket = socket.strip_prefix("unix://").unwrap_or(socket);
    let namespace = variable("CONTAINERD_NAMESPACE").unwrap_or("default");
    Containerd::at(Path::new(socket), namespace).map_err(|fault| {
        let message = format!("cannot reach containerd at `{socket}`");
        Error::new(Kind::Host, message)
            .caused_by(fault)
            .with_hint("say where it listens: `CONTAINERD_ADDRESS=/path/containerd.sock`")
    })
}

/// Takes an image of containerd's into the store.
pub(super) fn bring(engine: &Engine, request: &CopyRequest, name: &Reference) -> Result<()> {
    let containerd = connect(engine)?;
    let intake = engine.store.intake()?;
    let take = |blob: &Descriptor| -> Result<()> {
        let mut fetch = |offset: u64| {
            let mut reader = containerd.blob(&blob.digest).map_err(io::Error::other)?;
            io::copy(&mut io::Read::take(&mut reader, offset), &mut io::sink())?;
            Ok(Box::new(reader) as Box<dyn io::Read + Send>)
        };
        Ok(intake.blob(blob, &mut fetch)?)
    };
    let document = |blob: &Descriptor| -> Result<Vec<u8>> {
        if blob.size > DOCUMENT_LIMIT {
            let message = format!(
                "`{}` is no manifest: it has {} bytes",
                blob.digest, blob.size
            );
            return Err(Error::new(Kind::Input, message));
        }
        let mut bytes = Vec::new();
        let mut reader = io::Read::take(containerd.blob(&blob.digest)?, blob.size + 1);
        io::Read::read_to_end(&mut reader, &mut bytes)
            .map_err(|source| Error::io(format!("cannot read `{}`", blob.digest), source))?;
        if intake.put(&bytes)? == blob.digest {
            return Ok(bytes);
        }
        Err(Error::new(
            Kind::Host,
            format!("`{}` is corrupt", blob.digest),
        ))
    };
    let mut top = containerd.image(name)?;
    let mut manifests = vec![top.clone()];
    if top.is_index() {
        let index: Index = parse(&document(&top)?)?;
        let here = Platform::linux(engine.host.architecture());
        let wanted = request.platform.as_ref().unwrap_or(&here);
        manifests = match request.all {
            true => index.manifests.clone(),
            false => wanted.best(&index.manifests).cloned().into_iter().collect(),
        };
        if let ([one], false) = (&manifests[..], request.all) {
            top = one.clone();
        }
    }
    for entry in &manifests {
        // containerd fetches the images of some platforms only.
        if request.all && !containerd.has(&entry.digest)? {
            continue;
        }
        let manifest: Manifest = parse(&document(entry)?)?;
        take(&manifest.config)?;
        manifest.layers.iter().try_for_each(&take)?;
    }
    intake.commit(&[(top, vec![name.clone()])])?;
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| {
        Error::new(Kind::Input, "the manifest cannot be understood").caused_by(source)
    })
}

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
        containerd.hold(&expires.format(format).unwrap_or_default())?;
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
        Ok(self.containerd.name(name, &index.descriptor)?)
    }

    /// Sends one image.
    pub(super) fn image(&self, image: &Transfer, name: &Reference) -> Result<()> {
        self.parts(image)?;
        Ok(self.containerd.name(name, &image.descriptor)?)
    }

    fn parts(&self, image: &Transfer) -> Result<()> {
        for layer in &image.layers {
            let blob = &layer.descriptor;
            if self.containerd.has(&blob.digest)? {
                self.progress
                    .settled(&blob.digest, Action::Copy, &Settled::Exists);
                continue;
            }
            let task = self
                .progress
                .blob(&blob.digest, Action::Copy, Some(blob.size));
            let sent = |bytes| task.advance(bytes);
            self.containerd
                .write(blob, &[], &mut layer.open()?, &sent)?;
            task.finish();
        }
        let manifest: Manifest = parse(&image.manifest)?;
        self.document(&manifest.config, &[], &image.config)?;
        let refers_to: Vec<_> = manifest.layers.iter().chain([&manifest.config]).collect();
        self.document(&image.descriptor, &refers_to, &image.manifest)
    }

    fn document(&self, blob: &Descriptor, refers_to: &[&Descriptor], bytes: &[u8]) -> Result<()> {
        let sent = |_| {};
        Ok(self
            .containerd
            .write(blob, refers_to, &mut { bytes }, &sent)?)
    }
}
