//! Questions that are handed on to name servers elsewhere: in their order, to the next one when one is silent, at a
//! loss, or not to be reached.
//!
//! Nobody else's word is to pass for a server's (RFC 5452): a question goes out under a random number, from a port
//! that the kernel draws for it, and what comes back must be about the same.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect_unspec, socket_with};
use rustix::rand::{GetRandomFlags, getrandom};

use super::names::{failure, is_answer, is_at_a_loss};
use super::server::{Client, MESSAGE};
use super::stream::Stream;

/// Questions that may wait for an answer.
const WAITING: usize = 512;

/// Sockets to each server: so many questions at once have a port of their own, more of them share.
const OUTLETS: usize = 8;

/// Connections to each server that may be at once. Questions that come by more of them go out in datagrams.
const STREAMS: usize = 4;

/// How long a server has to answer where nobody says (resolv.conf(5), `timeout`), and the most that somebody may say, in
/// seconds.
const PATIENCE: u64 = 2;
const LONGEST: u64 = 30;

/// What is said to a client.
pub(super) type Told = (Client, Vec<u8>);

/// Name servers, and what they have been asked.
#[derive(Debug)]
pub(super) struct Resolver {
    servers: Vec<Server>,
    patience: Duration,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    outlets: Vec<Outlet>,
    streams: Vec<Stream>,
}

/// A socket that leads to a server while somebody waits for it, and nowhere else.
#[derive(Debug)]
struct Outlet {
    socket: UdpSocket,
    /// By the number under which it was handed on.
    waiting: HashMap<[u8; 2], Inquiry>,
}

/// A question that was handed on.
#[derive(Debug)]
pub(super) struct Inquiry {
    client: Client,
    /// As the client sent it.
    pub(super) message: Vec<u8>,
    /// Which server is asked.
    server: usize,
    /// How long it has.
    pub(super) until: Instant,
    /// What a server that was at a loss has said: to be told if no other knows more.
    last: Option<Vec<u8>>,
}

impl Resolver {
    /// None of the servers can be asked before its sockets are [open](Self::open).
    pub(super) fn new(addresses: impl Iterator<Item = SocketAddr>, patience: Duration) -> Self {
        let servers = addresses.map(|address| Server {
            address,
            outlets: Vec::new(),
            streams: Vec::new(),
        });
        Self {
            servers: servers.collect(),
            patience,
        }
    }

    /// Opens the sockets that lead to some of the servers, in the caller's network namespace, which they stay in.
    /// They find their way when they are used.
    pub(super) fn open(&mut self, is_here: impl Fn(IpAddr) -> bool) {
        for server in &mut self.servers {
            if is_here(server.address.ip()) {
                let outlets = (0..OUTLETS).map_while(|_| Outlet::open(server.address).ok());
                server.outlets = outlets.collect();
                let streams = (0..STREAMS).map_while(|_| Stream::open(server.address).ok());
                server.streams = streams.collect();
            }
        }
    }

    /// Hands a question on. Gives what is to be said at once if nobody can be asked.
    pub(super) fn hand_on(&mut self, client: Client, message: &[u8]) -> Option<Told> {
        let is_full = self.waiting().count() >= WAITING;
        self.ask(Inquiry {
            client,
            message: message.to_vec(),
            server: if is_full { self.servers.len() } else { 0 },
            until: Instant::now(),
            last: None,
        })
    }

    /// Where answers come in that somebody waits for.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let outlets = self.servers.iter().flat_map(|server| &server.outlets);
        let busy = outlets.filter(|outlet| !outlet.waiting.is_empty());
        let busy = busy.map(|outlet| (outlet.socket.as_fd(), PollFlags::IN));
        let streams = self.servers.iter().flat_map(|server| &server.streams);
        busy.chain(streams.filter_map(Stream::interest))
    }

    /// When the next server has had its time.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting().map(|inquiry| inquiry.until).min()
    }

    /// Hears what servers say, and asks others in the place of those that have nothing to say.
    pub(super) fn hear(&mut self, now: Instant) -> Vec<Told> {
        let mut ended = Vec::new();
        for server in &mut self.servers {
            ended.extend(
                server
                    .outlets
                    .iter_mut()
                    .flat_map(|outlet| outlet.hear(now)),
            );
            ended.extend(
                server
                    .streams
                    .iter_mut()
                    .filter_map(|stream| stream.hear(now)),
            );
        }
        let told = ended
            .into_iter()
            .filter_map(|(inquiry, answer)| match answer {
                Some(answer) if !is_at_a_loss(&answer) => Some((inquiry.client, answer)),
                answer => self.ask(Inquiry {
                    server: inquiry.server + 1,
                    last: answer.or(inquiry.last),
                    ..inquiry
                }),
            });
        told.collect()
    }

    /// The questions that wait for an answer.
    fn waiting(&self) -> impl Iterator<Item = &Inquiry> {
        self.servers.iter().flat_map(|server| {
            let outlets = server.outlets.iter();
            let datagrams = outlets.flat_map(|outlet| outlet.waiting.values());
            datagrams.chain(server.streams.iter().filter_map(Stream::inquiry))
        })
    }

    /// Asks the server whose turn it is, or the first one behind it that can be reached.
    fn ask(&mut self, mut inquiry: Inquiry) -> Option<Told> {
        while let Some(server) = self.servers.get_mut(inquiry.server) {
            inquiry.until = Instant::now() + self.patience;
            match server.ask(inquiry) {
                Ok(()) => return None,
                Err(back) => inquiry = back,
            }
            inquiry.server += 1;
        }
        let last = inquiry.last.or_else(|| failure(&inquiry.message));
        last.map(|reply| (inquiry.client, reply))
    }
}

impl Server {
    /// Sends a question; gives it back if it cannot be sent.
    fn ask(&mut self, inquiry: Inquiry) -> Result<(), Inquiry> {
        if let Client::Connection(_) = inquiry.client
            && let Some(stream) = self.streams.iter_mut().find(|stream| stream.is_free())
        {
            return stream.ask(self.address, inquiry);
        }
        let all = self.outlets.iter_mut();
        let Some(outlet) = all.min_by_key(|outlet| outlet.waiting.len()) else {
            return Err(inquiry);
        };
        match outlet.send(self.address, &inquiry.message) {
            Ok(number) => {
                outlet.waiting.insert(number, inquiry);
                Ok(())
            }
            Err(_) => Err(inquiry),
        }
    }
}

impl Outlet {
    fn open(server: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            socket: socket(server, SocketType::DGRAM)?.into(),
            waiting: HashMap::new(),
        })
    }

    /// Sends a message under a number of its own, which is told.
    fn send(&self, server: SocketAddr, message: &[u8]) -> io::Result<[u8; 2]> {
        if self.waiting.is_empty() {
            // From another port than the last time.
            self.socket.connect(server)?;
        }
        let mut number = [0; 2];
        loop {
            getrandom(&mut number, GetRandomFlags::empty())?;
            if !self.waiting.contains_key(&number) {
                break;
            }
        }
        let rest = message.get(2..).unwrap_or_default();
        self.socket.send(&[&number, rest].concat())?;
        Ok(number)
    }

    /// The questions that need not wait any longer, each with its answer, or without one.
    fn hear(&mut self, now: Instant) -> Vec<(Inquiry, Option<Vec<u8>>)> {
        let mut ended = Vec::new();
        if self.waiting.is_empty() {
            return ended;
        }
        let mut buffer = [0; MESSAGE];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => ended.extend(self.answered(&buffer[..length])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It cannot be reached.
                Err(_) => ended.extend(self.waiting.drain().map(|(_, inquiry)| (inquiry, None))),
            }
        }
        let late = self.waiting.extract_if(|_, inquiry| inquiry.until <= now);
        ended.extend(late.map(|(_, inquiry)| (inquiry, None)));
        if self.waiting.is_empty() {
            // Gives the port back.
            let _ = connect_unspec(&self.socket);
        }
        ended
    }

    /// The question that a message answers, if there is one, and the answer for its client.
    fn answered(&mut self, answer: &[u8]) -> Option<(Inquiry, Option<Vec<u8>>)> {
        let number = answer.first_chunk()?;
        let inquiry = self.waiting.get(number)?;
        if !is_answer(&inquiry.message, answer) {
            return None;
        }
        let inquiry = self.waiting.remove(number)?;
        let mut answer = answer.to_vec();
        answer[..2].copy_from_slice(&inquiry.message[..2]);
        Some((inquiry, Some(answer)))
    }
}

/// A socket that can lead to a server, and does not block.
pub(super) fn socket(server: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = match server {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, kind, flags, None)?)
}

/// The servers that a `resolv.conf` names, and how long each has to answer (resolv.conf(5)).
pub(super) fn settings(text: &str) -> (Vec<IpAddr>, Duration) {
    let (mut servers, mut seconds) = (Vec::new(), PATIENCE);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                servers.extend(words.next().and_then(|ip| ip.parse::<IpAddr>().ok()))
            }
            Some("options") => {
                let wanted = words.filter_map(|word| word.strip_prefix("timeout:"));
                let wanted = wanted.filter_map(|text| text.parse().ok());
                seconds = wanted.fold(seconds, |_, last: u64| last.clamp(1, LONGEST));
            }
            _ => {}
        }
    }
    (servers, Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpStream};
    use std::rc::Rc;

    use rustix::event::{PollFd, poll};

    use super::*;

    const LOSS: u8 = 2;
    const NO_SUCH_NAME: u8 = 3;

    /// Longer than any test takes.
    const FOREVER: Duration = Duration::from_secs(10_000);

    fn server() -> UdpSocket {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
    }

    fn resolver(servers: &[&UdpSocket], patience: Duration) -> Resolver {
        let addresses = servers.iter().map(|server| server.local_addr().unwrap());
        let mut resolver = Resolver::new(addresses, patience);
        resolver.open(|_| true);
        resolver
    }

    /// A question for `web`, of a client.
    fn question(client: u16) -> (Client, Vec<u8>) {
        let mut message = client.to_be_bytes().to_vec();
        message.extend(*b"\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, client));
        (Client::Datagram(address), message)
    }

    fn hand_on(resolver: &mut Resolver, client: u16) -> Option<Told> {
        let (client, message) = question(client);
        resolver.hand_on(client, &message)
    }

    /// Takes a question and gives an answer of a kind.
    fn serve(server: &UdpSocket, kind: u8) {
        let (message, asker) = asked(server);
        server.send_to(&answer(&message, kind), asker).unwrap();
    }

    fn asked(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 512];
        let (length, asker) = server.recv_from(&mut buffer).unwrap();
        (buffer[..length].to_vec(), asker)
    }

    fn answer(message: &[u8], kind: u8) -> Vec<u8> {
        let mut answer = message.to_vec();
        answer[2] |= 0x80;
        answer[3] |= kind;
        answer
    }

    /// Hears until something is to be told, or `done`.
    fn hear(resolver: &mut Resolver, mut done: impl FnMut() -> bool) -> Vec<Told> {
        loop {
            let told = resolver.hear(Instant::now());
            if !told.is_empty() || done() {
                return told;
            }
            let sockets = resolver.sockets();
            let mut fds: Vec<_> = sockets
                .map(|(socket, flags)| PollFd::from_borrowed_fd(socket, flags))
                .collect();
            poll(&mut fds, None).unwrap();
        }
    }

    /// Whether one client was told an answer of a kind to its own question.
    fn is_told(told: &[Told], client: u16, kind: u8) -> bool {
        let (Client::Datagram(to), reply) = &told[0] else {
            panic!("{told:?}");
        };
        told.len() == 1
            && to.port() == client
            && reply[..2] == client.to_be_bytes()
            && reply[3] & 15 == kind
    }

    fn is_idle(server: &UdpSocket) -> bool {
        server.set_nonblocking(true).unwrap();
        let heard = server.recv(&mut [0; 512]);
        server.set_nonblocking(false).unwrap();
        heard.is_err()
    }

    #[test]
    fn only_the_first_server_is_asked_for_what_it_knows_or_knows_not_to_be() {
        let (first, second) = (server(), server());
        let mut resolver = resolver(&[&first, &second], FOREVER);
        for kind in [0, NO_SUCH_NAME] {
            assert!(hand_on(&mut resolver, 7).is_none());
            serve(&first, kind);
            assert!(is_told(&hear(&mut resolver, || false), 7, kind));
            assert!(is_idle(&second));
        }
        assert_eq!(resolver.due(), None);
    }

    #[test]
    fn the_next_server_is_asked_where_one_is_at_a_loss_silent_or_gone() {
        let (first, second) = (server(), server());
        let mut patient = resolver(&[&first, &second], FOREVER);
        assert!(hand_on(&mut patient, 7).is_none());
        serve(&first, LOSS);
        assert!(hear(&mut patient, || has_question(&second)).is_empty());
        serve(&second, 0);
        assert!(is_told(&hear(&mut patient, || false), 7, 0));
        // Who is the last to be at a loss is believed.
        assert!(hand_on(&mut patient, 8).is_none());
        serve(&first, LOSS);
        assert!(hear(&mut patient, || has_question(&second)).is_empty());
        serve(&second, 5);
        assert!(is_told(&hear(&mut patient, || false), 8, 5));

        let mut hasty = resolver(&[&first, &second], Duration::ZERO);
        assert!(hand_on(&mut hasty, 9).is_none());
        assert!(hasty.hear(Instant::now()).is_empty());
        assert_eq!(asked(&first).0[2..], asked(&second).0[2..]);
        assert!(is_told(&hasty.hear(Instant::now()), 9, LOSS));

        let mut gone = resolver(&[&first, &second], FOREVER);
        drop(first);
        assert!(hand_on(&mut gone, 7).is_none());
        assert!(hear(&mut gone, || has_question(&second)).is_empty());
        serve(&second, 0);
        assert!(is_told(&hear(&mut gone, || false), 7, 0));
    }

    /// Whether a question waits at a server.
    fn has_question(server: &UdpSocket) -> bool {
        server.set_nonblocking(true).unwrap();
        let heard = server.peek(&mut [0; 512]);
        server.set_nonblocking(false).unwrap();
        heard.is_ok()
    }

    #[test]
    fn what_was_not_asked_is_no_answer() {
        let (first, stranger) = (server(), server());
        let mut resolver = resolver(&[&first], FOREVER);
        assert!(hand_on(&mut resolver, 7).is_none());
        let (message, asker) = asked(&first);
        let right = answer(&message, 0);
        stranger.send_to(&right, asker).unwrap();
        // Another number, no answer, no question, another name, another kind.
        for (at, byte) in [(0, message[0] ^ 1), (2, 1), (5, 0), (13, b'x'), (18, 28)] {
            let mut wrong = right.clone();
            wrong[at] = byte;
            first.send_to(&wrong, asker).unwrap();
        }
        first.send_to(&right[..15], asker).unwrap();
        // Names are the same in upper case.
        let mut right = answer(&message, NO_SUCH_NAME);
        right[13] = b'W';
        first.send_to(&right, asker).unwrap();
        assert!(is_told(&hear(&mut resolver, || false), 7, NO_SUCH_NAME));
    }

    #[test]
    fn nobody_guesses_numbers_and_ports() {
        let first = server();
        let mut resolver = resolver(&[&first], FOREVER);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..8 {
            assert!(hand_on(&mut resolver, 7).is_none());
            let (message, asker) = asked(&first);
            first.send_to(&answer(&message, 0), asker).unwrap();
            assert!(is_told(&hear(&mut resolver, || false), 7, 0));
            seen.insert((message[..2].to_vec(), 0));
            seen.insert((Vec::new(), asker.port()));
        }
        // By chance a few are the same.
        assert!(seen.len() > 12, "{seen:?}");
    }

    #[test]
    fn too_many_questions_are_not_handed_on() {
        let first = server();
        let mut resolver = resolver(&[&first], FOREVER);
        for client in 1..=512 {
            assert!(hand_on(&mut resolver, client).is_none(), "{client}");
        }
        let refused = hand_on(&mut resolver, 600);
        assert!(is_told(&[refused.unwrap()], 600, LOSS));
        assert_eq!(resolver.sockets().count(), OUTLETS);
    }

    #[test]
    fn who_asks_by_a_connection_is_answered_by_one() {
        let first = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let second = server();
        let addresses = [first.local_addr().unwrap(), second.local_addr().unwrap()];
        let mut resolver = Resolver::new(addresses.into_iter(), FOREVER);
        resolver.open(|_| true);
        let client = || {
            let stream = TcpStream::connect(addresses[0]).unwrap();
            first.accept().unwrap();
            Client::Connection(Rc::new(stream))
        };
        let (_, message) = question(7);
        // Again and again by the same few sockets.
        for _ in 0..3 * STREAMS {
            assert!(resolver.hand_on(client(), &message).is_none());
            let server = std::thread::spawn({
                let first = first.try_clone().unwrap();
                move || {
                    let (mut stream, _) = first.accept().unwrap();
                    let mut asked = [0; 23];
                    stream.read_exact(&mut asked).unwrap();
                    assert_eq!(asked[..2], [0, 21]);
                    let mut long = answer(&asked[2..], 0);
                    long.resize(60_000, 1);
                    let length = u16::try_from(long.len()).unwrap();
                    stream.write_all(&length.to_be_bytes()).unwrap();
                    stream.write_all(&long).unwrap();
                }
            });
            let told = hear(&mut resolver, || false);
            let (Client::Connection(_), reply) = &told[0] else {
                panic!("{told:?}");
            };
            assert_eq!((reply.len(), &reply[..2]), (60_000, &message[..2]));
            server.join().unwrap();
        }
        // Where nobody listens any more, the next one is asked, which takes no connections either.
        let client = client();
        drop(first);
        let told = resolver
            .hand_on(client, &message)
            .map_or_else(|| hear(&mut resolver, || false), |told| vec![told]);
        assert_eq!(told[0].1[3] & 15, LOSS);
    }

    #[test]
    fn settings_are_read() {
        let text = "# nameserver 9.9.9.9\nnameserver 10.0.0.1\n nameserver\tfd00::1 \nnameserver x\nsearch a\n\
            options ndots:1 timeout:5 attempts:2\n";
        let servers = ["10.0.0.1", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(settings(text), (servers.to_vec(), Duration::from_secs(5)));
        for (text, seconds) in [
            ("", 2),
            ("options timeout:0", 1),
            ("options timeout:900", 30),
            ("options timeout:x", 2),
        ] {
            assert_eq!(settings(text).1, Duration::from_secs(seconds), "{text}");
        }
    }
}
