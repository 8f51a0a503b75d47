//! A container's places on networks, when it is started.

use std::fs::Permissions;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use smidge_run::network::{Address, Attachment, Mac, NAME_SERVER, Turn};
use smidge_run::{Process, Spec};
use smidge_store::{Applicant, Container, Lease, Network, Refusal, Subnet};

use super::{
    Endpoint, NetworkMode, NetworkRequest, NetworkRow, establish, gateways, plan, unknown, within,
};
use crate::container::{Known, MountPoint, Record, full_name};
use crate::event::Event;
use crate::{Engine, Error, Kind, Result};

/// What is said of a volume when it is mounted.
fn told(mount: &MountPoint) -> Option<Event> {
    let event = Event {
        kind: "volume".to_owned(),
        id: mount.name.clone(),
        ..Event::default()
    };
    (!mount.name.is_empty()).then(|| {
        event
            .with("destination", mount.destination.as_str())
            .with("driver", "local")
            .with("propagation", "")
            .with("read/write", (!mount.read_only).to_string())
    })
}

/// What a container was given of its networks when it was last started, or connected.
pub(super) const PLACES: &str = "networks.json";

/// Bytes of a file of a container's that are read.
const LONGEST: u64 = 1 << 20;

/// What of a container concerns its networks.
pub(super) struct Guest<'a> {
    pub(super) container: &'a Container,
    pub(super) record: &'a Record,
}

impl Engine {
    /// Checks what was asked for, and calls each network by its name.
    pub(crate) fn resolve(&self, mode: &NetworkMode) -> Result<NetworkMode> {
        if *mode == NetworkMode::Pasta {
            self.pasta()?;
        }
        let NetworkMode::Networks(endpoints) = mode else {
            return Ok(mode.clone());
        };
        let mut resolved: Vec<Endpoint> = Vec::new();
        for endpoint in endpoints {
            let row = self.find_network(&endpoint.network)?;
            let network = &row.name;
            if row.driver != "bridge" {
                let message = format!("network `{network}` is not one that containers are put on");
                return Err(Error::new(Kind::Input, message)
                    .with_hint(format!("name it: `--network {network}`")));
            }
            if resolved.iter().any(|other| other.network == *network) {
                let message = format!("network `{network}` is specified multiple times");
                return Err(Error::new(Kind::Input, message));
            }
            let asked = [endpoint.ipv4.map(IpAddr::V4), endpoint.ipv6.map(IpAddr::V6)];
            for ip in asked.into_iter().flatten() {
                grants(&row, ip)?;
            }
            resolved.push(Endpoint {
                network: network.clone(),
                ..endpoint.clone()
            });
        }
        Ok(NetworkMode::Networks(resolved))
    }

    /// What a container is started with: what is kept of it, and its places on networks, which it has
    /// until it ends.
    pub(crate) fn spec_to_start(&self, container: &Container, record: &Record) -> Result<Spec> {
        let mut spec = record.spec.clone();
        if let Some(journal) = &mut spec.journal {
            journal.volumes = record.mounts.iter().filter_map(told).collect();
        }
        let mode = record.network();
        let guest = Guest { container, record };
        if mode == NetworkMode::Private {
            self.plan_way_out(&guest, &mut spec)?;
            return Ok(spec);
        }
        for (at, endpoint) in mode.endpoints().iter().enumerate() {
            let network = self.network_to_join(&endpoint.network)?;
            let prefix = plan::device_prefix(&network.record);
            let device = format!("{prefix}{at}");
            let attachment = self.admit(&guest, endpoint, (&network, device))?;
            if record.host.auto_remove {
                spec.cleanup.extend(attachment.leases.iter().cloned());
            }
            spec.attachments.push(attachment);
        }
        if !spec.attachments.is_empty() {
            settle_in(&guest, &spec.attachments)?;
        }
        let leads_out = |attachment: &Attachment| !attachment.internal;
        if self.host.uid != 0 && spec.attachments.iter().any(leads_out) {
            spec.uplink = self.way_out().ok();
        }
        Ok(spec)
    }

    /// Takes back the addresses of a container that is being removed.
    pub(crate) fn leave_networks(&self, known: &Known) -> Result<()> {
        let mode = known.record.network();
        let mut endpoints = mode.endpoints().to_vec();
        // Only if its program has asked for a network.
        if mode == NetworkMode::Private && known.container.dir.join(PLACES).exists() {
            endpoints.push(Endpoint::on("bridge"));
        }
        for endpoint in &endpoints {
            if let Some(network) = self.store.network(&endpoint.network)? {
                self.store.end_lease(&network, &known.container.id)?;
            }
        }
        Ok(())
    }

    /// The address that leads from a container's first network to the machine; `None` where none does.
    pub(crate) fn host_gateway(&self, mode: &NetworkMode) -> Result<Option<IpAddr>> {
        let name = match mode {
            NetworkMode::Private => Some("bridge"),
            mode => mode.endpoints().first().map(|first| first.network.as_str()),
        };
        let Some(name) = name.filter(|_| self.host.uid == 0) else {
            return Ok(None);
        };
        let network = self.network_to_join(name)?;
        let subnet = network.record.subnets.first();
        Ok(subnet.map(|subnet| subnet.gateway))
    }

    /// Lets those on its networks know a running container by its new name.
    pub(crate) fn rename_on_networks(&self, known: &Known, new: &Container) -> Result<()> {
        let guest = Guest {
            container: new,
            record: &known.record,
        };
        let mut attachments = kept(known);
        let named = attachments
            .iter_mut()
            .filter(|attachment| !attachment.names.is_empty());
        for attachment in named {
            let mode = known.record.network();
            let is_own = |endpoint: &&Endpoint| super::view::is_on(attachment, &endpoint.network);
            let endpoint = mode.endpoints().iter().find(is_own).cloned();
            attachment.names = names(&guest, &endpoint.unwrap_or_default());
            smidge_run::network::connect(&new.dir, attachment)?;
        }
        match attachments.is_empty() {
            true => Ok(()),
            false => keep(new, &attachments),
        }
    }

    /// The network of a name; `bridge` is made when it is first asked for.
    pub(super) fn network_to_join(&self, name: &str) -> Result<Network> {
        if let Some(network) = self.store.network(name)? {
            return Ok(network);
        }
        if name != "bridge" {
            return Err(unknown(name));
        }
        let _turn = Turn::take();
        let made = self.store.create_network(name, |_, others| {
            let id = self.unmade(name).id;
            // Of a store that was here before, and is gone: its addresses were others.
            smidge_run::network::dissolve(&plan::bridge(&id))
                .map_err(|source| Error::io("cannot remove an old bridge", source))?;
            let request = NetworkRequest {
                name: name.to_owned(),
                ..NetworkRequest::default()
            };
            plan::plan(&request, &id, others)
        });
        match made {
            Ok(network) => {
                // What is in the way is told by who lays the first cable.
                let _ = establish(&network.record);
                Ok(network)
            }
            // Somebody else was quicker.
            Err(fault) => self.store.network(name)?.ok_or(fault),
        }
    }

    /// Gives a container a place on a network.
    pub(super) fn admit(
        &self,
        guest: &Guest<'_>,
        endpoint: &Endpoint,
        (network, device): (&Network, String),
    ) -> Result<Attachment> {
        let mut addresses = Vec::new();
        for subnet in &network.record.subnets {
            let wanted = match subnet.block.first() {
                IpAddr::V4(_) => endpoint.ipv4.map(IpAddr::V4),
                IpAddr::V6(_) => endpoint.ipv6.map(IpAddr::V6),
            };
            addresses.push(self.lease(guest.container, network, (subnet, wanted))?);
        }
        let asked = servers(&guest.record.host.asked);
        let is_default = network.name == "bridge";
        let lease = |own: &Address| network.dir.join("leases").join(own.ip.to_string());
        Ok(Attachment {
            id: network.record.id.clone(),
            leases: addresses.iter().map(lease).collect(),
            dir: network.dir.clone(),
            bridge: network.record.bridge.clone(),
            gateways: gateways(&network.record),
            internal: network.record.internal,
            mtu: plan::mtu(&network.record),
            device,
            mac: endpoint
                .mac
                .unwrap_or_else(|| Mac::of(addresses.first().map(|own| own.ip))),
            names: match is_default {
                true => Vec::new(),
                false => names(guest, endpoint),
            },
            servers: match is_default {
                true if asked.is_empty() => lone_servers(&host_resolver()),
                true => Vec::new(),
                false => asked,
            },
            addresses,
        })
    }

    fn lease(
        &self,
        container: &Container,
        network: &Network,
        (subnet, wanted): (&Subnet, Option<IpAddr>),
    ) -> Result<Address> {
        let Process { pid, start_time } = Process::of(std::process::id());
        let applicant = Applicant {
            container: &container.id,
            note: &format!("{pid} {start_time}"),
            wanted,
            needs: &|lease: &Lease| self.needs(lease),
        };
        let name = &network.name;
        match self.store.lease(network, subnet, &applicant)? {
            Ok(ip) => Ok(within(subnet, ip)),
            Err(Refusal::Exhausted) => {
                let message =
                    format!("no available addresses on this network's address pools: {name}");
                Err(Error::new(Kind::Conflict, message).with_fact(format!(
                    "all of `{}` are in use",
                    subnet.range.unwrap_or(subnet.block)
                )))
            }
            Err(Refusal::Outside) => {
                let ip = wanted.unwrap_or(subnet.gateway);
                Err(outside(name, ip, &network.record.subnets))
            }
            Err(Refusal::Taken { by }) => {
                let error = Error::new(Kind::Conflict, "Address already in use");
                let ip = wanted.map(|ip| ip.to_string()).unwrap_or_default();
                Err(match self.store.container(&by) {
                    Ok(holder) => error.with_fact(format!(
                        "container `{}` has {ip} on network {name}",
                        holder.name
                    )),
                    Err(_) => error.with_fact(format!("{ip} on network {name}")),
                })
            }
        }
    }
}

/// Refuses an address that nobody may ask for, as Docker does: what a network's addresses are is settled by
/// whoever makes it, or may be another thing next time.
fn grants(row: &NetworkRow, ip: IpAddr) -> Result<()> {
    let (name, subnets) = (&row.name, &row.record.subnets);
    if name == "bridge" {
        let message = "user specified IP address is supported on user defined networks only";
        return Err(Error::new(Kind::Input, message)
            .with_hint("make one: `smidge network create --subnet 10.1.0.0/16 NETWORK`"));
    }
    let mut family = subnets
        .iter()
        .filter(|subnet| subnet.block.first().is_ipv4() == ip.is_ipv4());
    if family.next().is_none_or(|subnet| subnet.chosen) {
        let message = "user specified IP address is supported only when connecting to networks with user configured subnets";
        let flags = match ip.is_ipv4() {
            true => "--subnet 10.1.0.0/16",
            false => "--ipv6 --subnet fd01::/64",
        };
        return Err(Error::new(Kind::Input, message)
            .with_fact(format!("network {name} was made without"))
            .with_hint(format!(
                "make it with: `smidge network create {flags} NETWORK`"
            )));
    }
    match subnets.iter().any(|subnet| subnet.block.contains(ip)) {
        true => Ok(()),
        false => Err(outside(name, ip, subnets)),
    }
}

/// That a network has no such address for a container.
fn outside(network: &str, ip: IpAddr, subnets: &[Subnet]) -> Error {
    let message = format!("no configured subnet or ip-range contain the IP address {ip}");
    let all: Vec<String> = subnets
        .iter()
        .map(|subnet| subnet.block.to_string())
        .collect();
    Error::new(Kind::Input, message).with_fact(format!("network {network} has {}", all.join(", ")))
}

/// What other containers on a network call one, as in Docker.
fn names(guest: &Guest<'_>, endpoint: &Endpoint) -> Vec<String> {
    let Container { id, name, .. } = guest.container;
    let short = &id[..id.len().min(12)];
    let all = [name.as_str()]
        .into_iter()
        .chain(endpoint.aliases.iter().map(String::as_str));
    let mut names: Vec<String> = Vec::new();
    for word in all.chain([short, &guest.record.spec.hostname]) {
        // They are kept with spaces between them.
        let is_word = !word.is_empty() && !word.contains(char::is_whitespace);
        if is_word && !names.iter().any(|known| known == word) {
            names.push(word.to_owned());
        }
    }
    names
}

/// Which name servers were asked for with `--dns`.
fn servers(asked: &serde_json::Map<String, serde_json::Value>) -> Vec<IpAddr> {
    let list = asked.get("Dns").and_then(|list| list.as_array());
    let texts = list.into_iter().flatten().filter_map(|text| text.as_str());
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// Writes down what a container was given.
pub(super) fn keep(container: &Container, attachments: &[Attachment]) -> Result<()> {
    let path = container.dir.join(PLACES);
    let unwritable = |source| Error::io(format!("cannot write `{}`", path.display()), source);
    let json = serde_json::to_vec(attachments).map_err(|fault| unwritable(fault.into()))?;
    let new = container.dir.join("networks.new");
    std::fs::write(&new, json).map_err(unwritable)?;
    std::fs::rename(&new, &path).map_err(unwritable)
}

/// What a container has been given; nothing if it does not run.
pub(super) fn kept(known: &Known) -> Vec<Attachment> {
    if !known.state.status.is_active() {
        return Vec::new();
    }
    let bytes = std::fs::read(known.container.dir.join(PLACES)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Writes down what a container has been given, for others and in its `/etc/hosts`.
pub(super) fn settle_in(guest: &Guest<'_>, attachments: &[Attachment]) -> Result<()> {
    keep(guest.container, attachments)?;
    let own = own_name(&guest.record.spec);
    change_hosts(guest, |text| {
        hosts(&at_loopback(text, &own, false), &own, attachments)
    })
}

/// Forgets what a container had when it ran before: its name stands for itself again.
pub(super) fn forget(guest: &Guest<'_>) -> Result<()> {
    let path = guest.container.dir.join(PLACES);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        removed => removed
            .map_err(|source| Error::io(format!("cannot remove `{}`", path.display()), source))?,
    }
    let own = own_name(&guest.record.spec);
    change_hosts(guest, |text| {
        hosts(&at_loopback(text, &own, true), &own, &[])
    })
}

/// Puts a container's addresses under its host name in its `/etc/hosts`, which it may have open: the
/// file is written in place. What else is in there stays.
pub(super) fn tell_hosts(guest: &Guest<'_>, attachments: &[Attachment]) -> Result<()> {
    let path = guest.container.dir.join("etc/hosts");
    let own = own_name(&guest.record.spec);
    let text = hosts(&read(&path), &own, attachments);
    write_in_place(&path, &text)
}

/// Lets a container ask the name server that knows who is on its networks, or others again.
pub(super) fn tell_resolver(known: &Known, has_names: bool) -> Result<()> {
    let path = known.container.dir.join("etc/resolv.conf");
    let told = |text: &str| match has_names {
        true => resolver(text),
        false => without_own(text, &servers(&known.record.host.asked)),
    };
    match known.state.status.is_active() {
        true => write_in_place(&path, &told(&read(&path))),
        false => write_anew(&path, told),
    }
}

/// A file that the container may have written anything to.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    // What cannot be read is as good as empty.
    let _ = std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Puts a file in the place of one that a container has had, whoever that belongs to now.
fn write_anew(path: &Path, change: impl FnOnce(&str) -> String) -> Result<()> {
    let new = path.with_extension("new");
    write_in_place(&new, &change(&read(path)))?;
    let public = Permissions::from_mode(0o644);
    std::fs::set_permissions(&new, public)
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|source| Error::io(format!("cannot write `{}`", path.display()), source))
}

/// A container's `/etc/hosts`, changed: in its place where its program may see it, which may have it open.
fn change_hosts(guest: &Guest<'_>, change: impl FnOnce(&str) -> String) -> Result<()> {
    let path = guest.container.dir.join("etc/hosts");
    match smidge_run::is_held(&guest.container.dir) {
        true => write_in_place(&path, &change(&read(&path))),
        false => write_anew(&path, change),
    }
}

/// A hosts file in which a container's name stands for its loopback device, or not.
fn at_loopback(text: &str, own: &str, is_near: bool) -> String {
    let named = format!("{}\t{own}", Ipv4Addr::LOCALHOST);
    let others = text.lines().filter(|line| *line != named);
    let lines = others.chain(is_near.then_some(named.as_str()));
    lines.map(|line| format!("{line}\n")).collect()
}

/// A resolver's file with other servers, or the machine's, in place of the containers' own.
fn without_own(text: &str, servers: &[IpAddr]) -> String {
    let own = format!("nameserver {NAME_SERVER}");
    let host = host_resolver();
    let of_host = host
        .lines()
        .filter(|line| line.trim().starts_with("nameserver"));
    let asked: Vec<String> = match servers {
        [] => of_host.map(str::to_owned).collect(),
        asked => asked.iter().map(|ip| format!("nameserver {ip}")).collect(),
    };
    let lines = text.lines().flat_map(|line| match line == own {
        true => asked.clone(),
        false => vec![line.to_owned()],
    });
    lines.map(|line| line + "\n").collect()
}

fn write_in_place(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)
        .map_err(|source| Error::io(format!("cannot write `{}`", path.display()), source))
}

fn own_name(spec: &Spec) -> String {
    full_name(&spec.hostname, &spec.isolation.domainname)
}

fn hosts(text: &str, own: &str, attachments: &[Attachment]) -> String {
    let is_own = |line: &&str| {
        let parts = line.split_once('\t');
        parts.is_some_and(|(ip, name)| {
            name == own && ip.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback())
        })
    };
    let rest = text.lines().filter(|line| !is_own(line));
    let addresses = attachments
        .iter()
        .flat_map(|attachment| &attachment.addresses);
    let lines = addresses.map(|address| format!("{}\t{own}", address.ip));
    let all = rest.map(str::to_owned).chain(lines);
    all.map(|line| line + "\n").collect()
}

/// The machine's `/etc/resolv.conf`.
pub(crate) fn host_resolver() -> String {
    std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

/// The name servers of a resolver's file if all of them can be reached from the machine alone: containers
/// have a loopback device of their own.
pub(crate) fn lone_servers(text: &str) -> Vec<IpAddr> {
    let words = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"));
    let servers: Vec<IpAddr> = words.filter_map(|ip| ip.trim().parse().ok()).collect();
    match servers.iter().all(IpAddr::is_loopback) {
        true => servers,
        false => Vec::new(),
    }
}

/// A resolver's file with the containers' own name server in place of others.
pub(crate) fn resolver(text: &str) -> String {
    let is = |line: &&str, word: &str| line.split_whitespace().next() == Some(word);
    let search = text.lines().filter(|line| is(line, "search"));
    let options = text.lines().filter(|line| is(line, "options"));
    let options = options.flat_map(|line| line.split_whitespace().skip(1));
    let mut options: Vec<&str> = options.collect();
    // Names of containers have no dots, and are to be asked for as they are.
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0");
    }
    let search: String = search.map(|line| format!("{line}\n")).collect();
    format!(
        "nameserver {NAME_SERVER}\n{search}options {}\n",
        options.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_anew_and_the_rest_stays() {
        let attachment = |ip: &str| Attachment {
            id: String::new(),
            leases: Vec::new(),
            dir: "/".into(),
            bridge: "b".to_owned(),
            gateways: Vec::new(),
            internal: false,
            mtu: None,
            device: "eth0".to_owned(),
            mac: Mac([0; 6]),
            addresses: vec![Address {
                ip: ip.parse().unwrap(),
                prefix: 16,
            }],
            names: Vec::new(),
            servers: Vec::new(),
        };
        let base = "127.0.0.1\tlocalhost\n127.0.0.1\tme\n10.0.0.9\tother\n";
        let first = hosts(base, "me", &[attachment("10.0.0.2")]);
        assert_eq!(first, format!("{base}10.0.0.2\tme\n"));
        let second = hosts(
            &first,
            "me",
            &[attachment("10.0.0.3"), attachment("fd00::3")],
        );
        assert_eq!(second, format!("{base}10.0.0.3\tme\nfd00::3\tme\n"));
        assert_eq!(hosts(&second, "me", &[]), base);
    }

    #[test]
    fn names_stand_for_the_loopback_device_or_not() {
        let far = "127.0.0.1\tlocalhost\n10.0.0.9\tother\n";
        let near = "127.0.0.1\tlocalhost\n10.0.0.9\tother\n127.0.0.1\tme\n";
        for text in [near, far] {
            assert_eq!(at_loopback(text, "me", true), near);
            assert_eq!(at_loopback(text, "me", false), far);
        }
    }

    #[test]
    fn servers_on_the_machine_alone_are_told() {
        let told = |text: &str| lone_servers(text).len();
        assert_eq!(told("nameserver 127.0.0.53\noptions edns0\n"), 1);
        assert_eq!(told("nameserver 127.0.0.53\nnameserver ::1\n"), 2);
        assert_eq!(told("nameserver 127.0.0.53\nnameserver 9.9.9.9\n"), 0);
        assert_eq!(told(""), 0);
    }

    #[test]
    fn resolvers_ask_the_containers_server() {
        let text = "# x\nnameserver 1.1.1.1\nsearch lan\noptions edns0 trust-ad\n";
        let expected = "nameserver 127.0.0.11\nsearch lan\noptions edns0 trust-ad ndots:0\n";
        assert_eq!(resolver(text), expected);
        assert_eq!(resolver(expected), expected);
        let back = without_own(expected, &["9.9.9.9".parse().unwrap()]);
        let own = "nameserver 9.9.9.9\nsearch lan\noptions edns0 trust-ad ndots:0\n";
        assert_eq!(back, own);
        assert_eq!(resolver(""), "nameserver 127.0.0.11\noptions ndots:0\n");
    }
}
