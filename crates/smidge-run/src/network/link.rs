//! Network devices: bridges, the two ends that join a container to one, addresses and routes
//! ([rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html)).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::netlink::{Message, Netlink};
use super::{Address, Mac};

/// What a request about a link is about (`linux/if_link.h`, `linux/if_addr.h`, `linux/rtnetlink.h`,
/// `linux/veth.h`).
mod attribute {
    pub(super) const IFLA_ADDRESS: u16 = 1;
    pub(super) const IFLA_IFNAME: u16 = 3;
    pub(super) const IFLA_MTU: u16 = 4;
    pub(super) const IFLA_MASTER: u16 = 10;
    pub(super) const IFLA_LINKINFO: u16 = 18;
    pub(super) const IFLA_NET_NS_FD: u16 = 28;
    pub(super) const IFLA_INFO_KIND: u16 = 1;
    pub(super) const IFLA_INFO_DATA: u16 = 2;
    pub(super) const VETH_INFO_PEER: u16 = 1;
    pub(super) const IFA_ADDRESS: u16 = 1;
    pub(super) const IFA_LOCAL: u16 = 2;
    pub(super) const IFA_FLAGS: u16 = 8;
    pub(super) const RTA_OIF: u16 = 4;
    pub(super) const RTA_GATEWAY: u16 = 5;
}

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
    /// The largest packet, in bytes.
    pub(super) mtu: Option<u32>,
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

    /// Makes a bridge and tells its number, or that of the one which is there already.
    pub(super) fn bridge(&self, name: &str, mac: Mac, mtu: Option<u32>) -> io::Result<u32> {
        if let Some(number) = self.number(name)? {
            return Ok(number);
        }
        // Of its own: otherwise it had that of one of its cables, and another one after that had gone.
        let mut request = create(0)
            .with_text(attribute::IFLA_IFNAME, name)
            .with(attribute::IFLA_ADDRESS, &mac.0);
        if let Some(mtu) = mtu {
            request = request.with_number(attribute::IFLA_MTU, mtu);
        }
        let request = request.with_nested(attribute::IFLA_LINKINFO, &[], |info| {
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
        let sized = |message: Message| match mtu {
            Some(mtu) => message.with_number(attribute::IFLA_MTU, *mtu),
            None => message,
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

    /// Sends everything that no other route is for through a gateway; one that is there already is fine.
    pub(super) fn add_default_route(&self, number: u32, gateway: IpAddr) -> io::Result<()> {
        let (family, bytes) = family_and_bytes(gateway);
        // struct rtmsg: family, prefixes, tos, table, protocol, scope, type, flags.
        let fixed = [
            family,
            0,
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
        let request = Message::new(libc::RTM_NEWROUTE, flags, &fixed)
            .with(attribute::RTA_GATEWAY, &bytes)
            .with_number(attribute::RTA_OIF, number);
        unless_there(self.0.request(request))
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
