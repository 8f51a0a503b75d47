//! Sockets on the host's side of published ports.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::{self, Errno};
use rustix::net::{self, AddressFamily, SocketAddrAny, SocketFlags, SocketType, sockopt};

use crate::{Port, Protocol, RunError};

/// Connections that may wait to be accepted; the kernel lowers it to `somaxconn`.
const BACKLOG: i32 = 4096;

/// How often a free port is drawn anew when it turns out to be taken in the other family.
const DRAWS: usize = 32;

/// A bound socket and the container's port that it stands for.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: OwnedFd,
    pub(super) protocol: Protocol,
    pub(super) target: u16,
}

/// All sockets of a container's published ports, bound and listening.
#[derive(Debug, Default)]
pub struct Listeners {
    pub(super) listeners: Vec<Listener>,
    ports: Vec<Port>,
}

impl Listeners {
    /// Binds all `ports`. Ports that differ only in their host address and have host port 0
    /// get the same free port. `[::]` is passed over where the host has no IPv6.
    ///
    /// # Errors
    /// Names the first port that is in use, needs a privilege, or has an address that is not
    /// the host's.
    pub fn bind(ports: &[Port]) -> Result<Self, RunError> {
        let mut all = Self::default();
        for group in groups(ports) {
            all.bind_group(&group)?;
        }
        Ok(all)
    }

    /// The ports as they are bound, with the host ports that were drawn.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// Whether there is nothing to publish.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// The sockets, for whoever must keep them open.
    pub fn sockets(&self) -> impl Iterator<Item = &OwnedFd> {
        self.listeners.iter().map(|listener| &listener.socket)
    }

    /// The same sockets once more.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn try_clone(&self) -> Result<Self, RunError> {
        let clone = |listener: &Listener| {
            Ok(Listener {
                socket: listener.socket.try_clone()?,
                ..*listener
            })
        };
        let listeners: std::io::Result<_> = self.listeners.iter().map(clone).collect();
        Ok(Self {
            listeners: listeners.map_err(RunError::supervise("keep the published ports"))?,
            ports: self.ports.clone(),
        })
    }

    pub(super) fn into_listeners(self) -> Vec<Listener> {
        self.listeners
    }

    fn bind_group(&mut self, group: &[Port]) -> Result<(), RunError> {
        let mut draw = 1;
        loop {
            match bind_all(group) {
                Ok((listeners, ports)) => {
                    self.listeners.extend(listeners);
                    self.ports.extend(ports);
                    return Ok(());
                }
                Err((_, Errno::ADDRINUSE)) if group[0].host_port == 0 && draw < DRAWS => draw += 1,
                Err((port, error)) => return Err(refusal(port, error)),
            }
        }
    }
}

/// Sorts ports into groups that must share their host port. An image may expose all there are, and
/// none is compared with every other.
fn groups(ports: &[Port]) -> Vec<Vec<Port>> {
    let mut groups: Vec<Vec<Port>> = Vec::new();
    let mut drawn: HashMap<(u16, Protocol), Vec<usize>> = HashMap::new();
    for port in ports {
        let joinable = match port.host_port {
            0 => drawn
                .entry((port.container_port, port.protocol))
                .or_default(),
            _ => &mut Vec::new(),
        };
        let open = |group: &Vec<Port>| group.iter().all(|other| other.host_ip != port.host_ip);
        match joinable.iter().find(|index| open(&groups[**index])) {
            Some(index) => groups[*index].push(*port),
            None => {
                joinable.push(groups.len());
                groups.push(vec![*port]);
            }
        }
    }
    groups
}

type Bound = (Vec<Listener>, Vec<Port>);

fn bind_all(group: &[Port]) -> Result<Bound, (Port, Errno)> {
    let mut bound = (Vec::new(), Vec::new());
    let mut number = group[0].host_port;
    for port in group {
        let wanted = Port {
            host_port: number,
            ..*port
        };
        let socket = match bind(&wanted) {
            Ok(socket) => socket,
            Err(error) if is_absent_ipv6(&wanted, error) => continue,
            Err(error) => return Err((wanted, error)),
        };
        if number == 0 {
            number = local_port(&socket).map_err(|error| (wanted, error))?;
        }
        let listener = Listener {
            socket,
            protocol: port.protocol,
            target: port.container_port,
        };
        bound.0.push(listener);
        bound.1.push(Port {
            host_port: number,
            ..*port
        });
    }
    Ok(bound)
}

fn bind(port: &Port) -> io::Result<OwnedFd> {
    let family = match port.host_ip {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = match port.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, kind, flags, None)?;
    if port.host_ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if port.protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
        // Accepted sockets inherit it.
        sockopt::set_tcp_nodelay(&socket, true)?;
    }
    net::bind(&socket, &SocketAddr::new(port.host_ip, port.host_port))?;
    if port.protocol == Protocol::Tcp {
        net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn local_port(socket: &OwnedFd) -> io::Result<u16> {
    let address: SocketAddrAny = net::getsockname(socket)?;
    Ok(SocketAddr::try_from(address)?.port())
}

fn is_absent_ipv6(port: &Port, error: Errno) -> bool {
    port.host_ip.is_ipv6()
        && port.host_ip.is_unspecified()
        && matches!(error, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
}

fn refusal(port: Port, error: Errno) -> RunError {
    let address = SocketAddr::new(port.host_ip, port.host_port);
    let protocol = port.protocol;
    match error {
        Errno::ADDRINUSE => RunError::PortInUse { address, protocol },
        error => RunError::PortRefused {
            address,
            protocol,
            source: error.into(),
        },
    }
}
