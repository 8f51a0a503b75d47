//! Rules of the kernel's packet filter: what leaves a network wears the machine's address, others stay
//! out, and published ports lead to containers
//! ([nft(8)](https://www.netfilter.org/projects/nftables/manpage.html), `linux/netfilter/nf_tables.h`).
//!
//! A network has a table of its own: made anew as a whole, removed as a whole. Where Docker, or an
//! administrator's `iptables`, lets nothing pass between devices, a network's rules are needed there as well:
//! whatever one table accepts another may still drop.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use super::Address;
use super::netlink::{self, Message, Netlink};
use super::rule::{
    DESTINATION_NAT, FILTER, RAW, Rule, SOURCE_NAT, Table, attribute, batch, device, message,
    number,
};
use crate::spec::Port;

/// How names of bridges begin, by which networks know each other.
pub(super) const PREFIX: &str = "smi-";

/// The table of `iptables` that lets packets pass or not, and its chains: Docker's for the user's own
/// rules, or else everybody's.
const FILTER_TABLE: &str = "filter";
const FOREIGN: [&str; 2] = ["DOCKER-USER", "FORWARD"];

/// The families that `iptables` has tables for.
const FAMILIES: [u8; 2] = [2, 10];

/// The chain of a network's table that keeps others off the machine's own ports, the last to have come to it: where it
/// is missing an older smidge has made the table.
const LATEST: &str = "prerouting";

/// Bytes of `struct nfgenmsg`.
const GENERAL: usize = 4;

/// The packet filter of a network namespace.
#[derive(Debug)]
pub(crate) struct Firewall(Netlink);

impl Firewall {
    /// That of the caller's namespace.
    pub(crate) fn open() -> io::Result<Self> {
        Netlink::filter().map(Self).map_err(lacking)
    }

    /// Lets a network's containers reach what the machine reaches, under the machine's address, and no
    /// other network. An internal one reaches nothing. From outside they are reached by published ports alone:
    /// whoever has a route to them could otherwise come to any port.
    pub(super) fn guard(
        &self,
        bridge: &str,
        subnets: &[Address],
        internal: bool,
    ) -> io::Result<()> {
        let mut table = Table::new(bridge);
        table.chain("forward", "filter", (number::FORWARD, FILTER));
        let foreign = |rule: Rule, from, to| {
            let rule = rule.meta(from, number::EQUAL, &device(bridge));
            let rule = match internal {
                true => rule,
                false => rule.meta(to, number::EQUAL, PREFIX.as_bytes()),
            };
            rule.meta(to, number::UNEQUAL, &device(bridge))
                .verdict(number::DROP)
        };
        let (inward, outward) = (number::META_IIFNAME, number::META_OIFNAME);
        table.rule("forward", foreign(Rule::new(), inward, outward));
        table.rule("forward", foreign(Rule::new(), outward, inward));
        // Some setting (route_localnet) may let in what is for ports published on loopback addresses (CVE-2020-8558).
        table.chain(LATEST, "filter", (number::PREROUTING, RAW));
        let rule = Rule::new().for_loopback();
        table.rule(LATEST, rule.verdict(number::DROP));
        if !internal {
            let strange = Rule::new()
                .meta(outward, number::EQUAL, &device(bridge))
                .meta(inward, number::UNEQUAL, &device(bridge))
                .connection(number::CT_STATE, number::KNOWN, false)
                .connection(number::CT_STATUS, number::LED, false);
            table.rule("forward", strange.verdict(number::DROP));
            table.chain("postrouting", "nat", (number::POSTROUTING, SOURCE_NAT));
            for subnet in subnets {
                let rule = Rule::new()
                    .of_subnet(*subnet)
                    .meta(outward, number::UNEQUAL, &device(bridge))
                    .masquerade();
                table.rule("postrouting", rule);
            }
        }
        self.0.batch(table.finish()).map_err(lacking)?;
        self.forget_all(bridge)?;
        for family in FAMILIES {
            self.let_pass(family, bridge)?;
        }
        Ok(())
    }

    /// Whether a network has its rules, here and where others drop what they do not know.
    pub(super) fn guards(&self, bridge: &str) -> io::Result<bool> {
        let chain = message(number::INET, libc::NFT_MSG_GETCHAIN, 0)
            .with_text(attribute::CHAIN_TABLE, &Table::new(bridge).name)
            .with_text(attribute::CHAIN_NAME, LATEST);
        match self.0.request(chain) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            asked => asked.map_err(lacking)?,
        }
        for family in FAMILIES {
            for chain in FOREIGN {
                match self.handles(family, chain, bridge)? {
                    Some(handles) if handles.is_empty() => return Ok(false),
                    Some(_) => break,
                    None => {}
                }
            }
        }
        Ok(true)
    }

    /// Leads what is for a port of a loopback address to other ports there: the first for datagrams, the
    /// second for connections.
    pub(super) fn redirect(&self, to: Ipv4Addr, port: u16, ports: [u16; 2]) -> io::Result<()> {
        let mut table = Table::new("names");
        table.chain("output", "nat", (number::OUTPUT, DESTINATION_NAT));
        for (protocol, target) in [libc::IPPROTO_UDP, libc::IPPROTO_TCP].iter().zip(ports) {
            let rule = Rule::new()
                .family(to.into())
                .payload(number::NETWORK_HEADER, (16, 4))
                .compare(number::EQUAL, &to.octets())
                .for_port(*protocol, port)
                .lead_to(to.into(), target);
            table.rule("output", rule);
        }
        self.0.batch(table.finish())
    }

    /// Leads ports of the machine to a container's addresses, and nowhere else: what is led is forgotten with
    /// the last call, or when this is dropped, however suddenly (`NFT_TABLE_F_OWNER`, Linux 5.12).
    ///
    /// Not led is what comes from the machine's loopback addresses, which nothing leaves with, and what comes
    /// from a network's containers, whose answers would take another way; they meet whoever listens.
    pub(crate) fn lead(&self, name: &str, ports: &[(Port, IpAddr)]) -> io::Result<()> {
        let mut table = Table::owned(name);
        if ports.is_empty() {
            return self.0.batch(batch(table.removal()));
        }
        let inward = number::META_IIFNAME;
        for (chain, hook) in [
            ("prerouting", number::PREROUTING),
            ("output", number::OUTPUT),
        ] {
            table.chain(chain, "nat", (hook, DESTINATION_NAT));
            for (port, inside) in ports {
                let rule = match hook {
                    number::PREROUTING => {
                        Rule::new().meta(inward, number::UNEQUAL, PREFIX.as_bytes())
                    }
                    _ => Rule::new(),
                };
                let rule = rule.for_published(port);
                table.rule(chain, rule.lead_to(*inside, port.container_port));
            }
        }
        self.0.batch(table.finish())
    }

    /// Removes a network's rules; if there are none, that is fine.
    pub(super) fn remove(&self, bridge: &str) -> io::Result<()> {
        let removed = self.0.batch(batch(Table::new(bridge).removal()));
        removed.map_err(lacking)?;
        self.forget_all(bridge)
    }

    /// Lets pass where others drop what they do not know: what a network sends, what answers that, and what is led
    /// to it.
    fn let_pass(&self, family: u8, bridge: &str) -> io::Result<()> {
        let device = device(bridge);
        let of = |end| Rule::new().meta(end, number::EQUAL, &device);
        for chain in FOREIGN {
            let inward = || of(number::META_OIFNAME);
            let rules = [
                of(number::META_IIFNAME),
                inward().connection(number::CT_STATE, number::KNOWN, true),
                inward().connection(number::CT_STATUS, number::LED, true),
            ];
            let rules = rules.map(|rule| {
                rule.verdict(number::ACCEPT)
                    .message((family, FILTER_TABLE, chain), 0)
            });
            match self.0.batch(batch(rules.into())) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
        }
        Ok(())
    }

    /// Removes what [`let_pass`](Self::let_pass) has added.
    fn forget_all(&self, bridge: &str) -> io::Result<()> {
        for family in FAMILIES {
            for chain in FOREIGN {
                self.forget(family, chain, bridge)?;
            }
        }
        Ok(())
    }

    /// Removes it from a chain.
    fn forget(&self, family: u8, chain: &str, bridge: &str) -> io::Result<()> {
        for handle in self.handles(family, chain, bridge)?.unwrap_or_default() {
            let gone =
                place(family, chain, libc::NFT_MSG_DELRULE).with(attribute::RULE_HANDLE, &handle);
            self.0.batch(batch(vec![gone]))?;
        }
        Ok(())
    }

    /// The numbers of the rules about a bridge in a foreign chain; `None` if there is no such chain.
    fn handles(&self, family: u8, chain: &str, bridge: &str) -> io::Result<Option<Vec<Vec<u8>>>> {
        // A list of what is not there would only be empty.
        let known = message(family, libc::NFT_MSG_GETCHAIN, 0)
            .with_text(attribute::CHAIN_TABLE, FILTER_TABLE)
            .with_text(attribute::CHAIN_NAME, chain);
        match self.0.request(known) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            known => known?,
        }
        let mut handles = Vec::new();
        let listed = self
            .0
            .list(place(family, chain, libc::NFT_MSG_GETRULE), |rule| {
                let attributes = rule.get(GENERAL..).unwrap_or_default();
                if has(attributes, &device(bridge)) {
                    let mut all = netlink::attributes(attributes);
                    let handle = all.find(|(kind, _)| *kind == attribute::RULE_HANDLE);
                    handles.extend(handle.map(|(_, value)| value.to_vec()));
                }
            });
        listed.map(|()| Some(handles))
    }
}

/// The beginning of a request about the rules of a foreign chain.
fn place(family: u8, chain: &str, kind: i32) -> Message {
    message(family, kind, 0)
        .with_text(attribute::RULE_TABLE, FILTER_TABLE)
        .with_text(attribute::RULE_CHAIN, chain)
}

/// Says what is missing where the kernel does not know what is spoken of.
fn lacking(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPROTONOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT) => {
            let why = format!(
                "the kernel lacks nftables, and there is no `iptables`: `modprobe -a nf_tables nft_ct nft_masq` may help ({error})"
            );
            io::Error::new(io::ErrorKind::Unsupported, why)
        }
        _ => error,
    }
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
