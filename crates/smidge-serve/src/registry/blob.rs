//! Blobs: end-2 and end-10.

use std::sync::Arc;

use hyper::header;
use hyper::{Method, StatusCode};

use super::range::{Wanted, wanted};
use super::{Asked, Registry};
use crate::http::{Answer, Body, CONTENT_DIGEST, Fault, method_not_allowed};
use crate::shelf::{Halt, Repository, digest};

pub(super) async fn answer(
    registry: Arc<Registry>,
    repository: Repository,
    text: String,
    asked: Asked,
) -> Result<Answer, Fault> {
    let digest = digest(&text)?;
    match asked.method {
        Method::GET => send(registry, repository, digest, &asked).await,
        Method::HEAD => {
            let read_only = registry.read_only;
            let blob = registry
                .on_shelf(move |shelf| match read_only {
                    true => shelf.blob(&repository, &digest),
                    false => shelf.rely_on_blob(&repository, &digest),
                })
                .await?;
            Ok(described(StatusCode::OK, &digest).with(header::CONTENT_LENGTH, blob.size))
        }
        Method::DELETE => {
            registry
                .on_shelf(move |shelf| shelf.remove_blob(&repository, &digest))
                .await?;
            Ok(Answer::new(StatusCode::ACCEPTED))
        }
        _ => Err(method_not_allowed(&asked.method, "GET, HEAD, DELETE")),
    }
}

/// What every answer about a blob says.
fn described(status: StatusCode, digest: &smidge_image::Digest) -> Answer {
    Answer::new(status)
        .with(CONTENT_DIGEST, digest)
        .with(header::ETAG, format!("\"{digest}\""))
        .with(header::ACCEPT_RANGES, "bytes")
        .with(header::CONTENT_TYPE, "application/octet-stream")
}

async fn send(
    registry: Arc<Registry>,
    repository: Repository,
    digest: smidge_image::Digest,
    asked: &Asked,
) -> Result<Answer, Fault> {
    let tag = format!("\"{digest}\"");
    let unchanged = asked
        .header(header::IF_RANGE)
        .is_none_or(|known| known == tag);
    let range = asked.header(header::RANGE).filter(|_| unchanged);
    let (range, has) = (range.map(str::to_owned), asked.has(&tag));
    let (blob, wanted, reader) = registry
        .on_shelf(move |shelf| -> Result<_, Halt> {
            let blob = shelf.blob(&repository, &digest)?;
            let wanted = wanted(range.as_deref(), blob.size);
            let reader = match wanted {
                _ if has => None,
                Wanted::Whole => Some(shelf.open(&blob, 0)?),
                Wanted::Part { first, .. } => Some(shelf.open(&blob, first)?),
                Wanted::Unsatisfiable => None,
            };
            Ok((blob, wanted, reader))
        })
        .await?;
    let Some(reader) = reader else {
        let status = match has {
            true => StatusCode::NOT_MODIFIED,
            false => StatusCode::RANGE_NOT_SATISFIABLE,
        };
        let answer = described(status, &digest);
        return Ok(match has {
            true => answer,
            false => answer.with(header::CONTENT_RANGE, format!("bytes */{}", blob.size)),
        });
    };
    Ok(match wanted {
        Wanted::Part { first, last } => described(StatusCode::PARTIAL_CONTENT, &digest)
            .with(
                header::CONTENT_RANGE,
                format!("bytes {first}-{last}/{}", blob.size),
            )
            .with_body(Body::stream(reader, last - first + 1)),
        _ => described(StatusCode::OK, &digest).with_body(Body::stream(reader, blob.size)),
    })
}
