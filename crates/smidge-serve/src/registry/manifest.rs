//! Manifests: end-3, end-7 and end-9.

use std::sync::Arc;

use hyper::body::Body as _;
use hyper::header::{self, HeaderName};
use hyper::{Method, StatusCode};

use super::{Asked, Registry, Sent};
use crate::http::{self, Answer, Body, CONTENT_DIGEST, Code, Fault, method_not_allowed};
use crate::shelf::{DOCUMENT_LIMIT, Repository, Shelf, Target};

/// Tells a client that the manifest's `subject` was noticed.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// Documents with more bytes are received and looked at a few at a time.
const LARGE: u64 = 64 << 10;

pub(super) async fn answer(
    registry: Arc<Registry>,
    (repository, reference): (Repository, String),
    asked: Asked,
    sent: &mut Sent,
) -> Result<Answer, Fault> {
    match asked.method {
        Method::GET | Method::HEAD => {
            let target = Target::find(&reference)?;
            let document = registry
                .on_shelf(move |shelf| shelf.manifest(&repository, &target))
                .await?;
            let digest = document.descriptor.digest;
            let tag = format!("\"{digest}\"");
            let (status, body) = match asked.has(&tag) {
                true => (StatusCode::NOT_MODIFIED, Body::Empty),
                false => (StatusCode::OK, Body::bytes(document.bytes)),
            };
            Ok(Answer::new(status)
                .with(header::CONTENT_TYPE, document.descriptor.media_type)
                .with(CONTENT_DIGEST, digest)
                .with(header::ETAG, tag)
                .with_body(body))
        }
        Method::PUT => put(registry, repository, reference, (asked, sent)).await,
        Method::DELETE => {
            let target = Target::find(&reference)?;
            registry
                .on_shelf(move |shelf| shelf.remove_manifest(&repository, &target))
                .await?;
            Ok(Answer::new(StatusCode::ACCEPTED))
        }
        _ => Err(method_not_allowed(&asked.method, "GET, HEAD, PUT, DELETE")),
    }
}

async fn put(
    registry: Arc<Registry>,
    repository: Repository,
    reference: String,
    (asked, sent): (Asked, &mut Sent),
) -> Result<Answer, Fault> {
    let target = Target::parse(&reference)?;
    let body = sent.take()?;
    // Many large documents at once would be more memory than a registry should take. Those who bring
    // one slowly, or none, keep only others with large ones waiting.
    let is_large = body.size_hint().exact().is_none_or(|size| size > LARGE);
    let _arriving = match is_large {
        true => registry.arriving.acquire().await.ok(),
        false => None,
    };
    let bytes = http::receive_bytes(body, DOCUMENT_LIMIT, too_large).await?;
    // Parameters of a media type are to be ignored.
    let stated = asked.header(header::CONTENT_TYPE).map(|stated| {
        let essence = stated.split(';').next().unwrap_or(stated);
        essence.trim().to_ascii_lowercase()
    });
    let name = repository.name.clone();
    let is_large = bytes.len() as u64 > LARGE;
    let put =
        move |shelf: &Shelf| shelf.put_manifest(&repository, &target, stated.as_deref(), &bytes);
    let placed = match is_large {
        true => registry.alone_on_shelf(put).await?,
        false => registry.on_shelf(put).await?,
    };
    let digest = placed.digest;
    let answer = Answer::new(StatusCode::CREATED)
        .with(header::LOCATION, format!("/v2/{name}/manifests/{digest}"))
        .with(CONTENT_DIGEST, digest);
    Ok(match placed.subject {
        Some(subject) => answer.with(SUBJECT, subject),
        None => answer,
    })
}

fn too_large() -> Fault {
    let message = format!("a manifest may have {DOCUMENT_LIMIT} bytes at most");
    Fault::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        Code::ManifestInvalid,
        message,
    )
}
