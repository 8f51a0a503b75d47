//! `--publish [IP:][HOST[-HOST]:]CONTAINER[-CONTAINER][/tcp|udp]`.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use smidge_run::port::Holder;
use smidge_run::{Port, Protocol, Status};
use smidge_store::Container;

use super::record::Record;
use crate::{Engine, Error, Kind, Result};

/// Where to listen unless told otherwise.
const EVERYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

/// Reads what a `--publish` option asks for: one port, or a range of them.
///
/// # Errors
/// [`Kind::Input`], saying which part is at fault.
pub fn parse_publish(text: &str) -> Result<Vec<Port>> {
    let invalid = |why: String| {
        Error::new(Kind::Input, format!("cannot publish `{text}`: {why}"))
            .with_hint("write HOST:CONTAINER: `smidge run -p 8080:80 IMAGE`")
    };
    let (rest, protocol) = split_protocol(text).map_err(invalid)?;
    let (host_ip, rest) = split_address(rest).map_err(invalid)?;
    let (host, container) = match rest.rsplit_once(':') {
        Some((host, container)) => (host, container),
        None => ("", rest),
    };
    let container = parse_range(container, "containerPort").map_err(invalid)?;
    let host = match host {
        // The kernel draws a port for each.
        "" | "0" => None,
        _ => Some(parse_range(host, "hostPort").map_err(invalid)?),
    };
    // Of several ports here, one that is free leads to the one inside: `spread` tells of them.
    if let Some(host) = &host
        && host.len() != container.len()
        && container.len() != 1
    {
        return Err(invalid(format!(
            "invalid ranges specified for container and host Ports: {} host ports cannot lead to {}",
            host.len(),
            container.len()
        )));
    }
    let addresses = match host_ip {
        Some(ip) => vec![ip],
        None => EVERYWHERE.to_vec(),
    };
    let at = |(index, container_port): (usize, &u16)| {
        let published = |host_ip: &IpAddr| Port {
            host_ip: *host_ip,
            host_port: host.as_ref().map_or(0, |host| host[index]),
            container_port: *container_port,
            protocol,
        };
        addresses.iter().map(published).collect::<Vec<_>>()
    };
    Ok(container.iter().enumerate().flat_map(at).collect())
}

/// The first and the last of the host's ports that a `--publish` option offers for one port inside.
pub(super) fn spread(text: &str) -> Option<(u16, u16)> {
    let ports = parse_publish(text).ok()?;
    let first = ports.first()?;
    let is_one = ports
        .iter()
        .all(|p| p.container_port == first.container_port);
    let (host, _) = split_protocol(text).ok()?.0.rsplit_once(':')?;
    let (_, last) = host.rsplit(':').next()?.split_once('-')?;
    let last = last.parse().ok()?;
    (is_one && last > first.host_port).then_some((first.host_port, last))
}

/// Whether nobody listens at a port of this machine.
fn is_free(port: &Port) -> bool {
    let address = SocketAddr::new(port.host_ip, port.host_port);
    let tried = match port.protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    };
    // What else stands in the way is for the start to tell.
    !tried.is_err_and(|fault| fault.kind() == ErrorKind::AddrInUse)
}

/// The ports of a container that is about to start, those that may be any of several as they are given by `spread`.
fn settled(ports: &[Port], spread: &[(u16, u16)], is_free: impl Fn(&Port) -> bool) -> Vec<Port> {
    let mut settled: Vec<Port> = Vec::new();
    for port in ports {
        let Some((first, last)) = spread.iter().find(|(first, _)| *first == port.host_port) else {
            settled.push(*port);
            continue;
        };
        let inside = |other: &&Port| {
            (other.container_port, other.protocol) == (port.container_port, port.protocol)
        };
        // At the machine's other addresses, it is the same one.
        let chosen = settled.iter().find(|other| {
            inside(other)
                && other.host_ip != port.host_ip
                && (*first..=*last).contains(&other.host_port)
        });
        let number = chosen.map(|other| other.host_port).or_else(|| {
            (*first..=*last).find(|number| {
                let taken =
                    |other: &Port| (other.host_port, other.protocol) == (*number, port.protocol);
                let everywhere = ports.iter().filter(inside).all(|at| {
                    is_free(&Port {
                        host_port: *number,
                        ..*at
                    })
                });
                !settled.iter().any(taken) && everywhere
            })
        });
        settled.push(Port {
            host_port: number.unwrap_or(*last),
            ..*port
        });
    }
    settled
}

impl Engine {
    /// Where a container's ports are published while it runs, by the ports inside; with `wanted`
    /// (`8080`, `53/udp`), where that one is.
    ///
    /// # Errors
    /// When there is no such container, when `wanted` is no port, or is not published.
    pub fn published_ports(&self, name: &str, wanted: Option<&str>) -> Result<Vec<Port>> {
        let known = self.container(name)?;
        let wanted = wanted
            .map(|text| match parse_exposed(text) {
                Some((range, protocol)) if range.len() == 1 => Ok((*range.start(), protocol)),
                _ => Err(Error::new(Kind::Input, format!("invalid port `{text}`"))
                    .with_hint("write the port inside: `smidge port web 8080/tcp`")),
            })
            .transpose()?;
        let mut ports = match known.state.status {
            Status::Running => known.state.ports,
            _ => Vec::new(),
        };
        ports.sort_by_key(|port| (port.container_port, port.protocol.to_string()));
        let Some((number, protocol)) = wanted else {
            return Ok(ports);
        };
        ports.retain(|port| port.container_port == number && port.protocol == protocol);
        if ports.is_empty() {
            let name = &known.container.name;
            let fault = format!("no public port '{number}/{protocol}' published for {name}");
            return Err(Error::new(Kind::NotFound, fault)
                .with_hint(format!("see what is published: `smidge port {name}`")));
        }
        Ok(ports)
    }
}

impl Engine {
    /// The ports that a container is to have, now that it starts.
    pub(crate) fn ports_to_have(&self, container: &Container, record: &Record) -> Vec<Port> {
        let (ports, spread) = (&record.spec.ports, &record.host.spread);
        if spread.is_empty() {
            return ports.clone();
        }
        settled(ports, spread, |port| {
            let address = SocketAddr::new(port.host_ip, port.host_port);
            is_free(port)
                && self
                    .publisher(container, (address, port.protocol))
                    .is_none()
        })
    }

    /// That a port of the host is taken, and by whom.
    pub(super) fn port_in_use(
        &self,
        record: &Record,
        container: &Container,
        (address, protocol): (SocketAddr, Protocol),
    ) -> Error {
        let port = address.port();
        let message = format!(
            "cannot publish port {port}: `{address}` is already in use: port is already allocated"
        );
        let error = Error::new(Kind::Conflict, message);
        let other = another_port(record, port, &record.image);
        if let Some((holder, id)) = self.publisher(container, (address, protocol)) {
            return error
                .with_fact(format!("used by: container `{holder}` ({})", &id[..12]))
                .with_hint(other)
                .with_hint(format!("or stop it: `smidge stop {holder}`"));
        }
        let error = match smidge_run::port::holder(address, protocol) {
            Some(Holder {
                process: Some((pid, name)),
                ..
            }) => error.with_fact(format!("used by: process {pid} (`{name}`)")),
            Some(Holder { uid, .. }) if uid != self.host.uid => {
                error.with_fact(format!("used by: a process of user {}", user_name(uid)))
            }
            _ => error,
        };
        error.with_hint(other)
    }

    /// Which running container has published a port of the host.
    fn publisher(
        &self,
        but: &Container,
        (address, protocol): (SocketAddr, Protocol),
    ) -> Option<(String, String)> {
        let meets = |port: &Port| {
            let ips = [port.host_ip, address.ip()];
            let is_any = ips.iter().any(IpAddr::is_unspecified);
            (port.host_port, port.protocol) == (address.port(), protocol)
                && (is_any || port.host_ip == address.ip())
        };
        let all = self.outlines_that(|state| state.status.is_active()).ok()?;
        let holder = all
            .into_iter()
            .find(|known| known.container.id != but.id && known.state.ports.iter().any(meets))?;
        Some((holder.container.name, holder.container.id))
    }
}

/// A user of the host by name, or else by number.
fn user_name(uid: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.map_or_else(|| uid.to_string(), |name| format!("`{name}`"))
}

/// Proposes the next port to publish at.
fn another_port(record: &Record, port: u16, image: &str) -> String {
    let inside = record
        .host
        .ports
        .iter()
        .find(|published| published.host_port == port);
    let inside = inside.map_or(port, |published| published.container_port);
    let other = port.checked_add(1).unwrap_or(0);
    format!("pick another host port: `smidge run -p {other}:{inside} {image}`")
}

/// Reads a port as an image config has it: `8080`, `8080/udp`, `8000-8002/tcp`.
pub(crate) fn parse_exposed(text: &str) -> Option<(std::ops::RangeInclusive<u16>, Protocol)> {
    let (rest, protocol) = split_protocol(text).ok()?;
    let (first, last) = rest.split_once('-').unwrap_or((rest, rest));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some((range, protocol))
}

fn split_protocol(text: &str) -> std::result::Result<(&str, Protocol), String> {
    match text.rsplit_once('/') {
        None => Ok((text, Protocol::Tcp)),
        Some((rest, protocol)) if protocol.eq_ignore_ascii_case("tcp") => Ok((rest, Protocol::Tcp)),
        Some((rest, protocol)) if protocol.eq_ignore_ascii_case("udp") => Ok((rest, Protocol::Udp)),
        Some((_, other)) => Err(format!("invalid proto: {other}: expected tcp or udp")),
    }
}

/// Splits off the address to listen on, if there is one.
fn split_address(text: &str) -> std::result::Result<(Option<IpAddr>, &str), String> {
    let address = |text: &str| {
        text.parse::<IpAddr>()
            .map_err(|_| format!("invalid IP address: {text}"))
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, rest) = rest.split_once(']').ok_or("`[` is never closed by `]`")?;
        let rest = rest.strip_prefix(':').ok_or("`:` is missing after `]`")?;
        return Ok((Some(address(inside)?), rest));
    }
    match text.matches(':').count() {
        0 | 1 => Ok((None, text)),
        2 => match text.split_once(':') {
            Some(("", rest)) => Ok((None, rest)),
            Some((ip, rest)) => Ok((Some(address(ip)?), rest)),
            None => Ok((None, text)),
        },
        _ => Err("an IPv6 address goes in brackets: `[::1]:8080:80`".to_owned()),
    }
}

fn parse_range(text: &str, what: &str) -> std::result::Result<Vec<u16>, String> {
    let number = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|port| *port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or_else(|| format!("invalid {what}: {text}: expected 1 to 65535"))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first > last {
        return Err(format!(
            "the range of {what}s `{text}` ends before it starts"
        ));
    }
    Ok((first..=last).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse_publish(text) {
            Ok(ports) => ports
                .iter()
                .map(|p| {
                    let address = std::net::SocketAddr::new(p.host_ip, p.host_port);
                    format!("{address}->{}/{}", p.container_port, p.protocol)
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn publications_are_read_as_docker_writes_them() {
        for (text, expected) in [
            ("8081:8080", "0.0.0.0:8081->8080/tcp [::]:8081->8080/tcp"),
            ("8080", "0.0.0.0:0->8080/tcp [::]:0->8080/tcp"),
            ("0:8080", "0.0.0.0:0->8080/tcp [::]:0->8080/tcp"),
            ("53:53/udp", "0.0.0.0:53->53/udp [::]:53->53/udp"),
            ("53:53/UDP", "0.0.0.0:53->53/udp [::]:53->53/udp"),
            ("127.0.0.1:80:8080", "127.0.0.1:80->8080/tcp"),
            ("127.0.0.1::8080", "127.0.0.1:0->8080/tcp"),
            ("[::1]:80:8080", "[::1]:80->8080/tcp"),
            ("[::1]::8080", "[::1]:0->8080/tcp"),
            (
                "0.0.0.0:80-81:90-91",
                "0.0.0.0:80->90/tcp 0.0.0.0:81->91/tcp",
            ),
            (":80:90", "0.0.0.0:80->90/tcp [::]:80->90/tcp"),
            ("[::1]::90-91", "[::1]:0->90/tcp [::1]:0->91/tcp"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_their_fault() {
        for (text, expected) in [
            ("", "invalid containerPort: :"),
            ("a", "invalid containerPort: a"),
            ("80:", "invalid containerPort: :"),
            ("80:0", "invalid containerPort: 0"),
            ("80:65536", "invalid containerPort: 65536"),
            ("80:+1", "invalid containerPort: +1"),
            ("x:80", "invalid hostPort: x"),
            ("80:80/sctp", "invalid proto: sctp"),
            ("1.2.3:80:80", "invalid IP address: 1.2.3"),
            ("::1:80:80", "in brackets"),
            ("[::1:80:80", "never closed"),
            ("[::1]80:80", "`:` is missing"),
            ("80-82:90-91", "3 host ports cannot lead to 2"),
            ("81-80:1-2", "ends before it starts"),
        ] {
            let shown = shown(text);
            assert!(shown.contains(expected), "{text}: {shown}");
        }
    }

    #[test]
    fn one_of_several_ports_is_chosen() {
        assert_eq!(spread("9090-9092:80"), Some((9090, 9092)));
        assert_eq!(spread("127.0.0.1:9090-9092:80/udp"), Some((9090, 9092)));
        for exact in [
            "9090:80",
            "80",
            "9090-9091:80-81",
            "9090-9090:80",
            "[::1]::80",
        ] {
            assert_eq!(spread(exact), None, "{exact}");
        }
        let ports: Vec<Port> = ["9090-9092:80", "9090-9092:81", "7000:70"]
            .iter()
            .flat_map(|text| parse_publish(text).unwrap())
            .collect();
        let numbers = |taken: &[u16]| {
            let free = |port: &Port| !taken.contains(&port.host_port);
            let ports = settled(&ports, &[(9090, 9092)], free);
            ports.iter().map(|p| p.host_port).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&[]), [9090, 9090, 9091, 9091, 7000, 7000]);
        assert_eq!(numbers(&[9090]), [9091, 9091, 9092, 9092, 7000, 7000]);
        // The start will say who has it.
        assert_eq!(numbers(&[9090, 9091])[2..], [9092, 9092, 7000, 7000]);
    }

    #[test]
    fn exposed_ports_are_read() {
        assert_eq!(parse_exposed("80"), Some((80..=80, Protocol::Tcp)));
        assert_eq!(parse_exposed("80-82/udp"), Some((80..=82, Protocol::Udp)));
        for bad in ["", "a", "3-1", "70000", "80/x"] {
            assert_eq!(parse_exposed(bad), None, "{bad}");
        }
    }
}
