//! Published ports by the kernel: as soon as the program listens, packets from elsewhere are led to it by the
//! packet filter, under the client's address. Until then, and for clients on this machine's loopback
//! addresses, there is the relay; so no connection is lost.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{self, RecvFlags};

use super::socket::{Socket, Which, sockets};
use crate::Port;
use crate::network::{Firewall, Machine, changes};

/// How long until the program is looked at again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(16));

/// How long the first answer has to get through before the kernel is told, which takes time.
const MOMENT: Duration = Duration::from_millis(5);

/// What leads the kernel to a program.
#[derive(Debug)]
pub(super) struct Lead {
    firewall: Firewall,
    machine: Machine,
    gateways: Vec<IpAddr>,
    /// What tells that the program's addresses may have changed.
    changes: Option<OwnedFd>,
    name: String,
    /// Ports that nobody listens on yet, and the address that they are for.
    waiting: Vec<(Port, IpAddr)>,
    led: Vec<(Port, IpAddr)>,
    due: Option<Instant>,
    pause: Duration,
}

impl Lead {
    /// Takes hold of the packet filter, in the network namespace of the ports; `None` if there is none, or
    /// none of the ports can be led to one of the program's `addresses`.
    pub(super) fn prepare(
        id: &str,
        ports: &[Port],
        addresses: &[IpAddr],
        gateways: &[IpAddr],
    ) -> Option<Self> {
        let reachable = |port: &Port| {
            let same = |ip: &&IpAddr| ip.is_ipv4() == port.host_ip.is_ipv4();
            let address = addresses.iter().find(same)?;
            (passes_on(*address) && !port.host_ip.is_loopback()).then_some((*port, *address))
        };
        let waiting: Vec<_> = ports.iter().filter_map(reachable).collect();
        if waiting.is_empty() {
            return None;
        }
        let (pause, _) = PAUSE;
        Some(Self {
            firewall: Firewall::open().ok()?,
            machine: Machine::open().ok()?,
            gateways: gateways.to_vec(),
            changes: None,
            name: format!("ports-{}", id.get(..12).unwrap_or(id)),
            waiting,
            led: Vec::new(),
            due: Some(Instant::now() + pause),
            pause,
        })
    }

    /// Begins to look at the program, in its own network namespace; gives what tells that its addresses may
    /// have changed.
    pub(super) fn watch(&mut self) -> Option<&OwnedFd> {
        self.changes = changes().ok();
        self.changes.as_ref()
    }

    /// When [`look`](Self::look) has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Somebody has got through to the program.
    pub(super) fn hurry(&mut self) {
        let soon = Instant::now() + MOMENT;
        self.due = self.due.map(|due| due.min(soon));
    }

    /// Leads to the ports that the program listens on now, if it is time.
    pub(super) fn look(&mut self, now: Instant) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let sockets = sockets(Which::Listening);
        let listens = |(port, ip): &(Port, IpAddr)| {
            let mut all = sockets.iter();
            all.any(|socket| takes(socket, port, *ip))
        };
        let (found, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(listens);
        self.waiting = waiting;
        if !found.is_empty() {
            // Without it, what the machine itself asks for takes longer.
            let _ = self.machine.come_near(&self.gateways);
            self.led.extend(found);
            self.apply();
        }
        let (_, longest) = PAUSE;
        self.pause = (self.pause * 2).min(longest);
        self.due = (!self.waiting.is_empty()).then_some(now + self.pause);
    }

    /// Leads no more to addresses that are gone.
    pub(super) fn heed(&mut self) {
        let mut said = [0; 512];
        while let Some(changes) = &self.changes
            && net::recv(changes, &mut said, RecvFlags::empty()).is_ok()
        {}
        let before = self.led.len();
        // Only what is one's own can be bound to.
        self.led.retain(|(_, ip)| UdpSocket::bind((*ip, 0)).is_ok());
        if self.led.len() < before {
            self.apply();
        }
    }

    /// Leads nowhere any more. The kernel would see to it too, but let nobody pass meanwhile: it waits until nobody
    /// uses what it frees.
    pub(super) fn end(&mut self) {
        self.due = None;
        if !std::mem::take(&mut self.led).is_empty() {
            self.apply();
        }
    }

    /// Without the kernel's help, the relay goes on.
    fn apply(&mut self) {
        if self.firewall.lead(&self.name, &self.led).is_err() {
            self.waiting.clear();
        }
    }
}

/// Whether the machine passes packets of an address's family on.
fn passes_on(ip: IpAddr) -> bool {
    let setting = match ip {
        IpAddr::V4(_) => "/proc/sys/net/ipv4/ip_forward",
        IpAddr::V6(_) => "/proc/sys/net/ipv6/conf/all/forwarding",
    };
    fs::read_to_string(setting).is_ok_and(|text| text.trim() == "1")
}

/// Whether a socket takes what is for a port at this address. One for all addresses of IPv6 is taken to be
/// for those of IPv4 as well.
fn takes(socket: &Socket, port: &Port, ip: IpAddr) -> bool {
    let found = socket.local.ip().to_canonical();
    let any = found.is_unspecified() && (found.is_ipv6() || ip.is_ipv4());
    socket.listens
        && socket.protocol == port.protocol
        && socket.local.port() == port.container_port
        && (found == ip || any)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::Protocol;

    #[test]
    fn who_listens_is_seen() {
        let near = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener = TcpListener::bind((near, 0)).unwrap();
        let port = |protocol| Port {
            host_ip: near,
            host_port: 0,
            last_host_port: 0,
            container_port: listener.local_addr().unwrap().port(),
            protocol,
        };
        let is_seen = |protocol, ip| {
            let mut all = sockets(Which::Listening).into_iter();
            all.any(|socket| takes(&socket, &port(protocol), ip))
        };
        assert!(is_seen(Protocol::Tcp, near));
        assert!(!is_seen(Protocol::Udp, near));
        assert!(!is_seen(Protocol::Tcp, Ipv4Addr::new(10, 0, 0, 1).into()));
    }
}
