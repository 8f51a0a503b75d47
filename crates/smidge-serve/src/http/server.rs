//! A listener and its connections, from the first to the graceful end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::time::{interval, sleep, timeout};

use super::body::Body;
use super::patience::Patient;

/// Connections that are served at a time; more wait to be accepted.
const CONNECTIONS: u32 = 512;

/// Threads for what may block. More would only wait for the same disk.
const BLOCKING_THREADS: usize = 16;

/// How long a client may take for a request's head, and stay without asking anything.
const HEAD_TIME: Duration = Duration::from_secs(60);

/// How long a client may take nothing of what it is sent.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// The most that a request's head, and what is read ahead of a body, takes up.
const BUFFER: usize = 64 << 10;

/// How long requests that were begun may go on after the signal to end.
const GRACE: Duration = Duration::from_secs(5);

/// How often a handler gets to tidy up.
const TIDY: Duration = Duration::from_secs(60);

/// What answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers a request.
    fn answer(
        self: Arc<Self>,
        client: SocketAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// Drops what nobody asked for in a long time. Called every minute.
    fn tidy(&self);
}

/// Listens, and serves until SIGINT or SIGTERM. `ready` gets the address.
///
/// # Errors
/// When the address cannot be listened at, and when the machine fails.
pub(crate) fn serve(
    handler: impl Handler,
    address: SocketAddr,
    ready: &mut dyn FnMut(SocketAddr),
) -> Result<(), crate::Error> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(crate::Error::Serve)?;
    let outcome = runtime.block_on(async {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| crate::Error::Listen { address, source })?;
        let mut end = Interruption::new().map_err(crate::Error::Serve)?;
        ready(listener.local_addr().map_err(crate::Error::Serve)?);
        accept(Arc::new(handler), &listener, &mut end).await;
        Ok(())
    });
    // What a thread still does for nobody is not waited for long.
    runtime.shutdown_timeout(GRACE);
    outcome
}

/// Accepts connections until the signal to end, and then waits a while for those there are.
async fn accept(handler: Arc<impl Handler>, listener: &TcpListener, end: &mut Interruption) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let (ending, ended) = watch::channel(false);
    let tidying = tokio::spawn(tidy(Arc::clone(&handler)));
    loop {
        let next = async {
            // Never closed.
            let permit = Arc::clone(&connections).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        match first(end.wait(), next).await {
            First::Left(()) => break,
            First::Right((permit, Ok((stream, client)))) => {
                let connection = converse(Arc::clone(&handler), stream, client, ended.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            // The client is gone already, or there are no descriptors left: both pass.
            First::Right((_, Err(_))) => sleep(Duration::from_millis(100)).await,
        }
    }
    tidying.abort();
    let _ = ending.send(true);
    let all = timeout(GRACE, connections.acquire_many(CONNECTIONS));
    // A second signal ends it at once.
    let _ = first(end.wait(), all).await;
}

async fn tidy(handler: Arc<impl Handler>) {
    let mut minutes = interval(TIDY);
    loop {
        minutes.tick().await;
        let handler = Arc::clone(&handler);
        let _ = tokio::task::spawn_blocking(move || handler.tidy()).await;
    }
}

/// Serves one connection. Whatever ends it ends it for this client alone.
async fn converse(
    handler: Arc<impl Handler>,
    stream: TcpStream,
    client: SocketAddr,
    mut ended: watch::Receiver<bool>,
) {
    // Answers are written whole: waiting to fill packets would only delay the last one.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(handler.answer(client, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Who has said all that there is to say may close that direction, and still listens.
        .half_close(true)
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Patient::new(stream, WRITE_TIME)), service);
    let mut connection = pin!(connection);
    let mut ending = pin!(ended.wait_for(|ended| *ended));
    let mut told = false;
    let _ = poll_fn(|context| {
        if !told && ending.as_mut().poll(context).is_ready() {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(context)
    })
    .await;
}

/// The signals that ask a server to end.
struct Interruption {
    interrupt: Signal,
    terminate: Signal,
}

impl Interruption {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        first(self.interrupt.recv(), self.terminate.recv()).await;
    }
}

/// Which of two came first.
enum First<L, R> {
    Left(L),
    Right(R),
}

/// Waits for either; the left one goes first.
async fn first<L: Future, R: Future>(left: L, right: R) -> First<L::Output, R::Output> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|context| {
        if let Poll::Ready(left) = Pin::new(&mut left).poll(context) {
            return Poll::Ready(First::Left(left));
        }
        Pin::new(&mut right).poll(context).map(First::Right)
    })
    .await
}
