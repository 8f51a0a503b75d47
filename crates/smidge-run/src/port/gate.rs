//! Where connections come in, and where they are led.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use super::socket::listener;
use crate::Protocol;

/// Addresses of the program's, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    known: [SocketAddr; 2],
    /// Whether the own network namespace is the program's, which may listen at another address there.
    is_inside: bool,
}

impl Target {
    /// How many addresses there are.
    pub(super) const ADDRESSES: usize = 3;

    /// Where one listens at this machine's loopback addresses.
    pub(super) fn near(port: u16) -> Self {
        let [four, six] = [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ];
        Self {
            known: [SocketAddr::new(four, port), SocketAddr::new(six, port)],
            is_inside: false,
        }
    }

    /// Where a program in the own network namespace listens.
    pub(super) fn inside(port: u16) -> Self {
        Self {
            is_inside: true,
            ..Self::near(port)
        }
    }

    /// One of the addresses, by its number; the last is found by asking the kernel, if there is one.
    pub(super) fn address(&self, number: usize, protocol: Protocol) -> Option<SocketAddr> {
        match self.known.get(number) {
            None if self.is_inside => listener(self.known[0].port(), protocol),
            known => known.copied(),
        }
    }

    /// Where one listens at this address.
    pub(super) fn at(ip: IpAddr, port: u16) -> Self {
        let near = match ip {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Self {
            known: [SocketAddr::new(near, port); 2],
            is_inside: false,
        }
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
