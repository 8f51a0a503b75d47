//! A connection in the making, and what both ends of one on the same host have in common.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self, SocketAddrAny, SocketType, sockopt};

use super::datagram;

/// The send buffer towards a receiver on the same host; more needs a privilege (`wmem_max`, socket(7)).
const NEAR: usize = 208 << 10;

/// How a connection to the program is getting on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    Pending,
    Done,
    Refused,
}

pub(super) fn handshake(socket: &OwnedFd) -> Handshake {
    match sockopt::socket_error(socket) {
        Ok(Ok(())) if net::getpeername(socket).is_ok() => Handshake::Done,
        Ok(Ok(())) => Handshake::Pending,
        _ => Handshake::Refused,
    }
}

/// Begins a connection to `address`.
pub(super) fn connect(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let socket = datagram::socket(address, SocketType::STREAM)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    keep_near(&socket);
    match net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Keeps little under way to a receiver on the same host: what it reads is then still in the
/// processor's cache, which saves a quarter of the time that all three processes take. Left to
/// itself, the buffer grows to megabytes, as a far receiver needs it.
///
/// And nothing is lost on the way, so the simplest control of congestion does: others (BBR) measure the way, and
/// wait for a timer before each packet.
pub(super) fn keep_near(socket: &OwnedFd) {
    let _ = sockopt::set_socket_send_buffer_size(socket, NEAR);
    let _ = sockopt::set_tcp_congestion(socket, "reno");
}

/// Whether a client is on this host: whoever has the address that was connected to is.
pub(super) fn is_local(socket: &OwnedFd, client: SocketAddrAny) -> bool {
    let ip = |address| {
        SocketAddr::try_from(address)
            .ok()
            .map(|known| known.ip().to_canonical())
    };
    let Some(client) = ip(client) else {
        return false;
    };
    client.is_loopback() || net::getsockname(socket).ok().and_then(ip) == Some(client)
}
