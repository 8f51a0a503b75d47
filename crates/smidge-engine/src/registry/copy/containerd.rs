//! From containerd's store.

use std::io::{self, Read as _};
use std::path::Path;

use smidge_image::{Descriptor, Digest, Index, Manifest, Platform, Reference};
use smidge_registry::{Containerd, Error as RegistryError};
use smidge_store::Intake;

use super::CopyRequest;
use super::origin::DEPTH;
use crate::conversion::registry_kind;
use crate::progress::{Action, Settled};
use crate::{Engine, Error, Kind, Progress, Result};

const SOCKET: &str = "/run/containerd/containerd.sock";

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
    Containerd::at(Path::new(socket), namespace).map_err(failed)
}

/// What containerd, or the way to it, did not do.
pub(super) fn failed(fault: RegistryError) -> Error {
    let kind = registry_kind(&fault);
    let where_ =
        "say where containerd listens: `CONTAINERD_ADDRESS=/path/containerd.sock smidge copy …`";
    let (why, hint) = match &fault {
        RegistryError::NotFound { .. } => (
            "containerd has no such image",
            Some(
                "see what there is: `ctr images ls`; another namespace is `CONTAINERD_NAMESPACE=k8s.io`",
            ),
        ),
        RegistryError::Refused { .. } => ("containerd refused it", None),
        RegistryError::Unreachable { source, .. } => match source.kind() {
            io::ErrorKind::PermissionDenied => (
                "containerd's socket is not for this user",
                Some("it is root's as a rule: `sudo smidge copy …`"),
            ),
            io::ErrorKind::TimedOut => ("containerd does not answer", Some(where_)),
            io::ErrorKind::InvalidData => ("what answers is not containerd", Some(where_)),
            _ => ("containerd cannot be reached", Some(where_)),
        },
        _ => return fault.into(),
    };
    let error = Error::new(kind, why).caused_by(fault);
    hint.into_iter().fold(error, Error::with_hint)
}

/// An image of containerd's on its way into a store.
struct Bringing<'b> {
    containerd: Containerd,
    intake: Intake<'b>,
    progress: &'b dyn Progress,
}

/// Takes an image of containerd's into the store.
pub(super) fn bring(
    engine: &Engine,
    request: &CopyRequest,
    (from, name): (&Reference, Option<&Reference>),
    progress: &dyn Progress,
) -> Result<Digest> {
    let bringing = Bringing {
        containerd: connect(engine)?,
        intake: engine.store.intake()?,
        progress,
    };
    let mut top = bringing.containerd.image(from).map_err(failed)?;
    if top.is_index() && !request.all {
        let index: Index = parse(&bringing.document(&top)?)?;
        let here = Platform::linux(engine.host.architecture());
        let wanted = request.platform.as_ref().unwrap_or(&here);
        top = chosen(&index, wanted)?;
    }
    bringing.take(&top, DEPTH)?;
    let digest = top.digest;
    let names = vec![name.unwrap_or(from).clone()];
    bringing.intake.commit(&[(top, names)])?;
    Ok(digest)
}

/// The entry of an index for a platform.
fn chosen(index: &Index, wanted: &Platform) -> Result<Descriptor> {
    let images = || {
        let entries = index.manifests.iter();
        entries.filter(|entry| entry.is_manifest() && !entry.is_attestation())
    };
    if let Some(entry) = wanted.best(images()) {
        return Ok(entry.clone());
    }
    let there: Vec<String> = images()
        .filter_map(|entry| entry.platform.as_ref().map(Platform::to_string))
        .collect();
    let why = format!("there is no image for `{wanted}`");
    let error = Error::new(Kind::NotFound, why);
    Err(match there.first() {
        None => error.with_fact("there is: none for any platform"),
        Some(first) => error
            .with_fact(format!("there is: {}", there.join(", ")))
            .with_hint(format!("choose one that there is: `--platform {first}`")),
    })
}

impl Bringing<'_> {
    /// Takes a document with all that belongs to it.
    fn take(&self, document: &Descriptor, depth: usize) -> Result<()> {
        let bytes = self.document(document)?;
        if !document.is_index() {
            let manifest: Manifest = parse(&bytes)?;
            let mut blobs = manifest.layers.iter().chain([&manifest.config]);
            return blobs.try_for_each(|blob| self.blob(blob));
        }
        let Some(depth) = depth.checked_sub(1) else {
            let why = "it is an index of indexes without end";
            return Err(Error::new(Kind::Input, why));
        };
        let index: Index = parse(&bytes)?;
        for entry in &index.manifests {
            // containerd fetches the images of some platforms only.
            if self.is_whole(entry)? {
                self.take(entry, depth)?;
            }
        }
        Ok(())
    }

    /// Whether all that a document needs is there: a manifest may have come without its layers.
    fn is_whole(&self, document: &Descriptor) -> Result<bool> {
        if !self.has(document)? {
            return Ok(false);
        }
        if !document.is_manifest() {
            return Ok(true);
        }
        let manifest: Manifest = parse(&self.document(document)?)?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if !self.has(blob)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has(&self, blob: &Descriptor) -> Result<bool> {
        self.containerd.has(&blob.digest).map_err(failed)
    }

    fn blob(&self, blob: &Descriptor) -> Result<()> {
        if self.intake.has(blob) {
            self.progress
                .settled(&blob.digest, Action::Copy, &Settled::Exists);
            return Ok(());
        }
        let task = self
            .progress
            .blob(&blob.digest, Action::Copy, Some(blob.size));
        let mut fetch = |offset: u64| {
            let reader = self.containerd.blob(&blob.digest, offset);
            let reader = reader.map_err(io::Error::other)?;
            Ok(Box::new(reader) as Box<dyn io::Read + Send>)
        };
        self.intake.blob(blob, &mut fetch)?;
        task.advance(blob.size);
        task.finish();
        Ok(())
    }

    /// Reads a manifest or an index, and keeps it.
    fn document(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        let digest = blob.digest;
        if blob.size > DOCUMENT_LIMIT {
            let message = format!("`{digest}` is no manifest: it has {} bytes", blob.size);
            return Err(Error::new(Kind::Input, message));
        }
        let mut bytes = Vec::new();
        let reader = self.containerd.blob(&digest, 0).map_err(failed)?;
        let read = reader.take(blob.size + 1).read_to_end(&mut bytes);
        read.map_err(|source| match source.downcast::<RegistryError>() {
            Ok(fault) => failed(fault),
            Err(source) => Error::io(format!("cannot read `{digest}`"), source),
        })?;
        if self.intake.put(&bytes)? == digest {
            return Ok(bytes);
        }
        Err(Error::new(
            Kind::Host,
            format!("`{digest}` is corrupt in containerd's store"),
        ))
    }
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| {
        Error::new(Kind::Input, "its manifest cannot be understood").caused_by(source)
    })
}
