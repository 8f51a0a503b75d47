//! Questions that go to a name server by a connection, since they came by one: their answers may not fit into a
//! datagram ([RFC 7766](https://www.rfc-editor.org/rfc/rfc7766)).

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SocketType, connect, connect_unspec};

use super::names::is_answer;
use super::resolver::{Inquiry, socket};

/// A connection to a server while somebody waits for it. The socket stays: another one would belong to the network
/// that the process has come to, and lead elsewhere.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    asked: Option<Asked>,
}

/// What goes on by a connection.
#[derive(Debug)]
struct Asked {
    inquiry: Inquiry,
    unsent: Vec<u8>,
    said: Vec<u8>,
}

impl Stream {
    pub(super) fn open(server: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            socket: socket(server, SocketType::STREAM)?.into(),
            asked: None,
        })
    }

    pub(super) fn is_free(&self) -> bool {
        self.asked.is_none()
    }

    /// The question that waits for an answer.
    pub(super) fn inquiry(&self) -> Option<&Inquiry> {
        self.asked.as_ref().map(|asked| &asked.inquiry)
    }

    /// What is waited for.
    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let asked = self.asked.as_ref()?;
        let flags = match asked.unsent.is_empty() {
            true => PollFlags::IN,
            false => PollFlags::OUT,
        };
        Some((self.socket.as_fd(), flags))
    }

    /// Begins to ask; gives the question back if that cannot be.
    pub(super) fn ask(&mut self, server: SocketAddr, inquiry: Inquiry) -> Result<(), Inquiry> {
        let Ok(length) = u16::try_from(inquiry.message.len()) else {
            return Err(inquiry);
        };
        match connect(&self.socket, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(_) => {
                self.hang_up();
                return Err(inquiry);
            }
        }
        self.asked = Some(Asked {
            unsent: [&length.to_be_bytes(), &*inquiry.message].concat(),
            said: Vec::new(),
            inquiry,
        });
        Ok(())
    }

    /// The question, if it need not wait any longer: with its answer, or without one.
    pub(super) fn hear(&mut self, now: Instant) -> Option<(Inquiry, Option<Vec<u8>>)> {
        let asked = self.asked.as_mut()?;
        let heard = match asked.go_on(&self.socket) {
            Ok(None) if now < asked.inquiry.until => return None,
            Ok(heard) => heard,
            // It cannot be reached, or has hung up.
            Err(_) => None,
        };
        self.hang_up();
        let inquiry = self.asked.take()?.inquiry;
        let answer = heard.filter(|answer| is_answer(&inquiry.message, answer));
        Some((inquiry, answer))
    }

    fn hang_up(&self) {
        let _ = connect_unspec(&self.socket);
    }
}

impl Asked {
    /// Sends and receives as much as can be at the moment. Gives the answer when it is whole.
    fn go_on(&mut self, mut socket: &TcpStream) -> io::Result<Option<Vec<u8>>> {
        while !self.unsent.is_empty() {
            match unless_early(socket.write(&self.unsent))? {
                Some(length) => drop(self.unsent.drain(..length)),
                None => return Ok(None),
            }
        }
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = first_message(&self.said) {
                return Ok(Some(message.to_vec()));
            }
            match unless_early(socket.read(&mut buffer))? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(length) => self.said.extend_from_slice(&buffer[..length]),
                None => return Ok(None),
            }
        }
    }
}

/// The first message of what a connection has brought, if it is whole: two bytes tell its length (RFC 1035, 4.2.2).
pub(super) fn first_message(said: &[u8]) -> Option<&[u8]> {
    let (length, rest) = said.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

/// Nothing where a socket is not ready.
pub(super) fn unless_early<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error)
            if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
