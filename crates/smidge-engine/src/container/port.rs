//! `--publish [IP:][HOST[-HOST]:]CONTAINER[-CONTAINER][/tcp|udp]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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
    let short = short_form(text).map_err(invalid)?;
    let (rest, protocol) = split_protocol(&short).map_err(invalid)?;
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
    // A range that leads to one port is one to choose from.
    let is_choice = |host: &&Vec<u16>| container.len() == 1 && host.len() > 1;
    let choice = host.as_ref().filter(is_choice);
    let last = choice.and_then(|host| host.last().copied());
    if let Some(host) = &host
        && host.len() != container.len()
        && last.is_none()
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
            last_host_port: last.unwrap_or(0),
            container_port: *container_port,
            protocol,
        };
        addresses.iter().map(published).collect::<Vec<_>>()
    };
    Ok(container.iter().enumerate().flat_map(at).collect())
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
        let all = self
            .outlines_that(|state| state.status.is_active(), &mut Vec::new())
            .ok()?;
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

/// `published=8080,target=80,protocol=tcp`, which Docker's client takes as well, as `8080:80/tcp`.
fn short_form(text: &str) -> std::result::Result<String, String> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("`{field}` must be a key=value pair"))?;
        match key.trim() {
            "published" => published = value,
            "target" => target = value,
            "protocol" => protocol = value,
            // Without a swarm all are the host's.
            "mode" if matches!(value, "host" | "ingress") => {}
            other => return Err(format!("invalid field key `{other}`")),
        }
    }
    Ok(match published {
        "" => format!("{target}/{protocol}"),
        _ => format!("{published}:{target}/{protocol}"),
    })
}

/// Proposes the next port to publish at.
fn another_port(record: &Record, port: u16, image: &str) -> String {
    let inside =
        record.host.ports.iter().find(|own| {
            own.host_port == port || (own.host_port..=own.last_host_port).contains(&port)
        });
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
            (
                "published=8081,target=80,protocol=udp,mode=host",
                "0.0.0.0:8081->80/udp [::]:8081->80/udp",
            ),
            ("target=80", "0.0.0.0:0->80/tcp [::]:0->80/tcp"),
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
            ("port=80", "invalid field key `port`"),
            ("published=80", "invalid containerPort: :"),
            ("80-82:90-91", "3 host ports cannot lead to 2"),
            ("81-80:1-2", "ends before it starts"),
        ] {
            let shown = shown(text);
            assert!(shown.contains(expected), "{text}: {shown}");
        }
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
