//! Ranges of addresses of networks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// All addresses with the same first bits, such as `10.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Block {
    first: IpAddr,
    prefix: u8,
}

/// A network's range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    /// All of them.
    pub block: Block,
    /// The machine's.
    pub gateway: IpAddr,
    /// Those that containers get which ask for none; all if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Block>,
    /// Whether it is one that was free, which nobody has asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chosen: bool,
    /// Those that no container gets, by what they are for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reserved: BTreeMap<String, IpAddr>,
}

impl Block {
    /// The addresses that have the first `prefix` bits of `ip`. `None` if it has not as many.
    #[must_use]
    pub fn around(ip: IpAddr, prefix: u8) -> Option<Self> {
        let bits = width(ip);
        let rest = bits.checked_sub(u32::from(prefix))?;
        let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
        let first = address(number(ip) & mask, ip.is_ipv4());
        Some(Self { first, prefix })
    }

    /// The first address, whose last bits are zero.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// How many bits all addresses have in common.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The address so many after the first; `None` beyond the last.
    #[must_use]
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        let ip = number(self.first).checked_add(offset)?;
        (ip <= self.last()).then(|| address(ip, self.first.is_ipv4()))
    }

    /// Whether an address is one of them.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let all = number(self.first)..=self.last();
        ip.is_ipv4() == self.first.is_ipv4() && all.contains(&number(ip))
    }

    /// Whether two blocks share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// Whether all addresses of another block are in this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.contains(other.first) && self.prefix <= other.prefix
    }

    fn last(&self) -> u128 {
        let rest = width(self.first).saturating_sub(u32::from(self.prefix));
        let size = 1_u128.checked_shl(rest).map_or(u128::MAX, |size| size - 1);
        number(self.first).saturating_add(size)
    }
}

impl FromStr for Block {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(ip, prefix)| {
            let ip: IpAddr = ip.parse().ok()?;
            Some((ip, Self::around(ip, prefix.parse().ok()?)?))
        });
        let (ip, block) = parsed.ok_or("it is not ADDRESS/BITS, such as `10.1.0.0/16`")?;
        match block.first == ip {
            true => Ok(block),
            false => Err(format!("its last bits are not zero: `{block}` is meant")),
        }
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl From<Block> for String {
    fn from(block: Block) -> Self {
        block.to_string()
    }
}

impl TryFrom<String> for Block {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Subnet {
    /// A block as a network's, whose first address is the machine's. `None` if it has no room for two.
    #[must_use]
    pub fn new(block: Block) -> Option<Self> {
        Some(Self {
            block,
            gateway: block.nth(1)?,
            range: None,
            chosen: false,
            reserved: BTreeMap::new(),
        })
    }

    /// Whether a container may have an address: not the network's own, the one for all, the machine's.
    #[must_use]
    pub fn grants(&self, ip: IpAddr) -> bool {
        // Blocks of two addresses have neither (RFC 3021, RFC 6164).
        let is_tiny = width(self.block.first) - u32::from(self.block.prefix) < 2;
        let is_own = ip == self.block.first && !is_tiny;
        // All bits set means everybody, in IPv4.
        let is_everybody = ip.is_ipv4() && number(ip) == self.block.last() && !is_tiny;
        self.block.contains(ip)
            && ip != self.gateway
            && !is_own
            && !is_everybody
            && !self.reserved.values().any(|reserved| *reserved == ip)
    }

    /// Addresses for containers that ask for none, in the order in which they are given out.
    pub fn free(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let block = self.range.unwrap_or(self.block);
        let all = number(block.first)..=block.last();
        let v4 = block.first.is_ipv4();
        all.map(move |ip| address(ip, v4))
            .filter(|ip| self.grants(*ip))
    }
}

fn width(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    match (v4, u32::try_from(number)) {
        (true, Ok(number)) => Ipv4Addr::from_bits(number).into(),
        _ => Ipv6Addr::from_bits(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Block {
        text.parse().unwrap()
    }

    #[test]
    fn blocks_are_read_and_compared() {
        for (one, other, expected) in [
            ("10.0.0.0/8", "10.255.0.0/16", true),
            ("10.0.0.0/16", "10.1.0.0/16", false),
            ("0.0.0.0/0", "10.1.0.0/16", true),
            ("::/0", "10.1.0.0/16", false),
            ("::/0", "fd00::/8", true),
            ("10.0.0.1/32", "10.0.0.1/32", true),
        ] {
            let (one, other) = (block(one), block(other));
            assert_eq!(one.overlaps(&other), expected, "{one} {other}");
            assert_eq!(other.overlaps(&one), expected, "{one} {other}");
            assert_eq!(one.covers(&other), expected, "{one} {other}");
            assert_eq!(other.covers(&one), expected && one == other);
        }
        assert_eq!(
            block("::/0").nth(u128::MAX).unwrap(),
            Ipv6Addr::from_bits(u128::MAX)
        );
        assert_eq!(block("10.0.0.0/30").nth(4), None);
        for bad in [
            "10.0.0.0",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.1/8",
            "x/8",
            "10.0.0.0/-1",
            "",
        ] {
            assert!(bad.parse::<Block>().is_err(), "{bad}");
        }
    }

    #[test]
    fn containers_get_what_is_nobody_elses() {
        let texts = |subnet: &Subnet| -> Vec<String> {
            subnet.free().take(6).map(|ip| ip.to_string()).collect()
        };
        let mut small = Subnet::new(block("10.1.0.0/29")).unwrap();
        let expected: Vec<String> = (2..7).map(|last| format!("10.1.0.{last}")).collect();
        assert_eq!(texts(&small), expected);
        small
            .reserved
            .insert("router".to_owned(), "10.1.0.3".parse().unwrap());
        small.range = Some(block("10.1.0.0/30"));
        assert_eq!(texts(&small), ["10.1.0.2"]);
        assert!(small.grants("10.1.0.5".parse().unwrap()));
        assert!(!small.grants("10.1.0.3".parse().unwrap()));
        let long = Subnet::new(block("fd00::/64")).unwrap();
        assert_eq!(texts(&long)[0], "fd00::2");
        let pair = Subnet::new(block("10.1.0.0/31")).unwrap();
        assert_eq!(texts(&pair), ["10.1.0.0"]);
        assert_eq!(Subnet::new(block("10.1.0.0/32")), None);
    }
}
