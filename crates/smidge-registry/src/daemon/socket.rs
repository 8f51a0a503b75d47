//! HTTP over a socket in the file system.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Whether the other side has stopped to read what is sent.
pub(super) type Gone = Arc<AtomicBool>;

/// Connects to a socket in the file system, whatever the URL says.
#[derive(Debug)]
pub(super) struct SocketConnector {
    pub(super) path: PathBuf,
    pub(super) gone: Gone,
}

impl Connector<()> for SocketConnector {
    type Out = SocketTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<SocketTransport>, ureq::Error> {
        let config = &details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        self.gone.store(false, Ordering::Relaxed);
        Ok(Some(SocketTransport {
            stream: UnixStream::connect(&self.path)?,
            gone: Arc::clone(&self.gone),
            buffers,
        }))
    }
}

/// Nothing is looked up for a socket.
#[derive(Debug)]
pub(super) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut one = self.empty();
        one.push(SocketAddr::from(([0, 0, 0, 0], 0)));
        Ok(one)
    }
}

#[derive(Debug)]
pub(super) struct SocketTransport {
    stream: UnixStream,
    gone: Gone,
    buffers: LazyBuffers,
}

impl Transport for SocketTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let limit = timeout.for_write();
        self.stream
            .set_write_timeout(limit.not_zero().map(|limit| *limit))?;
        let output = &self.buffers.output()[..amount];
        match self.stream.write_all(output) {
            // Whoever hangs up has answered before: the reason is there to be read.
            Err(error) if is_hangup(&error) => self.gone.store(true, Ordering::Relaxed),
            written => written.map_err(|error| late(error, limit))?,
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let limit = timeout.for_read();
        self.stream
            .set_read_timeout(limit.not_zero().map(|limit| *limit))?;
        let read = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|error| late(error, limit))?,
            }
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        // A connection that was used once is not kept: a daemon may close it at any time.
        false
    }
}

impl Drop for SocketTransport {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn is_hangup(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(
        kind,
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn late(error: io::Error, limit: NextTimeout) -> ureq::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ureq::Error::Timeout(limit.reason),
        _ => error.into(),
    }
}
