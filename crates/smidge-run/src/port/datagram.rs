//! Published UDP ports: each client gets a socket of its own inside, until it has been silent for long.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventFlags};
use rustix::io::{self, Errno};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::gate::{Gate, Target};
use super::relay::Token;
use crate::Protocol;

/// How many clients are remembered at most; then the one that has been silent longest is forgotten.
pub(super) const LIMIT: usize = 1024;

/// How long a silent client is remembered.
const SILENCE: Duration = Duration::from_secs(90);

/// How often the silent are looked for.
const ROUND: Duration = Duration::from_secs(10);

/// Datagrams passed on before others have their turn.
const BATCH: usize = 64;

/// A client and its socket inside.
#[derive(Debug)]
struct Session {
    listener: u32,
    client: SocketAddr,
    target: Target,
    socket: OwnedFd,
    /// Which of the program's addresses the socket is connected to.
    number: usize,
    last: Instant,
}

impl Session {
    /// Sends to the program; once more to its next address if nobody listens at this one.
    fn send(&mut self, datagram: &[u8], index: u32, epoll: &OwnedFd) {
        // A refusal of what was sent before shows when sending the next.
        let refused = net::send(&self.socket, datagram, SendFlags::empty());
        if matches!(refused, Err(Errno::CONNREFUSED)) && self.turn(index, epoll).is_ok() {
            let _ = net::send(&self.socket, datagram, SendFlags::empty());
        }
    }

    /// Turns to the next address.
    fn turn(&mut self, index: u32, epoll: &OwnedFd) -> io::Result<()> {
        let mut next = (1..=Target::ADDRESSES).map(|step| (self.number + step) % Target::ADDRESSES);
        let next = next.find_map(|number| {
            let address = self.target.address(number, Protocol::Udp)?;
            Some((number, address))
        });
        let (number, address) = next.ok_or(Errno::CONNREFUSED)?;
        let socket = connect(address)?;
        epoll::add(
            epoll,
            &socket,
            Token::Datagram(index).data(),
            EventFlags::IN,
        )?;
        (self.socket, self.number) = (socket, number);
        Ok(())
    }
}

/// All clients of all published UDP ports.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    sessions: Vec<Option<Session>>,
    by_client: BTreeMap<(u32, SocketAddr), u32>,
    round: Option<Instant>,
}

impl Datagrams {
    /// Passes what has arrived outside on to the program.
    pub(super) fn take_in(
        &mut self,
        number: u32,
        listener: &Gate,
        epoll: &OwnedFd,
        buffer: &mut [u8],
    ) {
        for _ in 0..BATCH {
            let (length, client) =
                match net::recvfrom(&listener.socket, &mut *buffer, RecvFlags::empty()) {
                    Ok((length, _, Some(client))) => (length, client),
                    Err(Errno::AGAIN) => return,
                    _ => continue,
                };
            let Ok(client) = SocketAddr::try_from(client) else {
                continue;
            };
            let known = self.by_client.get(&(number, client)).copied();
            let index = match known {
                Some(index) => index,
                None => match self.enter(number, client, listener.target, epoll) {
                    Ok(index) => index,
                    Err(_) => continue,
                },
            };
            if let Some(Some(session)) = self.sessions.get_mut(index as usize) {
                session.last = Instant::now();
                session.send(&buffer[..length], index, epoll);
            }
        }
    }

    /// Passes the program's answers to a client on.
    pub(super) fn give_back(
        &mut self,
        index: u32,
        listeners: &[Gate],
        epoll: &OwnedFd,
        buffer: &mut [u8],
    ) {
        let Some(Some(session)) = self.sessions.get_mut(index as usize) else {
            return;
        };
        let Some(listener) = listeners.get(session.listener as usize) else {
            return;
        };
        for _ in 0..BATCH {
            match net::recv(&session.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => {
                    session.last = Instant::now();
                    let datagram = &buffer[..length];
                    let empty = SendFlags::empty();
                    let _ = net::sendto(&listener.socket, datagram, empty, &session.client);
                }
                Err(Errno::CONNREFUSED) => {
                    let _ = session.turn(index, epoll);
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// When [`Datagrams::expire`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.round
    }

    /// Forgets clients that have been silent for long.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.round.is_none_or(|round| now < round) {
            return;
        }
        for index in (0..).take(self.sessions.len()) {
            let silent = |session: &Session| now.duration_since(session.last) >= SILENCE;
            if self.sessions[index as usize].as_ref().is_some_and(silent) {
                self.forget(index);
            }
        }
        self.round = (!self.by_client.is_empty()).then_some(now + ROUND);
    }

    fn enter(
        &mut self,
        listener: u32,
        client: SocketAddr,
        target: Target,
        epoll: &OwnedFd,
    ) -> io::Result<u32> {
        let index = self.vacancy();
        let first = target.address(0, Protocol::Udp);
        let socket = connect(first.ok_or(Errno::CONNREFUSED)?)?;
        epoll::add(
            epoll,
            &socket,
            Token::Datagram(index).data(),
            EventFlags::IN,
        )?;
        let last = Instant::now();
        self.sessions[index as usize] = Some(Session {
            listener,
            client,
            target,
            socket,
            number: 0,
            last,
        });
        self.by_client.insert((listener, client), index);
        self.round.get_or_insert(last + ROUND);
        Ok(index)
    }

    /// An unused place, made by forgetting the most silent client if need be.
    fn vacancy(&mut self) -> u32 {
        let vacant = self.sessions.iter().position(Option::is_none);
        let index = vacant.unwrap_or_else(|| {
            if self.sessions.len() < LIMIT {
                self.sessions.push(None);
                return self.sessions.len() - 1;
            }
            let last = |session: &Option<Session>| session.as_ref().map(|session| session.last);
            let oldest = (0..self.sessions.len()).min_by_key(|index| last(&self.sessions[*index]));
            oldest.unwrap_or(0)
        });
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.forget(index);
        index
    }

    fn forget(&mut self, index: u32) {
        if let Some(session) = self.sessions[index as usize].take() {
            self.by_client.remove(&(session.listener, session.client));
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket(address, SocketType::DGRAM)?;
    net::connect(&socket, &address)?;
    Ok(socket)
}

/// A socket of the family of `address`.
pub(super) fn socket(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    net::socket_with(
        family,
        kind,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
}
