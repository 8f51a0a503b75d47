//! Bodies of answers: nothing, bytes, or a stream that is read piece by piece while it is sent.

use std::fmt;
use std::future::Future as _;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Bytes, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes that are read at once.
const PIECE: u64 = 1 << 17;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// What a reader gives.
    Stream(Stream),
}

/// So many bytes of a reader. The next piece is read, on a thread that may block, while the last one
/// is sent; no thread waits for a slow receiver.
pub(crate) struct Stream {
    /// Bytes that were not handed out yet.
    left: u64,
    next: JoinHandle<(Box<dyn Read + Send>, io::Result<Bytes>)>,
}

impl Body {
    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// The first `size` bytes of a reader, which must have them.
    pub(crate) fn stream(reader: Box<dyn Read + Send>, size: u64) -> Self {
        if size == 0 {
            return Self::Empty;
        }
        Self::Stream(Stream {
            left: size,
            next: read_on(reader, size),
        })
    }
}

impl Stream {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let (reader, piece) = match ready!(Pin::new(&mut self.next).poll(context)) {
            Ok(read) => read,
            Err(error) => {
                self.left = 0;
                return Poll::Ready(Some(Err(io::Error::other(error))));
            }
        };
        match &piece {
            Ok(piece) => self.left -= piece.len() as u64,
            Err(_) => self.left = 0,
        }
        if self.left > 0 {
            self.next = read_on(reader, self.left);
        }
        Poll::Ready(Some(piece))
    }
}

fn read_on(
    mut reader: Box<dyn Read + Send>,
    left: u64,
) -> JoinHandle<(Box<dyn Read + Send>, io::Result<Bytes>)> {
    spawn_blocking(move || {
        let mut piece = vec![0; left.min(PIECE) as usize];
        let read = reader.read_exact(&mut piece);
        (reader, read.map(|()| Bytes::from(piece)))
    })
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({} bytes left)", self.left)
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut *self {
            Self::Empty => None,
            Self::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Some(Ok(bytes))
            }
            Self::Stream(stream) => ready!(stream.poll_next(context)),
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Stream(stream) => stream.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Stream(stream) => stream.left,
        })
    }
}
