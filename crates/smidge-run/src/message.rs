//! What a client and a supervisor say to each other over a packet socket, one message a packet.
//!
//! Both come from the same binary, but perhaps from two versions of it: what is not understood is
//! passed over. Changing a kind's number or layout is a format break.

use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::io::{self, Errno};
use rustix::net::{self, RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};

use crate::cgroup::Resources;
use crate::error::RunError;
use crate::lifetime::Restart;
use crate::log::Stream;
use crate::network::Attachment;
use crate::reason::Reason;

/// The most bytes of a stream in one message.
pub(crate) const CHUNK: usize = 32 << 10;

/// Room for any message.
pub(crate) const LIMIT: usize = 2 * CHUNK;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// First of all, if it wants streams or the exit status.
    Join(Streams),
    /// Bytes for the program.
    Input(&'a [u8]),
    /// There is no more input.
    InputEnd,
    /// The client's terminal has this size now.
    Resize { rows: u16, columns: u16 },
    /// A signal for the program.
    Signal(i32),
    /// The program is not to be started again by itself.
    Retire,
    /// The client stops the container's processes; they are to go on when it is gone, however it ends.
    Halt,
    /// The container is to be put on a network; answered.
    Connect(Box<Attachment>),
    /// The container is to be taken off the network of a bridge; answered.
    Disconnect(String),
    /// The container is to have its way out of its network namespace now; answered when it has it, or cannot
    /// have it.
    LeadOut,
    /// The container is not to be removed when its program ends this time.
    Keep,
    /// What happens from now on when the program ends.
    Restart(Restart),
    /// What the program may use when it is started again; answered.
    Limit(Box<Resources>),
}

/// Which of the program's streams a client is joined with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Streams {
    /// Whether output of `stream` is wanted.
    pub(crate) fn wants(self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }

    fn bits(self) -> u8 {
        u8::from(self.stdin) | u8::from(self.stdout) << 1 | u8::from(self.stderr) << 2
    }

    fn of_bits(bits: u8) -> Self {
        Self {
            stdin: bits & 1 != 0,
            stdout: bits & 2 != 0,
            stderr: bits & 4 != 0,
        }
    }
}

impl<'a> Request<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Join(streams) => vec![b'J', streams.bits()],
            Self::Input(bytes) => [b"I", *bytes].concat(),
            Self::InputEnd => vec![b'E'],
            Self::Resize { rows, columns } => {
                [b"R".as_slice(), &rows.to_le_bytes(), &columns.to_le_bytes()].concat()
            }
            Self::Signal(signal) => [b"S".as_slice(), &signal.to_le_bytes()].concat(),
            Self::Retire => vec![b'Q'],
            Self::Halt => vec![b'H'],
            Self::Connect(attachment) => json(b'C', attachment),
            Self::Disconnect(bridge) => [b"D", bridge.as_bytes()].concat(),
            Self::LeadOut => vec![b'O'],
            Self::Keep => vec![b'K'],
            Self::Restart(restart) => json(b'P', restart),
            Self::Limit(resources) => json(b'L', resources),
        }
    }

    pub(crate) fn decode(packet: &'a [u8]) -> Option<Self> {
        let (kind, rest) = packet.split_first()?;
        match (kind, rest) {
            (b'J', [bits]) => Some(Self::Join(Streams::of_bits(*bits))),
            (b'I', bytes) => Some(Self::Input(bytes)),
            (b'E', []) => Some(Self::InputEnd),
            (b'Q', []) => Some(Self::Retire),
            (b'H', []) => Some(Self::Halt),
            (b'O', []) => Some(Self::LeadOut),
            (b'K', []) => Some(Self::Keep),
            (b'P', text) => serde_json::from_slice(text).ok().map(Self::Restart),
            (b'L', text) => serde_json::from_slice(text).ok().map(Self::Limit),
            (b'R', [a, b, c, d]) => Some(Self::Resize {
                rows: u16::from_le_bytes([*a, *b]),
                columns: u16::from_le_bytes([*c, *d]),
            }),
            (b'C', bytes) => serde_json::from_slice(bytes).ok().map(Self::Connect),
            (b'D', bytes) => Some(Self::Disconnect(String::from_utf8(bytes.to_vec()).ok()?)),
            (b'S', bytes) => Some(Self::Signal(i32::from_le_bytes(bytes.try_into().ok()?))),
            _ => None,
        }
    }
}

/// What a supervisor says.
#[derive(Debug)]
pub(crate) enum Reply<'a> {
    /// The program has been executed, or runs already.
    Started(Running),
    /// It could not be started; nothing follows.
    Failed(RunError),
    /// Bytes from the program.
    Output(Stream, &'a [u8]),
    /// Why the program has ended, if that is known; its end follows.
    Why(Reason),
    /// The program has ended and everything is released; nothing follows.
    Exited(i32),
    /// What was asked for has been done.
    Done,
}

/// A program that runs. Its ports may be too many for a packet: the state file has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) tty: bool,
}

impl<'a> Reply<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Started(running) => json(b'B', running),
            Self::Failed(error) => json(b'F', error),
            Self::Output(Stream::Stdout, bytes) => [b"1", *bytes].concat(),
            Self::Output(Stream::Stderr, bytes) => [b"2", *bytes].concat(),
            Self::Done => vec![b'Y'],
            Self::Why(reason) => json(b'W', reason),
            Self::Exited(code) => [b"X".as_slice(), &code.to_le_bytes()].concat(),
        }
    }

    pub(crate) fn decode(packet: &'a [u8]) -> Option<Self> {
        let (kind, rest) = packet.split_first()?;
        match kind {
            b'B' => serde_json::from_slice(rest).ok().map(Self::Started),
            b'F' => serde_json::from_slice(rest).ok().map(Self::Failed),
            b'Y' => Some(Self::Done),
            b'1' => Some(Self::Output(Stream::Stdout, rest)),
            b'2' => Some(Self::Output(Stream::Stderr, rest)),
            b'W' => serde_json::from_slice(rest).ok().map(Self::Why),
            b'X' => Some(Self::Exited(i32::from_le_bytes(rest.try_into().ok()?))),
            _ => None,
        }
    }
}

fn json<T: Serialize>(kind: u8, value: &T) -> Vec<u8> {
    let mut packet = vec![kind];
    // Only fails for maps with odd keys, which these types have not.
    let _ = serde_json::to_writer(&mut packet, value);
    packet
}

/// Sends a packet if there is room for it at once.
pub(crate) fn send(socket: impl AsFd, packet: &[u8]) -> io::Result<bool> {
    loop {
        match net::send(&socket, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(true),
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Receives a packet into the place of the last, waiting for it; an empty one means that the other side is gone.
pub(crate) fn receive(socket: impl AsFd, packet: &mut Vec<u8>) -> io::Result<()> {
    packet.clear();
    packet.reserve(LIMIT);
    loop {
        // Never filled before: most packets are small, and what is not touched costs nothing.
        match net::recv(&socket, spare_capacity(packet), RecvFlags::empty()) {
            Ok(_) => return Ok(()),
            // A reset says that the other side has left something unread, once, and before what it
            // had said itself (unix(7)).
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_wire() {
        let streams = Streams {
            stdin: true,
            stdout: false,
            stderr: true,
        };
        let all = [
            Request::Join(streams),
            Request::Input(b"abc"),
            Request::Input(b""),
            Request::InputEnd,
            Request::Retire,
            Request::LeadOut,
            Request::Resize {
                rows: 24,
                columns: 300,
            },
            Request::Signal(15),
            Request::Limit(Box::new(Resources {
                memory: Some(1 << 26),
                ..Resources::default()
            })),
        ];
        for request in all {
            assert_eq!(Request::decode(&request.encode()).as_ref(), Some(&request));
        }
    }

    #[test]
    fn replies_survive_the_wire() {
        let failed = Reply::Failed(RunError::NotRunning { id: "x".to_owned() }).encode();
        assert!(matches!(
            Reply::decode(&failed),
            Some(Reply::Failed(RunError::NotRunning { .. }))
        ));
        let running = Running { pid: 7, tty: true };
        let started = Reply::Started(running).encode();
        assert!(matches!(Reply::decode(&started), Some(Reply::Started(read)) if read == running));
        let reason = Reason {
            cause: "no-library".to_owned(),
            ..Reason::default()
        };
        let why = Reply::Why(reason.clone()).encode();
        assert!(matches!(Reply::decode(&why), Some(Reply::Why(read)) if read == reason));
        let output = Reply::Output(Stream::Stderr, b"!").encode();
        assert!(matches!(
            Reply::decode(&output),
            Some(Reply::Output(Stream::Stderr, b"!"))
        ));
        assert!(matches!(
            Reply::decode(&Reply::Exited(137).encode()),
            Some(Reply::Exited(137))
        ));
    }

    #[test]
    fn nonsense_is_passed_over() {
        for packet in [
            &b""[..],
            b"?",
            b"J",
            b"J12",
            b"R123",
            b"R12345",
            b"S1",
            b"E1",
        ] {
            assert_eq!(Request::decode(packet), None, "{packet:?}");
        }
        for packet in [&b""[..], b"?", b"B", b"B{", b"F{}", b"X1"] {
            assert!(Reply::decode(packet).is_none(), "{packet:?}");
        }
    }
}
