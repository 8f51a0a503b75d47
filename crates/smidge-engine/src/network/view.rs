//! What `inspect` shows of networks, and of containers' places on them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value, json};
use smidge_image::Digest;
use smidge_run::network::Attachment;
use smidge_store::{Container, Lease, Subnet};

use super::attach::kept;
use super::{Endpoint, NetworkRow};
use crate::container::Known;
use crate::{Engine, Result};

/// Docker's `network.Inspect`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkInspect {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created: String,
    /// Where it can be used: `local`.
    pub scope: &'static str,
    /// `bridge`, `host` or `null`.
    pub driver: &'static str,
    /// Whether it has IPv4 addresses.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Whether it has IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Its ranges of addresses.
    #[serde(rename = "IPAM")]
    pub ipam: Value,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Whether it was said that containers may be put on it by hand.
    pub attachable: bool,
    /// Whether it is swarm's: never.
    pub ingress: bool,
    /// Where its config comes from: nowhere else.
    pub config_from: Value,
    /// Whether it is only a config: never.
    pub config_only: bool,
    /// Who is on it, by id.
    pub containers: BTreeMap<String, Value>,
    /// What its driver was told.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A running container on a network.
pub(super) type Place = (Container, Attachment);

impl NetworkInspect {
    pub(super) fn new(row: &NetworkRow, places: &[Place]) -> Self {
        let record = &row.record;
        let place = |(container, attachment): &Place| {
            let address = |v6: bool| {
                let mut all = attachment.addresses.iter();
                let own = all.find(|address| address.ip.is_ipv6() == v6);
                own.map(ToString::to_string).unwrap_or_default()
            };
            let shown = json!({
                "Name": container.name,
                "EndpointID": endpoint_id(&container.id, &record.id),
                "MacAddress": attachment.mac.to_string(),
                "IPv4Address": address(false),
                "IPv6Address": address(true),
            });
            (container.id.clone(), shown)
        };
        Self {
            name: row.name.clone(),
            id: record.id.clone(),
            created: record.created.clone(),
            scope: "local",
            driver: row.driver,
            enable_ipv4: row.has_ipv4(),
            enable_ipv6: row.has_ipv6(),
            ipam: json!({
                "Driver": "default",
                "Options": {},
                "Config": record.subnets.iter().map(config).collect::<Vec<_>>(),
            }),
            internal: record.internal,
            attachable: record.attachable,
            ingress: false,
            config_from: json!({"Network": ""}),
            config_only: false,
            containers: places.iter().map(place).collect(),
            options: record.options.clone(),
            labels: record.labels.clone(),
        }
    }
}

fn config(subnet: &Subnet) -> Value {
    let mut config = Map::new();
    config.insert("Subnet".to_owned(), subnet.block.to_string().into());
    if let Some(range) = subnet.range {
        config.insert("IPRange".to_owned(), range.to_string().into());
    }
    config.insert("Gateway".to_owned(), subnet.gateway.to_string().into());
    if !subnet.reserved.is_empty() {
        config.insert("AuxiliaryAddresses".to_owned(), json!(subnet.reserved));
    }
    Value::Object(config)
}

/// The id of a container's place on a network: it need not be kept.
fn endpoint_id(container: &str, network: &str) -> String {
    Digest::of(format!("{container} on {network}").as_bytes()).hex()
}

/// Whether a place is on the network of a name.
pub(super) fn is_on(attachment: &Attachment, network: &str) -> bool {
    attachment.dir.file_name() == Some(network.as_ref())
}

impl Engine {
    /// The running containers on a network.
    pub(super) fn places(&self, row: &NetworkRow) -> Result<Vec<Place>> {
        let leases = self.store.leases(&self.stored(row))?.into_iter();
        let needed = leases.filter(|lease| self.needs(lease));
        let mut places: Vec<Place> = Vec::new();
        for Lease { container, .. } in needed {
            // One that is being removed is on no network.
            let Ok(known) = self.container(&container) else {
                continue;
            };
            let is_known = places.iter().any(|(other, _)| other.id == container);
            let mut own = kept(&known).into_iter();
            if let (false, Some(own)) = (is_known, own.find(|own| is_on(own, &row.name))) {
                places.push((known.container, own));
            }
        }
        Ok(places)
    }

    /// A container's networks, as `inspect` shows them: what Docker has of the first network of all, and of
    /// each.
    pub(crate) fn network_settings(&self, known: &Known) -> Map<String, Value> {
        let mode = known.record.network();
        let attachments = kept(known);
        let mut networks = Map::new();
        for endpoint in mode.endpoints() {
            let attachment = attachments.iter().find(|a| is_on(a, &endpoint.network));
            let id = self.find_network(&endpoint.network);
            let id = id.map(|row| row.record.id).unwrap_or_default();
            let shown = settings(known, endpoint, (attachment, &id));
            networks.insert(endpoint.network.clone(), shown);
        }
        if networks.is_empty() {
            let id = self.unmade(mode.word()).id;
            let attachment = attachments.iter().find(|a| is_on(a, mode.word()));
            let shown = settings(known, &Endpoint::on(mode.word()), (attachment, &id));
            networks.insert(mode.word().to_owned(), shown);
        }
        let mut all = Map::new();
        // As in Docker, of the network alone that containers are on who ask for none.
        let default = networks.get("bridge");
        for (name, otherwise) in [
            ("EndpointID", json!("")),
            ("Gateway", json!("")),
            ("GlobalIPv6Address", json!("")),
            ("GlobalIPv6PrefixLen", json!(0)),
            ("IPAddress", json!("")),
            ("IPPrefixLen", json!(0)),
            ("IPv6Gateway", json!("")),
            ("MacAddress", json!("")),
        ] {
            let value = default.and_then(|default| default.get(name)).cloned();
            all.insert(name.to_owned(), value.unwrap_or(otherwise));
        }
        all.insert("Networks".to_owned(), Value::Object(networks));
        all
    }
}

/// Docker's `EndpointSettings`.
fn settings(
    known: &Known,
    endpoint: &Endpoint,
    (attachment, network): (Option<&Attachment>, &str),
) -> Value {
    let address = |v6: bool| {
        let mut all = attachment?.addresses.iter();
        all.find(|address| address.ip.is_ipv6() == v6)
    };
    let ip = |v6: bool| address(v6).map(|a| a.ip.to_string()).unwrap_or_default();
    let prefix = |v6: bool| address(v6).map_or(0, |address| address.prefix);
    let gateway = |v6: bool| {
        let attachment = attachment.filter(|attachment| !attachment.internal)?;
        let mut all = attachment.gateways.iter();
        all.find(|gateway| gateway.ip.is_ipv6() == v6)
    };
    let gateway = |v6: bool| gateway(v6).map(|g| g.ip.to_string()).unwrap_or_default();
    let mac = attachment.map(|attachment| attachment.mac).or(endpoint.mac);
    let names = attachment.filter(|attachment| !attachment.names.is_empty());
    json!({
        "IPAMConfig": asked(endpoint),
        "Links": null,
        "Aliases": match endpoint.aliases.is_empty() {
            true => Value::Null,
            false => json!(endpoint.aliases),
        },
        "MacAddress": mac.map(|mac| mac.to_string()).unwrap_or_default(),
        "DriverOpts": null,
        "GwPriority": 0,
        "NetworkID": network,
        "EndpointID": match attachment {
            Some(_) => endpoint_id(&known.container.id, network),
            None => String::new(),
        },
        "Gateway": gateway(false),
        "IPAddress": ip(false),
        "IPPrefixLen": prefix(false),
        "IPv6Gateway": gateway(true),
        "GlobalIPv6Address": ip(true),
        "GlobalIPv6PrefixLen": prefix(true),
        "DNSNames": names.map(|attachment| &attachment.names),
    })
}

/// The addresses that were asked for.
fn asked(endpoint: &Endpoint) -> Value {
    let mut asked = Map::new();
    let both = [
        ("IPv4Address", endpoint.ipv4.map(IpAddr::V4)),
        ("IPv6Address", endpoint.ipv6.map(IpAddr::V6)),
    ];
    for (name, ip) in both {
        if let Some(ip) = ip {
            asked.insert(name.to_owned(), ip.to_string().into());
        }
    }
    match asked.is_empty() {
        true => Value::Null,
        false => Value::Object(asked),
    }
}
