//! One repository: its manifests, blobs and tags.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

use serde::Deserialize;
use smidge_image::{Descriptor, Digest, media_type};
use ureq::http::Method;

use crate::blob::Source;
use crate::token::Scopes;
use crate::transport::{Answer, Content};
use crate::upload::Sender;
use crate::wire::{Call, Target, Wire};
use crate::{Access, BlobReader, Endpoint, Error, Result, foreign, referrers};

/// The longest document (distribution-spec, "Pushing Manifests"), and the longest small blob.
pub(crate) const LONGEST_DOCUMENT: u64 = 4 << 20;

/// What is understood, best first.
const ACCEPT: [&str; 4] = [
    media_type::INDEX,
    media_type::MANIFEST,
    media_type::DOCKER_MANIFEST_LIST,
    media_type::DOCKER_MANIFEST,
];

/// A repository of a registry.
pub struct Repository<'c> {
    pub(crate) wire: &'c Arc<Wire>,
    /// Where to ask: mirrors first, the registry itself last.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) access: Access,
}

/// A manifest, index or other document, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Media type (that of the document itself, or else that of the answer), digest and size.
    pub descriptor: Descriptor,
    /// The bytes, verified where the digest was known beforehand.
    pub bytes: Vec<u8>,
}

/// What a registry says about a document without sending it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The media type.
    pub media_type: String,
    /// The digest, if the registry tells it.
    pub digest: Option<Digest>,
    /// Size in bytes.
    pub size: u64,
}

/// A blob to send.
pub struct Upload<'a> {
    /// Digest and size.
    pub descriptor: &'a Descriptor,
    /// Repositories of the same registry (paths) that may have it.
    pub mount_from: &'a [String],
    /// Opens the bytes from an offset on; asked again when a connection breaks.
    pub open: &'a (dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + Sync),
    /// Is told about bytes that went out; about each once, even if it has to go twice.
    pub sent: &'a (dyn Fn(u64) + Sync),
}

/// How a blob came to be in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// It was there.
    Existed,
    /// It was taken over from another repository.
    Mounted(String),
    /// Its bytes were sent.
    Sent,
}

/// What a registry says to a manifest that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The manifest's digest.
    pub digest: Digest,
}

/// What is read of a document to know what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

impl<'c> Repository<'c> {
    pub(crate) fn new(
        wire: &'c Arc<Wire>,
        endpoints: Vec<Endpoint>,
        access: Access,
    ) -> Result<Self> {
        if endpoints.is_empty() {
            return Err(Error::Protocol {
                request: "GET /v2/".to_owned(),
                why: "the settings leave no place to ask".to_owned(),
            });
        }
        Ok(Self {
            wire,
            endpoints,
            access,
        })
    }

    /// The same without mirrors: for when what a mirror has is wrong.
    #[must_use]
    pub fn without_mirrors(&self) -> Self {
        Self {
            wire: self.wire,
            endpoints: vec![self.own().clone()],
            access: self.access,
        }
    }

    /// Fetches a document by tag or digest. An answer to a digest is verified against it. A document
    /// is at most 4 MiB.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn document(&self, tag_or_digest: &str) -> Result<Document> {
        self.first(is_digest(tag_or_digest), |endpoint, mirror| {
            let call = self
                .manifest(Method::GET, endpoint, tag_or_digest)
                .mirror(mirror);
            read_document(self.wire.expect(endpoint, &call)?, tag_or_digest)
        })
    }

    /// Asks what a tag or digest is; `None` if it is not there.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn head(&self, tag_or_digest: &str) -> Result<Option<Head>> {
        let head = self.first(is_digest(tag_or_digest), |endpoint, mirror| {
            let call = self
                .manifest(Method::HEAD, endpoint, tag_or_digest)
                .mirror(mirror);
            let answer = self.wire.expect(endpoint, &call)?;
            let size = answer.number("content-length");
            Ok(size.map(|size| Head {
                media_type: answer.media_type().to_owned(),
                digest: told_digest(&answer),
                size,
            }))
        });
        // A registry that does not know the question, or not the thing, has not failed.
        let head = head.map_err(|error| match error {
            Error::BehindMirrors { error, .. } if error.is_answer() => *error,
            error => error,
        });
        match head {
            Ok(Some(head)) => Ok(Some(head)),
            Err(Error::NotFound { .. }) => Ok(None),
            // Some registries do not know HEAD, or do not tell the size.
            Ok(None) => self.head_of_document(tag_or_digest).map(Some),
            Err(Error::Refused { fault, .. }) if matches!(fault.status, 405 | 501) => {
                self.head_of_document(tag_or_digest).map(Some)
            }
            Err(error) => Err(error),
        }
    }

    fn head_of_document(&self, tag_or_digest: &str) -> Result<Head> {
        let Descriptor {
            media_type,
            digest,
            size,
            ..
        } = self.document(tag_or_digest)?.descriptor;
        Ok(Head {
            media_type,
            digest: Some(digest),
            size,
        })
    }

    /// Starts to fetch a blob from an offset on. `urls` of a foreign layer are used if the registry
    /// does not have it.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobReader> {
        let last = self.endpoints.len() - 1;
        let registries =
            self.endpoints
                .iter()
                .enumerate()
                .map(|(index, endpoint)| Source::Registry {
                    endpoint: endpoint.clone(),
                    scopes: self.scopes(endpoint),
                    mirror: index < last,
                });
        let mut sources: VecDeque<Source> = registries.collect();
        let urls = foreign::urls(descriptor, self.own());
        sources.extend(urls.into_iter().map(Source::Elsewhere));
        BlobReader::open(self.wire, descriptor, sources, offset)
    }

    /// Fetches a small blob (a config) whole, verified; at most 4 MiB.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let request = format!("GET {}", descriptor.digest);
        if descriptor.size > LONGEST_DOCUMENT {
            return Err(Error::Protocol {
                request,
                why: format!(
                    "it has {} bytes; more than {LONGEST_DOCUMENT} are not taken",
                    descriptor.size
                ),
            });
        }
        self.first(true, |endpoint, mirror| {
            let mut bytes = Vec::new();
            let sources = VecDeque::from([self.source(endpoint, mirror)]);
            let mut reader = BlobReader::open(self.wire, descriptor, sources, 0)?;
            if let Err(error) = reader.read_to_end(&mut bytes) {
                let request = request.clone();
                let broken = |source| Error::Unreachable { request, source };
                return Err(error.downcast().unwrap_or_else(broken));
            }
            verify(&request, descriptor, &bytes)?;
            Ok(bytes)
        })
    }

    fn source(&self, endpoint: &Endpoint, mirror: bool) -> Source {
        Source::Registry {
            endpoint: endpoint.clone(),
            scopes: self.scopes(endpoint),
            mirror,
        }
    }

    /// Whether a blob is there.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let endpoint = self.own();
        has_blob(self.wire, endpoint, &self.scopes(endpoint), digest)
    }

    /// Sends a blob, unless it is there or can be taken over from another repository.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn upload(&self, upload: &Upload<'_>) -> Result<Uploaded> {
        let endpoint = self.own();
        let sender = Sender {
            wire: self.wire,
            endpoint,
            scopes: self.scopes(endpoint),
            upload,
            told: Cell::new(0),
            stuck: Cell::new(0),
        };
        sender.run()
    }

    /// Sends a document. Where it has a `subject` and the registry knows no referrers, the list under
    /// the fallback tag is kept, too.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn put(&self, tag_or_digest: &str, media_type: &str, bytes: &[u8]) -> Result<Put> {
        let endpoint = self.own();
        let call = self
            .manifest(Method::PUT, endpoint, tag_or_digest)
            .header("content-type", media_type)
            .content(Content::Bytes(bytes));
        let answer = self.wire.expect(endpoint, &call)?;
        let digest = Digest::of(bytes);
        if let Some(told) = told_digest(&answer).filter(|told| *told != digest) {
            return Err(Error::Protocol {
                request: answer.label,
                why: format!("{digest} was sent, but the registry took it for {told}"),
            });
        }
        let knows_referrers = answer.header("oci-subject").is_some();
        answer.finish();
        if !knows_referrers {
            self.list_referrer(media_type, bytes)?;
        }
        Ok(Put { digest })
    }

    /// Removes a manifest by digest, or a tag.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn delete(&self, tag_or_digest: &str) -> Result<()> {
        let endpoint = self.own();
        let subject = self.subject(tag_or_digest);
        let call = self.manifest(Method::DELETE, endpoint, tag_or_digest);
        self.wire.expect(endpoint, &call)?.finish();
        match subject {
            Some((subject, digest)) => self.unlist_referrer(&subject, &digest),
            None => Ok(()),
        }
    }

    /// What a manifest that is about to go refers to, and its own digest.
    fn subject(&self, reference: &str) -> Option<(Digest, Digest)> {
        let digest: Digest = reference.parse().ok()?;
        // What cannot be fetched is in no list of ours.
        let endpoint = self.own();
        let answer = self
            .wire
            .expect(endpoint, &self.manifest(Method::GET, endpoint, reference));
        let document = read_document(answer.ok()?, reference).ok()?;
        Some((referrers::subject(&document.bytes)?, digest))
    }

    /// The registry itself.
    pub(crate) fn own(&self) -> &Endpoint {
        &self.endpoints[self.endpoints.len() - 1]
    }

    pub(crate) fn scopes(&self, endpoint: &Endpoint) -> Scopes {
        let scope = format!("repository:{}:{}", endpoint.path, self.access.actions());
        Scopes::from([scope])
    }

    pub(crate) fn manifest<'a>(
        &self,
        method: Method,
        endpoint: &Endpoint,
        reference: &str,
    ) -> Call<'a> {
        let path = format!("/v2/{}/manifests/{reference}", endpoint.path);
        let fetches = matches!(method, Method::GET | Method::HEAD);
        let mut call = Call::new(method, Target::Path(path), &self.scopes(endpoint));
        if fetches {
            call.headers.push(("accept", ACCEPT.join(", ")));
            return call.whole(LONGEST_DOCUMENT);
        }
        call.patience(self.wire.policy.commit)
    }

    /// The first answer of the mirrors, or else that of the registry itself.
    fn first<T>(&self, by_digest: bool, ask: impl Fn(&Endpoint, bool) -> Result<T>) -> Result<T> {
        let mirrors = &self.endpoints[..self.endpoints.len() - 1];
        let mut failed = Vec::new();
        for mirror in mirrors
            .iter()
            .filter(|mirror| by_digest || !mirror.digests_only)
        {
            match ask(mirror, true) {
                Ok(found) => return Ok(found),
                Err(error) => failed.push(error),
            }
        }
        ask(self.own(), false).map_err(|error| error.behind(&failed))
    }
}

/// Whether a repository has a blob.
pub(crate) fn has_blob(
    wire: &Wire,
    endpoint: &Endpoint,
    scopes: &Scopes,
    digest: &Digest,
) -> Result<bool> {
    let path = format!("/v2/{}/blobs/{digest}", endpoint.path);
    let answer = wire.call(
        endpoint,
        &Call::new(Method::HEAD, Target::Path(path), scopes),
    )?;
    match answer.status {
        404 => Ok(false),
        // It sent us to its storage. Some do not know HEAD, and then there is something there; some say
        // 403 of what is not there, and then it is sent once more than needed.
        405 | 501 if !answer.direct => Ok(true),
        401 | 403 if !answer.direct => Ok(false),
        _ if answer.is_success() => Ok(true),
        _ => Err(wire.refusal(endpoint, answer)),
    }
}

/// Whether a reference is a digest, of whatever algorithm.
fn is_digest(reference: &str) -> bool {
    reference.contains(':')
}

/// The digest that a registry tells, where it is one that can be checked.
fn told_digest(answer: &Answer) -> Option<Digest> {
    answer.header("docker-content-digest")?.trim().parse().ok()
}

fn read_document(answer: Answer, reference: &str) -> Result<Document> {
    let label = answer.label.clone();
    let wrong = |why: String| Error::Protocol {
        request: label.clone(),
        why,
    };
    let told = told_digest(&answer);
    let expected = match is_digest(reference) {
        true => Some(
            reference
                .parse()
                .map_err(|error| wrong(format!("{error}")))?,
        ),
        false => told,
    };
    let bytes = &answer.content;
    if let Some(digest) = expected {
        let size = answer
            .number("content-length")
            .unwrap_or(bytes.len() as u64);
        verify(&label, &Descriptor::new("", digest, size), bytes)?;
    }
    let media_type = kind(bytes, &answer)?;
    Ok(Document {
        descriptor: Descriptor::of(media_type, bytes),
        bytes: answer.content,
    })
}

/// What a document says it is, or else what the registry says, or else what it looks like.
fn kind(bytes: &[u8], answer: &Answer) -> Result<String> {
    let kind: Kind = serde_json::from_slice(bytes).map_err(|error| Error::Protocol {
        request: answer.label.clone(),
        why: format!("this is no manifest: {error}"),
    })?;
    let told = answer.media_type();
    let schema1 = "application/vnd.docker.distribution.manifest.v1+";
    if kind.schema_version == Some(1) || told.starts_with(schema1) {
        return Err(Error::Schema1 {
            request: answer.label.clone(),
        });
    }
    if let Some(media_type) = kind.media_type.filter(|media_type| !media_type.is_empty()) {
        return Ok(media_type);
    }
    let vague = [
        "",
        "application/json",
        "text/plain",
        "application/octet-stream",
    ]
    .contains(&told);
    Ok(match (kind.manifests, kind.layers) {
        (Some(_), _) if vague => media_type::INDEX.to_owned(),
        (_, Some(_)) if vague => media_type::MANIFEST.to_owned(),
        _ => told.to_owned(),
    })
}

/// Checks bytes against what was asked for.
fn verify(request: &str, expected: &Descriptor, bytes: &[u8]) -> Result<()> {
    let received = Digest::of(bytes);
    if received == expected.digest {
        return Ok(());
    }
    Err(Error::Corrupt {
        request: request.to_owned(),
        expected: expected.digest,
        expected_size: expected.size,
        received,
        received_size: bytes.len() as u64,
    })
}

#[cfg(test)]
mod tests;
