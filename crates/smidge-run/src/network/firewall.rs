//! Rules of the kernel's packet filter: what leaves a network wears the machine's address, other
//! networks stay out, and published ports lead to containers
//! ([nft(8)](https://www.netfilter.org/projects/nftables/manpage.html), `linux/netfilter/nf_tables.h`).
//!
//! A network has a table of its own: made anew as a whole, removed as a whole. Where Docker, or an
//! administrator's `iptables`, lets nothing pass between devices, a network's rules are needed there as well:
//! whatever one table accepts another may still drop.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Address;
use super::netlink::{self, Message, Netlink};
use crate::spec::{Port, Protocol};

/// How names of bridges begin, by which networks know each other.
pub(super) const PREFIX: &str = "smi-";

/// The table of `iptables` that lets packets pass or not, and its chains: Docker's for the user's own
/// rules, or else everybody's.
const FILTER_TABLE: &str = "filter";
const FOREIGN: [&str; 2] = ["DOCKER-USER", "FORWARD"];

/// The families that `iptables` has tables for.
const FAMILIES: [u8; 2] = [2, 10];

/// Bytes of `struct nfgenmsg`.
const GENERAL: usize = 4;

/// Numbers of attributes.
mod attribute {
    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const TABLE_FLAGS: u16 = 2;
    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const RULE_TABLE: u16 = 1;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_HANDLE: u16 = 3;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const LIST_ELEMENT: u16 = 1;
    pub(super) const EXPRESSION_NAME: u16 = 1;
    pub(super) const EXPRESSION_DATA: u16 = 2;
    pub(super) const DATA_VALUE: u16 = 1;
    pub(super) const DATA_VERDICT: u16 = 2;
    pub(super) const VERDICT_CODE: u16 = 1;
}

/// What `linux/netfilter.h` and `nf_tables.h` number.
mod number {
    pub(super) const INET: u8 = 1;
    pub(super) const PREROUTING: u32 = 0;
    pub(super) const FORWARD: u32 = 2;
    pub(super) const OUTPUT: u32 = 3;
    pub(super) const POSTROUTING: u32 = 4;
    pub(super) const META_IIFNAME: u32 = 6;
    pub(super) const META_OIFNAME: u32 = 7;
    pub(super) const META_NFPROTO: u32 = 15;
    pub(super) const META_L4PROTO: u32 = 16;
    pub(super) const EQUAL: u32 = 0;
    pub(super) const UNEQUAL: u32 = 1;
    pub(super) const NETWORK_HEADER: u32 = 1;
    pub(super) const TRANSPORT_HEADER: u32 = 2;
    pub(super) const FIB_ADDRESS_TYPE: u32 = 3;
    pub(super) const FIB_DESTINATION: u32 = 2;
    pub(super) const LOCAL: u32 = 2;
    pub(super) const DESTINATION: u32 = 1;
    pub(super) const OWNED: u32 = 2;
    pub(super) const DROP: u32 = 0;
    pub(super) const ACCEPT: u32 = 1;
}

/// Priorities of hooks, as `nft` and `iptables` have them.
const SOURCE_NAT: i32 = 100;
const DESTINATION_NAT: i32 = -100;
const FILTER: i32 = 0;

/// The registers that rules use: for values, for what becomes of a packet.
const REGISTER: u32 = 1;
const SECOND: u32 = 2;
const VERDICT: u32 = 0;

/// The packet filter of a network namespace.
#[derive(Debug)]
pub(crate) struct Firewall(Netlink);

impl Firewall {
    /// That of the caller's namespace.
    pub(crate) fn open() -> io::Result<Self> {
        Netlink::filter().map(Self).map_err(lacking)
    }

    /// Lets a network's containers reach what the machine reaches, under the machine's address, and no
    /// other network. An internal one reaches nothing.
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
        if !internal {
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
        for family in FAMILIES {
            self.let_pass(family, bridge)?;
        }
        Ok(())
    }

    /// Whether a network has its rules, here and where others drop what they do not know.
    pub(super) fn guards(&self, bridge: &str) -> io::Result<bool> {
        let table = message(number::INET, libc::NFT_MSG_GETTABLE, 0)
            .with_text(attribute::TABLE_NAME, &Table::new(bridge).name);
        match self.0.request(table) {
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
        for (family, chain) in FAMILIES
            .iter()
            .flat_map(|f| FOREIGN.map(|chain| (*f, chain)))
        {
            self.forget(family, chain, bridge)?;
        }
        Ok(())
    }

    /// Lets a network's packets pass where others drop what they do not know.
    fn let_pass(&self, family: u8, bridge: &str) -> io::Result<()> {
        for chain in FOREIGN {
            let rules = [number::META_IIFNAME, number::META_OIFNAME].map(|end| {
                let rule = Rule::new().meta(end, number::EQUAL, &device(bridge));
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

    /// Removes what [`let_pass`](Self::let_pass) has added to a chain.
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

/// A table in the making.
struct Table {
    name: String,
    /// Whether it goes with the socket that it was made through.
    is_owned: bool,
    messages: Vec<Message>,
}

impl Table {
    fn new(name: &str) -> Self {
        Self {
            name: format!("smidge-{name}"),
            is_owned: false,
            messages: Vec::new(),
        }
    }

    fn owned(name: &str) -> Self {
        Self {
            is_owned: true,
            ..Self::new(name)
        }
    }

    fn create(&self) -> Message {
        let create = message(number::INET, libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE)
            .with_text(attribute::TABLE_NAME, &self.name);
        match self.is_owned {
            true => create.with(attribute::TABLE_FLAGS, &number::OWNED.to_be_bytes()),
            false => create,
        }
    }

    /// Removing is making first, so that it does not fail for want of a table.
    fn removal(&self) -> Vec<Message> {
        let delete = message(number::INET, libc::NFT_MSG_DELTABLE, 0)
            .with_text(attribute::TABLE_NAME, &self.name);
        vec![self.create(), delete]
    }

    fn chain(&mut self, name: &str, kind: &str, (hook, priority): (u32, i32)) {
        let message = message(number::INET, libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE)
            .with_text(attribute::CHAIN_TABLE, &self.name)
            .with_text(attribute::CHAIN_NAME, name)
            .with_nested(nested(attribute::CHAIN_HOOK), &[], |inner| {
                inner
                    .with(attribute::HOOK_NUMBER, &hook.to_be_bytes())
                    .with(attribute::HOOK_PRIORITY, &priority.to_be_bytes())
            })
            .with_text(attribute::CHAIN_TYPE, kind);
        self.messages.push(message);
    }

    fn rule(&mut self, chain: &str, rule: Rule) {
        let flags = libc::NLM_F_APPEND;
        let place = (number::INET, self.name.as_str(), chain);
        self.messages.push(rule.message(place, flags));
    }

    /// The table as a whole, in place of the one that was there.
    fn finish(self) -> Vec<Message> {
        let mut messages = self.removal();
        messages.push(self.create());
        messages.extend(self.messages);
        batch(messages)
    }
}

/// What packets must be like, and what becomes of them.
struct Rule(Vec<Box<dyn FnOnce(Message) -> Message>>);

impl Rule {
    fn new() -> Self {
        Self(Vec::new())
    }

    /// The request to add it to a chain of a family's table: at the beginning, unless `flags` say
    /// otherwise.
    fn message(self, (family, table, chain): (u8, &str, &str), flags: i32) -> Message {
        message(family, libc::NFT_MSG_NEWRULE, libc::NLM_F_CREATE | flags)
            .with_text(attribute::RULE_TABLE, table)
            .with_text(attribute::RULE_CHAIN, chain)
            .with_nested(nested(attribute::RULE_EXPRESSIONS), &[], |list| {
                let expressions = self.0.into_iter();
                expressions.fold(list, |list, expression| expression(list))
            })
    }

    fn expression(
        mut self,
        name: &'static str,
        data: impl FnOnce(Message) -> Message + 'static,
    ) -> Self {
        self.0.push(Box::new(move |list| {
            list.with_nested(nested(attribute::LIST_ELEMENT), &[], |element| {
                element
                    .with_text(attribute::EXPRESSION_NAME, name)
                    .with_nested(nested(attribute::EXPRESSION_DATA), &[], data)
            })
        }));
        self
    }

    fn compare(self, how: u32, value: &[u8]) -> Self {
        let value = value.to_vec();
        self.expression("cmp", move |data| {
            data.with(1, &REGISTER.to_be_bytes())
                .with(2, &how.to_be_bytes())
                .with_nested(nested(3), &[], |inner| {
                    inner.with(attribute::DATA_VALUE, &value)
                })
        })
    }

    /// Something that is known of a packet beside its bytes.
    fn meta(self, key: u32, how: u32, value: &[u8]) -> Self {
        self.expression("meta", move |data| {
            data.with(1, &REGISTER.to_be_bytes())
                .with(2, &key.to_be_bytes())
        })
        .compare(how, value)
    }

    /// Some of a packet's bytes.
    fn payload(self, header: u32, (offset, length): (u32, u32)) -> Self {
        self.expression("payload", move |data| {
            data.with(1, &REGISTER.to_be_bytes())
                .with(2, &header.to_be_bytes())
                .with(3, &offset.to_be_bytes())
                .with(4, &length.to_be_bytes())
        })
    }

    fn family(self, ip: IpAddr) -> Self {
        self.meta(number::META_NFPROTO, number::EQUAL, &[family(ip)])
    }

    /// Packets that come from a network's addresses.
    fn of_subnet(self, subnet: Address) -> Self {
        let (offset, network) = match subnet.network() {
            IpAddr::V4(ip) => (12, ip.octets().to_vec()),
            IpAddr::V6(ip) => (8, ip.octets().to_vec()),
        };
        let length = u32::try_from(network.len()).unwrap_or_default();
        let mask = subnet.mask();
        self.family(subnet.ip)
            .payload(number::NETWORK_HEADER, (offset, length))
            .masked(&mask)
            .compare(number::EQUAL, &network)
    }

    /// Only these bits of what was loaded.
    fn masked(self, mask: &[u8]) -> Self {
        let length = u32::try_from(mask.len()).unwrap_or_default();
        let (mask, nothing) = (mask.to_vec(), vec![0; mask.len()]);
        self.expression("bitwise", move |data| {
            data.with(1, &REGISTER.to_be_bytes())
                .with(2, &REGISTER.to_be_bytes())
                .with(3, &length.to_be_bytes())
                .with_nested(nested(4), &[], |m| m.with(attribute::DATA_VALUE, &mask))
                .with_nested(nested(5), &[], |m| m.with(attribute::DATA_VALUE, &nothing))
        })
    }

    /// Packets for a port.
    fn for_port(self, protocol: i32, port: u16) -> Self {
        let protocol = u8::try_from(protocol).unwrap_or_default();
        self.meta(number::META_L4PROTO, number::EQUAL, &[protocol])
            .payload(number::TRANSPORT_HEADER, (2, 2))
            .compare(number::EQUAL, &port.to_be_bytes())
    }

    /// The first packet for a published port of the machine.
    fn for_published(self, port: &Port) -> Self {
        let rule = self.family(port.host_ip);
        let rule = match port.host_ip {
            // Any address of the machine's own.
            ip if ip.is_unspecified() => rule
                .expression("fib", |data| {
                    data.with(1, &REGISTER.to_be_bytes())
                        .with(2, &number::FIB_ADDRESS_TYPE.to_be_bytes())
                        .with(3, &number::FIB_DESTINATION.to_be_bytes())
                })
                .compare(number::EQUAL, &number::LOCAL.to_ne_bytes()),
            IpAddr::V4(ip) => rule
                .payload(number::NETWORK_HEADER, (16, 4))
                .compare(number::EQUAL, &ip.octets()),
            IpAddr::V6(ip) => rule
                .payload(number::NETWORK_HEADER, (24, 16))
                .compare(number::EQUAL, &ip.octets()),
        };
        let rule = match port.host_ip {
            IpAddr::V4(_) => rule
                .payload(number::NETWORK_HEADER, (16, 1))
                .compare(number::UNEQUAL, &[127]),
            IpAddr::V6(_) => rule
                .payload(number::NETWORK_HEADER, (24, 16))
                .compare(number::UNEQUAL, &Ipv6Addr::LOCALHOST.octets()),
        };
        match port.protocol {
            Protocol::Udp => rule.for_port(libc::IPPROTO_UDP, port.host_port),
            // A connection that the kernel has not watched from its start is somebody's already: of the
            // flags that begin and end one, only SYN is set.
            Protocol::Tcp => rule
                .for_port(libc::IPPROTO_TCP, port.host_port)
                .payload(number::TRANSPORT_HEADER, (13, 1))
                .masked(&[0x17])
                .compare(number::EQUAL, &[0x02]),
        }
    }

    fn immediate(self, register: u32, value: Vec<u8>) -> Self {
        self.expression("immediate", move |data| {
            data.with(1, &register.to_be_bytes())
                .with_nested(nested(2), &[], |inner| {
                    inner.with(attribute::DATA_VALUE, &value)
                })
        })
    }

    fn lead_to(self, ip: IpAddr, port: u16) -> Self {
        let address = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let family = u32::from(family(ip));
        self.immediate(REGISTER, address)
            .immediate(SECOND, port.to_be_bytes().to_vec())
            .expression("nat", move |data| {
                data.with(1, &number::DESTINATION.to_be_bytes())
                    .with(2, &family.to_be_bytes())
                    .with(3, &REGISTER.to_be_bytes())
                    .with(5, &SECOND.to_be_bytes())
            })
    }

    fn masquerade(self) -> Self {
        self.expression("masq", |data| data)
    }

    fn verdict(self, code: u32) -> Self {
        self.expression("immediate", move |data| {
            data.with(1, &VERDICT.to_be_bytes())
                .with_nested(nested(2), &[], |inner| {
                    inner.with_nested(nested(attribute::DATA_VERDICT), &[], |verdict| {
                        verdict.with(attribute::VERDICT_CODE, &code.to_be_bytes())
                    })
                })
        })
    }
}

/// Says what is missing where the kernel does not know what is spoken of.
fn lacking(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPROTONOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT) => {
            let why = format!(
                "the kernel lacks nftables, and there is no `iptables`: `modprobe -a nf_tables nft_masq` may help ({error})"
            );
            io::Error::new(io::ErrorKind::Unsupported, why)
        }
        _ => error,
    }
}

/// A device's name to its end, as `iptables` has it: without the zero it would be the beginning of one.
fn device(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn family(ip: IpAddr) -> u8 {
    let family = match ip {
        IpAddr::V4(_) => libc::NFPROTO_IPV4,
        IpAddr::V6(_) => libc::NFPROTO_IPV6,
    };
    u8::try_from(family).unwrap_or_default()
}

/// Marks an attribute that holds others, which this protocol wants.
fn nested(kind: u16) -> u16 {
    kind | u16::try_from(libc::NLA_F_NESTED).unwrap_or_default()
}

/// The beginning of a message about rules (`struct nfgenmsg`).
fn message(family: u8, kind: i32, flags: i32) -> Message {
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8) | kind;
    let kind = u16::try_from(kind).unwrap_or_default();
    Message::new(kind, flags, &[family, 0, 0, 0])
}

/// Messages that are carried out together.
fn batch(messages: Vec<Message>) -> Vec<Message> {
    let subsystem = u16::try_from(libc::NFNL_SUBSYS_NFTABLES).unwrap_or_default();
    let [high, low] = subsystem.to_be_bytes();
    let edge = |kind| {
        let kind = u16::try_from(kind).unwrap_or_default();
        Message::new(kind, 0, &[0, 0, high, low])
    };
    std::iter::once(edge(libc::NFNL_MSG_BATCH_BEGIN))
        .chain(messages)
        .chain([edge(libc::NFNL_MSG_BATCH_END)])
        .collect()
}
