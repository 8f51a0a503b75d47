//! Where connections come in, and where they are led.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use crate::Protocol;

/// Addresses of the program's, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target(pub(super) [SocketAddr; 2]);

impl Target {
    /// Where a program in the own network namespace may listen.
    pub(super) fn near(port: u16) -> Self {
        let [four, six] = [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ];
        Self([SocketAddr::new(four, port), SocketAddr::new(six, port)])
    }

    /// Where one listens at this address.
    pub(super) fn at(ip: IpAddr, port: u16) -> Self {
        let near = match ip {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Self([SocketAddr::new(near, port); 2])
    }
}

/// A listening socket, and where what arrives at it is led.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) socket: OwnedFd,
    pub(super) protocol: Protocol,
    pub(super) target: Target,
    /// Somebody else listens at it now.
    pub(super) is_shut: bool,
}
