//! The proxy's loop: one thread, edge-triggered, everything at once.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::event::{Timespec, epoll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{self, SocketFlags};

use super::Listeners;
use super::connection::{Connection, Scratch, Side, Stage, Turn};
use super::datagram::{self, Datagrams};
use super::dial::{Handshake, connect, handshake, is_local, keep_near};
use super::direct::{Change, Direct};
use super::gate::{Gate, Target};
use super::lead::Lead;
use super::listener::Listener;
use super::pipe;
use super::proxy::Proxy;
use crate::Protocol;
use crate::lifetime::Settling;

/// How long until a port that nobody listens on is tried again, the first time and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// How long a client that has sent everything may wait for the program to listen. Most of those
/// have given up, which TCP does not tell from waiting for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long accepting pauses when the host runs out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// Connections accepted before others have their turn.
const ACCEPTED: usize = 64;

/// Descriptors for everything but connections and the sessions of UDP.
const RESERVE: usize = 64 + 2 * pipe::LIMIT;

const EVENTS: usize = 256;

/// What an event is about, as the poll carries it along.
#[derive(Clone, Copy, Debug)]
pub(super) enum Token {
    Stop,
    Listener(u32),
    Outside(u32),
    Inside(u32),
    Datagram(u32),
    Call,
    Change,
}

impl Token {
    pub(super) fn data(self) -> epoll::EventData {
        let (kind, index) = match self {
            Self::Stop => (0, 0),
            Self::Listener(index) => (1, index),
            Self::Outside(index) => (2, index),
            Self::Inside(index) => (3, index),
            Self::Datagram(index) => (4, index),
            Self::Call => (5, 0),
            Self::Change => (6, 0),
        };
        epoll::EventData::new_u64(kind << 32 | u64::from(index))
    }

    fn of(data: epoll::EventData) -> Self {
        let (kind, index) = (data.u64() >> 32, data.u64() as u32);
        match kind {
            1 => Self::Listener(index),
            2 => Self::Outside(index),
            3 => Self::Inside(index),
            4 => Self::Datagram(index),
            5 => Self::Call,
            6 => Self::Change,
            _ => Self::Stop,
        }
    }
}

/// Connections to a port that nobody listens on.
struct Queue {
    waiting: VecDeque<u32>,
    delay: Duration,
    due: Instant,
}

/// Who else has a part in leading what arrives to the program.
#[derive(Debug)]
pub(super) enum Help {
    None,
    /// The kernel leads what comes from other machines.
    Kernel(Lead),
    /// The program gets the host's sockets itself.
    Direct(Direct),
}

/// All listeners and connections.
pub(super) struct Relay {
    epoll: OwnedFd,
    stop: OwnedFd,
    gates: Vec<Gate>,
    help: Help,
    /// Others that end with it.
    proxies: Vec<Proxy>,
    datagrams: Datagrams,
    connections: Vec<Option<Connection>>,
    free: Vec<u32>,
    /// Connections that have had their share but could go on.
    busy: Vec<u32>,
    queues: BTreeMap<Target, Queue>,
    scratch: Scratch,
    /// How many connections there may be.
    limit: usize,
    accepting: bool,
    /// When to accept again.
    paused: Option<Instant>,
    stopping: bool,
}

impl Relay {
    /// A relay that may use `files` descriptors and ends some time after `stop` is readable. It leads what
    /// arrives to the program, in the same network namespace, with the exception of what `help` is for.
    pub(super) fn new(
        listeners: Listeners,
        stop: OwnedFd,
        files: usize,
        mut help: Help,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &stop, Token::Stop.data(), EventFlags::IN)?;
        match &mut help {
            Help::Direct(direct) => {
                epoll::add(&epoll, direct.calls(), Token::Call.data(), EventFlags::IN)?;
            }
            Help::Kernel(lead) => {
                if let Some(changes) = lead.watch() {
                    epoll::add(&epoll, changes, Token::Change.data(), EventFlags::IN)?;
                }
            }
            Help::None => {}
        }
        let has_datagrams = listeners
            .ports()
            .iter()
            .any(|port| port.protocol == Protocol::Udp);
        let sessions = if has_datagrams {
            datagram::LIMIT.min(files / 4)
        } else {
            0
        };
        let limit = (files.saturating_sub(RESERVE + sessions) / 2).max(1);
        let mut relay = Self {
            epoll,
            stop,
            gates: Vec::new(),
            help: Help::None,
            proxies: Vec::new(),
            datagrams: Datagrams::default(),
            connections: Vec::new(),
            free: Vec::new(),
            busy: Vec::new(),
            queues: BTreeMap::new(),
            scratch: Scratch::new(),
            limit,
            accepting: false,
            paused: None,
            stopping: false,
        };
        match &mut help {
            Help::Direct(direct) => direct.take(listeners.into_listeners()),
            _ => {
                let gate = |listener: Listener| Gate {
                    target: Target::inside(listener.port.container_port),
                    protocol: listener.port.protocol,
                    socket: listener.socket,
                    is_shut: false,
                };
                relay.gates = listeners.into_listeners().into_iter().map(gate).collect();
            }
        }
        relay.help = help;
        relay.listen(true);
        Ok(relay)
    }

    /// Relays until it is to stop and all answers have been passed on.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let mut settling = Settling::begin();
        while !(self.stopping && self.count() == 0) {
            let patience = self.timeout();
            let timeout = match self.count() {
                0 => settling.pause(patience),
                _ => patience.and_then(|patience| Timespec::try_from(patience).ok()),
            };
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                self.serve(Token::of(event.data), event.flags);
            }
            for index in std::mem::take(&mut self.busy) {
                self.advance(index);
            }
            let looked = self.lead_due().is_some();
            self.keep_time();
            let has_looked = looked && self.lead_due().is_none();
            if (has_looked || !events.is_empty()) && self.count() == 0 {
                settling = Settling::begin();
            }
        }
        std::mem::take(&mut self.proxies)
            .into_iter()
            .for_each(Proxy::stop);
        Ok(())
    }

    fn serve(&mut self, token: Token, flags: epoll::EventFlags) {
        match token {
            Token::Stop => self.wind_up(),
            Token::Listener(index) => match self.gates.get(index as usize) {
                // Said before it was shut.
                Some(Gate { is_shut: true, .. }) | None => {}
                Some(Gate {
                    protocol: Protocol::Tcp,
                    ..
                }) => self.accept(index as usize),
                Some(gate) => {
                    self.datagrams
                        .take_in(index, gate, &self.epoll, self.scratch.buffer());
                }
            },
            Token::Call => self.answer(flags),
            Token::Change => {
                if let Help::Kernel(lead) = &mut self.help {
                    lead.heed();
                }
            }
            Token::Outside(index) | Token::Inside(index) => {
                let outside = matches!(token, Token::Outside(_));
                self.note(index, outside, flags);
            }
            Token::Datagram(index) => {
                let buffer = self.scratch.buffer();
                self.datagrams
                    .give_back(index, &self.gates, &self.epoll, buffer);
            }
        }
    }

    /// Notes what the poll says about one side of a connection, and goes on with it.
    fn note(&mut self, index: u32, is_outside: bool, flags: EventFlags) {
        let Some(connection) = self.connection(index) else {
            return;
        };
        match &mut connection.inside {
            Some(inside) if !is_outside => inside.note(flags),
            _ => connection.outside.note(flags),
        }
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        match connection.stage {
            Stage::Relaying => self.advance(index),
            Stage::Connecting(number) if !is_outside => self.conclude(index, number),
            // Gone for good, not only silent.
            _ if broken => self.remove(index),
            _ if connection.outside.hung_up && connection.silent.is_none() => {
                connection.silent = Some(Instant::now());
            }
            _ => {}
        }
    }

    fn accept(&mut self, listener: usize) {
        // A program that has the same socket may have let it block.
        if matches!(self.help, Help::Direct(_))
            && let Some(Gate { socket, .. }) = self.gates.get(listener)
        {
            let _ = fcntl_setfl(socket, OFlags::NONBLOCK);
        }
        for _ in 0..ACCEPTED {
            if self.count() >= self.limit {
                self.listen(false);
                return;
            }
            let Some(Gate { socket, target, .. }) = self.gates.get(listener) else {
                return;
            };
            match net::acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok((socket, client)) => {
                    if client.is_some_and(|client| is_local(&socket, client)) {
                        keep_near(&socket);
                    }
                    let connection = Connection::new(socket, *target);
                    self.enter(connection);
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.listen(false);
                    self.paused = Some(Instant::now() + PAUSE);
                    return;
                }
                // That connection is lost (accept(2)), others are not.
                Err(_) => {}
            }
        }
    }

    /// Takes a new connection in.
    fn enter(&mut self, connection: Connection) {
        let target = connection.target;
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            u32::try_from(self.connections.len() - 1).unwrap_or(u32::MAX)
        });
        if register(
            &self.epoll,
            &connection.outside.socket,
            Token::Outside(index),
        )
        .is_err()
        {
            self.free.push(index);
            return;
        }
        self.connections[index as usize] = Some(connection);
        // Others wait already: no need to find out again.
        if self.queues.contains_key(&target) || !self.dial(index, 0) {
            self.queue(index, target);
        }
    }

    /// Puts a connection in the queue of those whose port nobody listens on.
    fn queue(&mut self, index: u32, target: Target) {
        let (delay, _) = RETRY;
        let queue = self.queues.entry(target).or_insert_with(|| Queue {
            waiting: VecDeque::new(),
            delay,
            due: Instant::now() + delay,
        });
        queue.waiting.push_back(index);
    }

    /// Connects to the program, at its addresses from `first` on; false if it does not listen.
    fn dial(&mut self, index: u32, first: usize) -> bool {
        let Some(target) = self.connection(index).map(|known| known.target) else {
            return true;
        };
        for number in first..Target::ADDRESSES {
            let Some(address) = target.address(number, Protocol::Tcp) else {
                continue;
            };
            let Some(Some(connection)) = self.connections.get_mut(index as usize) else {
                return true;
            };
            connection.inside = None;
            connection.stage = Stage::Waiting;
            let Ok(socket) = connect(address) else {
                continue;
            };
            let handshake = handshake(&socket);
            if handshake == Handshake::Refused
                || register(&self.epoll, &socket, Token::Inside(index)).is_err()
            {
                continue;
            }
            connection.inside = Some(Side::new(socket));
            connection.stage = Stage::Connecting(number);
            if handshake == Handshake::Done {
                connection.stage = Stage::Relaying;
                self.advance(index);
                if let Help::Kernel(lead) = &mut self.help {
                    lead.hurry();
                }
            }
            return true;
        }
        false
    }

    /// Looks how a handshake that took a while went.
    fn conclude(&mut self, index: u32, number: usize) {
        let Some(connection) = self.connection(index) else {
            return;
        };
        let Some(inside) = &connection.inside else {
            return;
        };
        match handshake(&inside.socket) {
            Handshake::Pending => {}
            Handshake::Done => {
                connection.stage = Stage::Relaying;
                self.advance(index);
            }
            Handshake::Refused => {
                let target = connection.target;
                if !self.dial(index, number + 1) {
                    self.queue(index, target);
                }
            }
        }
    }

    fn advance(&mut self, index: u32) {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else {
            return;
        };
        match connection.advance(&mut self.scratch) {
            Turn::Finished => self.remove(index),
            Turn::Again => self.busy.push(index),
            Turn::Idle if self.stopping && connection.has_answered() => self.remove(index),
            Turn::Idle => {}
        }
    }

    fn remove(&mut self, index: u32) {
        let Some(mut connection) = self
            .connections
            .get_mut(index as usize)
            .and_then(Option::take)
        else {
            return;
        };
        connection.abandon(&mut self.scratch);
        if connection.stage == Stage::Waiting
            && let Some(queue) = self.queues.get_mut(&connection.target)
        {
            queue.waiting.retain(|waiting| *waiting != index);
        }
        self.free.push(index);
        if !self.accepting && self.paused.is_none() && !self.stopping {
            self.listen(true);
        }
    }

    fn connection(&mut self, index: u32) -> Option<&mut Connection> {
        self.connections.get_mut(index as usize)?.as_mut()
    }

    fn count(&self) -> usize {
        self.connections.len() - self.free.len()
    }

    /// Starts or stops to accept.
    fn listen(&mut self, accepting: bool) {
        self.accepting = accepting;
        for (index, gate) in (0..).zip(&self.gates) {
            let token = Token::Listener(index).data();
            let _ = match accepting && !gate.is_shut {
                true => epoll::add(&self.epoll, &gate.socket, token, EventFlags::IN),
                false => epoll::delete(&self.epoll, &gate.socket),
            };
        }
    }

    /// Answers a program that binds a socket.
    fn answer(&mut self, flags: EventFlags) {
        let Help::Direct(direct) = &mut self.help else {
            return;
        };
        if !flags.contains(EventFlags::IN) {
            // Nobody is left to ask.
            let _ = epoll::delete(&self.epoll, direct.calls());
            return;
        }
        let next = self.gates.len();
        for change in direct.answer(next) {
            match change {
                Change::Open(gate) => self.gates.push(gate),
                Change::Shut(index, is_shut) => {
                    if let Some(gate) = self.gates.get_mut(index) {
                        gate.is_shut = is_shut;
                    }
                }
            }
        }
        // Those that are watched already stay so.
        self.listen(self.accepting);
    }

    /// The program has ended: nothing new is let in, but what it has said is still passed on.
    fn wind_up(&mut self) {
        self.stopping = true;
        self.listen(false);
        let _ = epoll::delete(&self.epoll, &self.stop);
        self.gates.clear();
        match std::mem::replace(&mut self.help, Help::None) {
            Help::Direct(direct) => self.proxies = direct.close(),
            Help::Kernel(mut lead) => {
                lead.end();
                self.help = Help::Kernel(lead);
            }
            Help::None => {}
        }
        self.datagrams = Datagrams::default();
        self.queues.clear();
        for index in (0..).take(self.connections.len()) {
            match self.connection(index).map(|connection| connection.stage) {
                Some(Stage::Relaying) => self.advance(index),
                Some(_) => self.remove(index),
                None => {}
            }
        }
    }

    /// How long the poll may wait.
    fn timeout(&self) -> Option<Duration> {
        if !self.busy.is_empty() {
            return Some(Duration::ZERO);
        }
        let queues = self.queues.values().map(|queue| queue.due);
        let due = queues
            .chain(self.paused)
            .chain(self.datagrams.due())
            .chain(self.lead_due())
            .min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    fn lead_due(&self) -> Option<Instant> {
        match &self.help {
            Help::Kernel(lead) => lead.due(),
            _ => None,
        }
    }

    /// Does what is due.
    fn keep_time(&mut self) {
        let others = [self.paused, self.datagrams.due(), self.lead_due()];
        if self.queues.is_empty() && others.iter().all(Option::is_none) {
            return;
        }
        let now = Instant::now();
        if let Help::Kernel(lead) = &mut self.help {
            lead.look(now);
        }
        if self.paused.is_some_and(|paused| paused <= now) {
            self.paused = None;
            self.listen(true);
        }
        self.datagrams.expire(now);
        let due = self.queues.iter().filter(|(_, queue)| queue.due <= now);
        for target in due.map(|(target, _)| *target).collect::<Vec<_>>() {
            self.retry(target, now);
        }
    }

    /// Tries the first of a queue, and if it gets through, all others.
    fn retry(&mut self, target: Target, now: Instant) {
        let Some(mut queue) = self.queues.remove(&target) else {
            return;
        };
        let (_, slowest) = RETRY;
        let mut given_up = Vec::new();
        queue.waiting.retain(|index| {
            let connection = self
                .connections
                .get(*index as usize)
                .and_then(Option::as_ref);
            let silent = connection.and_then(|connection| connection.silent);
            let stays = silent.is_none_or(|silent| now < silent + PATIENCE);
            if !stays {
                given_up.push(*index);
            }
            stays
        });
        given_up.into_iter().for_each(|index| self.remove(index));
        while let Some(index) = queue.waiting.front() {
            if !self.dial(*index, 0) {
                queue.delay = (queue.delay * 2).min(slowest);
                queue.due = now + queue.delay;
                self.queues.insert(target, queue);
                return;
            }
            queue.waiting.pop_front();
        }
    }
}

/// Watches both directions of a connection, once and for all.
fn register(epoll: &OwnedFd, socket: &OwnedFd, token: Token) -> rustix::io::Result<()> {
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    epoll::add(epoll, socket, token.data(), flags)
}
