//! Published ports without anybody in between: when the program binds a socket to a published port, it gets
//! one of the host's network in its place, which has been listening for it (`seccomp_unotify(2)`,
//! `SECCOMP_IOCTL_NOTIF_ADDFD`).
//!
//! What the program had asked for is done all the same: its own socket is bound inside, so that errors are
//! the kernel's, and whoever connects from inside (health checks, other containers) is led on by the relay.
//! So is what arrived outside and is not for the socket that the program got: clients of IPv6 where it
//! speaks IPv4, or of another host port.
//!
//! The host's sockets are of IPv6, for both families, and for the family that the program speaks there may be
//! a second: the kernel gives a connection of IPv4 to a socket of IPv4, if there is one. No client is turned
//! away meanwhile.
//!
//! **Does not** look after programs of 32 bits, nor those that join the container later (`exec`).

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD};
use rustix::io::{self, Errno};
use rustix::net::{self, AddressFamily, sockopt};

use super::Listeners;
use super::gate::{Gate, Target};
use super::listener::{BACKLOG, Listener};
use super::proxy::{Calls, Proxy, Way};
use super::theirs::{Theirs, address};
use crate::seccomp::{self, Action};
use crate::sys::{self, Notification, Verdict};
use crate::{Port, Protocol};

/// Installs the filter in the calling thread, and gives the descriptor that its calls of `bind(2)` are to be
/// received from.
pub(crate) fn install() -> std::io::Result<OwnedFd> {
    let bind = u32::try_from(libc::SYS_bind).unwrap_or_default();
    let ranges = vec![
        (0, Action::Allow),
        (bind, Action::Notify),
        (bind + 1, Action::Allow),
    ];
    sys::install_listener(&seccomp::native(ranges))
}

/// What a call changes for the relay.
#[derive(Debug)]
pub(super) enum Change {
    /// A gate more.
    Open(Gate),
    /// A gate is somebody else's now, or the relay's again.
    Shut(usize, bool),
}

/// A socket that waits for the program to want it.
#[derive(Debug)]
struct Door {
    listener: Listener,
    /// The same for IPv4 alone. It is kept as long as the relay leads there: what is led to a port that only
    /// the relay listens on would come back for ever.
    four: Option<OwnedFd>,
    /// Its gate in the relay, if it ever had one.
    gate: Option<usize>,
    /// Whether the program has it.
    is_given: bool,
}

/// Answers a program that binds to published ports.
#[derive(Debug)]
pub(super) struct Direct {
    calls: OwnedFd,
    /// The program.
    program: OwnedFd,
    /// Its network namespace, by device and inode.
    network: (u64, u64),
    doors: Vec<Door>,
    /// What is bound inside: the port, and whether by IPv6.
    inside: Vec<(u16, Protocol, bool)>,
    /// Those who lead to what the program has kept for itself.
    proxies: Vec<Proxy>,
}

impl Direct {
    pub(super) fn new(calls: Calls<'_>, program: BorrowedFd<'_>) -> std::io::Result<Self> {
        Ok(Self {
            calls: calls.listener.try_clone_to_owned()?,
            program: program.try_clone_to_owned()?,
            network: network(calls.pid)?,
            doors: Vec::new(),
            inside: Vec::new(),
            proxies: Vec::new(),
        })
    }

    /// Lets go of everything; those that are given back still pass on what is on its way.
    pub(super) fn close(self) -> Vec<Proxy> {
        self.proxies.iter().for_each(Proxy::close);
        self.proxies
    }

    /// Where the calls come from.
    pub(super) fn calls(&self) -> &OwnedFd {
        &self.calls
    }

    /// Takes what is to be given away.
    pub(super) fn take(&mut self, listeners: Vec<Listener>) {
        let door = |listener| Door {
            listener,
            four: None,
            gate: None,
            is_given: false,
        };
        self.doors = listeners.into_iter().map(door).collect();
    }

    /// Answers a call, and says what changes; the next gate gets the number `next`.
    pub(super) fn answer(&mut self, next: usize) -> Vec<Change> {
        // It is no error that a caller was killed meanwhile.
        let Ok(call) = sys::receive(self.calls.as_fd()) else {
            return Vec::new();
        };
        let mut changes = Vec::new();
        let verdict = self
            .bind(call, next, &mut changes)
            .unwrap_or_else(|errno| Verdict::Fail(errno.raw_os_error()));
        sys::answer(self.calls.as_fd(), call.id, verdict);
        changes
    }

    /// What becomes of a call of `bind(2)`. The address is read once; what the kernel may read later, it
    /// binds inside.
    fn bind(
        &mut self,
        call: Notification,
        next: usize,
        changes: &mut Vec<Change>,
    ) -> io::Result<Verdict> {
        let Some(address) = address(&call) else {
            return Ok(Verdict::Continue);
        };
        let is_published = |door: &Door| door.listener.port.container_port == address.port();
        // Whoever has a network namespace of his own below the container's has its ports as well.
        let is_ours = || network(call.thread).is_ok_and(|network| network == self.network);
        if !self.doors.iter().any(is_published) || !is_ours() {
            return Ok(Verdict::Continue);
        }
        let theirs = Theirs::of(&call);
        // If not, its number may have been somebody else's, and so may all that was looked at.
        if !sys::still_waits(self.calls.as_fd(), call.id) {
            return Ok(Verdict::Continue);
        }
        let theirs = match theirs {
            Ok(Some(theirs)) => theirs,
            Ok(None) => return Ok(Verdict::Continue),
            Err(_) => return Ok(self.give_up(&is_published)),
        };
        let is_meant =
            |door: &Door| is_published(door) && door.listener.port.protocol == theirs.protocol;
        let Some(chosen) = self.choose(address.port(), &theirs) else {
            return Ok(self.give_up(&is_meant));
        };
        let room = (address.port(), theirs.protocol, theirs.is_six);
        let is_new = self.bind_inside(room, &theirs, address)?;
        let door = &mut self.doors[chosen];
        let target = door.hand_over(&theirs, self.calls.as_fd(), call.id)?;
        if is_new {
            self.inside.push(room);
            changes.push(Change::Open(theirs.into_gate(target)?));
        }
        for door in &mut self.doors {
            let Port {
                container_port,
                protocol,
                ..
            } = door.listener.port;
            if (container_port, protocol) == (room.0, room.1) {
                door.settle(target, next, changes)?;
            }
        }
        Ok(Verdict::Give(0))
    }

    /// The door that leads to a socket of theirs.
    fn choose(&self, port: u16, theirs: &Theirs) -> Option<usize> {
        let fits = |door: &Door| {
            let published = &door.listener.port;
            published.container_port == port
                && published.protocol == theirs.protocol
                && (theirs.is_six || door.listener.both || published.host_ip.is_ipv4())
        };
        self.doors.iter().position(fits)
    }

    /// Binds their own socket as they asked for, unless an earlier one is; true if it is bound now.
    fn bind_inside(
        &self,
        room: (u16, Protocol, bool),
        theirs: &Theirs,
        address: std::net::SocketAddr,
    ) -> io::Result<bool> {
        if self.inside.contains(&room) {
            return Ok(false);
        }
        let is_other = |known: &(u16, Protocol, bool)| (known.0, known.1) == (room.0, room.1);
        match net::bind(&theirs.socket, &address) {
            // By the one of theirs for both families.
            Err(Errno::ADDRINUSE) if self.inside.iter().any(is_other) => return Ok(false),
            bound => bound?,
        }
        if theirs.protocol == Protocol::Tcp {
            net::listen(&theirs.socket, BACKLOG)?;
        }
        Ok(true)
    }

    /// Leaves what a call is about to the program, and leads everything that arrives at these doors inside.
    fn give_up(&mut self, is_meant: &dyn Fn(&Door) -> bool) -> Verdict {
        let (left, kept): (Vec<Door>, _) = std::mem::take(&mut self.doors)
            .into_iter()
            .partition(|door| is_meant(door) && !door.is_given);
        self.doors = kept;
        if left.is_empty() {
            return Verdict::Continue;
        }
        let listeners = Listeners::of(left.into_iter().map(|door| door.listener).collect());
        // Without it nobody answers, which is what a lack of processes comes to.
        let proxy = Proxy::fork(listeners, self.program.as_fd(), Way::Proxy);
        self.proxies.extend(proxy);
        Verdict::Continue
    }
}

impl Door {
    /// Gives the program a socket of this door's in place of its own. Tells where it can be reached. What
    /// the program has of an earlier one shows whether that is still in use.
    fn hand_over(&mut self, theirs: &Theirs, calls: BorrowedFd<'_>, id: u64) -> io::Result<Target> {
        let Port {
            host_ip, host_port, ..
        } = self.listener.port;
        let is_six = sockopt::socket_domain(&self.listener.socket)? == AddressFamily::INET6;
        if theirs.is_six == is_six {
            theirs.replace(calls, id, &self.listener.socket)?;
            self.is_given = true;
            // Or it would go on to take everything of IPv4.
            self.four.take_if(|four| !theirs.has(four));
            return Ok(match self.listener.both {
                true => Target::near(host_port),
                false => Target::at(host_ip, host_port),
            });
        }
        let ip = match host_ip {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let four = match self.four.take() {
            Some(four) => four,
            None => self.listener.beside(ip)?,
        };
        theirs.replace(calls, id, self.four.insert(four))?;
        self.is_given &= theirs.has(&self.listener.socket);
        Ok(Target::at(ip.into(), host_port))
    }

    /// Opens a gate for what arrives here and is not for the program's own socket, or shuts it.
    fn settle(&mut self, target: Target, next: usize, changes: &mut Vec<Change>) -> io::Result<()> {
        match self.gate {
            Some(gate) => changes.push(Change::Shut(gate, self.is_given)),
            None if !self.is_given => {
                let opened = |change: &&Change| matches!(change, Change::Open(_));
                self.gate = Some(next + changes.iter().filter(opened).count());
                changes.push(Change::Open(Gate {
                    socket: io::fcntl_dupfd_cloexec(&self.listener.socket, 0)?,
                    protocol: self.listener.port.protocol,
                    target,
                    is_shut: false,
                }));
            }
            _ => (),
        }
        Ok(())
    }
}

/// The network namespace of a thread.
fn network(thread: u32) -> io::Result<(u64, u64)> {
    let path = format!("/proc/{thread}/ns/net");
    let file = rustix::fs::statat(CWD, path, AtFlags::empty())?;
    Ok((file.st_dev, file.st_ino))
}
