//! containerd's store, through its socket: content, images and leases.

mod call;
mod message;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use smidge_image::{Descriptor, Digest, Reference};

use call::{ALREADY_EXISTS, Call, Channel, NOT_FOUND, Refusal};
use message::{
    ByDigest, ByName, COMMIT, Empty, FieldMask, Image, Info, InfoResponse, Lease, OneImage,
    ReadRequest, ReadResponse, Target, UpdateInfo, WRITE, WriteRequest, WriteResponse,
};

use crate::{Error, Fault, Result};

/// Bytes that are sent in one message.
const CHUNK: usize = 1 << 20;

/// Who keeps content that no image refers to yet.
const LEASE: &str = "smidge-copy";

/// containerd, in one of its namespaces.
pub struct Containerd {
    channel: Channel,
    socket: PathBuf,
    lease: Option<String>,
}

impl Containerd {
    /// Connects to containerd.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn at(socket: &Path, namespace: &str) -> Result<Self> {
        let mut channel = Channel::open(socket).map_err(|source| Error::Unreachable {
            request: format!("connect to {}", socket.display()),
            source,
        })?;
        channel
            .metadata
            .push(("containerd-namespace", namespace.to_owned()));
        Ok(Self {
            channel,
            socket: socket.to_owned(),
            lease: None,
        })
    }

    /// What a name stands for: a manifest or an index.
    ///
    /// # Errors
    /// [`Error::NotFound`]; when containerd fails.
    pub fn image(&self, name: &Reference) -> Result<Descriptor> {
        let method = "containerd.services.images.v1.Images/Get";
        let question = ByName {
            name: name.to_string(),
        };
        let found: OneImage = self.ask(method, &question)?;
        let target = found
            .image
            .and_then(|image| image.target)
            .unwrap_or_default();
        let digest = target.digest.parse().map_err(|error| Error::Protocol {
            request: self.request(method),
            why: format!("{error}"),
        })?;
        let size = u64::try_from(target.size).unwrap_or_default();
        Ok(Descriptor::new(target.media_type, digest, size))
    }

    /// Whether a blob is there.
    ///
    /// # Errors
    /// When containerd fails.
    pub fn has(&self, digest: &Digest) -> Result<bool> {
        let question = ByDigest {
            digest: digest.to_string(),
        };
        let answer: Result<InfoResponse> =
            self.ask("containerd.services.content.v1.Content/Info", &question);
        match answer {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a blob from an offset on. The bytes are not verified: who takes them hashes them all.
    ///
    /// # Errors
    /// When containerd fails. So do the reads of what is returned, with an [`io::Error`] that carries
    /// an [`Error`].
    pub fn blob(&self, digest: &Digest, offset: u64) -> Result<impl Read + Send + use<>> {
        let method = "containerd.services.content.v1.Content/Read";
        let question = ReadRequest {
            digest: digest.to_string(),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            size: 0,
        };
        let mut call = self
            .channel
            .call(method)
            .map_err(|e| self.error(method, e))?;
        call.send(&question, true)
            .map_err(|e| self.error(method, e))?;
        Ok(Content {
            request: self.request(method),
            call,
            pending: Bytes::new(),
        })
    }

    /// Keeps what is written from now on from being collected, until an image refers to it or a day
    /// has gone by.
    ///
    /// # Errors
    /// When containerd fails.
    pub fn hold(&mut self, expires: &str) -> Result<()> {
        let id = format!("{LEASE}-{}", std::process::id());
        let label = ("containerd.io/gc.expire".to_owned(), expires.to_owned());
        let lease = Lease {
            id: id.clone(),
            labels: BTreeMap::from([label]),
        };
        match self.ask::<Empty>("containerd.services.leases.v1.Leases/Create", &lease) {
            Ok(Empty {}) => {}
            Err(Error::Refused { fault, .. }) if u32::from(fault.status) == ALREADY_EXISTS => {}
            Err(error) => return Err(error),
        }
        self.channel.metadata.push(("containerd-lease", id.clone()));
        self.lease = Some(id);
        Ok(())
    }

    /// Writes a blob. `refers_to` is what a document leads to: it lives as long as the document.
    ///
    /// # Errors
    /// When the bytes are not those described, when they cannot be read, when containerd fails.
    pub fn write(
        &self,
        blob: &Descriptor,
        refers_to: &[&Descriptor],
        bytes: &mut dyn Read,
        sent: &dyn Fn(u64),
    ) -> Result<()> {
        let method = "containerd.services.content.v1.Content/Write";
        let labels = gc_labels(refers_to);
        match self.written(blob, &labels, bytes, sent) {
            Err(Refusal::Status(ALREADY_EXISTS, _)) if labels.is_empty() => Ok(()),
            Err(Refusal::Status(ALREADY_EXISTS, _)) => self.label(blob, labels),
            outcome => outcome.map_err(|refusal| self.error(method, refusal)),
        }
    }

    /// Gives a manifest or an index a name, which is taken from what had it.
    ///
    /// # Errors
    /// When containerd fails.
    pub fn name(&self, name: &Reference, target: &Descriptor) -> Result<()> {
        let image = OneImage {
            image: Some(Image {
                name: name.to_string(),
                labels: BTreeMap::new(),
                target: Some(Target {
                    media_type: target.media_type.clone(),
                    digest: target.digest.to_string(),
                    size: i64::try_from(target.size).unwrap_or(i64::MAX),
                }),
            }),
            update_mask: None,
        };
        let made: Result<OneImage> =
            self.ask("containerd.services.images.v1.Images/Create", &image);
        match made {
            Err(Error::Refused { fault, .. }) if u32::from(fault.status) == ALREADY_EXISTS => {
                let update = "containerd.services.images.v1.Images/Update";
                // Its labels are others' business.
                let paths = vec!["target".to_owned()];
                let moved = OneImage {
                    update_mask: Some(FieldMask { paths }),
                    ..image
                };
                self.ask::<OneImage>(update, &moved).map(drop)
            }
            made => made.map(drop),
        }
    }

    fn written(
        &self,
        blob: &Descriptor,
        labels: &BTreeMap<String, String>,
        bytes: &mut dyn Read,
        sent: &dyn Fn(u64),
    ) -> std::result::Result<(), Refusal> {
        let mut call = self
            .channel
            .call("containerd.services.content.v1.Content/Write")?;
        let mut part = WriteRequest {
            action: WRITE,
            // Two who send the same do not get into each other's way.
            reference: format!("{LEASE}-{}-{}", std::process::id(), blob.digest),
            total: i64::try_from(blob.size).unwrap_or(i64::MAX),
            expected: blob.digest.to_string(),
            ..WriteRequest::default()
        };
        loop {
            let mut data = Vec::with_capacity(CHUNK);
            let chunk = CHUNK as u64;
            let read = bytes
                .take(chunk)
                .read_to_end(&mut data)
                .map_err(Refusal::Broken)?;
            part.data = data.into();
            let last = read < CHUNK;
            if last {
                part.action = COMMIT;
                part.labels.clone_from(labels);
            }
            call.send(&part, last)?;
            call.receive::<WriteResponse>()?;
            part.offset += read as i64;
            sent(read as u64);
            if last {
                break;
            }
        }
        while call.receive::<WriteResponse>()?.is_some() {}
        Ok(())
    }

    /// Tells what a document that is there leads to.
    fn label(&self, blob: &Descriptor, labels: BTreeMap<String, String>) -> Result<()> {
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let update = UpdateInfo {
            info: Some(Info {
                digest: blob.digest.to_string(),
                size: 0,
                labels,
            }),
            update_mask: Some(FieldMask { paths }),
        };
        self.ask::<Empty>("containerd.services.content.v1.Content/Update", &update)
            .map(drop)
    }

    fn ask<A: prost::Message + Default>(
        &self,
        method: &str,
        question: &impl prost::Message,
    ) -> Result<A> {
        let answer = self.channel.ask(method, question);
        answer.map_err(|refusal| self.error(method, refusal))
    }

    fn error(&self, method: &str, refusal: Refusal) -> Error {
        refused(self.request(method), refusal)
    }

    fn request(&self, method: &str) -> String {
        let method = method.rsplit('.').next().unwrap_or(method);
        format!("{method} at {}", self.socket.display())
    }
}

impl Drop for Containerd {
    /// What was written is either part of an image by now, or not wanted.
    fn drop(&mut self) {
        if let Some(id) = self.lease.take() {
            let lease = Lease {
                id,
                labels: BTreeMap::new(),
            };
            let delete = "containerd.services.leases.v1.Leases/Delete";
            let _ = self.ask::<Empty>(delete, &lease);
        }
    }
}

fn refused(request: String, refusal: Refusal) -> Error {
    let (code, message) = match refusal {
        Refusal::Broken(source) => return Error::Unreachable { request, source },
        Refusal::Status(code, message) => (code, message),
    };
    let fault = Fault {
        status: u16::try_from(code).unwrap_or(u16::MAX),
        code: "gRPC".to_owned(),
        message,
    };
    match code {
        NOT_FOUND => Error::NotFound { request, fault },
        _ => Error::Refused { request, fault },
    }
}

/// What tells containerd's collector that one blob needs others (containerd,
/// docs/garbage-collection.md).
fn gc_labels(refers_to: &[&Descriptor]) -> BTreeMap<String, String> {
    let labels = refers_to.iter().enumerate().map(|(number, blob)| {
        let key = format!("containerd.io/gc.ref.content.{number}");
        (key, blob.digest.to_string())
    });
    labels.collect()
}

/// A blob's bytes as they come.
struct Content {
    request: String,
    call: Call,
    pending: Bytes,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.pending.is_empty() && !buffer.is_empty() {
            let message = self.call.receive::<ReadResponse>();
            let message = message
                .map_err(|refusal| io::Error::other(refused(self.request.clone(), refusal)))?;
            match message {
                Some(message) => self.pending = message.data,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.pending.len());
        self.pending.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
