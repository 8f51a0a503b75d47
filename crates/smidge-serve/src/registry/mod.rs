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
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use smidge_store::Store;
use tokio::sync::{Mutex, Semaphore};

use crate::http::{self, Answer, Body, Code, Fault, Query, Worker, method_not_allowed};
use crate::shelf::{Halt, Repository, Shelf};

use route::Route;
use session::Sessions;

/// Large documents that may be on their way at a time.
const ARRIVING: usize = 4;

/// Everything that requests share.
pub(crate) struct Registry {
    shelf: Shelf,
    sessions: Sessions,
    /// Rights to receive a large document.
    arriving: Semaphore,
    /// Looks at large documents, which takes several times their size in memory.
    worker: Worker,
    /// The right to make what is served in another form than it is stored in.
    making: Mutex<()>,
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
    pub(crate) fn new(store: &'static Store, options: &crate::RegistryOptions) -> io::Result<Self> {
        Ok(Self {
            shelf: Shelf::new(store),
            sessions: Sessions::default(),
            arriving: Semaphore::new(ARRIVING),
            worker: Worker::start()?,
            making: Mutex::default(),
            read_only: options.read_only,
            log: options.log,
        })
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
    async fn on_shelf<T, E>(
        self: &Arc<Self>,
        work: impl Fn(&Shelf) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<T, Fault>
    where
        T: Send + 'static,
        E: Into<Halt> + Send + 'static,
    {
        let work = Arc::new(work);
        self.until_made(|| {
            let (this, work) = (Arc::clone(self), Arc::clone(&work));
            http::blocking(move || Ok(work(&this.shelf).map_err(E::into)))
        })
        .await
    }

    /// As [`Registry::on_shelf`], for what takes much memory.
    async fn alone_on_shelf<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Fn(&Shelf) -> Result<T, Halt> + Send + Sync + 'static,
    ) -> Result<T, Fault> {
        let work = Arc::new(work);
        self.until_made(|| {
            let (this, work) = (Arc::clone(self), Arc::clone(&work));
            self.worker.run(move || work(&this.shelf))
        })
        .await
    }

    /// Does something again and again, as long as it needs what has to be made first. Who waits for
    /// that takes up no thread.
    async fn until_made<T, W>(self: &Arc<Self>, work: impl Fn() -> W) -> Result<T, Fault>
    where
        W: Future<Output = Result<Result<T, Halt>, Fault>>,
    {
        loop {
            let entry = match work().await? {
                Ok(done) => return Ok(done),
                Err(Halt::Fault(fault)) => return Err(fault),
                Err(Halt::Unmade(entry)) => entry,
            };
            let _making = self.making.lock().await;
            let this = Arc::clone(self);
            http::blocking(move || this.shelf.make(&entry)).await?;
        }
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
