//! The sockets of the own network namespace, and whose they are.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use crate::Protocol;
use crate::network::diag::{self, Told};

/// States, as the kernel numbers them: taking connections, and for datagrams, from everybody.
const LISTENS: u8 = 10;
const UNCONNECTED: u8 = 7;

/// A socket that is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) protocol: Protocol,
    pub(super) local: SocketAddr,
    /// Whether it takes connections, or datagrams from everybody.
    pub(super) listens: bool,
    uid: u32,
    /// 0 if it belongs to no process any more.
    inode: u64,
}

/// Who has a port of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The user.
    pub uid: u32,
    /// The process, and what it is called, if the caller may know.
    pub process: Option<(u32, String)>,
}

/// Which sockets are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// All that are bound.
    All,
    /// Those that take connections, or datagrams from everybody.
    Listening,
}

/// The sockets for TCP and UDP.
pub(super) fn sockets(which: Which) -> Vec<Socket> {
    let mut sockets = Vec::new();
    for (protocol, listening) in [(Protocol::Tcp, LISTENS), (Protocol::Udp, UNCONNECTED)] {
        for is_six in [false, true] {
            let states = match which {
                Which::All => u32::MAX,
                Which::Listening => 1 << listening,
            };
            let told = diag::sockets(protocol, is_six, states);
            let told = told.unwrap_or_else(|_| listed(protocol, is_six));
            sockets.extend(told.iter().map(|told| Socket {
                protocol,
                local: told.local,
                listens: told.state == listening,
                uid: told.uid,
                inode: told.inode,
            }));
        }
    }
    sockets
}

/// Where somebody listens at a port at an address that is no loopback device's.
pub(super) fn listener(port: u16, protocol: Protocol) -> Option<SocketAddr> {
    let is_reached = |ip: IpAddr| match ip {
        // It is known by its device, too.
        IpAddr::V6(ip) if ip.is_unicast_link_local() => false,
        ip => !ip.is_unspecified() && !ip.is_loopback(),
    };
    let mut all = sockets(Which::Listening).into_iter();
    let found = all.find(|socket| {
        socket.listens
            && socket.protocol == protocol
            && socket.local.port() == port
            && is_reached(socket.local.ip().to_canonical())
    });
    found.map(|socket| SocketAddr::new(socket.local.ip().to_canonical(), port))
}

/// The same for any state, from kernels that only list them (`proc_pid_net(5)`).
fn listed(protocol: Protocol, is_six: bool) -> Vec<Told> {
    let version = if is_six { "6" } else { "" };
    let text = fs::read_to_string(format!("/proc/thread-self/net/{protocol}{version}"));
    let text = text.unwrap_or_default();
    let lines = text.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(Told {
            local: address(words.get(1)?)?,
            state: u8::from_str_radix(words.get(3)?, 16).ok()?,
            uid: words.get(7)?.parse().ok()?,
            inode: words.get(9)?.parse().ok()?,
        })
    });
    lines.collect()
}

/// An address as the kernel writes it: numbers of 32 bits in the machine's order, `:`, the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = Vec::with_capacity(16);
    for start in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(start..start + 8)?, 16).ok()?;
        octets.extend(word.to_ne_bytes());
    }
    let ip = match octets.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(octets).ok()?),
    };
    Some(SocketAddr::new(ip, port))
}

/// Who has a port that one cannot listen on; `None` if nobody can be seen.
#[must_use]
pub fn holder(wanted: SocketAddr, protocol: Protocol) -> Option<Holder> {
    let mut sockets = sockets(Which::All);
    sockets.retain(|socket| {
        let ip = socket.local.ip().to_canonical();
        let meets = ip == wanted.ip() || ip.is_unspecified() || wanted.ip().is_unspecified();
        socket.protocol == protocol && socket.local.port() == wanted.port() && meets
    });
    let rank = |socket: &&Socket| (socket.listens, socket.local.ip() == wanted.ip());
    let socket = sockets.iter().max_by_key(rank)?;
    Some(Holder {
        uid: socket.uid,
        process: owner(socket.inode),
    })
}

/// The process that has a socket open.
fn owner(inode: u64) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let has = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        let mut links = files
            .into_iter()
            .flatten()
            .flatten()
            .map(|file| file.path());
        links.any(|path| fs::read_link(path).is_ok_and(|link| link.as_os_str() == wanted.as_str()))
    };
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(has)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some((pid, name.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        for (text, expected) in [
            ("0100007F:1F90", Some("127.0.0.1:8080")),
            ("00000000:0050", Some("0.0.0.0:80")),
            ("00000000000000000000000001000000:0050", Some("[::1]:80")),
            (
                "0000000000000000FFFF00000100007F:0050",
                Some("[::ffff:127.0.0.1]:80"),
            ),
            ("0100007F", None),
            ("0100:0050", None),
        ] {
            let read = address(text).map(|address| address.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_the_kernel_tells_is_what_it_lists() {
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listening = |all: Vec<Told>| {
            let own = rustix::process::geteuid().as_raw();
            let mut all: Vec<_> = all
                .into_iter()
                .filter(|told| told.state == LISTENS && told.uid == own)
                .map(|told| (told.local, told.inode))
                .collect();
            all.sort();
            all
        };
        // Others come and go meanwhile.
        let agree = || {
            let told = diag::sockets(Protocol::Tcp, false, 1 << LISTENS).ok()?;
            Some(listening(told) == listening(listed(Protocol::Tcp, false)))
        };
        let agree = (0..1000).find_map(|_| match agree() {
            Some(false) => None,
            other => Some(other),
        });
        match agree {
            Some(None) => println!("skipped: the kernel does not tell"),
            agree => assert_eq!(agree, Some(Some(true))),
        }
    }

    #[test]
    fn ports_have_holders() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let near = listener.local_addr().unwrap();
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), near.port());
        for address in [near, any] {
            let holder = holder(address, Protocol::Tcp).unwrap();
            assert_eq!(holder.uid, rustix::process::geteuid().as_raw());
            assert_eq!(holder.process.unwrap().0, std::process::id());
        }
        let other = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), near.port());
        assert_eq!(holder(other, Protocol::Tcp), None);
        assert_eq!(holder(near, Protocol::Udp), None);
    }
}
