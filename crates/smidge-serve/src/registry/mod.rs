//! The registry: the endpoints of the specification, one file a resource.

mod blob;
mod listing;
mod manifest;
mod range;
mod referrer;
mod route;
mod session;
mod upload;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use smidge_store::Store;
use tokio::sync::Semaphore;

use crate::http::{self, Answer, Body, Code, Fault, Query, method_not_allowed};
use crate::shelf::{DOCUMENT_LIMIT, Repository, Shelf};

use route::Route;
use session::Sessions;

/// Documents of the largest size that are taken in at a time.
const DOCUMENTS: usize = 4;

/// Everything that requests share.
pub(crate) struct Registry {
    shelf: Shelf,
    sessions: Sessions,
    /// Bytes of documents that may be in memory, in kibibytes.
    memory: Semaphore,
    read_only: bool,
    log: Option<fn(&str)>,
}

/// A request, without its body.
struct Asked {
    method: Method,
    headers: HeaderMap,
    query: Query,
}

/// A request's body, until somebody takes it.
struct Sent(Option<Incoming>);

impl Registry {
    pub(crate) fn new(store: &'static Store, options: &crate::RegistryOptions) -> Self {
        Self {
            shelf: Shelf::new(store),
            sessions: Sessions::default(),
            memory: Semaphore::new(DOCUMENTS * (DOCUMENT_LIMIT >> 10)),
            read_only: options.read_only,
            log: options.log,
        }
    }

    async fn dispatch(
        self: Arc<Self>,
        route: Route,
        asked: Asked,
        sent: &mut Sent,
    ) -> Result<Answer, Fault> {
        let reads = matches!(asked.method, Method::GET | Method::HEAD);
        if self.read_only && !reads {
            return Err(Fault::unsupported("this registry is read-only"));
        }
        match route {
            Route::Base if reads => Ok(Answer::json(StatusCode::OK, &serde_json::json!({}))),
            Route::Base => Err(method_not_allowed(&asked.method, "GET, HEAD")),
            Route::Catalog => listing::catalog(self, asked).await,
            Route::Tags { name } => {
                let repository = Repository::parse(&name)?;
                listing::tags(self, repository, asked).await
            }
            Route::Referrers { name, digest } => {
                let repository = Repository::parse(&name)?;
                referrer::list(self, repository, digest, asked).await
            }
            Route::Blob { name, digest } => {
                let repository = Repository::parse(&name)?;
                blob::answer(self, repository, digest, asked).await
            }
            Route::Manifest { name, reference } => {
                let repository = Repository::parse(&name)?;
                manifest::answer(self, (repository, reference), asked, sent).await
            }
            Route::Uploads { name } => {
                let repository = Repository::parse(&name)?;
                upload::start(self, repository, asked, sent).await
            }
            Route::Upload { name, id } => {
                let repository = Repository::parse(&name)?;
                upload::go_on(self, (repository, id), asked, sent).await
            }
        }
    }

    /// Does what may wait for the disk.
    async fn on_shelf<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Shelf) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let this = Arc::clone(self);
        http::blocking(move || work(&this.shelf)).await
    }
}

impl http::Handler for Registry {
    async fn answer(
        self: Arc<Self>,
        client: SocketAddr,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let log = self.log;
        let mut line = String::new();
        if log.is_some() {
            let _ = write!(line, "{client} {} {}", parts.method, parts.uri);
        }
        let asked = Asked {
            method: parts.method,
            query: Query::parse(parts.uri.query()),
            headers: parts.headers,
        };
        // A client that waits to be told to go on sends nothing if it is not told.
        let waits = asked.headers.contains_key(header::EXPECT);
        let mut sent = Sent(Some(body));
        let outcome = match Route::parse(parts.uri.path()) {
            Some(route) => self.dispatch(route, asked, &mut sent).await,
            None => Err(Fault::not_found(
                Code::NameUnknown,
                "there is nothing here: the registry is at `/v2/`",
            )),
        };
        let answer = outcome.unwrap_or_else(Fault::into_answer);
        if let Some(body) = sent.0
            && !waits
            && !body.is_end_stream()
        {
            http::drain(body).await;
        }
        if let Some(log) = log {
            let status = answer.status.as_u16();
            let _ = write!(line, " {status} {} ms", started.elapsed().as_millis());
            log(&line);
        }
        answer.into_response()
    }

    fn tidy(&self) {
        let now = Instant::now();
        self.sessions.expire(now);
        self.shelf.expire(now);
    }
}

impl Asked {
    /// A header's text.
    fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the client has this very thing already.
    fn has(&self, tag: &str) -> bool {
        let known = self.header(header::IF_NONE_MATCH).unwrap_or_default();
        known.split(',').any(|known| known.trim() == tag)
    }
}

impl Sent {
    /// The body; an answer that needs it twice is a mistake.
    fn take(&mut self) -> Result<Incoming, Fault> {
        self.0.take().ok_or_else(|| {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Fault::new(status, Code::Unknown, "the body was read already")
        })
    }
}
