//! A program's socket: taken hold of, and replaced by another one, without the program's noticing.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::{CWD, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{self, Errno};
use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};
use rustix::process::{self, Pid, PidfdFlags, PidfdGetfdFlags, WaitOptions};

use super::gate::{Gate, Target};
use crate::Protocol;
use crate::sys::{self, Notification};

/// Options that a program may set before it binds, by level (`socket(7)`, `tcp(7)`, `ip(7)`, `ipv6(7)`); but
/// for those that say who else may bind to the port: that is decided.
const OPTIONS: [(i32, &[i32]); 4] = [
    (
        libc::SOL_SOCKET,
        &[
            libc::SO_DONTROUTE,
            libc::SO_BROADCAST,
            libc::SO_SNDBUF,
            libc::SO_RCVBUF,
            libc::SO_KEEPALIVE,
            libc::SO_OOBINLINE,
            libc::SO_PRIORITY,
            libc::SO_LINGER,
            libc::SO_RCVLOWAT,
            libc::SO_RCVTIMEO,
            libc::SO_SNDTIMEO,
            libc::SO_TIMESTAMP,
            libc::SO_TIMESTAMPNS,
            libc::SO_MARK,
            libc::SO_RXQ_OVFL,
            libc::SO_BUSY_POLL,
            libc::SO_INCOMING_CPU,
            libc::SO_ZEROCOPY,
        ],
    ),
    (
        libc::IPPROTO_TCP,
        &[
            libc::TCP_NODELAY,
            libc::TCP_MAXSEG,
            libc::TCP_CORK,
            libc::TCP_KEEPIDLE,
            libc::TCP_KEEPINTVL,
            libc::TCP_KEEPCNT,
            libc::TCP_SYNCNT,
            libc::TCP_LINGER2,
            libc::TCP_DEFER_ACCEPT,
            libc::TCP_WINDOW_CLAMP,
            libc::TCP_QUICKACK,
            libc::TCP_CONGESTION,
            libc::TCP_USER_TIMEOUT,
            libc::TCP_FASTOPEN,
            libc::TCP_NOTSENT_LOWAT,
            libc::TCP_SAVE_SYN,
        ],
    ),
    (
        libc::IPPROTO_IP,
        &[
            libc::IP_TOS,
            libc::IP_TTL,
            libc::IP_PKTINFO,
            libc::IP_MTU_DISCOVER,
            libc::IP_RECVERR,
            libc::IP_RECVTTL,
            libc::IP_RECVTOS,
            libc::IP_FREEBIND,
            libc::IP_MINTTL,
            libc::IP_MULTICAST_TTL,
            libc::IP_MULTICAST_LOOP,
        ],
    ),
    (
        libc::IPPROTO_IPV6,
        &[
            libc::IPV6_UNICAST_HOPS,
            libc::IPV6_MULTICAST_HOPS,
            libc::IPV6_MULTICAST_LOOP,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_RECVERR,
            libc::IPV6_RECVPKTINFO,
            libc::IPV6_RECVHOPLIMIT,
            libc::IPV6_RECVTCLASS,
            libc::IPV6_TCLASS,
        ],
    ),
];

/// A TCP socket that may go on by several ways (`linux/in.h`): one by TCP can stand in for it.
const MULTIPATH: i32 = 262;

/// The address that a call of `bind(2)` is for; `None` if it is not one of IP, or is not there.
pub(super) fn address(call: &Notification) -> Option<SocketAddr> {
    let mut bytes = [0; 28];
    let length = usize::try_from(call.arguments[2]).ok()?.min(bytes.len());
    let bytes = bytes.get_mut(..length)?;
    if sys::read_memory(call.thread, call.arguments[1], bytes).ok()? != length {
        return None;
    }
    let number = |at: usize| {
        let two = bytes.get(at..)?.first_chunk::<2>()?;
        Some(u16::from_ne_bytes(*two))
    };
    let four = |at: usize| bytes.get(at..)?.first_chunk::<4>().copied();
    let port = u16::from_be(number(2)?);
    let family = AddressFamily::from_raw(number(0)?);
    if family == AddressFamily::INET {
        let ip = Ipv4Addr::from_octets(four(4)?);
        return bytes
            .get(..16)
            .map(|_| SocketAddr::V4(SocketAddrV4::new(ip, port)));
    }
    if family != AddressFamily::INET6 {
        return None;
    }
    let ip = Ipv6Addr::from_octets(*bytes.get(8..)?.first_chunk()?);
    // Older programs leave the scope out (ipv6(7)).
    let scope = four(24).map_or(0, u32::from_ne_bytes);
    let flow = u32::from_ne_bytes(four(4)?);
    Some(SocketAddrV6::new(ip, port, flow, scope).into())
}

/// A program's socket.
#[derive(Debug)]
pub(super) struct Theirs {
    process: Pid,
    pidfd: OwnedFd,
    /// What the program calls it.
    number: i32,
    pub(super) socket: OwnedFd,
    pub(super) protocol: Protocol,
    pub(super) is_six: bool,
}

/// That an `epoll(7)` of the program's watches its socket.
struct Watch {
    epoll: OwnedFd,
    number: i32,
    events: EventFlags,
    data: u64,
}

impl Theirs {
    /// The socket that a call is about; `None` if it is not one for TCP or UDP.
    pub(super) fn of(call: &Notification) -> io::Result<Option<Self>> {
        let process = status(call.thread, "Tgid").ok_or(Errno::SRCH)?;
        let process = Pid::from_raw(process.cast_signed()).ok_or(Errno::SRCH)?;
        let pidfd = process::pidfd_open(process, PidfdFlags::empty())?;
        #[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
        let number = call.arguments[0] as i32;
        let none = PidfdGetfdFlags::empty();
        let socket = match process::pidfd_getfd(&pidfd, number, none) {
            // What it says to the kernel is its own affair.
            Err(Errno::BADF) => return Ok(None),
            socket => socket?,
        };
        let Ok(family) = sockopt::socket_domain(&socket) else {
            return Ok(None);
        };
        if ![AddressFamily::INET, AddressFamily::INET6].contains(&family) {
            return Ok(None);
        }
        let spoken = sockopt::socket_protocol(&socket)?;
        let protocol = match sockopt::socket_type(&socket)? {
            SocketType::STREAM
                if spoken.is_some_and(|spoken| {
                    spoken == ipproto::TCP || spoken.as_raw().get().cast_signed() == MULTIPATH
                }) =>
            {
                Protocol::Tcp
            }
            SocketType::DGRAM if spoken == Some(ipproto::UDP) => Protocol::Udp,
            _ => return Ok(None),
        };
        Ok(Some(Self {
            process,
            pidfd,
            number,
            socket,
            protocol,
            is_six: family == AddressFamily::INET6,
        }))
    }

    /// Gives the program another socket under every number that it has this one by, with the same settings,
    /// watched by whoever watched this one.
    pub(super) fn replace(&self, calls: BorrowedFd<'_>, id: u64, by: &OwnedFd) -> io::Result<()> {
        self.dress(by)?;
        let names = self.names();
        let watches = self.watches(&names);
        for (number, close_on_exec) in &names {
            sys::place_file(calls, id, by.as_fd(), *number, *close_on_exec)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        }
        watch_another(&watches, &self.socket, by);
        Ok(())
    }

    /// What remains of it leads to where the program is now.
    pub(super) fn into_gate(self, target: Target) -> io::Result<Gate> {
        let flags = fcntl_getfl(&self.socket)?;
        fcntl_setfl(&self.socket, flags | OFlags::NONBLOCK)?;
        Ok(Gate {
            socket: self.socket,
            protocol: self.protocol,
            target,
            is_shut: false,
        })
    }

    /// Whether the program has another socket open.
    pub(super) fn has(&self, socket: &OwnedFd) -> bool {
        let name = name(socket);
        self.files().any(|(_, leads)| leads == name)
    }

    /// Sets what the program has set.
    fn dress(&self, other: &OwnedFd) -> io::Result<()> {
        for (level, names) in OPTIONS {
            for name in names {
                sys::copy_option(self.socket.as_fd(), other.as_fd(), level, *name);
            }
        }
        fcntl_setfl(other, fcntl_getfl(&self.socket)?)
    }

    /// The numbers that the program has it by, and whether `execve(2)` closes them.
    fn names(&self) -> Vec<(i32, bool)> {
        let wanted = name(&self.socket);
        let mut names: Vec<i32> = self
            .files()
            .filter(|(_, leads)| *leads == wanted)
            .map(|(number, _)| number)
            .collect();
        if !names.contains(&self.number) {
            names.push(self.number);
        }
        let closes = |number: &i32| {
            let flags = self.about(*number);
            let flags = flags.lines().find_map(|line| line.strip_prefix("flags:\t"));
            let flags = flags.and_then(|digits| i32::from_str_radix(digits, 8).ok());
            flags.is_some_and(|flags| flags & libc::O_CLOEXEC != 0)
        };
        names
            .iter()
            .map(|number| (*number, closes(number)))
            .collect()
    }

    /// Who watches it (proc_pid_fdinfo(5)).
    fn watches(&self, names: &[(i32, bool)]) -> Vec<Watch> {
        let mut watches = Vec::new();
        for (poll, leads) in self.files() {
            if leads != "anon_inode:[eventpoll]" {
                continue;
            }
            for line in self.about(poll).lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                let ["tfd:", number, "events:", events, "data:", data, ..] = words[..] else {
                    continue;
                };
                let read = || {
                    let number = number.parse().ok()?;
                    let events = u32::from_str_radix(events, 16).ok()?;
                    let none = PidfdGetfdFlags::empty();
                    let watch = Watch {
                        epoll: process::pidfd_getfd(&self.pidfd, poll, none).ok()?,
                        number,
                        events: EventFlags::from_bits_retain(events),
                        data: u64::from_str_radix(data, 16).ok()?,
                    };
                    names
                        .iter()
                        .any(|(name, _)| *name == number)
                        .then_some(watch)
                };
                watches.extend(read());
            }
        }
        watches
    }

    /// The program's open files, and where they lead.
    fn files(&self) -> impl Iterator<Item = (i32, String)> {
        let directory = format!("/proc/{}/fd", self.process.as_raw_nonzero());
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let leads = rustix::fs::readlinkat(CWD, entry.path(), Vec::new()).ok()?;
            Some((number, leads.into_string().ok()?))
        })
    }

    fn about(&self, number: i32) -> String {
        let path = format!("/proc/{}/fdinfo/{number}", self.process.as_raw_nonzero());
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

/// Lets those who watch a socket watch another. They know it by its number as well, so this takes a process
/// where the sockets have the same ones.
fn watch_another(watches: &[Watch], socket: &OwnedFd, other: &OwnedFd) {
    let Some(beyond) = watches.iter().map(|watch| watch.number + 1).max() else {
        return;
    };
    let Ok(child) = sys::fork() else {
        return;
    };
    let Some(child) = child else {
        let moved = watches.iter().try_for_each(|watch| {
            let away = |file: &OwnedFd| io::fcntl_dupfd_cloexec(file, beyond);
            let (epoll, socket, other) = (away(&watch.epoll)?, away(socket)?, away(other)?);
            let old = sys::at_number(socket.as_fd(), watch.number)?;
            epoll::delete(&epoll, &old)?;
            std::mem::forget(old);
            let new = sys::at_number(other.as_fd(), watch.number)?;
            epoll::add(&epoll, &new, EventData::new_u64(watch.data), watch.events)?;
            std::mem::forget((epoll, socket, other, new));
            std::io::Result::Ok(())
        });
        sys::exit(i32::from(moved.is_err()));
    };
    while let Err(Errno::INTR) = process::waitpid(Some(child), WaitOptions::empty()) {}
}

/// Where links in `/proc/PID/fd` lead that stand for a socket (`proc_pid_fd(5)`).
fn name(socket: &OwnedFd) -> String {
    let inode = rustix::fs::fstat(socket).map_or(0, |status| status.st_ino);
    format!("socket:[{inode}]")
}

/// A number that `/proc/PID/status` says (`proc_pid_status(5)`).
fn status(thread: u32, about: &str) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let said = |line: &str| {
        line.strip_prefix(about)?
            .strip_prefix(':')?
            .trim()
            .parse()
            .ok()
    };
    text.lines().find_map(said)
}
