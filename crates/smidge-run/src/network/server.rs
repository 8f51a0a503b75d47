//! The name server of a container on a network: a process in the container's network namespace, which
//! knows who is on its networks and hands on what it does not know.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{self, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::Attachment;
use super::firewall::Firewall;
use super::member::members;
use super::names::{Answer, Names, failure};
use crate::error::RunError;
use crate::lifetime::Settling;
use crate::port::enter;
use crate::sys;

/// Where containers ask, as in Docker.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The port of name servers.
const PORT: u16 = 53;

/// Bytes of a message: more than any server sends without being asked to.
const MESSAGE: usize = 4096;

/// Questions that may wait for an answer from elsewhere, and how long they do.
const WAITING: usize = 512;
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection may take to ask, and to listen.
const CONNECTION: Duration = Duration::from_secs(2);

/// A running name server, a child of the process that forked it, with which it dies.
#[derive(Debug)]
pub(crate) struct NameServer {
    pidfd: OwnedFd,
}

impl NameServer {
    /// Forks a process that answers in the network namespace of `program`. The caller must have one
    /// thread only. Returns when the server can be asked; none if there are no names to tell.
    pub(crate) fn fork(
        attachments: &[Attachment],
        program: BorrowedFd<'_>,
    ) -> Result<Option<Self>, RunError> {
        let is_silent = |at: &Attachment| at.names.is_empty() && at.servers.is_empty();
        if attachments.iter().all(is_silent) {
            return Ok(None);
        }
        let step = RunError::supervise("start the name server");
        let parent = process::getpid();
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(RunError::supervise("start the name server"))?;
        let Some(pid) = sys::fork().map_err(step)? else {
            let _ = serve(attachments, program, theirs, parent);
            sys::exit(1);
        };
        drop(theirs);
        let pidfd = process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(RunError::supervise("watch the name server"))?;
        let server = Self { pidfd };
        match rustix::io::read(&ours, &mut [0; 1]) {
            Ok(1) => Ok(Some(server)),
            _ => Err(RunError::supervise("start the name server")(
                io::Error::other("it has ended"),
            )),
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// The life of the server's process.
fn serve(
    attachments: &[Attachment],
    program: BorrowedFd<'_>,
    ready: OwnedFd,
    parent: Pid,
) -> io::Result<()> {
    sys::close_all_but(&[program, ready.as_fd()]);
    let _ = rustix::thread::set_name(c"smidge-names");
    let elsewhere = far(attachments);
    enter(program)?;
    // Only now: changing the user namespace takes the wish back (prctl(2)).
    process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if process::getppid() != Some(parent) {
        return Ok(());
    }
    // Without it there is no such address; the container may not have come to it yet.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    sys::loopback_up(socket.as_fd())?;
    drop(socket);
    let (datagrams, connections) = listen()?;
    let mut server = Server {
        directories: attachments.iter().map(|at| at.dir.clone()).collect(),
        datagrams,
        connections,
        elsewhere,
        near: near(attachments),
        waiting: HashMap::new(),
        settling: Settling::begin(),
        next: 0,
    };
    rustix::io::write(&ready, b"R")?;
    drop(ready);
    loop {
        server.turn();
    }
}

/// Sockets that lead to name servers of the machine's and beyond, made there. Nothing leads out of
/// internal networks, not even questions, which can carry anything (CVE-2024-29018).
fn far(attachments: &[Attachment]) -> Vec<UdpSocket> {
    if attachments.iter().all(|attachment| attachment.internal) {
        return Vec::new();
    }
    let asked = attachments
        .iter()
        .flat_map(|attachment| &attachment.servers);
    let mut servers: Vec<IpAddr> = asked.copied().collect();
    if servers.is_empty() {
        let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let lines = text.lines();
        let named = lines.filter_map(|line| line.trim().strip_prefix("nameserver"));
        servers = named.filter_map(|ip| ip.trim().parse().ok()).collect();
    }
    servers.dedup();
    servers.retain(|ip| !is_near(attachments, *ip));
    servers.into_iter().filter_map(leading_to).collect()
}

/// Name servers on the container's own networks.
fn near(attachments: &[Attachment]) -> Vec<IpAddr> {
    let asked = attachments.iter().flat_map(|at| &at.servers).copied();
    let mut servers: Vec<IpAddr> = asked.filter(|ip| is_near(attachments, *ip)).collect();
    servers.dedup();
    servers
}

/// Whether an address is of one of the container's networks.
fn is_near(attachments: &[Attachment], ip: IpAddr) -> bool {
    let mut own = attachments.iter().flat_map(|at| &at.addresses);
    own.any(|own| own.contains(ip))
}

fn leading_to(server: IpAddr) -> Option<UdpSocket> {
    let any: SocketAddr = match server {
        IpAddr::V4(_) => ([0; 4], 0).into(),
        IpAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((server, PORT)).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// The sockets at which the server is asked. Port 53 is left to programs that serve names themselves,
/// where the kernel can lead questions to another.
fn listen() -> io::Result<(UdpSocket, TcpListener)> {
    let open = |udp: u16, tcp: u16| {
        let datagrams = UdpSocket::bind((NAME_SERVER, udp))?;
        let connections = TcpListener::bind((NAME_SERVER, tcp))?;
        datagrams.set_nonblocking(true)?;
        connections.set_nonblocking(true)?;
        io::Result::Ok((datagrams, connections))
    };
    let (datagrams, connections) = open(0, 0)?;
    let ports = [
        datagrams.local_addr()?.port(),
        connections.local_addr()?.port(),
    ];
    let led = Firewall::open().and_then(|firewall| firewall.redirect(NAME_SERVER, PORT, ports));
    match led {
        Ok(()) => Ok((datagrams, connections)),
        Err(_) => open(PORT, PORT),
    }
}

/// A question that was handed on.
struct Waiting {
    client: SocketAddr,
    /// The number that the client gave it.
    number: [u8; 2],
    since: Instant,
}

struct Server {
    directories: Vec<PathBuf>,
    datagrams: UdpSocket,
    connections: TcpListener,
    elsewhere: Vec<UdpSocket>,
    /// Servers on the container's networks that no way leads to yet: it may not have come to its devices.
    near: Vec<IpAddr>,
    /// By the number under which it was handed on.
    waiting: HashMap<u16, Waiting>,
    settling: Settling,
    next: u16,
}

impl Server {
    /// Waits for something to do and does it.
    fn turn(&mut self) {
        let sockets = [self.datagrams.as_fd(), self.connections.as_fd()];
        let sockets = sockets
            .into_iter()
            .chain(self.elsewhere.iter().map(AsFd::as_fd));
        let mut fds: Vec<PollFd<'_>> = sockets
            .map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN))
            .collect();
        match self.settling.poll(&mut fds, None) {
            Ok(some) if some > 0 => self.settling = Settling::begin(),
            _ => return,
        }
        self.near.retain(|ip| match leading_to(*ip) {
            Some(socket) => {
                self.elsewhere.push(socket);
                false
            }
            None => true,
        });
        self.hear_questions();
        self.hear_answers();
        while let Ok((stream, _)) = self.connections.accept() {
            // Whoever hangs up or lags has had a chance.
            let _ = self.talk(stream);
        }
    }

    fn hear_questions(&mut self) {
        let mut buffer = [0; MESSAGE];
        while let Ok((length, client)) = self.datagrams.recv_from(&mut buffer) {
            let message = &buffer[..length];
            match self.names().answer(message) {
                Answer::Reply(reply) => {
                    let _ = self.datagrams.send_to(&reply, client);
                }
                Answer::Forward => self.hand_on(message, client),
                Answer::Nothing => {}
            }
        }
    }

    fn hand_on(&mut self, message: &[u8], client: SocketAddr) {
        self.waiting
            .retain(|_, question| question.since.elapsed() < PATIENCE);
        let refuse = self.elsewhere.is_empty() || self.waiting.len() >= WAITING;
        let (Some(number), false) = (message.first_chunk(), refuse) else {
            if let Some(reply) = failure(message) {
                let _ = self.datagrams.send_to(&reply, client);
            }
            return;
        };
        while self.waiting.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let question = Waiting {
            client,
            number: *number,
            since: Instant::now(),
        };
        let mut message = message.to_vec();
        message[..2].copy_from_slice(&self.next.to_be_bytes());
        self.waiting.insert(self.next, question);
        self.next = self.next.wrapping_add(1);
        for socket in &self.elsewhere {
            let _ = socket.send(&message);
        }
    }

    /// The first server's answer is the client's.
    fn hear_answers(&mut self) {
        let mut buffer = [0; MESSAGE];
        for socket in &self.elsewhere {
            while let Ok(length) = socket.recv(&mut buffer) {
                let answer = &mut buffer[..length];
                let Some(number) = answer.first_chunk().copied().map(u16::from_be_bytes) else {
                    continue;
                };
                if let Some(question) = self.waiting.remove(&number) {
                    answer[..2].copy_from_slice(&question.number);
                    let _ = self.datagrams.send_to(answer, question.client);
                }
            }
        }
    }

    /// Answers what one connection asks (RFC 1035, 4.2.2). What is asked of others comes back as they
    /// would have said it in a datagram.
    fn talk(&mut self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(CONNECTION))?;
        stream.set_write_timeout(Some(CONNECTION))?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message)?;
        let reply = match self.names().answer(&message) {
            Answer::Reply(reply) => reply,
            Answer::Forward => match self.ask(&message) {
                Some(reply) => reply,
                None => failure(&message).unwrap_or_default(),
            },
            Answer::Nothing => return Ok(()),
        };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_be_bytes())?;
        stream.write_all(&reply)
    }

    /// Asks the machine's first name server and waits for what it says.
    fn ask(&self, message: &[u8]) -> Option<Vec<u8>> {
        let socket = self.elsewhere.first()?;
        let until = Instant::now() + CONNECTION;
        socket.send(message).ok()?;
        let mut buffer = vec![0; MESSAGE];
        loop {
            let left = until.checked_duration_since(Instant::now())?;
            let left = rustix::event::Timespec::try_from(left).ok()?;
            let mut fds = [PollFd::new(socket, PollFlags::IN)];
            if poll(&mut fds, Some(&left)).ok()? == 0 {
                return None;
            }
            let length = socket.recv(&mut buffer).ok()?;
            if buffer.get(..2) == message.get(..2) {
                buffer.truncate(length);
                return Some(buffer);
            }
        }
    }

    /// Who is on the networks now.
    fn names(&self) -> Names {
        let mut names = Names::default();
        for member in self.directories.iter().flat_map(|dir| members(dir)) {
            for name in &member.names {
                for address in &member.addresses {
                    names.add(name, *address);
                }
            }
        }
        names
    }
}
