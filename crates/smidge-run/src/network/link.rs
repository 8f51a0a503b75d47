//! Network devices: bridges, the two ends that join a container to one, addresses and routes
//! ([rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html)).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use super::netlink::{self, Message, Netlink};
use super::{Address, Mac};
use crate::sys;

/// What a request about a link is about (`linux/if_link.h`, `linux/if_addr.h`, `linux/rtnetlink.h`,
/// `linux/veth.h`).
mod attribute {
    pub(super) const IFLA_ADDRESS: u16 = 1;
    pub(super) const IFLA_IFNAME: u16 = 3;
    pub(super) const IFLA_MTU: u16 = 4;
    pub(super) const IFLA_MASTER: u16 = 10;
    pub(super) const IFLA_LINKINFO: u16 = 18;
    pub(super) const IFLA_NET_NS_FD: u16 = 28;
    pub(super) const IFLA_GSO_MAX_SEGS: u16 = 40;
    pub(super) const IFLA_GSO_MAX_SIZE: u16 = 41;
    pub(super) const IFLA_GSO_IPV4_MAX_SIZE: u16 = 63;
    pub(super) const IFLA_INFO_KIND: u16 = 1;
    pub(super) const IFLA_INFO_DATA: u16 = 2;
    pub(super) const VETH_INFO_PEER: u16 = 1;
    pub(super) const IFA_ADDRESS: u16 = 1;
    pub(super) const IFA_LOCAL: u16 = 2;
    pub(super) const IFA_FLAGS: u16 = 8;
    pub(super) const RTA_DST: u16 = 1;
    pub(super) const RTA_OIF: u16 = 4;
    pub(super) const RTA_GATEWAY: u16 = 5;
    pub(super) const RTA_METRICS: u16 = 8;
    pub(super) const RTAX_MTU: u16 = 2;
}

/// The largest packet of bridges and cables, in bytes, unless somebody wants another: the most that they take,
/// as of loopback devices. Whoever sends much between containers, or between them and the machine, needs half the
/// time that packets of 1500 bytes take.
const LARGEST: u32 = 65535;

/// The largest packet of what leaves by the gateway, in bytes.
const OUTWARD: u32 = 1500;

/// The most that TCP hands to a device at once, in bytes, where it may hand more than usual: four times as much.
/// What is on its way from one process of the machine to another needs no packets.
const AT_ONCE: u32 = 256 << 10;

/// The most packets that TCP hands to a container's device at once: of those that leave the machine, as many as a
/// network card cuts up itself (64 KiB), since the kernel would have to do it for more; of the larger ones that stay,
/// more than `AT_ONCE` holds.
const CARDFUL: u32 = (64 << 10) / (OUTWARD - HEADERS);

/// Bytes of the shortest headers of IPv4 and TCP.
const HEADERS: u32 = 40;

/// The number of every network namespace's loopback device.
const LOOPBACK: u32 = 1;

/// What devices are called that only wait for their end: the kernel numbers them.
const ASIDE: &str = "smo-%d";

/// An IPv6 address that may be used before nobody else has claimed it: in networks whose addresses are
/// given out, nobody has.
const IFA_F_NODAD: u32 = 0x02;

/// The two ends of a cable between a bridge and a network namespace.
#[derive(Debug)]
pub(super) struct Cable<'a> {
    /// What the bridge's end is called.
    pub(super) outer: &'a str,
    /// What the container's end is called.
    pub(super) inner: &'a str,
    /// The hardware address of the container's end.
    pub(super) mac: Mac,
    /// The bridge's number.
    pub(super) bridge: u32,
    /// The container's network namespace.
    pub(super) namespace: BorrowedFd<'a>,
    /// The largest packet, in bytes, if somebody wants a certain one.
    pub(super) mtu: Option<u32>,
}

/// Where a gateway leads to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route {
    /// Everything that no other route is for: by a device, in packets of a usual size, unless somebody wants a
    /// certain one for the network.
    Default(u32, Option<u32>),
    /// One address, in packets as large as the device takes.
    To(IpAddr),
}

/// The devices of a network namespace.
#[derive(Debug)]
pub(super) struct Links(Netlink);

impl Links {
    /// Those of the caller's namespace.
    pub(super) fn open() -> io::Result<Self> {
        Netlink::route().map(Self)
    }

    /// Those of the namespace in which a socket was opened.
    pub(super) fn at(socket: Netlink) -> Self {
        Self(socket)
    }

    /// The number of a device; `None` if there is none of that name.
    pub(super) fn number(&self, name: &str) -> io::Result<Option<u32>> {
        match rustix::net::netdevice::name_to_index(&self.0, name) {
            Ok(number) => Ok(Some(number)),
            Err(rustix::io::Errno::NODEV) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a device is up.
    pub(super) fn is_up(&self, name: &str) -> bool {
        sys::is_device_up(self.0.as_fd(), name).unwrap_or(false)
    }

    /// Makes a bridge and tells its number, or that of the one which is there already.
    pub(super) fn bridge(&self, name: &str, mac: Mac, mtu: Option<u32>) -> io::Result<u32> {
        if let Some(number) = self.number(name)? {
            return Ok(number);
        }
        // Of its own: otherwise it had that of one of its cables, and another one after that had gone.
        let request = create(0)
            .with_text(attribute::IFLA_IFNAME, name)
            .with(attribute::IFLA_ADDRESS, &mac.0)
            .with_number(attribute::IFLA_MTU, mtu.unwrap_or(LARGEST))
            .with_nested(attribute::IFLA_LINKINFO, &[], |info| {
                info.with_text(attribute::IFLA_INFO_KIND, "bridge")
            });
        unless_there(self.0.request(request))?;
        self.number(name)?
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Lays a cable: one end at the bridge, the other in the container.
    pub(super) fn lay(&self, cable: &Cable<'_>) -> io::Result<()> {
        let Cable {
            outer,
            inner,
            mac,
            bridge,
            namespace,
            mtu,
        } = cable;
        let namespace = namespace.as_raw_fd().unsigned_abs();
        // Kernels before Linux 6.3 pass over what they do not know.
        let sized = |message: Message| match mtu {
            Some(mtu) => message.with_number(attribute::IFLA_MTU, *mtu),
            None => message
                .with_number(attribute::IFLA_MTU, LARGEST)
                .with_number(attribute::IFLA_GSO_IPV4_MAX_SIZE, AT_ONCE)
                .with_number(attribute::IFLA_GSO_MAX_SEGS, CARDFUL),
        };
        let peer = |data: Message| {
            data.with_nested(attribute::VETH_INFO_PEER, &link(0, 0), |peer| {
                sized(peer)
                    .with_text(attribute::IFLA_IFNAME, inner)
                    .with(attribute::IFLA_ADDRESS, &mac.0)
                    .with_number(attribute::IFLA_NET_NS_FD, namespace)
            })
        };
        let request = sized(create(libc::IFF_UP))
            .with_text(attribute::IFLA_IFNAME, outer)
            .with_number(attribute::IFLA_MASTER, *bridge)
            .with_nested(attribute::IFLA_LINKINFO, &[], |info| {
                info.with_text(attribute::IFLA_INFO_KIND, "veth")
                    .with_nested(attribute::IFLA_INFO_DATA, &[], peer)
            });
        self.0.request(request)
    }

    /// Removes a device; one that is not there is fine.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        let Some(number) = self.number(name)? else {
            return Ok(());
        };
        let request = Message::new(libc::RTM_DELLINK, 0, &link(number, 0));
        match self.0.request(request) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            removed => removed,
        }
    }

    /// Takes a device off its bridge, and its name from it.
    pub(super) fn set_aside(&self, name: &str) -> io::Result<()> {
        let Some(number) = self.number(name)? else {
            return Ok(());
        };
        let request = Message::new(libc::RTM_NEWLINK, 0, &link(number, 0))
            .with_text(attribute::IFLA_IFNAME, ASIDE)
            .with_number(attribute::IFLA_MASTER, 0);
        self.0.request(request)
    }

    /// Lets TCP hand more to the loopback device at once, by IPv4 and IPv6, as far as the kernel can (Linux 6.3,
    /// 5.19).
    pub(super) fn widen_loopback(&self) {
        self.widen(LOOPBACK, attribute::IFLA_GSO_IPV4_MAX_SIZE);
        self.widen(LOOPBACK, attribute::IFLA_GSO_MAX_SIZE);
    }

    /// Lets TCP hand more to a bridge at once, by IPv4, as far as the kernel can (Linux 6.3). It can once the first
    /// cable is there.
    pub(super) fn widen_bridge(&self, number: u32) {
        self.widen(number, attribute::IFLA_GSO_IPV4_MAX_SIZE);
    }

    fn widen(&self, number: u32, kind: u16) {
        let request = Message::new(libc::RTM_NEWLINK, 0, &link(number, 0));
        let _ = self.0.request(request.with_number(kind, AT_ONCE));
    }

    /// Brings a device up.
    pub(super) fn up(&self, number: u32) -> io::Result<()> {
        let request = Message::new(libc::RTM_NEWLINK, 0, &link(number, libc::IFF_UP));
        self.0.request(request)
    }

    /// Gives a device an address; one that it has already is fine.
    pub(super) fn add_address(&self, number: u32, address: Address) -> io::Result<()> {
        let (family, bytes) = family_and_bytes(address.ip);
        let mut fixed = vec![family, address.prefix, 0, 0];
        fixed.extend(number.to_ne_bytes());
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut request = Message::new(libc::RTM_NEWADDR, flags, &fixed)
            .with(attribute::IFA_LOCAL, &bytes)
            .with(attribute::IFA_ADDRESS, &bytes);
        if address.ip.is_ipv6() {
            request = request.with_number(attribute::IFA_FLAGS, IFA_F_NODAD);
        }
        unless_there(self.0.request(request))
    }

    /// Sends something through a gateway; a route that is there already is fine.
    pub(super) fn add_route(&self, gateway: IpAddr, route: Route) -> io::Result<()> {
        let (family, bytes) = family_and_bytes(gateway);
        let target = match route {
            Route::Default(..) => Vec::new(),
            Route::To(ip) => family_and_bytes(ip).1,
        };
        // struct rtmsg: family, prefixes, tos, table, protocol, scope, type, flags.
        let fixed = [
            family,
            u8::try_from(target.len() * 8).unwrap_or_default(),
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let request =
            Message::new(libc::RTM_NEWROUTE, flags, &fixed).with(attribute::RTA_GATEWAY, &bytes);
        unless_there(self.0.request(match route {
            Route::To(_) => request.with(attribute::RTA_DST, &target),
            Route::Default(device, wanted) => {
                let request = request.with_number(attribute::RTA_OIF, device);
                match wanted {
                    Some(_) => request,
                    None => request.with_nested(attribute::RTA_METRICS, &[], |metrics| {
                        metrics.with_number(attribute::RTAX_MTU, OUTWARD)
                    }),
                }
            }
        }))
    }

    /// Addresses that others know the machine by, in the order of its devices.
    pub(super) fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        let mut found = Vec::new();
        // struct ifaddrmsg: family, prefix, flags, scope, device.
        let request = Message::new(libc::RTM_GETADDR, 0, &[0; 8]);
        self.0.list(request, |body| {
            let (Some(fixed), Some(rest)) = (body.first_chunk::<8>(), body.get(8..)) else {
                return;
            };
            // Of an address whose other end has another one, both are told: the own one is the later kind.
            let own = netlink::attributes(rest)
                .filter(|(kind, _)| [attribute::IFA_ADDRESS, attribute::IFA_LOCAL].contains(kind))
                .max_by_key(|(kind, _)| *kind);
            let own = own.and_then(|(_, value)| match value.len() {
                4 => value.first_chunk::<4>().map(|ip| IpAddr::from(*ip)),
                _ => value.first_chunk::<16>().map(|ip| IpAddr::from(*ip)),
            });
            if fixed[3] == libc::RT_SCOPE_UNIVERSE {
                found.extend(own);
            }
        })?;
        Ok(found)
    }
}

/// The beginning of a request for a new link that comes up with `flags`.
fn create(flags: i32) -> Message {
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    Message::new(libc::RTM_NEWLINK, create, &link(0, flags))
}

/// `struct ifinfomsg`: which link, and flags to set.
fn link(number: u32, flags: i32) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&number.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..].copy_from_slice(&flags.to_ne_bytes());
    fixed
}

fn family_and_bytes(ip: IpAddr) -> (u8, Vec<u8>) {
    let (family, bytes) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    (u8::try_from(family).unwrap_or_default(), bytes)
}

fn unless_there(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn address(number: u32) -> Address {
        let ip = IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a09_0000 + number));
        Address { ip, prefix: 32 }
    }

    /// Adds or removes an address that is told before all others.
    fn change(links: &Links, kind: u16, flags: i32) {
        let (family, bytes) = family_and_bytes(address(0).ip);
        let mut fixed = vec![family, 32, 0, libc::RT_SCOPE_LINK];
        fixed.extend(LOOPBACK.to_ne_bytes());
        let request = Message::new(kind, flags, &fixed).with(attribute::IFA_LOCAL, &bytes);
        links.0.request(request).unwrap();
    }

    #[test]
    fn addresses_are_all_told_whatever_comes_and_goes_meanwhile() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: not root");
            return;
        }
        let told = std::thread::spawn(|| {
            // Of this thread's alone.
            sys::unshare(libc::CLONE_NEWNET).unwrap();
            let links = Links::open().unwrap();
            for number in 1..=1000 {
                links.add_address(LOOPBACK, address(number)).unwrap();
            }
            let changing = Links::open().unwrap();
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        change(&changing, libc::RTM_NEWADDR, libc::NLM_F_CREATE);
                        std::thread::sleep(std::time::Duration::from_micros(500));
                        change(&changing, libc::RTM_DELADDR, 0);
                        std::thread::sleep(std::time::Duration::from_micros(500));
                    }
                });
                let told: Vec<_> = (0..100).map(|_| links.addresses()).collect();
                over.store(true, Ordering::Relaxed);
                told.into_iter()
                    .map(|all| all.unwrap().len())
                    .collect::<Vec<_>>()
            })
        });
        assert_eq!(told.join().unwrap(), [1000; 100]);
    }
}
