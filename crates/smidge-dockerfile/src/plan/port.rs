//! The ports of `EXPOSE`.

use std::fmt;
use std::ops::RangeInclusive;

use super::action::Port;

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// What is wrong with a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PortError {
    #[error("invalid protocol `{0}`")]
    Protocol(String),
    #[error("invalid port `{0}`")]
    Number(String),
    #[error("no port in `{0}`")]
    Missing(String),
}

/// What a specification says, and whether it says it badly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Specification {
    pub(super) ports: Vec<Port>,
    /// An address or host port stands there, which means nothing in an image.
    pub(super) mapped: bool,
    /// The protocol is not in lower case.
    pub(super) cased: bool,
}

/// Reads `[[address:]host-port:]port[-port][/protocol]`.
pub(super) fn parse(text: &str) -> Result<Specification, PortError> {
    let (host, own) = match text.rsplit_once(':') {
        Some((host, own)) => (Some(host), own),
        None => (None, text),
    };
    let (numbers, protocol) = own.split_once('/').unwrap_or((own, ""));
    if numbers.is_empty() {
        return Err(PortError::Missing(text.to_owned()));
    }
    let lower = match protocol {
        "" => "tcp".to_owned(),
        protocol => protocol.to_ascii_lowercase(),
    };
    if !["tcp", "udp", "sctp"].contains(&lower.as_str()) {
        return Err(PortError::Protocol(protocol.to_owned()));
    }
    let host_port = host.map(|host| host.rsplit(':').next().unwrap_or(host));
    if let Some(host_port) = host_port.filter(|port| !port.is_empty()) {
        range(host_port)?;
    }
    let ports = range(numbers)?.map(|number| Port {
        number,
        protocol: lower.clone(),
    });
    Ok(Specification {
        ports: ports.collect(),
        mapped: host.is_some(),
        cased: !protocol.is_empty() && protocol != lower,
    })
}

fn range(text: &str) -> Result<RangeInclusive<u16>, PortError> {
    let number = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse::<u16>().ok(),
        false => None,
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(PortError::Number(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read() {
        let cases: &[(&str, Result<&str, &str>)] = &[
            ("80", Ok("80/tcp")),
            ("80/udp", Ok("80/udp")),
            ("80/", Ok("80/tcp")),
            ("80/SCTP", Ok("80/sctp")),
            ("8000-8002/tcp", Ok("8000/tcp 8001/tcp 8002/tcp")),
            ("8080:80", Ok("80/tcp")),
            ("127.0.0.1:8080:80/udp", Ok("80/udp")),
            ("[::1]:8080:80", Ok("80/tcp")),
            ("0", Ok("0/tcp")),
            ("", Err("no port in ``")),
            ("/tcp", Err("no port in `/tcp`")),
            ("8080:", Err("no port in `8080:`")),
            ("80/http", Err("invalid protocol `http`")),
            ("http", Err("invalid port `http`")),
            ("65536", Err("invalid port `65536`")),
            ("9-8", Err("invalid port `9-8`")),
            ("1-2-3", Err("invalid port `1-2-3`")),
            ("+80", Err("invalid port `+80`")),
            ("x:80", Err("invalid port `x`")),
        ];
        for (text, expected) in cases {
            let found = parse(text).map(|found| {
                let ports: Vec<_> = found.ports.iter().map(Port::to_string).collect();
                ports.join(" ")
            });
            let found = found.map_err(|error| error.to_string());
            assert_eq!(
                found.as_deref().map_err(String::as_str),
                *expected,
                "{text}"
            );
        }
    }
}
