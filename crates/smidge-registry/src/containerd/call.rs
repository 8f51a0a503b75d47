//! gRPC over a socket in the file system, as far as containerd needs it: one call at a time, on the
//! caller's own thread (gRPC's PROTOCOL-HTTP2.md).

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use prost::Message;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Bytes before each message: a flag for compression, and the length.
const FRAME: usize = 5;

/// How long a service may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(60);

/// The largest message that is accepted, in bytes: containerd's own limit.
const MESSAGE_LIMIT: usize = 16 << 20;

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The connection broke.
    Broken(io::Error),
    /// The service said no: gRPC's code, and why.
    Status(u32, String),
}

/// gRPC's codes that make a difference here.
pub(super) const NOT_FOUND: u32 = 5;
pub(super) const ALREADY_EXISTS: u32 = 6;

type Outcome<T> = std::result::Result<T, Refusal>;

/// A connection to a service.
pub(super) struct Channel {
    runtime: Arc<Runtime>,
    requests: SendRequest<Bytes>,
    /// Sent with each call.
    pub(super) metadata: Vec<(&'static str, String)>,
}

/// A call under way: messages go out, messages come in.
pub(super) struct Call {
    runtime: Arc<Runtime>,
    outgoing: SendStream<Bytes>,
    answer: Option<h2::client::ResponseFuture>,
    incoming: Option<RecvStream>,
    buffer: BytesMut,
    /// How long a message may take to come. What is written may take long to reach the disk.
    patience: Option<Duration>,
}

impl Channel {
    /// Connects to a socket.
    pub(super) fn open(socket: &Path) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let connecting = async {
            let stream = UnixStream::connect(socket).await?;
            let (requests, connection) = h2::client::Builder::new()
                .initial_window_size(4 << 20)
                .initial_connection_window_size(4 << 20)
                .max_frame_size(1 << 20)
                .handshake(stream)
                .await
                .map_err(broken)?;
            // Its faults are those of the calls.
            tokio::spawn(async move { drop(connection.await) });
            io::Result::Ok(requests)
        };
        let requests = runtime.block_on(async { timeout(PATIENCE, connecting).await })??;
        Ok(Self {
            runtime: Arc::new(runtime),
            requests,
            metadata: Vec::new(),
        })
    }

    /// Starts a call.
    pub(super) fn call(&self, method: &str) -> Outcome<Call> {
        let mut request = ureq::http::Request::builder()
            .method("POST")
            .uri(format!("http://localhost/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in &self.metadata {
            request = request.header(*name, value);
        }
        let request = request
            .body(())
            .map_err(|e| Refusal::Broken(io::Error::other(e)))?;
        let mut requests = self.requests.clone();
        let sent = self.runtime.block_on(async {
            ready(&mut requests).await?;
            requests.send_request(request, false)
        });
        let (answer, outgoing) = sent.map_err(|e| Refusal::Broken(broken(e)))?;
        Ok(Call {
            runtime: Arc::clone(&self.runtime),
            outgoing,
            answer: Some(answer),
            incoming: None,
            buffer: BytesMut::new(),
            patience: None,
        })
    }

    /// A call with one message each way.
    pub(super) fn ask<A: Message + Default>(
        &self,
        method: &str,
        question: &impl Message,
    ) -> Outcome<A> {
        let mut call = self.call(method)?;
        call.send(question, true)?;
        call.patience = Some(PATIENCE);
        let answer = call.receive()?;
        while call.receive::<A>()?.is_some() {}
        answer.ok_or_else(|| Refusal::Broken(io::ErrorKind::UnexpectedEof.into()))
    }
}

async fn ready(requests: &mut SendRequest<Bytes>) -> Result<(), h2::Error> {
    std::future::poll_fn(|context| requests.poll_ready(context)).await
}

impl Call {
    /// Sends a message; `last` ends this side.
    pub(super) fn send(&mut self, message: &impl Message, last: bool) -> Outcome<()> {
        let mut frame = Vec::with_capacity(FRAME + message.encoded_len());
        let length = u32::try_from(message.encoded_len())
            .map_err(|e| Refusal::Broken(io::Error::other(e)))?;
        frame.push(0);
        frame.extend_from_slice(&length.to_be_bytes());
        message
            .encode(&mut frame)
            .map_err(|e| Refusal::Broken(io::Error::other(e)))?;
        let mut frame = Bytes::from(frame);
        let outgoing = &mut self.outgoing;
        let sent = self.runtime.block_on(async {
            while !frame.is_empty() {
                outgoing.reserve_capacity(frame.len());
                let room = std::future::poll_fn(|context| outgoing.poll_capacity(context)).await;
                let Some(room) = room.transpose()? else {
                    break;
                };
                let part = frame.split_to(room.min(frame.len()));
                outgoing.send_data(part, last && frame.is_empty())?;
            }
            Ok(())
        });
        match sent {
            // The reason for a stream that is closed early is in the answer.
            Ok(()) => Ok(()),
            Err(error) => match self.receive::<super::message::Empty>() {
                Err(refusal @ Refusal::Status(..)) => Err(refusal),
                _ => Err(Refusal::Broken(broken(error))),
            },
        }
    }

    /// The next message; `None` at the end of a call that went well.
    pub(super) fn receive<A: Message + Default>(&mut self) -> Outcome<Option<A>> {
        let runtime = Arc::clone(&self.runtime);
        let patience = self.patience;
        let next = self.next();
        runtime.block_on(async {
            match patience {
                None => next.await,
                Some(patience) => match timeout(patience, next).await {
                    Ok(message) => message,
                    Err(late) => Err(Refusal::Broken(late.into())),
                },
            }
        })
    }

    async fn next<A: Message + Default>(&mut self) -> Outcome<Option<A>> {
        let lost = |error| Refusal::Broken(broken(error));
        if let Some(answer) = self.answer.take() {
            let (head, body) = answer.await.map_err(lost)?.into_parts();
            status(&head.headers)?;
            self.incoming = Some(body);
        }
        let Some(body) = &mut self.incoming else {
            return Ok(None);
        };
        loop {
            if let Some(message) = framed(&mut self.buffer)? {
                let message = A::decode(message);
                return message
                    .map(Some)
                    .map_err(|error| Refusal::Broken(nonsense(error)));
            }
            let Some(data) = body.data().await else {
                let trailers = body.trailers().await.map_err(lost)?;
                return status(&trailers.unwrap_or_default()).map(|()| None);
            };
            let data = data.map_err(lost)?;
            let _ = body.flow_control().release_capacity(data.len());
            self.buffer.extend_from_slice(&data);
        }
    }
}

/// Takes a whole message off the buffer.
fn framed(buffer: &mut BytesMut) -> Outcome<Option<Bytes>> {
    let Some(head) = buffer.get(1..FRAME) else {
        return Ok(None);
    };
    let length = head
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    if length > MESSAGE_LIMIT {
        let error = format!("a message of {length} bytes");
        return Err(Refusal::Broken(nonsense(error)));
    }
    if buffer.len() < FRAME + length {
        return Ok(None);
    }
    buffer.advance(FRAME);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// What a service says about a call, in its headers or trailers.
fn status(headers: &ureq::http::HeaderMap) -> Outcome<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").and_then(|code| code.parse().ok()) {
        None | Some(0) => Ok(()),
        Some(code) => Err(Refusal::Status(
            code,
            text("grpc-message").unwrap_or_default().to_owned(),
        )),
    }
}

fn broken(error: h2::Error) -> io::Error {
    match error.is_io() {
        true => error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
        // What is no HTTP/2 is not containerd's.
        false if error.is_library() => nonsense(error),
        false => io::Error::other(error),
    }
}

fn nonsense(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_off_whole() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 0, 2, b'o'][..]);
        assert!(framed(&mut buffer).unwrap().is_none());
        buffer.extend_from_slice(b"k\0");
        assert_eq!(framed(&mut buffer).unwrap().as_deref(), Some(&b"ok"[..]));
        assert_eq!(&buffer[..], b"\0");
        let mut endless = BytesMut::from(&[0, 255, 255, 255, 255][..]);
        assert!(framed(&mut endless).is_err());
    }

    #[test]
    fn a_service_that_says_nothing_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let channel = Channel::open(&socket).unwrap();
        let _open = listener.accept().unwrap();
        let mut call = channel.call("service/Method").unwrap();
        call.send(&super::super::message::Empty {}, true).unwrap();
        call.patience = Some(Duration::from_millis(20));
        match call.receive::<super::super::message::Empty>() {
            Err(Refusal::Broken(error)) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn statuses_are_told_apart() {
        let mut headers = ureq::http::HeaderMap::new();
        assert!(status(&headers).is_ok());
        headers.insert("grpc-status", "5".parse().unwrap());
        headers.insert("grpc-message", "not found".parse().unwrap());
        assert!(
            matches!(status(&headers), Err(Refusal::Status(NOT_FOUND, why)) if why == "not found")
        );
    }
}
