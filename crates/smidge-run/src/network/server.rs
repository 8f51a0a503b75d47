//! The name server of a container on a network: a process in the container's network namespace, which
//! knows who is on its networks and hands on what it does not know.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{self, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::Attachment;
use super::firewall::Firewall;
use super::member::members;
use super::names::{Answer, Names, truncated};
use super::resolver::{Resolver, settings};
use super::stream::{first_message, unless_early};
use crate::error::RunError;
use crate::lifetime::Settling;
use crate::port::enter;
use crate::sys;

/// Where containers ask, as in Docker.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The port of name servers.
const PORT: u16 = 53;

/// Bytes of a message: more than any server sends without being asked to.
pub(super) const MESSAGE: usize = 4096;

/// Bytes of a datagram that everybody can take (RFC 1035, 4.2.1).
const DATAGRAM: usize = 512;

/// How many connections may be asking at once, and how long each may take to its next question.
const CONNECTIONS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(10);

/// What the server says when it can be asked.
const READY: &[u8] = b"R";

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
            serve(attachments, program, theirs, parent);
            sys::exit(1);
        };
        drop(theirs);
        let pidfd = process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(RunError::supervise("watch the name server"))?;
        let server = Self { pidfd };
        let mut said = Vec::new();
        let heard = File::from(ours).read_to_end(&mut said);
        heard.map_err(RunError::supervise("hear from the name server"))?;
        outcome(&said).map(|()| Some(server))
    }
}

/// What the server says of its start: that it can be asked, or why it cannot.
fn outcome(said: &[u8]) -> Result<(), RunError> {
    match said == READY {
        true => Ok(()),
        false => Err(serde_json::from_slice(said).unwrap_or_else(|_| {
            RunError::supervise("start the name server")(io::Error::other("it has ended"))
        })),
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// The life of the server's process.
fn serve(attachments: &[Attachment], program: BorrowedFd<'_>, ready: OwnedFd, parent: Pid) {
    let begun = Server::begin(attachments, program, ready.as_fd(), parent);
    let mut ready = File::from(ready);
    match begun {
        Ok(mut server) => {
            let _ = ready.write_all(READY);
            drop(ready);
            loop {
                server.turn();
            }
        }
        // Whoever reads it is told nothing else.
        Err(fault) => drop(serde_json::to_writer(&mut ready, &fault)),
    }
}

/// The servers that are asked for names that the networks do not have: those that somebody wants, or else the
/// machine's. Nothing leads out of internal networks, not even questions, which can carry anything
/// (CVE-2024-29018).
fn resolver(attachments: &[Attachment]) -> Resolver {
    let wanted = attachments.iter().flat_map(|at| &at.servers).copied();
    let wanted: Vec<IpAddr> = wanted.collect();
    let text = match wanted.is_empty() {
        true => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        false => String::new(),
    };
    let (machines, patience) = settings(&text);
    let is_shut = attachments.iter().all(|attachment| attachment.internal);
    let mut servers: Vec<IpAddr> = Vec::new();
    for ip in wanted.into_iter().chain(machines) {
        if !servers.contains(&ip) && (!is_shut || is_near(attachments, ip)) {
            servers.push(ip);
        }
    }
    Resolver::new(servers.into_iter().map(|ip| (ip, PORT).into()), patience)
}

/// Whether an address is of one of the container's networks.
fn is_near(attachments: &[Attachment], ip: IpAddr) -> bool {
    let mut own = attachments.iter().flat_map(|at| &at.addresses);
    own.any(|own| own.contains(ip))
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

/// Who has asked, and where the answer goes.
#[derive(Debug)]
pub(super) enum Client {
    Datagram(SocketAddr),
    Connection(Rc<TcpStream>),
}

/// A connection that may ask.
struct Asking {
    stream: Rc<TcpStream>,
    said: Vec<u8>,
    until: Instant,
}

impl Asking {
    /// The next question, as soon as it is there: there may be more of them before the first is answered (RFC 7766,
    /// 6.2.1.1).
    fn hear(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = [0; 512];
        loop {
            if let Some(message) = first_message(&self.said) {
                let message = message.to_vec();
                self.said.drain(..message.len() + 2);
                return Ok(Some(message));
            }
            match unless_early((&*self.stream).read(&mut buffer))? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(length) => self.said.extend_from_slice(&buffer[..length]),
                None => return Ok(None),
            }
        }
    }
}

struct Server {
    directories: Vec<PathBuf>,
    datagrams: UdpSocket,
    connections: TcpListener,
    asking: Vec<Asking>,
    resolver: Resolver,
    settling: Settling,
}

impl Server {
    /// Opens everything, in the network namespace of `program`, for a process of its own.
    fn begin(
        attachments: &[Attachment],
        program: BorrowedFd<'_>,
        ready: BorrowedFd<'_>,
        parent: Pid,
    ) -> Result<Self, RunError> {
        let begin = RunError::supervise("start the name server");
        sys::close_all_but(&[program, ready]);
        let _ = rustix::thread::set_name(c"smidge-names");
        let mut resolver = resolver(attachments);
        resolver.open(|ip| !is_near(attachments, ip));
        enter(program).map_err(RunError::supervise("enter the container's network"))?;
        resolver.open(|ip| is_near(attachments, ip));
        // Only now: changing the user namespace takes the wish back (prctl(2)).
        process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(begin)?;
        if process::getppid() != Some(parent) {
            let error = io::Error::other("the supervisor has ended");
            return Err(RunError::supervise("start the name server")(error));
        }
        // Without it there is no such address; the container may not have come to it yet.
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .and_then(|socket| sys::loopback_up(socket.as_fd()))
            .map_err(RunError::supervise(
                "bring up the container's loopback device",
            ))?;
        let (datagrams, connections) = listen().map_err(RunError::supervise(
            "listen at 127.0.0.11:53 in the container",
        ))?;
        Ok(Self {
            directories: attachments.iter().map(|at| at.dir.clone()).collect(),
            datagrams,
            connections,
            asking: Vec::new(),
            resolver,
            settling: Settling::begin(),
        })
    }

    /// Waits for something to do and does it.
    fn turn(&mut self) {
        let own = [self.datagrams.as_fd(), self.connections.as_fd()];
        // Whoever comes when there are too many connections waits.
        let own = own.into_iter().take(match self.asking.len() < CONNECTIONS {
            true => 2,
            false => 1,
        });
        let asking = self.asking.iter().map(|one| one.stream.as_fd());
        let clients = own.chain(asking).map(|socket| (socket, PollFlags::IN));
        let mut fds: Vec<PollFd<'_>> = clients
            .chain(self.resolver.sockets())
            .map(|(socket, flags)| PollFd::from_borrowed_fd(socket, flags))
            .collect();
        let due = self.asking.iter().map(|one| one.until);
        let due = due.chain(self.resolver.due()).min();
        let patience = due.map(|due| due.saturating_duration_since(Instant::now()));
        if self
            .settling
            .poll(&mut fds, patience)
            .is_ok_and(|some| some > 0)
        {
            self.settling = Settling::begin();
        }
        self.hear_datagrams();
        self.hear_connections();
        for (client, reply) in self.resolver.hear(Instant::now()) {
            self.tell(client, &reply);
        }
    }

    fn hear_datagrams(&mut self) {
        let mut buffer = [0; MESSAGE];
        while let Ok((length, client)) = self.datagrams.recv_from(&mut buffer) {
            self.heed(Client::Datagram(client), &buffer[..length]);
        }
    }

    /// Whoever hangs up or lags has had a chance.
    fn hear_connections(&mut self) {
        while self.asking.len() < CONNECTIONS
            && let Ok((stream, _)) = self.connections.accept()
        {
            if stream.set_nonblocking(true).is_ok() {
                self.asking.push(Asking {
                    stream: Rc::new(stream),
                    said: Vec::new(),
                    until: Instant::now() + PATIENCE,
                });
            }
        }
        for mut one in std::mem::take(&mut self.asking) {
            loop {
                match one.hear() {
                    Ok(Some(message)) => {
                        one.until = Instant::now() + PATIENCE;
                        self.heed(Client::Connection(Rc::clone(&one.stream)), &message);
                    }
                    Ok(None) if Instant::now() < one.until => break self.asking.push(one),
                    _ => break,
                }
            }
        }
    }

    /// Answers a question, or hands it on.
    fn heed(&mut self, client: Client, message: &[u8]) {
        match self.names().answer(message) {
            Answer::Reply(reply) => {
                let is_long = matches!(client, Client::Datagram(_)) && reply.len() > DATAGRAM;
                let short = is_long.then(|| truncated(message)).flatten();
                self.tell(client, &short.unwrap_or(reply));
            }
            Answer::Forward => {
                if let Some((client, reply)) = self.resolver.hand_on(client, message) {
                    self.tell(client, &reply);
                }
            }
            Answer::Nothing => {}
        }
    }

    /// Says something to whoever has asked. A connection whose other end does not read has an end.
    fn tell(&self, client: Client, reply: &[u8]) {
        match client {
            Client::Datagram(address) => {
                let _ = self.datagrams.send_to(reply, address);
            }
            Client::Connection(stream) => {
                let length = u16::try_from(reply.len()).unwrap_or(u16::MAX);
                let message = [&length.to_be_bytes(), reply].concat();
                if (&*stream).write_all(&message).is_err() {
                    let _ = stream.shutdown(Shutdown::Both);
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_the_server_from_its_work_is_told() {
        assert!(outcome(READY).is_ok());
        let taken = io::Error::from_raw_os_error(libc::EADDRINUSE);
        let fault = RunError::supervise("listen at 127.0.0.11:53 in the container")(taken);
        let text = serde_json::to_vec(&fault).unwrap();
        for (said, step, why) in [
            (
                &text[..],
                "listen at 127.0.0.11:53",
                "Address already in use",
            ),
            (b"", "start the name server", "it has ended"),
        ] {
            let Err(RunError::Supervise { step: told, source }) = outcome(said) else {
                panic!("{step}");
            };
            assert!(told.starts_with(step), "{told}");
            assert!(source.to_string().contains(why), "{source}");
        }
    }
}
