//! The sockets of the own network namespace, as the kernel tells them apart by state
//! ([sock_diag(7)](https://man7.org/linux/man-pages/man7/sock_diag.7.html)): asked for listeners, it need not go
//! through all connections, as it must for `/proc/net/tcp`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::netlink::{Message, Netlink};
use crate::Protocol;

/// The kind of the request (`linux/sock_diag.h`).
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// A socket that the kernel has told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// What it is bound to.
    pub(crate) local: SocketAddr,
    /// As the kernel numbers states (`net/tcp_states.h`).
    pub(crate) state: u8,
    /// The user.
    pub(crate) uid: u32,
    /// 0 if it belongs to no process any more.
    pub(crate) inode: u64,
}

/// The sockets of a protocol, for IPv6 or IPv4, in one of these states: a bit for each.
///
/// # Errors
/// When the kernel was built without the means to tell.
pub(crate) fn sockets(protocol: Protocol, is_six: bool, states: u32) -> io::Result<Vec<Told>> {
    let protocol = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
    };
    let family = match is_six {
        true => libc::AF_INET6,
        false => libc::AF_INET,
    };
    // struct inet_diag_req_v2: family, protocol, extensions, states, and which socket: any.
    let mut request = [0; 56];
    for (at, value) in [(0, family), (1, protocol)] {
        request[at] = u8::try_from(value).unwrap_or_default();
    }
    request[4..8].copy_from_slice(&states.to_ne_bytes());
    let mut all = Vec::new();
    let request = Message::new(SOCK_DIAG_BY_FAMILY, 0, &request);
    Netlink::sockets()?.list(request, |body| all.extend(told(body)))?;
    Ok(all)
}

/// Reads a `struct inet_diag_msg`: family, state, two more bytes, ports, addresses, and at its end user and
/// inode.
fn told(body: &[u8]) -> Option<Told> {
    let number = |at: usize| Some(u32::from_ne_bytes(*body.get(at..)?.first_chunk()?));
    let port = u16::from_be_bytes(*body.get(4..)?.first_chunk()?);
    let octets: [u8; 16] = *body.get(8..)?.first_chunk()?;
    let ip = match octets {
        [a, b, c, d, ..] if i32::from(*body.first()?) == libc::AF_INET => {
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        _ => octets.into(),
    };
    Some(Told {
        local: SocketAddr::new(ip, port),
        state: *body.get(1)?,
        uid: number(64)?,
        inode: number(68)?.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener, UdpSocket};

    use super::*;

    const LISTENS: u8 = 10;

    #[test]
    fn listeners_are_told() {
        for ip in [
            Ipv4Addr::LOCALHOST.into(),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ] {
            let Ok(listener) = TcpListener::bind((ip, 0)) else {
                println!("skipped: no {ip} here");
                continue;
            };
            let local = listener.local_addr().unwrap();
            let all = |states| sockets(Protocol::Tcp, ip.is_ipv6(), states);
            let found = match all(1 << LISTENS) {
                Ok(found) => found,
                Err(error) => {
                    println!("skipped: the kernel does not tell: {error}");
                    continue;
                }
            };
            let own = found.iter().find(|told| told.local == local).unwrap();
            assert_eq!(own.state, LISTENS);
            assert_eq!(own.uid, rustix::process::geteuid().as_raw());
            assert_ne!(own.inode, 0);
            assert!(all(1 << 1).unwrap().iter().all(|told| told.state == 1));
        }
    }

    #[test]
    fn datagrams_are_told() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let local = socket.local_addr().unwrap();
        match sockets(Protocol::Udp, false, 1 << 7) {
            Ok(all) => assert!(all.iter().any(|told| told.local == local)),
            Err(error) => println!("skipped: the kernel does not tell: {error}"),
        }
    }

    #[test]
    fn a_short_answer_is_none() {
        assert_eq!(told(&[2, 10, 0, 0]), None);
        assert_eq!(told(&[]), None);
    }
}
