//! Uploads: end-4, end-5, end-6, end-11, end-13 and end-14.

use std::sync::Arc;

use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderName};
use hyper::{Method, StatusCode};
use smidge_image::Digest;

use super::range::chunk;
use super::session::{Session, Writing};
use super::{Asked, Registry, Sent};
use crate::http::{self, Answer, CONTENT_DIGEST, Code, Fault, method_not_allowed};
use crate::shelf::{Repository, digest};

/// Docker's name for the id of an upload.
const UPLOAD: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Starts an upload, or does without one: the blob comes at once, or is there already.
pub(super) async fn start(
    registry: Arc<Registry>,
    repository: Repository,
    asked: Asked,
    sent: &mut Sent,
) -> Result<Answer, Fault> {
    if asked.method != Method::POST {
        return Err(method_not_allowed(&asked.method, "POST"));
    }
    if let Some(mounted) = mount(&registry, &repository, &asked).await? {
        return Ok(mounted);
    }
    if let Some(text) = asked.query.first("digest") {
        let digest = digest(text)?;
        let writing = registry.sessions.start(&repository)?.write()?;
        let finished = finish(registry, (repository, writing), digest, sent.take()?);
        return finished.await;
    }
    let session = registry.sessions.start(&repository)?;
    Ok(progress(StatusCode::ACCEPTED, &repository, &session))
}

/// Mounts a blob, if that is asked for and possible.
async fn mount(
    registry: &Arc<Registry>,
    repository: &Repository,
    asked: &Asked,
) -> Result<Option<Answer>, Fault> {
    // What cannot be mounted is to be uploaded.
    let wanted = asked.query.first("mount").map(digest);
    let Some(Ok(digest)) = wanted else {
        return Ok(None);
    };
    let from = match asked.query.first("from").map(Repository::parse) {
        Some(Err(_)) => return Ok(None),
        Some(Ok(from)) => Some(from),
        None => None,
    };
    let into = repository.clone();
    let mounted = registry
        .on_shelf(move |shelf| shelf.mount(&into, &digest, from.as_ref()))
        .await?;
    Ok(mounted.then(|| created(repository, &digest)))
}

/// What is asked of an upload that was started.
pub(super) async fn go_on(
    registry: Arc<Registry>,
    (repository, id): (Repository, String),
    asked: Asked,
    sent: &mut Sent,
) -> Result<Answer, Fault> {
    let session = registry.sessions.find(&repository, &id)?;
    match asked.method {
        Method::GET | Method::HEAD => Ok(progress(StatusCode::NO_CONTENT, &repository, &session)),
        Method::PATCH => {
            let writing = Arc::clone(&session).write()?;
            check_chunk(&repository, &session, &asked, sent)?;
            append(registry, writing, sent.take()?).await?;
            Ok(progress(StatusCode::ACCEPTED, &repository, &session))
        }
        Method::PUT => {
            let text = asked.query.first("digest").ok_or_else(|| {
                Fault::bad_request(Code::DigestInvalid, "the query lacks `digest`")
            })?;
            let digest = digest(text)?;
            let writing = Arc::clone(&session).write()?;
            check_chunk(&repository, &session, &asked, sent)?;
            finish(registry, (repository, writing), digest, sent.take()?).await
        }
        Method::DELETE => {
            registry.sessions.end(&session);
            Ok(Answer::new(StatusCode::NO_CONTENT))
        }
        _ => Err(method_not_allowed(&asked.method, "GET, PATCH, PUT, DELETE")),
    }
}

/// Checks that a chunk is the next one, if it says which it is. Nobody else may be writing.
fn check_chunk(
    repository: &Repository,
    session: &Arc<Session>,
    asked: &Asked,
    sent: &Sent,
) -> Result<(), Fault> {
    let Some(text) = asked.header(header::CONTENT_RANGE) else {
        return Ok(());
    };
    let offset = session.offset();
    let refused = |why: String| {
        let status = StatusCode::RANGE_NOT_SATISFIABLE;
        Fault::new(status, Code::BlobUploadInvalid, why)
            .with(header::LOCATION, location(repository, session))
            .with(header::RANGE, range(offset))
            .with(UPLOAD, &session.id)
    };
    let Some((first, last)) = chunk(text) else {
        return Err(refused(format!(
            "`Content-Range` is `{text}`: it must be `<first>-<last>`"
        )));
    };
    if first != offset {
        return Err(refused(format!(
            "the chunk starts at {first}, but the next byte is {offset}"
        )));
    }
    let length = sent.0.as_ref().and_then(|body| body.size_hint().exact());
    if length.is_some_and(|length| length != (last - first).saturating_add(1)) {
        let message = "`Content-Range` and `Content-Length` differ";
        return Err(Fault::bad_request(Code::SizeInvalid, message));
    }
    Ok(())
}

/// Takes in a chunk. It goes on to its end, or to that of what comes, even if nobody waits for the
/// answer any more.
async fn append(
    registry: Arc<Registry>,
    mut writing: Writing,
    body: Incoming,
) -> Result<(), Fault> {
    joined(async move { take_in(&registry, &mut writing, body).await }).await
}

/// Takes in the last chunk, and makes everything a blob.
async fn finish(
    registry: Arc<Registry>,
    (repository, mut writing): (Repository, Writing),
    digest: Digest,
    body: Incoming,
) -> Result<Answer, Fault> {
    joined(async move {
        let single = writing.session.offset() == 0;
        let taken = take_in(&registry, &mut writing, body).await;
        if taken.is_ok() || single {
            registry.sessions.end(&writing.session);
        }
        taken?;
        let into = repository.clone();
        let this = Arc::clone(&registry);
        http::blocking(move || {
            let size = writing.session.offset();
            let written = writing.take(|| this.shelf.writer())?;
            this.shelf.keep(&into, written.into_writer(), digest, size)
        })
        .await?;
        Ok(created(&repository, &digest))
    })
    .await
}

/// Writes a body to a session. If it breaks off, what came of it stays.
async fn take_in(
    registry: &Arc<Registry>,
    writing: &mut Writing,
    body: Incoming,
) -> Result<(), Fault> {
    if body.is_end_stream() {
        return Ok(());
    }
    let output = writing.take(|| registry.shelf.writer())?;
    let received = http::receive(body, output).await;
    match received.output {
        Some(output) => writing.put_back(output),
        None => registry.sessions.end(&writing.session),
    }
    received.outcome
}

/// Does something as a task of its own, which a client that goes away does not stop.
async fn joined<T: Send + 'static>(
    work: impl Future<Output = Result<T, Fault>> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(std::io::Error::other(error).into()),
    }
}

/// Where a blob is now.
fn created(repository: &Repository, digest: &Digest) -> Answer {
    let location = format!("/v2/{}/blobs/{digest}", repository.name);
    Answer::new(StatusCode::CREATED)
        .with(header::LOCATION, location)
        .with(CONTENT_DIGEST, digest)
}

/// How far an upload is.
fn progress(status: StatusCode, repository: &Repository, session: &Session) -> Answer {
    Answer::new(status)
        .with(header::LOCATION, location(repository, session))
        .with(header::RANGE, range(session.offset()))
        .with(UPLOAD, &session.id)
}

fn location(repository: &Repository, session: &Session) -> String {
    format!("/v2/{}/blobs/uploads/{}", repository.name, session.id)
}

/// The bytes that came, both ends included. There is no way to write none: clients know 0-0.
fn range(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}
