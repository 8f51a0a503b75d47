//! What `--network` asks for: a namespace, or places on networks that have names.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use smidge_run::Network;
use smidge_run::network::Mac;

use crate::{Error, Kind, Result};

/// Which network a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// One of its own, with the way out that containers have by default once they ask for it.
    #[default]
    Private,
    /// The host's.
    Host,
    /// One of its own that nothing leads into.
    None,
    /// One of its own that a program of the host's leads out of: `pasta`.
    Pasta,
    /// A container's: `container:` and the container's name or id; its id when the container is made.
    Container(String),
    /// Networks with names, each once; none if the container was taken off the last one.
    Networks(Vec<Endpoint>),
}

/// A container's place on a network, as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    /// The network's name; its id, or the beginning of that, until the container is made.
    pub network: String,
    /// What the network's other containers call it, beside its name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The IPv4 address that it is to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address that it is to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// The hardware address that it is to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

impl Endpoint {
    /// A place on a network without any wishes.
    #[must_use]
    pub fn on(network: &str) -> Self {
        Self {
            network: network.to_owned(),
            ..Self::default()
        }
    }

    /// Whether it is on the network that is there without having been made.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.network == "bridge"
    }

    /// Whether nothing but the network was asked for.
    fn is_plain(&self) -> bool {
        *self == Self::on(&self.network)
    }
}

impl std::str::FromStr for Endpoint {
    type Err = Error;

    /// `NETWORK`, or `name=NETWORK,alias=…,ip=…,ip6=…,mac-address=…`, as Docker has it.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: String| {
            Error::new(Kind::Input, format!("invalid `--network {text}`: {why}"))
                .with_hint("as in `--network name=NETWORK,alias=NAME,ip=ADDRESS`")
        };
        if !text.contains('=') {
            return Ok(Self::on(text));
        }
        let mut endpoint = Self::default();
        for field in text.split(',') {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| invalid(format!("`{field}` is not KEY=VALUE")))?;
            let bad = |what: &str| invalid(format!("`{value}` is not {what}"));
            match key.trim().to_ascii_lowercase().as_str() {
                "name" => endpoint.network = value.to_owned(),
                "alias" => endpoint.aliases.push(value.to_owned()),
                "ip" => endpoint.ipv4 = Some(value.parse().map_err(|_| bad("an IPv4 address"))?),
                "ip6" => endpoint.ipv6 = Some(value.parse().map_err(|_| bad("an IPv6 address"))?),
                "mac-address" => {
                    endpoint.mac = Some(value.parse().map_err(|_| bad("a hardware address"))?);
                }
                "driver-opt" | "link-local-ip" | "gw-priority" => {
                    return Err(invalid(format!("`{key}` is not offered")));
                }
                _ => return Err(invalid(format!("there is no field `{key}`"))),
            }
        }
        match endpoint.network.is_empty() {
            true => Err(invalid("it names no network".to_owned())),
            false => Ok(endpoint),
        }
    }
}

impl NetworkMode {
    /// What several `--network` options ask for; none asks for nothing in particular.
    ///
    /// # Errors
    /// [`Kind::Input`] when they contradict each other, or ask for what a mode does not have.
    pub fn new(asked: Vec<Endpoint>) -> Result<Self> {
        let conflict = |message: String| Err(Error::new(Kind::Input, message));
        for (at, endpoint) in asked.iter().enumerate() {
            let name = &endpoint.network;
            if asked[..at].iter().any(|other| other.network == *name) {
                return conflict(format!("network `{name}` is specified multiple times"));
            }
        }
        let Some(mode) = asked
            .iter()
            .find_map(|endpoint| Self::built_in(&endpoint.network))
        else {
            return Ok(match asked.is_empty() {
                true => Self::Private,
                false => Self::Networks(asked),
            });
        };
        match &asked[..] {
            [only] if only.is_plain() => Ok(mode),
            // It has a device there.
            [only] if mode.word() == "bridge" && Endpoint { mac: None, ..only.clone() }.is_plain() => {
                Ok(Self::Networks(vec![Endpoint { mac: only.mac, ..Endpoint::on("bridge") }]))
            }
            // In Docker's words.
            [only] if only.ipv4.is_some() || only.ipv6.is_some() => conflict(
                "user specified IP address is supported on user defined networks only".to_owned(),
            ),
            [only] if !only.aliases.is_empty() => conflict(
                "network-scoped alias is supported only for containers in user defined networks"
                    .to_owned(),
            ),
            [_] => conflict(format!(
                "a container has addresses and aliases on networks that were made alone, not on `{}`",
                mode.word()
            )),
            _ => conflict(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                    .to_owned(),
            ),
        }
    }

    /// The mode that a name stands for, if it is no network's.
    fn built_in(name: &str) -> Option<Self> {
        match name {
            "" | "default" | "private" => Some(Self::Private),
            "bridge" => Some(Self::Networks(vec![Endpoint::on(name)])),
            "host" => Some(Self::Host),
            "none" => Some(Self::None),
            "pasta" => Some(Self::Pasta),
            name if name.starts_with("container:") => Some(Self::Container(name.to_owned())),
            _ => None,
        }
    }

    /// Whether a name means something else than a network.
    pub(super) fn is_word(name: &str) -> bool {
        Self::built_in(name).is_some() || name.starts_with("container:")
    }

    /// Docker's word for it (`HostConfig.NetworkMode`).
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Private => "bridge",
            Self::Host => "host",
            Self::None => "none",
            Self::Pasta => "pasta",
            Self::Container(word) => word,
            Self::Networks(endpoints) => endpoints.first().map_or("bridge", |first| &first.network),
        }
    }

    /// The names of all networks, as `ps` has them.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Networks(endpoints) => endpoints.iter().map(|e| e.network.as_str()).collect(),
            other => vec![other.word()],
        }
    }

    /// What the sandbox is told of it.
    #[must_use]
    pub fn namespace(&self) -> Network {
        match self {
            Self::Private | Self::Pasta | Self::Networks(_) => Network::Private,
            Self::Host => Network::Host,
            Self::None => Network::None,
            Self::Container(_) => Network::Joined,
        }
    }

    pub(crate) fn is_usual(&self) -> bool {
        *self == Self::Private
    }

    /// The places on networks that were asked for.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        match self {
            Self::Networks(endpoints) => endpoints,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(texts: &[&str]) -> Result<NetworkMode> {
        let parsed: Result<Vec<Endpoint>> = texts.iter().map(|text| text.parse()).collect();
        NetworkMode::new(parsed?)
    }

    #[test]
    fn networks_are_told_from_modes() {
        for (texts, word, namespace) in [
            (&[][..], "bridge", Network::Private),
            (&["bridge"], "bridge", Network::Private),
            (&["default"], "bridge", Network::Private),
            (&["name=host"], "host", Network::Host),
            (&["none"], "none", Network::None),
            (&["front", "back"], "front", Network::Private),
        ] {
            let mode = mode(texts).unwrap();
            assert_eq!(mode.word(), word, "{texts:?}");
            assert_eq!(mode.namespace(), namespace, "{texts:?}");
        }
        let full =
            mode(&["name=n,alias=a,alias=b,ip=10.0.0.2,ip6=fd00::2,mac-address=02:00:00:00:00:01"]);
        let expected = Endpoint {
            network: "n".to_owned(),
            aliases: vec!["a".to_owned(), "b".to_owned()],
            ipv4: Some(Ipv4Addr::new(10, 0, 0, 2)),
            ipv6: Some("fd00::2".parse().unwrap()),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        };
        assert_eq!(full.unwrap().endpoints(), [expected]);
    }

    #[test]
    fn the_default_network_has_devices() {
        let asked = mode(&["name=bridge,mac-address=02:00:00:00:00:01"]).unwrap();
        assert_eq!(asked.endpoints()[0].mac, Some(Mac([2, 0, 0, 0, 0, 1])));
        let asked = mode(&["name=default,mac-address=02:00:00:00:00:01"]).unwrap();
        assert!(asked.endpoints()[0].is_default());
    }

    #[test]
    fn contradictions_are_refused() {
        for texts in [
            &["n", "n"][..],
            &["n", "host"],
            &["host", "none"],
            &["name=host,alias=a"],
            &["name=bridge,ip=172.17.0.2"],
            &["alias=a"],
            &["name=n,ip=x"],
            &["name=n,ip6=10.0.0.1"],
            &["name=n,mac-address=1:2"],
            &["name=n,colour=red"],
            &["name=n,alias"],
        ] {
            assert_eq!(mode(texts).unwrap_err().kind(), Kind::Input, "{texts:?}");
        }
    }
}
