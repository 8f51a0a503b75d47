//! Networks: containers on the same one reach each other; the machine's firewall keeps others out.
//!
//! A network is a bridge, and a container on it has a cable to that bridge. Root's bridges are devices
//! of the machine, and what leaves them wears the machine's address. An ordinary user's are in a network
//! namespace of the network's own (`anchor`), which lasts as long as a container is on it.

mod anchor;
mod change;
pub(crate) mod diag;
mod firewall;
mod iptables;
mod link;
mod member;
mod names;
mod netlink;
mod resolver;
mod rule;
mod server;
mod stream;
mod uplink;

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::state::Process;
use anchor::Anchor;
pub use change::{connect, disconnect};
pub(crate) use firewall::Firewall;
use link::{Cable, Links, Route};
use member::{Member, Record, members};
pub use server::NAME_SERVER;
use server::NameServer;
pub use uplink::FORWARDER;
use uplink::Uplink;

/// An IP address and how many of its first bits are the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the network: up to 32 for IPv4, up to 128 for IPv6.
    pub prefix: u8,
}

impl Address {
    /// The mask of the network's bits, as many bytes as the address has.
    pub(crate) fn mask(self) -> Vec<u8> {
        let mut bytes = self.bits().to_be_bytes().to_vec();
        bytes.truncate(if self.ip.is_ipv4() { 4 } else { 16 });
        bytes
    }

    /// The network's own address: all other bits are zero.
    #[must_use]
    pub fn network(self) -> IpAddr {
        let bits = self.bits();
        match self.ip {
            IpAddr::V4(ip) => {
                let [a, b, c, d, ..] = bits.to_be_bytes();
                (ip & Ipv4Addr::new(a, b, c, d)).into()
            }
            IpAddr::V6(ip) => (ip & Ipv6Addr::from_bits(bits)).into(),
        }
    }

    /// The network's bits, of the largest address that there is.
    fn bits(self) -> u128 {
        let others = 128_u32.saturating_sub(self.prefix.into());
        u128::MAX.checked_shl(others).unwrap_or(0)
    }

    /// Whether an address is of the same network.
    #[must_use]
    pub fn contains(self, ip: IpAddr) -> bool {
        let other = Self { ip, ..self };
        self.ip.is_ipv4() == ip.is_ipv4() && self.network() == other.network()
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// One that is made of an address, and as unique, as Docker's are.
    #[must_use]
    pub fn of(ip: Option<IpAddr>) -> Self {
        let [a, b, c, d] = last_bytes(ip);
        Self([0x02, 0x42, a, b, c, d])
    }
}

/// The bytes that tell the addresses of a network apart.
fn last_bytes(ip: Option<IpAddr>) -> [u8; 4] {
    match ip {
        Some(IpAddr::V4(ip)) => ip.octets(),
        Some(IpAddr::V6(ip)) => {
            let [.., a, b, c, d] = ip.octets();
            [a, b, c, d]
        }
        None => [0; 4],
    }
}

impl std::str::FromStr for Mac {
    type Err = std::num::ParseIntError;

    /// Six bytes in hexadecimal with `:` or `-` between them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().unwrap_or_default();
            // Neither signs nor single digits.
            let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            *byte = u8::from_str_radix(if digits { part } else { "" }, 16)?;
        }
        // What follows is no number, either.
        parts.next().map_or(Ok(Self(bytes)), |_| {
            u8::from_str_radix("", 16).map(|_| Self(bytes))
        })
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A container's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network's id.
    #[serde(default)]
    pub id: String,
    /// A directory of the network's own, where an ordinary user's containers find each other.
    pub dir: PathBuf,
    /// What the network's bridge is called: at most 15 bytes.
    pub bridge: String,
    /// The bridge's own addresses.
    pub gateways: Vec<Address>,
    /// Whether nothing leads out of the network.
    pub internal: bool,
    /// The largest packet, in bytes; if none is wanted, 1500 of what leaves the network, and within it what the
    /// kernel can do.
    pub mtu: Option<u32>,
    /// What the container calls the device.
    pub device: String,
    /// The device's hardware address.
    pub mac: Mac,
    /// The device's addresses.
    pub addresses: Vec<Address>,
    /// What the network's other containers call this one. Where none of a container's networks has such
    /// names, or servers, it asks others by itself.
    pub names: Vec<String>,
    /// Which servers are asked for names that the networks do not have; the machine's own if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
    /// The files that say that its addresses are taken: they go with a container that is thrown away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<PathBuf>,
}

/// The networks of a container: to be kept as long as it runs.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    memberships: Vec<Membership>,
    server: Option<NameServer>,
    uplink: Option<Uplink>,
}

/// That a container is on a network.
#[derive(Debug)]
struct Membership {
    /// Goes first: whoever finds it may rely on the namespaces.
    record: Record,
    anchor: Option<Anchor>,
    bridge: String,
}

impl Attachment {
    /// What the bridge's end of the cable is called: known from the network, and the address, which nobody
    /// else on the network has.
    fn cable(&self) -> String {
        let network = self
            .bridge
            .strip_prefix(firewall::PREFIX)
            .unwrap_or(&self.bridge);
        let network: String = network.chars().take(3).collect();
        let [a, b, c, d] = last_bytes(self.addresses.first().map(|address| address.ip));
        format!("smv-{network}{a:02x}{b:02x}{c:02x}{d:02x}")
    }

    fn fault(&self, step: &str) -> impl FnOnce(io::Error) -> RunError {
        let (network, step) = (self.bridge.clone(), step.to_owned());
        move |source| RunError::Network {
            network,
            step,
            source,
        }
    }
}

/// To how many addresses of the machine a container has routes of their own.
const ROUTES: usize = 16;

/// What tells that devices or addresses of the own network namespace come and go: something to read,
/// whatever it says.
pub(crate) fn changes() -> io::Result<OwnedFd> {
    netlink::Netlink::changes()
}

/// Puts a process that was just made on networks, and lets it ask for the names of who is on them. The
/// caller must have one thread only.
pub(crate) fn join(
    attachments: &[Attachment],
    pid: Pid,
    pidfd: BorrowedFd<'_>,
) -> Result<Networks, RunError> {
    let path = format!("/proc/{}/ns/net", pid.as_raw_nonzero());
    let namespace = File::open(path).map_err(RunError::supervise("open the network namespace"))?;
    let memberships = attachments
        .iter()
        .map(|attachment| attach(attachment, namespace.as_fd()))
        .collect::<Result<_, _>>()?;
    Ok(Networks {
        memberships,
        server: NameServer::fork(attachments, pidfd)?,
        uplink: None,
    })
}

impl Networks {
    /// Leads out of the network namespace of a process that was just made, with a program of the host's
    /// (`pasta`). The caller must have one thread only.
    pub(crate) fn lead_out(&mut self, program: &Path, pid: Pid) -> Result<(), RunError> {
        let is_among = !self.memberships.is_empty();
        match Uplink::start(program, pid, is_among) {
            Ok(uplink) => self.uplink = Some(uplink),
            // Whoever is on networks has these.
            Err(_) if is_among => {}
            Err(fault) => return Err(fault),
        }
        Ok(())
    }
}

/// Lays the cable between a network and a container's network namespace.
fn attach(attachment: &Attachment, namespace: BorrowedFd<'_>) -> Result<Membership, RunError> {
    let lock = lock(&attachment.dir).map_err(attachment.fault("lock its directory"))?;
    let anchor = match rustix::process::geteuid().is_root() {
        true => {
            let links = Links::open().map_err(attachment.fault("open the kernel's door"))?;
            let is_new = plug(attachment, &links, namespace)?;
            let Attachment {
                bridge,
                gateways,
                internal,
                ..
            } = attachment;
            let guarded = guard(bridge, gateways, *internal, is_new);
            guarded.map_err(|error| {
                // Nothing stays that is open to everybody.
                let _ = links.remove(&attachment.cable());
                if is_new {
                    let _ = links.remove(bridge);
                }
                attachment.fault("set up the firewall")(error)
            })?;
            None
        }
        false => {
            let members = members(&attachment.dir);
            let anchor = Anchor::cast(&members).map_err(attachment.fault("enter its namespace"))?;
            plug(attachment, anchor.links(), namespace)?;
            Some(anchor)
        }
    };
    let member = Member {
        process: Process::of(std::process::id()),
        namespaces: anchor.as_ref().map(Anchor::files),
        addresses: attachment
            .addresses
            .iter()
            .map(|address| address.ip)
            .collect(),
        names: attachment.names.clone(),
    };
    let record = member.record(&attachment.dir);
    let record = record.map_err(attachment.fault("say that the container is on it"))?;
    drop(lock);
    Ok(Membership {
        record,
        anchor,
        bridge: attachment.bridge.clone(),
    })
}

/// Held while somebody joins, so that two do not make two of what there is one of.
fn lock(dir: &Path) -> io::Result<File> {
    fs::create_dir_all(dir)?;
    let lock = File::create(dir.join("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Sees to it that a bridge's rules are there: somebody may have removed them since it was made.
fn guard(bridge: &str, gateways: &[Address], internal: bool, is_new: bool) -> io::Result<()> {
    let by_kernel = Firewall::open().and_then(|firewall| {
        let stands = !is_new && firewall.guards(bridge)?;
        match stands {
            true => Ok(true),
            false => firewall.guard(bridge, gateways, internal).map(|()| false),
        }
    });
    let stands = match by_kernel {
        Err(lack) if lack.kind() == io::ErrorKind::Unsupported => {
            let stands = !is_new && iptables::guards(bridge);
            if !stands {
                let made = iptables::guard(bridge, gateways, internal);
                made.map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => lack,
                    _ => error,
                })?;
            }
            stands
        }
        by_kernel => by_kernel?,
    };
    match stands {
        true => Ok(()),
        false => forward(gateways, internal),
    }
}

/// Lets the machine pass packets on between devices, for networks that something leads out of.
fn forward(gateways: &[Address], internal: bool) -> io::Result<()> {
    const SETTINGS: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
    for (setting, v6) in SETTINGS.iter().zip([false, true]) {
        let path = Path::new("/proc/sys").join(setting);
        let is_wanted = !internal && gateways.iter().any(|own| own.ip.is_ipv6() == v6);
        if is_wanted && fs::read(&path)?.first() == Some(&b'0') {
            let name = setting.replace('/', ".");
            fs::write(&path, "1").map_err(|error| {
                io::Error::new(error.kind(), format!("cannot set {name} to 1: {error}"))
            })?;
        }
    }
    Ok(())
}

/// The machine that containers are on, as they see it.
#[derive(Debug)]
pub(crate) struct Machine(Links);

impl Machine {
    /// That of the caller's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        Links::open().map(Self)
    }

    /// From the caller's network namespace, a container's, large packets go to this machine, by any of its first
    /// addresses: what it asks of a published port does not leave it.
    pub(crate) fn come_near(&self, gateways: &[IpAddr]) -> io::Result<()> {
        let links = Links::open()?;
        let mut all = self.0.addresses()?;
        all.retain(|own| !gateways.contains(own));
        for own in all.into_iter().take(ROUTES) {
            let same = |gateway: &&IpAddr| gateway.is_ipv4() == own.is_ipv4();
            if let Some(gateway) = gateways.iter().find(same) {
                links.add_route(*gateway, Route::To(own))?;
            }
        }
        Ok(())
    }
}

/// Lets processes in the caller's network namespace, a container's, send each other more at once: it takes a relay
/// there much less time.
pub(crate) fn widen_loopback() {
    if let Ok(links) = Links::open() {
        links.widen_loopback();
    }
}

/// Whether root's bridges would have to share a name with a device of the machine; others never do.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn has_device(bridge: &str) -> io::Result<bool> {
    let is_root = rustix::process::geteuid().is_root();
    Ok(is_root && Links::open()?.number(bridge)?.is_some())
}

/// How long somebody may take to choose a range of addresses: who holds that up is passed over.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whose turn it is to choose a range of addresses that nobody on this machine has, and to take it: networks of
/// other stores know nothing of each other, and two bridges with the same range confuse the packet filter. To be held
/// until the bridge is there.
#[derive(Debug)]
pub struct Turn {
    _namespace: Option<File>,
}

impl Turn {
    /// Waits for it. An ordinary user's bridges meet nobody's.
    #[must_use]
    pub fn take() -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let namespace = File::open("/proc/self/ns/net").ok().filter(|_| is_root);
        let end = Instant::now() + PATIENCE;
        let is_taken =
            |namespace: &File| matches!(namespace.try_lock(), Err(TryLockError::WouldBlock));
        while namespace.as_ref().is_some_and(is_taken) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        Self {
            _namespace: namespace,
        }
    }
}

/// Makes a network's bridge and its rules, for root; an ordinary user's is made with its first container.
///
/// # Errors
/// When the kernel refuses.
pub fn establish(
    bridge: &str,
    gateways: &[Address],
    internal: bool,
    mtu: Option<u32>,
) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    new_bridge(&Links::open()?, bridge, gateways, mtu)?;
    guard(bridge, gateways, internal, true)
}

/// Makes the bridge, if it is not there, and the cable. Tells whether the bridge is new.
fn plug(
    attachment: &Attachment,
    links: &Links,
    namespace: BorrowedFd<'_>,
) -> Result<bool, RunError> {
    let known = links
        .number(&attachment.bridge)
        .map_err(attachment.fault("look for its bridge"))?;
    let bridge = match known {
        Some(number) if links.is_up(&attachment.bridge) => number,
        // Whoever was to make it may have been killed in between.
        _ => new_bridge(
            links,
            &attachment.bridge,
            &attachment.gateways,
            attachment.mtu,
        )
        .map_err(attachment.fault("make its bridge"))?,
    };
    let outer = attachment.cable();
    let cable = Cable {
        outer: &outer,
        inner: &attachment.device,
        mac: attachment.mac,
        bridge,
        namespace,
        mtu: attachment.mtu,
    };
    let laid = match links.lay(&cable) {
        // Of a container that has just ended: the kernel takes its time to remove it, and even more if asked to.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => links
            .set_aside(&outer)
            .or_else(|_| links.remove(&outer))
            .and_then(|()| links.lay(&cable)),
        laid => laid,
    };
    laid.map_err(attachment.fault("lay the container's cable"))?;
    if known.is_none() && attachment.mtu.is_none() {
        links.widen_bridge(bridge);
    }
    Ok(known.is_none())
}

/// Makes a bridge, or what is missing of it: that it is up comes last, and tells that it is whole.
fn new_bridge(
    links: &Links,
    bridge: &str,
    gateways: &[Address],
    mtu: Option<u32>,
) -> io::Result<u32> {
    let is_new = links.number(bridge)?.is_none();
    let mac = Mac::of(gateways.first().map(|address| address.ip));
    let number = links.bridge(bridge, mac, mtu)?;
    let made = gateways
        .iter()
        .try_for_each(|gateway| links.add_address(number, *gateway))
        .and_then(|()| links.up(number));
    if is_new && made.is_err() {
        let _ = links.remove(bridge);
    }
    made.map(|()| number)
}

/// Gives the container's end its addresses and routes: in the container, while that may still be done. What
/// else leads out of it has routes of its own.
pub(crate) fn settle(attachments: &[Attachment], has_uplink: bool) -> Result<(), RunError> {
    let Some(first) = attachments.first() else {
        return Ok(());
    };
    let links = Links::open().map_err(first.fault("open the kernel's door"))?;
    let mut routed = [has_uplink; 2];
    for attachment in attachments {
        let number = links
            .number(&attachment.device)
            .and_then(|number| number.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(attachment.fault("look for the device"))?;
        for address in &attachment.addresses {
            links
                .add_address(number, *address)
                .map_err(attachment.fault(&format!("add the address {address}")))?;
        }
        links
            .up(number)
            .map_err(attachment.fault("bring the device up"))?;
        for gateway in attachment.gateways.iter().filter(|_| !attachment.internal) {
            let routed = &mut routed[usize::from(gateway.ip.is_ipv6())];
            if !std::mem::replace(routed, true) {
                let route = Route::Default(number, attachment.mtu);
                links
                    .add_route(gateway.ip, route)
                    .map_err(attachment.fault("add the default route"))?;
            }
        }
    }
    Ok(())
}

/// Removes what a network has on the machine: for root, its bridge and its rules. Another device of that name
/// stays.
///
/// # Errors
/// When the kernel refuses.
pub fn dissolve(bridge: &str) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let device = Path::new("/sys/class/net").join(bridge);
    if device.join("bridge").exists() || !device.exists() {
        Links::open()?.remove(bridge)?;
    }
    match Firewall::open().and_then(|firewall| firewall.remove(bridge)) {
        Err(lack) if lack.kind() == io::ErrorKind::Unsupported => {
            iptables::remove(bridge);
            Ok(())
        }
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        let (ip, prefix) = text.split_once('/').unwrap();
        Address {
            ip: ip.parse().unwrap(),
            prefix: prefix.parse().unwrap(),
        }
    }

    #[test]
    fn hardware_addresses_are_read_and_made() {
        for text in ["02:42:ac:12:00:02", "02-42-AC-12-00-02"] {
            let mac: Mac = text.parse().unwrap();
            assert_eq!(mac, Mac::of(Some("172.18.0.2".parse().unwrap())), "{text}");
            assert_eq!(mac.to_string(), "02:42:ac:12:00:02");
        }
        let v6 = Mac::of(Some("fd00::a:b".parse().unwrap()));
        assert_eq!(v6.to_string(), "02:42:00:0a:00:0b");
        for bad in [
            "",
            "1:2:3:4:5:6",
            "02:42:ac:12:00",
            "02:42:ac:12:00:02:03",
            "02:42:ac:12:00:+2",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_know_their_networks() {
        for (text, network, inside, outside) in [
            ("10.1.2.3/24", "10.1.2.0", "10.1.2.255", "10.1.3.0"),
            ("10.1.2.3/0", "0.0.0.0", "255.0.0.1", "::1"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("fd00::1/64", "fd00::", "fd00::ffff", "fd00:0:0:1::"),
            ("fd00::1/128", "fd00::1", "fd00::1", "fd00::2"),
        ] {
            let address = address(text);
            assert_eq!(address.network().to_string(), network, "{text}");
            assert!(address.contains(inside.parse().unwrap()), "{text}");
            assert!(!address.contains(outside.parse().unwrap()), "{text}");
        }
        assert_eq!(address("10.1.2.3/20").mask(), [255, 255, 240, 0]);
    }
}
