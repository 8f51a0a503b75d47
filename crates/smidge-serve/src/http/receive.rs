//! Bodies of requests, taken in with bounded memory.

use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::{Body as _, Bytes, Incoming};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::fault::{Code, Fault, explained};

/// How long a client may send nothing of a body that it has begun.
const IDLE: Duration = Duration::from_secs(60);

/// How long a client may take for a body that is kept in memory.
const TIME: Duration = Duration::from_secs(60);

/// Bytes that gather before they are written.
const PIECE: usize = 1 << 17;

/// What is read of a body that nobody wants, so that its sender gets to read the answer.
const DRAINED: u64 = 64 << 20;

/// For how long at most.
const DRAINING: Duration = Duration::from_secs(10);

/// What came of taking in a body.
pub(crate) struct Received<W> {
    /// What it was written to, unless writing failed.
    pub(crate) output: Option<W>,
    /// Whether all of it came and was written.
    pub(crate) outcome: Result<(), Fault>,
}

/// An output that is written to on threads that may block.
enum Output<W> {
    Idle(W),
    Busy(JoinHandle<(W, io::Result<()>)>),
    Failed,
}

/// Does what may wait for the disk, or for a lock, where it keeps nobody from being served.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Fault::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Unknown,
            explained(&error),
        )),
    }
}

/// Writes a body, as it comes, to `output`: one piece is written while the next one arrives.
pub(crate) async fn receive<W>(mut body: Incoming, output: W) -> Received<W>
where
    W: Write + Send + 'static,
{
    let mut output = Output::Idle(output);
    let (mut pieces, mut gathered) = (Vec::new(), 0);
    let mut outcome = loop {
        match next(&mut body).await {
            Ok(Some(piece)) => {
                gathered += piece.len();
                pieces.push(piece);
            }
            ended => break ended.map(drop),
        }
        if gathered >= PIECE {
            gathered = 0;
            if let Err(fault) = output.write(std::mem::take(&mut pieces)).await {
                drain(body).await;
                break Err(fault);
            }
        }
    };
    // What came before a fault of the sender's counts, too: it can go on from there.
    for pieces in [pieces, Vec::new()] {
        let written = output.write(pieces).await;
        outcome = written.and(outcome);
    }
    let output = match output {
        Output::Idle(output) => Some(output),
        Output::Busy(_) | Output::Failed => None,
    };
    Received { output, outcome }
}

impl<W: Write + Send + 'static> Output<W> {
    /// Waits for what is being written, and starts to write on.
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), Fault> {
        let mut output = match std::mem::replace(self, Self::Failed) {
            Self::Idle(output) => output,
            Self::Busy(writing) => {
                let (output, written) = writing.await.map_err(io::Error::other)?;
                written?;
                output
            }
            Self::Failed => return Ok(()),
        };
        *self = match pieces.is_empty() {
            true => Self::Idle(output),
            false => Self::Busy(spawn_blocking(move || {
                let written = pieces.iter().try_for_each(|piece| output.write_all(piece));
                (output, written)
            })),
        };
        Ok(())
    }
}

/// The next piece of a body.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Fault> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        match timeout(IDLE, frame).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => {
                if let Ok(piece) = frame.into_data() {
                    return Ok(Some(piece));
                }
            }
            Ok(Some(Err(error))) => {
                let message = format!("the body broke off: {}", explained(&error));
                return Err(Fault::bad_request(Code::SizeInvalid, message));
            }
            Err(_) => return Err(too_slow(IDLE)),
        }
    }
}

/// A whole body of at most `limit` bytes.
///
/// # Errors
/// `too_large()` for a larger one.
pub(crate) async fn receive_bytes(
    mut body: Incoming,
    limit: usize,
    too_large: impl FnOnce() -> Fault,
) -> Result<Vec<u8>, Fault> {
    let announced = body.size_hint().lower();
    if announced <= limit as u64 {
        let gathering = gather(&mut body, announced as usize, limit);
        match timeout(TIME, gathering).await {
            Ok(Ok(Some(bytes))) => return Ok(bytes),
            Ok(Ok(None)) => {}
            Ok(Err(fault)) => return Err(fault),
            Err(_) => return Err(too_slow(TIME)),
        }
    }
    drain(body).await;
    Err(too_large())
}

/// What a body holds, unless that is more than `limit` bytes.
async fn gather(
    body: &mut Incoming,
    announced: usize,
    limit: usize,
) -> Result<Option<Vec<u8>>, Fault> {
    let mut bytes = Vec::with_capacity(announced);
    while let Some(piece) = next(body).await? {
        if bytes.len() + piece.len() > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Some(bytes))
}

fn too_slow(limit: Duration) -> Fault {
    let message = format!("nothing more came in {} seconds", limit.as_secs());
    Fault::new(
        StatusCode::REQUEST_TIMEOUT,
        Code::BlobUploadInvalid,
        message,
    )
}

/// Reads on in a body that nobody wants: who is still sending when the connection is closed may
/// never see the answer.
pub(crate) async fn drain(mut body: Incoming) {
    let draining = async {
        let mut drained = 0;
        while let Ok(Some(piece)) = next(&mut body).await {
            drained += piece.len() as u64;
            if drained > DRAINED {
                break;
            }
        }
    };
    let _ = timeout(DRAINING, draining).await;
}
