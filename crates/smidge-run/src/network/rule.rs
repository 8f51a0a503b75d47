//! Tables of the kernel's packet filter in the making: chains, rules, and what these are made of
//! (`linux/netfilter/nf_tables.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Address;
use super::netlink::Message;
use crate::spec::{Port, Protocol};

/// Numbers of attributes.
pub(super) mod attribute {
    pub(in crate::network) const TABLE_NAME: u16 = 1;
    pub(in crate::network) const TABLE_FLAGS: u16 = 2;
    pub(in crate::network) const CHAIN_TABLE: u16 = 1;
    pub(in crate::network) const CHAIN_NAME: u16 = 3;
    pub(in crate::network) const CHAIN_HOOK: u16 = 4;
    pub(in crate::network) const CHAIN_TYPE: u16 = 7;
    pub(in crate::network) const HOOK_NUMBER: u16 = 1;
    pub(in crate::network) const HOOK_PRIORITY: u16 = 2;
    pub(in crate::network) const RULE_TABLE: u16 = 1;
    pub(in crate::network) const RULE_CHAIN: u16 = 2;
    pub(in crate::network) const RULE_HANDLE: u16 = 3;
    pub(in crate::network) const RULE_EXPRESSIONS: u16 = 4;
    pub(in crate::network) const LIST_ELEMENT: u16 = 1;
    pub(in crate::network) const EXPRESSION_NAME: u16 = 1;
    pub(in crate::network) const EXPRESSION_DATA: u16 = 2;
    pub(in crate::network) const DATA_VALUE: u16 = 1;
    pub(in crate::network) const DATA_VERDICT: u16 = 2;
    pub(in crate::network) const VERDICT_CODE: u16 = 1;
}

/// What `linux/netfilter.h` and `nf_tables.h` number.
pub(super) mod number {
    pub(in crate::network) const INET: u8 = 1;
    pub(in crate::network) const PREROUTING: u32 = 0;
    pub(in crate::network) const FORWARD: u32 = 2;
    pub(in crate::network) const OUTPUT: u32 = 3;
    pub(in crate::network) const POSTROUTING: u32 = 4;
    pub(in crate::network) const META_IIFNAME: u32 = 6;
    pub(in crate::network) const META_OIFNAME: u32 = 7;
    pub(in crate::network) const META_NFPROTO: u32 = 15;
    pub(in crate::network) const META_L4PROTO: u32 = 16;
    pub(in crate::network) const EQUAL: u32 = 0;
    pub(in crate::network) const UNEQUAL: u32 = 1;
    pub(in crate::network) const CT_STATE: u32 = 0;
    pub(in crate::network) const CT_STATUS: u32 = 2;
    /// `NF_CT_STATE_BIT` of what is established or related.
    pub(in crate::network) const KNOWN: u32 = 0b110;
    /// `IPS_DST_NAT`.
    pub(in crate::network) const LED: u32 = 1 << 5;
    pub(in crate::network) const NETWORK_HEADER: u32 = 1;
    pub(in crate::network) const TRANSPORT_HEADER: u32 = 2;
    pub(in crate::network) const FIB_ADDRESS_TYPE: u32 = 3;
    pub(in crate::network) const FIB_DESTINATION: u32 = 2;
    pub(in crate::network) const LOCAL: u32 = 2;
    pub(in crate::network) const DESTINATION: u32 = 1;
    pub(in crate::network) const OWNED: u32 = 2;
    pub(in crate::network) const DROP: u32 = 0;
    pub(in crate::network) const ACCEPT: u32 = 1;
}

/// Priorities of hooks, as `nft` and `iptables` have them.
pub(super) const RAW: i32 = -300;
pub(super) const SOURCE_NAT: i32 = 100;
pub(super) const DESTINATION_NAT: i32 = -100;
pub(super) const FILTER: i32 = 0;

/// The registers that rules use: for values, for what becomes of a packet.
const REGISTER: u32 = 1;
const SECOND: u32 = 2;
const VERDICT: u32 = 0;

/// A table in the making.
pub(super) struct Table {
    pub(super) name: String,
    /// Whether it goes with the socket that it was made through.
    is_owned: bool,
    messages: Vec<Message>,
}

impl Table {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: format!("smidge-{name}"),
            is_owned: false,
            messages: Vec::new(),
        }
    }

    pub(super) fn owned(name: &str) -> Self {
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
    pub(super) fn removal(&self) -> Vec<Message> {
        let delete = message(number::INET, libc::NFT_MSG_DELTABLE, 0)
            .with_text(attribute::TABLE_NAME, &self.name);
        vec![self.create(), delete]
    }

    pub(super) fn chain(&mut self, name: &str, kind: &str, (hook, priority): (u32, i32)) {
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

    pub(super) fn rule(&mut self, chain: &str, rule: Rule) {
        let flags = libc::NLM_F_APPEND;
        let place = (number::INET, self.name.as_str(), chain);
        self.messages.push(rule.message(place, flags));
    }

    /// The table as a whole, in place of the one that was there.
    pub(super) fn finish(self) -> Vec<Message> {
        let mut messages = self.removal();
        messages.push(self.create());
        messages.extend(self.messages);
        batch(messages)
    }
}

/// What packets must be like, and what becomes of them.
pub(super) struct Rule(Vec<Box<dyn FnOnce(Message) -> Message>>);

impl Rule {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// The request to add it to a chain of a family's table: at the beginning, unless `flags` say
    /// otherwise.
    pub(super) fn message(self, (family, table, chain): (u8, &str, &str), flags: i32) -> Message {
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

    pub(super) fn compare(self, how: u32, value: &[u8]) -> Self {
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
    pub(super) fn meta(self, key: u32, how: u32, value: &[u8]) -> Self {
        self.expression("meta", move |data| {
            data.with(1, &REGISTER.to_be_bytes())
                .with(2, &key.to_be_bytes())
        })
        .compare(how, value)
    }

    /// Bits that are known of a packet's connection: some of them are set, or none is.
    pub(super) fn connection(self, key: u32, bits: u32, is_some: bool) -> Self {
        let how = match is_some {
            true => number::UNEQUAL,
            false => number::EQUAL,
        };
        self.expression("ct", move |data| {
            data.with(1, &REGISTER.to_be_bytes())
                .with(2, &key.to_be_bytes())
        })
        .masked(&bits.to_ne_bytes())
        .compare(how, &[0; 4])
    }

    /// Packets for the machine's loopback addresses, from elsewhere.
    pub(super) fn for_loopback(self) -> Self {
        self.meta(number::META_IIFNAME, number::UNEQUAL, &device("lo"))
            .family(Ipv4Addr::LOCALHOST.into())
            .payload(number::NETWORK_HEADER, (16, 1))
            .compare(number::EQUAL, &[127])
    }

    /// Some of a packet's bytes.
    pub(super) fn payload(self, header: u32, (offset, length): (u32, u32)) -> Self {
        self.expression("payload", move |data| {
            data.with(1, &REGISTER.to_be_bytes())
                .with(2, &header.to_be_bytes())
                .with(3, &offset.to_be_bytes())
                .with(4, &length.to_be_bytes())
        })
    }

    pub(super) fn family(self, ip: IpAddr) -> Self {
        self.meta(number::META_NFPROTO, number::EQUAL, &[family(ip)])
    }

    /// Packets that come from a network's addresses.
    pub(super) fn of_subnet(self, subnet: Address) -> Self {
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
    pub(super) fn for_port(self, protocol: i32, port: u16) -> Self {
        let protocol = u8::try_from(protocol).unwrap_or_default();
        self.meta(number::META_L4PROTO, number::EQUAL, &[protocol])
            .payload(number::TRANSPORT_HEADER, (2, 2))
            .compare(number::EQUAL, &port.to_be_bytes())
    }

    /// The first packet for a published port of the machine.
    pub(super) fn for_published(self, port: &Port) -> Self {
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

    pub(super) fn lead_to(self, ip: IpAddr, port: u16) -> Self {
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

    pub(super) fn masquerade(self) -> Self {
        self.expression("masq", |data| data)
    }

    pub(super) fn verdict(self, code: u32) -> Self {
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

/// A device's name to its end, as `iptables` has it: without the zero it would be the beginning of one.
pub(super) fn device(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn family(ip: IpAddr) -> u8 {
    let family = match ip {
        IpAddr::V4(_) => libc::NFPROTO_IPV4,
        IpAddr::V6(_) => libc::NFPROTO_IPV6,
    };
    u8::try_from(family).unwrap_or_default()
}

/// Marks an attribute that holds others, which this protocol wants.
pub(super) fn nested(kind: u16) -> u16 {
    kind | u16::try_from(libc::NLA_F_NESTED).unwrap_or_default()
}

/// The beginning of a message about rules (`struct nfgenmsg`).
pub(super) fn message(family: u8, kind: i32, flags: i32) -> Message {
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8) | kind;
    let kind = u16::try_from(kind).unwrap_or_default();
    Message::new(kind, flags, &[family, 0, 0, 0])
}

/// Messages that are carried out together.
pub(super) fn batch(messages: Vec<Message>) -> Vec<Message> {
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
