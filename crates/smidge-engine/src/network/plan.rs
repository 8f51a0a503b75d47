//! From what a network was asked to be like to what it is like.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use smidge_store::{Block, Network, NetworkRecord, Subnet};

use crate::container::env;
use crate::{Error, Kind, Result};

/// How bridges are called: this, and the first digits of the network's id. Names of devices have at most
/// 15 bytes.
const BRIDGE: &str = "smi-";
const DIGITS: usize = 11;
const DEVICE_NAME: usize = 15;

/// What a bridge may be told, in Docker's words.
const MTU: &str = "com.docker.network.driver.mtu";
const NAME: &str = "com.docker.network.bridge.name";
const DEVICE_PREFIX: &str = "com.docker.network.container_iface_prefix";

/// What a bridge may be told that is so in any case: the option, and what is true.
const AS_IT_IS: [(&str, &[&str]); 5] = [
    ("com.docker.network.bridge.enable_icc", &["true"]),
    ("com.docker.network.bridge.enable_ip_masquerade", &["true"]),
    ("com.docker.network.bridge.host_binding_ipv4", &["0.0.0.0"]),
    ("com.docker.network.bridge.gateway_mode_ipv4", &["nat"]),
    ("com.docker.network.bridge.gateway_mode_ipv6", &["nat"]),
];

/// A network, as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// `--subnet`: ranges of addresses, such as `10.1.0.0/16`; one that is free if none is given.
    pub subnets: Vec<String>,
    /// `--gateway`: the machine's addresses in them; the first of each if none is given.
    pub gateways: Vec<IpAddr>,
    /// `--ip-range`: the parts of them that containers get which ask for none.
    pub ranges: Vec<String>,
    /// `--aux-address NAME=IP`: what no container gets.
    pub reserved: Vec<String>,
    /// `--internal`.
    pub internal: bool,
    /// `--ipv6`.
    pub ipv6: bool,
    /// `--attachable`.
    pub attachable: bool,
    /// `--label`.
    pub labels: Vec<String>,
    /// `--opt`.
    pub options: Vec<String>,
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(Kind::Input, message)
}

/// Settles what a network is like, beside the others that there are.
pub(super) fn plan(
    request: &NetworkRequest,
    id: &str,
    others: &[Network],
) -> Result<NetworkRecord> {
    let options = options(&request.options)?;
    let bridge = match options.get(NAME) {
        Some(name) => name.clone(),
        None => self::bridge(id),
    };
    if others.iter().any(|other| other.record.bridge == bridge) {
        let message = format!("networks have conflicting bridge names: `{bridge}` is in use");
        return Err(Error::new(Kind::Conflict, message));
    }
    Ok(NetworkRecord {
        id: id.to_owned(),
        created: smidge_run::now(),
        bridge,
        subnets: subnets(request, id, others)?,
        internal: request.internal,
        attachable: request.attachable,
        labels: env::labels(&request.labels)?.into_iter().collect(),
        options,
    })
}

/// What the bridge of a network is called whose maker does not care.
pub(super) fn bridge(id: &str) -> String {
    format!("{BRIDGE}{}", &id[..DIGITS])
}

fn options(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    for text in texts {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let invalid = |why: &str| refused(format!("invalid `--opt {text}`: {why}"));
        match key {
            MTU if is_packet(value) => {}
            MTU => return Err(invalid("a packet has from 68 to 65535 bytes")),
            NAME | DEVICE_PREFIX if !is_device(value) => {
                return Err(invalid("that is no name of a device"));
            }
            DEVICE_PREFIX if value.len() > DEVICE_NAME - 2 => {
                return Err(invalid("it is too long: a number follows"));
            }
            NAME | DEVICE_PREFIX => {}
            _ => match AS_IT_IS.iter().find(|(known, _)| *known == key) {
                Some((_, is)) if is.contains(&value) => {}
                Some((_, is)) => {
                    return Err(invalid(&format!("it is always `{}`", is.join("`, `"))));
                }
                None => return Err(invalid("no such option of bridges is known")),
            },
        }
        options.insert(key.to_owned(), value.to_owned());
    }
    Ok(options)
}

/// The largest packet of a network, if its maker cares.
pub(super) fn mtu(record: &NetworkRecord) -> Option<u32> {
    record.options.get(MTU)?.parse().ok()
}

/// How a network's devices are called in containers, without their number.
pub(super) fn device_prefix(record: &NetworkRecord) -> &str {
    record
        .options
        .get(DEVICE_PREFIX)
        .map_or("eth", String::as_str)
}

fn is_packet(bytes: &str) -> bool {
    bytes
        .parse()
        .is_ok_and(|mtu: u32| (68..=65535).contains(&mtu))
}

fn is_device(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    (1..=DEVICE_NAME).contains(&name.len())
        && name.bytes().all(plain)
        && name != "."
        && name != ".."
}

fn subnets(request: &NetworkRequest, id: &str, others: &[Network]) -> Result<Vec<Subnet>> {
    let mut subnets = Vec::new();
    for text in &request.subnets {
        let block: Block = text
            .parse()
            .map_err(|why| refused(format!("invalid `--subnet {text}`: {why}")))?;
        if block.first().is_ipv6() && !request.ipv6 {
            return Err(refused(format!("`--subnet {text}` takes `--ipv6`")));
        }
        let known = others.iter().flat_map(|other| &other.record.subnets);
        if known.into_iter().any(|known| known.block.overlaps(&block)) {
            let message =
                "invalid pool request: Pool overlaps with other one on this address space";
            return Err(overlap(message, block, others));
        }
        let subnet = Subnet::new(block);
        subnets.push(subnet.ok_or_else(|| {
            refused(format!(
                "invalid `--subnet {text}`: it has no room for two addresses"
            ))
        })?);
    }
    detail(request, &mut subnets)?;
    let lacks = |v4: bool| {
        !subnets
            .iter()
            .any(|known| known.block.first().is_ipv4() == v4)
    };
    let (lacks_v4, lacks_v6) = (lacks(true), request.ipv6 && lacks(false));
    let chosen = |subnet: Subnet| Subnet {
        chosen: true,
        ..subnet
    };
    if lacks_v4 {
        subnets.insert(0, chosen(free(others)?));
    }
    if lacks_v6 {
        subnets.push(chosen(local(id)?));
    }
    subnets.sort_by_key(|subnet| subnet.block.first().is_ipv6());
    let second = subnets
        .windows(2)
        .find(|pair| pair[0].block.first().is_ipv4() == pair[1].block.first().is_ipv4());
    match second {
        Some(_) => Err(refused("bridge driver doesn't support multiple subnets")),
        None => Ok(subnets),
    }
}

fn overlap(message: &str, block: Block, others: &[Network]) -> Error {
    let mut error = Error::new(Kind::Conflict, message);
    for other in others {
        let subnets = other.record.subnets.iter();
        for subnet in subnets.filter(|subnet| subnet.block.overlaps(&block)) {
            error = error.with_fact(format!(
                "`{block}` and `{}` of `{}`",
                subnet.block, other.name
            ));
        }
    }
    error
}

/// Puts gateways, ranges and what is reserved where they belong.
fn detail(request: &NetworkRequest, subnets: &mut [Subnet]) -> Result<()> {
    for gateway in &request.gateways {
        let subnet = subnets
            .iter_mut()
            .find(|subnet| subnet.block.contains(*gateway));
        let none = || refused(format!("no matching subnet for gateway {gateway}"));
        subnet.ok_or_else(none)?.gateway = *gateway;
    }
    for text in &request.ranges {
        let range: Block = text
            .parse()
            .map_err(|why| refused(format!("invalid `--ip-range {text}`: {why}")))?;
        let subnet = subnets
            .iter_mut()
            .find(|subnet| subnet.block.covers(&range));
        let none = || refused(format!("no matching subnet for range {range}"));
        subnet.ok_or_else(none)?.range = Some(range);
    }
    for text in &request.reserved {
        let parsed = text.split_once('=');
        let parsed = parsed.and_then(|(name, ip)| Some((name, ip.parse::<IpAddr>().ok()?)));
        let (name, ip) = parsed
            .ok_or_else(|| refused(format!("invalid `--aux-address {text}`: expected NAME=IP")))?;
        let subnet = subnets.iter_mut().find(|subnet| subnet.block.contains(ip));
        let none = || refused(format!("no matching subnet for aux-address {ip}"));
        subnet
            .ok_or_else(none)?
            .reserved
            .insert(name.to_owned(), ip);
    }
    Ok(())
}

/// A range that neither another network nor the machine has.
fn free(others: &[Network]) -> Result<Subnet> {
    let mut taken = taken_by_host();
    let known = others.iter().flat_map(|other| &other.record.subnets);
    taken.extend(known.map(|subnet| subnet.block));
    let free = pool().find(|block| !taken.iter().any(|taken| taken.overlaps(block)));
    free.and_then(Subnet::new).ok_or_else(|| {
        Error::new(
            Kind::Conflict,
            "all predefined address pools have been fully subnetted",
        )
        .with_hint("name a range: `smidge network create --subnet 10.1.0.0/16 NETWORK`")
        .with_hint("remove networks that no container is on: `smidge network prune`")
    })
}

/// The ranges that networks get whose makers name none, as Docker has them: large ones, then small ones.
fn pool() -> impl Iterator<Item = Block> {
    let block = |ip: [u8; 4], prefix| Block::around(ip.into(), prefix);
    let large = (18..32).filter_map(move |second| block([172, second, 0, 0], 16));
    let small = (0..16).filter_map(move |third| block([192, 168, third * 16, 0], 20));
    large.chain(small)
}

/// A local range of IPv6 (RFC 4193), which is as good as nobody else's: it is made of the network's id.
fn local(id: &str) -> Result<Subnet> {
    let number = u64::from_str_radix(&id[..10], 16).unwrap_or_default();
    let first = (0xfd << 120) | (u128::from(number) << 80);
    let block = Block::around(std::net::Ipv6Addr::from_bits(first).into(), 64);
    let subnet = block.and_then(Subnet::new);
    subnet.ok_or_else(|| Error::new(Kind::Bug, "there is no local range of IPv6"))
}

/// Ranges that the machine itself has routes to, which a network would cut off (`proc_net_route(5)`).
fn taken_by_host() -> Vec<Block> {
    let text = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    routes(&text)
}

fn routes(text: &str) -> Vec<Block> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // In the order of the network's bytes, read as a number of the machine's.
        let number = |at: usize| {
            let number = u32::from_str_radix(fields.get(at)?, 16).ok()?;
            Some(u32::from_be_bytes(number.to_ne_bytes()))
        };
        let (ip, mask) = (number(1)?, number(7)?);
        // The default route leads everywhere, and is nobody's.
        (mask != 0).then_some(())?;
        let prefix = u8::try_from(mask.leading_ones()).ok()?;
        Block::around(Ipv4Addr::from_bits(ip).into(), prefix)
    };
    text.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef";

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn network(record: NetworkRecord) -> Network {
        Network {
            name: "other".to_owned(),
            dir: "/".into(),
            record,
        }
    }

    #[test]
    fn ranges_are_chosen_so_that_none_meet() {
        let mut others = Vec::new();
        for _ in 0..20 {
            let bare = NetworkRequest::default();
            let Ok(record) = plan(&bare, &format!("{:016x}", others.len()), &others) else {
                break;
            };
            let own = record.subnets[0].block;
            assert!(
                others
                    .iter()
                    .all(|other| !other.record.subnets[0].block.overlaps(&own))
            );
            assert!(!taken_by_host().iter().any(|taken| taken.overlaps(&own)));
            let mut named = record.clone();
            named.bridge = format!("b{}", others.len());
            others.push(network(named));
        }
        assert!(others.len() > 10, "{}", others.len());
    }

    #[test]
    fn routes_of_the_host_are_read() {
        let text = "Iface\tDestination\tGateway\n\
            eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let expected: Block = "172.18.0.0/16".parse().unwrap();
        if cfg!(target_endian = "little") {
            assert_eq!(routes(text), [expected]);
        }
    }

    #[test]
    fn what_was_asked_for_is_kept() {
        let request = NetworkRequest {
            subnets: texts(&["10.9.0.0/16", "fd01::/64"]),
            gateways: vec!["10.9.0.254".parse().unwrap()],
            ranges: texts(&["10.9.1.0/24"]),
            reserved: texts(&["router=10.9.0.2"]),
            ipv6: true,
            labels: texts(&["a=b"]),
            options: texts(&["com.docker.network.driver.mtu=1400"]),
            ..NetworkRequest::default()
        };
        let record = plan(&request, ID, &[]).unwrap();
        assert_eq!(record.bridge, "smi-0123456789a");
        assert_eq!(mtu(&record), Some(1400));
        let [v4, v6] = &record.subnets[..] else {
            panic!("{:?}", record.subnets);
        };
        assert_eq!(v4.gateway.to_string(), "10.9.0.254");
        assert_eq!(v4.free().next().unwrap().to_string(), "10.9.1.0");
        assert_eq!(v6.gateway.to_string(), "fd01::1");
        let local = NetworkRequest {
            ipv6: true,
            ..NetworkRequest::default()
        };
        let record = plan(&local, ID, &[]).unwrap();
        assert_eq!(record.subnets[1].block.to_string(), "fd01:2345:6789::/64");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let own = NetworkRequest {
            subnets: texts(&["10.9.0.0/16"]),
            ..NetworkRequest::default()
        };
        let others = [network(plan(&own, "fedcba9876543210", &[]).unwrap())];
        let fault = |change: &dyn Fn(&mut NetworkRequest)| {
            let mut request = NetworkRequest::default();
            change(&mut request);
            plan(&request, ID, &others).unwrap_err().to_string()
        };
        for (expected, fault) in [
            ("overlaps", fault(&|r| r.subnets = texts(&["10.9.1.0/24"]))),
            (
                "takes `--ipv6`",
                fault(&|r| r.subnets = texts(&["fd00::/64"])),
            ),
            ("last bits", fault(&|r| r.subnets = texts(&["10.8.0.1/16"]))),
            ("no room", fault(&|r| r.subnets = texts(&["10.8.0.0/32"]))),
            (
                "multiple subnets",
                fault(&|r| r.subnets = texts(&["10.7.0.0/16", "10.8.0.0/16"])),
            ),
            (
                "for gateway",
                fault(&|r| r.gateways = vec!["10.8.0.1".parse().unwrap()]),
            ),
            ("for range", fault(&|r| r.ranges = texts(&["10.8.0.0/24"]))),
            (
                "for aux-address",
                fault(&|r| r.reserved = texts(&["a=10.8.0.1"])),
            ),
            ("NAME=IP", fault(&|r| r.reserved = texts(&["10.8.0.1"]))),
            (
                "68 to",
                fault(&|r| r.options = texts(&["com.docker.network.driver.mtu=9"])),
            ),
            (
                "no name of a device",
                fault(&|r| r.options = texts(&["com.docker.network.bridge.name=a/b"])),
            ),
            (
                "always",
                fault(&|r| r.options = texts(&["com.docker.network.bridge.enable_icc=false"])),
            ),
            (
                "no such option",
                fault(&|r| r.options = texts(&["colour=red"])),
            ),
            (
                "conflicting bridge",
                fault(&|r| {
                    r.options = texts(&["com.docker.network.bridge.name=smi-fedcba98765"]);
                }),
            ),
        ] {
            assert!(fault.contains(expected), "{expected}: {fault}");
        }
    }
}
