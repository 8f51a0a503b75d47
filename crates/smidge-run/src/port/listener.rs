//! Sockets on the host's side of published ports.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::{self, Errno};
use rustix::net::{self, AddressFamily, SocketAddrAny, SocketFlags, SocketType, sockopt};

use crate::{Port, Protocol, Publish, RunError, limit};

/// Connections that may wait to be accepted; the kernel lowers it to `somaxconn`.
pub(super) const BACKLOG: i32 = 4096;

/// How often a free port is drawn anew when it turns out to be taken in the other family.
const DRAWS: usize = 32;

/// A bound socket and what it is published as.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: OwnedFd,
    pub(super) port: Port,
    /// Whether a socket for `[::]` is for `0.0.0.0` as well.
    pub(super) both: bool,
}

/// All sockets of a container's published ports, bound and listening.
#[derive(Debug, Default)]
pub struct Listeners {
    pub(super) listeners: Vec<Listener>,
    ports: Vec<Port>,
}

impl Listeners {
    /// Binds all `ports`. Ports that differ only in their host address and have host port 0, or a range,
    /// get the same free port. `[::]` is passed over where the host has no IPv6. With
    /// [`Publish::Direct`], all are sockets of IPv6 where the host has it: one of IPv4 that is bound to
    /// the same address later comes before it.
    ///
    /// There may be more of them than the caller may have files open: the limit is raised, but not for containers.
    ///
    /// # Errors
    /// Names the first port that is in use, needs a privilege, or has an address that is not
    /// the host's.
    pub fn bind(ports: &[Port], publish: Publish) -> Result<Self, RunError> {
        let mut all = Self::default();
        if !ports.is_empty() {
            limit::raise_files();
        }
        for group in groups(ports, publish) {
            all.bind_group(&group, publish)?;
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

    /// Some that are bound already.
    pub(super) fn of(listeners: Vec<Listener>) -> Self {
        Self {
            ports: listeners.iter().map(|listener| listener.port).collect(),
            listeners,
        }
    }

    pub(super) fn into_listeners(self) -> Vec<Listener> {
        self.listeners
    }

    fn bind_group(&mut self, group: &[Port], publish: Publish) -> Result<(), RunError> {
        let mut group = group.to_vec();
        let mut draw = 1;
        loop {
            let bound = match publish {
                Publish::Direct => bind_for_both(&group),
                _ => bind_all(&group),
            };
            match bound {
                Ok((listeners, ports)) => {
                    self.listeners.extend(listeners);
                    self.ports.extend(ports);
                    return Ok(());
                }
                Err((_, Errno::ADDRINUSE)) if group[0].host_port == 0 && draw < DRAWS => draw += 1,
                Err((port, Errno::ADDRINUSE)) if port.host_port < port.last_host_port => {
                    let next = |port: &mut Port| port.host_port += 1;
                    group.iter_mut().for_each(next);
                }
                Err((port, error)) => return Err(refusal(port, error)),
            }
        }
    }
}

impl Listener {
    /// A socket of IPv4 beside this one of IPv6, at the same port, from which it takes everything of IPv4 that
    /// arrives from now on.
    pub(super) fn beside(&self, ip: Ipv4Addr) -> io::Result<OwnedFd> {
        let port = &self.port;
        let kind = match port.protocol {
            Protocol::Tcp => SocketType::STREAM,
            Protocol::Udp => SocketType::DGRAM,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let other = net::socket_with(AddressFamily::INET, kind, flags, None)?;
        if port.protocol == Protocol::Tcp {
            // Connections have been made already.
            sockopt::set_socket_reuseaddr(&other, true)?;
        }
        // Only for the moment: whoever else asks for the port is to be refused.
        let share = |shared| {
            sockopt::set_socket_reuseport(&self.socket, shared)?;
            sockopt::set_socket_reuseport(&other, shared)
        };
        share(true)?;
        let bound = net::bind(&other, &SocketAddr::new(ip.into(), port.host_port));
        let bound = bound.and_then(|()| match port.protocol {
            Protocol::Tcp => net::listen(&other, BACKLOG),
            Protocol::Udp => Ok(()),
        });
        share(false)?;
        bound.map(|()| other)
    }
}

/// Sorts ports into groups that must share their host port. An image may expose all there are, and
/// none is compared with every other.
fn groups(ports: &[Port], publish: Publish) -> Vec<Vec<Port>> {
    let mut groups: Vec<Vec<Port>> = Vec::new();
    let mut alike: HashMap<(u16, u16, Protocol), Vec<usize>> = HashMap::new();
    for port in ports {
        let is_open = port.host_port == 0 || port.last_host_port != 0;
        let joinable = match is_open || publish == Publish::Direct {
            true => alike
                .entry((port.host_port, port.container_port, port.protocol))
                .or_default(),
            false => &mut Vec::new(),
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
        let socket = match bind(&wanted, wanted.host_ip) {
            Ok(socket) => socket,
            Err(error) if is_absent_ipv6(&wanted, error) => continue,
            Err(error) => return Err((wanted, error)),
        };
        if number == 0 {
            number = local_port(&socket).map_err(|error| (wanted, error))?;
        }
        let port = Port {
            host_port: number,
            last_host_port: 0,
            ..*port
        };
        bound.0.push(Listener {
            socket,
            port,
            both: false,
        });
        bound.1.push(port);
    }
    Ok(bound)
}

/// Binds ports that share their host port to sockets of IPv6, one for `0.0.0.0` and `[::]`.
fn bind_for_both(group: &[Port]) -> Result<Bound, (Port, Errno)> {
    let is_whole = |ip: IpAddr| group.iter().any(|port| port.host_ip == ip);
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let both = is_whole(any) && is_whole(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mut bound = (Vec::new(), Vec::new());
    let mut number = group[0].host_port;
    // What is for both comes first, so that what it is for is known to be free.
    let last = |port: &&Port| !(both && port.host_ip == any);
    let (rest, first): (Vec<&Port>, Vec<&Port>) = group.iter().partition(last);
    for port in first.into_iter().chain(rest) {
        let mut wanted = Port {
            host_port: number,
            ..*port
        };
        let both = both && port.host_ip == any;
        let covered = port.host_ip.is_ipv4() && port.host_ip.is_unspecified();
        if covered && bound.0.iter().any(|listener: &Listener| listener.both) {
            wanted.last_host_port = 0;
            bound.1.push(wanted);
            continue;
        }
        let ip = match port.host_ip {
            IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
            ip => ip,
        };
        let socket = match bind_with(&wanted, ip, both) {
            Err(Errno::AFNOSUPPORT) if port.host_ip.is_ipv4() => bind(&wanted, port.host_ip),
            bound => bound,
        };
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) if is_absent_ipv6(&wanted, error) => continue,
            Err(error) => return Err((wanted, error)),
        };
        if number == 0 {
            number = local_port(&socket).map_err(|error| (wanted, error))?;
        }
        (wanted.host_port, wanted.last_host_port) = (number, 0);
        bound.1.push(wanted);
        bound.0.push(Listener {
            socket,
            port: wanted,
            both,
        });
    }
    // As they were asked for.
    let place = |port: &Port| {
        group
            .iter()
            .position(|wanted| wanted.host_ip == port.host_ip)
    };
    bound.1.sort_by_key(place);
    Ok(bound)
}

fn bind(port: &Port, ip: IpAddr) -> io::Result<OwnedFd> {
    let socket = bind_with(port, ip, false)?;
    if port.protocol == Protocol::Tcp {
        // Accepted sockets inherit it.
        sockopt::set_tcp_nodelay(&socket, true)?;
    }
    Ok(socket)
}

/// Binds a port to an address, which may be one of IPv4 in the form of IPv6; with `both`, `[::]` is
/// `0.0.0.0` as well.
fn bind_with(port: &Port, ip: IpAddr, both: bool) -> io::Result<OwnedFd> {
    let family = match ip {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = match port.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, kind, flags, None)?;
    if ip.is_ipv6() {
        let only = port.host_ip.is_ipv6() && !both;
        sockopt::set_ipv6_v6only(&socket, only)?;
    }
    if port.protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    net::bind(&socket, &SocketAddr::new(ip, port.host_port))?;
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
