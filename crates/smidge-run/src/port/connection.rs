//! One published TCP connection: two sockets, and the bytes between them in both directions.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::{self, Errno};
use rustix::net::{self, RecvFlags, SendFlags, Shutdown, sockopt};

use super::gate::Target;
use super::pipe::{Pipe, Pool};

/// How much is copied at a time. Requests and answers fit; a read that fills it is bulk, and
/// bulk is spliced.
pub(super) const BUFFER: usize = 64 << 10;

/// A spliced turn that moved less than this was not bulk after all.
const BULK: usize = 32 << 10;

/// How often a flow may move bytes before others have their turn.
const BUDGET: usize = 8;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Scratch {
    buffer: Box<[u8]>,
    pool: Pool,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER].into_boxed_slice(),
            pool: Pool::default(),
        }
    }

    pub(super) fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

/// One socket and what the edge-triggered poll has said about it so far.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) socket: OwnedFd,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer sends no more: a short read is then no sign that the socket is empty, because
    /// the end of file gives no edge of its own.
    pub(super) hung_up: bool,
}

impl Side {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            readable: true,
            writable: true,
            hung_up: false,
        }
    }

    /// Notes what the poll says.
    pub(super) fn note(&mut self, flags: EventFlags) {
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        self.readable |= broken || flags.intersects(EventFlags::IN | EventFlags::RDHUP);
        self.writable |= broken || flags.contains(EventFlags::OUT);
        self.hung_up |= broken || flags.contains(EventFlags::RDHUP);
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match net::recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
            Ok((length, _)) => {
                self.readable = length == buffer.len() || self.hung_up;
                Ok(Some(length))
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.writable {
            return Ok(0);
        }
        match net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
            Ok(length) => {
                self.writable = length == bytes.len();
                Ok(length)
            }
            Err(Errno::AGAIN) => {
                self.writable = false;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes closing send a reset, as the other side received one.
    fn reset_on_close(&self) {
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }
}

/// Whether a flow, or a connection, has more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Waits for a socket.
    Idle,
    /// Could go on at once, but has had its share.
    Again,
    /// Has passed on everything, the end included.
    Finished,
}

/// Bytes on their way from one side to the other.
#[derive(Debug, Default)]
struct Flow {
    /// Copied bytes that the receiver had no room for.
    pending: Vec<u8>,
    pipe: Option<Pipe>,
    bulk: bool,
    /// The sender has sent everything.
    ended: bool,
    finished: bool,
}

impl Flow {
    fn advance(
        &mut self,
        from: &mut Side,
        to: &mut Side,
        scratch: &mut Scratch,
    ) -> io::Result<Turn> {
        for _ in 0..BUDGET {
            if self.finished {
                return Ok(Turn::Finished);
            }
            if !self.flush(to)? {
                return Ok(Turn::Idle);
            }
            if self.ended {
                // The receiver may have gone already, which is for its own flow to find out.
                let _ = net::shutdown(&to.socket, Shutdown::Write);
                self.finished = true;
                self.release(scratch);
                return Ok(Turn::Finished);
            }
            if !from.readable {
                self.release(scratch);
                return Ok(Turn::Idle);
            }
            if self.bulk && self.pipe.is_none() {
                self.pipe = scratch.pool.lend();
            }
            match &mut self.pipe {
                Some(_) => self.splice(from)?,
                None => self.copy(from, to, &mut scratch.buffer)?,
            }
        }
        Ok(Turn::Again)
    }

    /// Passes on what was taken in before; false if the receiver has no room.
    fn flush(&mut self, to: &mut Side) -> io::Result<bool> {
        if !self.pending.is_empty() {
            let sent = to.send(&self.pending)?;
            if sent < self.pending.len() {
                self.pending.drain(..sent);
                return Ok(false);
            }
            self.pending = Vec::new();
        }
        while let Some(pipe) = &mut self.pipe
            && pipe.filled() > 0
        {
            if !to.writable {
                return Ok(false);
            }
            match pipe.drain(&to.socket) {
                Ok(_) => {}
                Err(Errno::AGAIN) => to.writable = false,
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn copy(&mut self, from: &mut Side, to: &mut Side, buffer: &mut [u8]) -> io::Result<()> {
        match from.receive(buffer)? {
            Some(0) => self.ended = true,
            Some(length) => {
                self.bulk = length == buffer.len();
                let sent = to.send(&buffer[..length])?;
                self.pending.extend_from_slice(&buffer[sent..length]);
            }
            None => {}
        }
        Ok(())
    }

    fn splice(&mut self, from: &mut Side) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(());
        };
        match pipe.fill(&from.socket) {
            Ok(0) => self.ended = true,
            Ok(taken) => self.bulk = taken >= BULK,
            // The pipe was empty, so it is the socket that has nothing.
            Err(Errno::AGAIN) => from.readable = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn release(&mut self, scratch: &mut Scratch) {
        if let Some(pipe) = self.pipe.take() {
            scratch.pool.take_back(pipe);
        }
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The program does not listen yet.
    Waiting,
    /// The handshake with the program is under way, at one of its addresses.
    Connecting(usize),
    /// Bytes go to and fro.
    Relaying,
}

/// A client's socket, one to the program, and the flows between them.
#[derive(Debug)]
pub(super) struct Connection {
    /// Where the program is.
    pub(super) target: Target,
    pub(super) stage: Stage,
    pub(super) outside: Side,
    pub(super) inside: Option<Side>,
    /// Since when a waiting client sends no more.
    pub(super) silent: Option<Instant>,
    inward: Flow,
    outward: Flow,
}

impl Connection {
    /// A connection that has got as far as the proxy.
    pub(super) fn new(socket: OwnedFd, target: Target) -> Self {
        Self {
            target,
            stage: Stage::Waiting,
            outside: Side::new(socket),
            inside: None,
            silent: None,
            inward: Flow::default(),
            outward: Flow::default(),
        }
    }

    /// Moves bytes both ways as far as the sockets allow.
    pub(super) fn advance(&mut self, scratch: &mut Scratch) -> Turn {
        let Self {
            outside,
            inside: Some(inside),
            inward,
            outward,
            ..
        } = self
        else {
            return Turn::Idle;
        };
        let inward = settle(inward, outside, inside, scratch);
        let outward = settle(outward, inside, outside, scratch);
        match (inward, outward) {
            (Ok(Turn::Finished), Ok(Turn::Finished)) | (Err(_), _) | (_, Err(_)) => Turn::Finished,
            (Ok(Turn::Again), _) | (_, Ok(Turn::Again)) => Turn::Again,
            _ => Turn::Idle,
        }
    }

    /// Whether the program has sent everything, and all of it has been passed on.
    pub(super) fn has_answered(&self) -> bool {
        self.outward.finished
    }

    /// Gives lent pipes back.
    pub(super) fn abandon(&mut self, scratch: &mut Scratch) {
        self.inward.release(scratch);
        self.outward.release(scratch);
    }
}

/// One flow's turn. A receiver that takes no more ends that flow only: what it has sent itself must
/// still arrive. A sender that reset its connection ends both, with a reset.
fn settle(
    flow: &mut Flow,
    from: &mut Side,
    to: &mut Side,
    scratch: &mut Scratch,
) -> io::Result<Turn> {
    match flow.advance(from, to, scratch) {
        Err(Errno::PIPE) => {
            flow.finished = true;
            flow.pending = Vec::new();
            flow.release(scratch);
            Ok(Turn::Finished)
        }
        Err(error) => {
            from.reset_on_close();
            to.reset_on_close();
            Err(error)
        }
        turn => turn,
    }
}
