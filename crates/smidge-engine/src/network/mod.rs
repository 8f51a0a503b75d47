//! The verbs on networks.

mod attach;
mod connect;
mod mode;
mod outlet;
mod pasta;
mod plan;
mod view;

use std::net::IpAddr;

use smidge_image::Digest;
use smidge_run::Process;
use smidge_run::network::{self as sandbox, Address};
use smidge_store::{Lease, Network, NetworkRecord, Subnet};

use crate::container::{PRUNE_FILTERS, is_before};
use crate::event::Event;
use crate::image::{Filter, Filters, is_found};
use crate::{Engine, Error, Kind, Result, Swept};

pub use mode::{Endpoint, NetworkMode};
pub use plan::NetworkRequest;
pub use smidge_run::network::Mac;
pub use view::NetworkInspect;

pub(crate) use attach::{host_resolver, lone_servers, resolver};
pub(crate) use pasta::{explain as explain_pasta, forwarded};

impl NetworkRow {
    /// Whether its containers have addresses of IPv4.
    pub fn has_ipv4(&self) -> bool {
        // The one that is made at need will have them.
        self.driver == "bridge" && (self.record.subnets.is_empty() || self.has(false))
    }

    /// Whether its containers have addresses of IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.has(true)
    }

    fn has(&self, v6: bool) -> bool {
        let mut subnets = self.record.subnets.iter();
        subnets.any(|subnet| subnet.block.first().is_ipv6() == v6)
    }
}

/// The networks that are there without having been made, and what drives them.
const BUILT_IN: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// A network in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRow {
    /// Its name.
    pub name: String,
    /// What is kept of it.
    pub record: NetworkRecord,
    /// `bridge`, `host` or `null`.
    pub driver: &'static str,
}

impl Engine {
    /// Makes a network: its id.
    ///
    /// # Errors
    /// When the name is none or taken, when the ranges of addresses make no sense or meet others', when
    /// the kernel has no bridges for this user.
    pub fn create_network(&self, request: &NetworkRequest) -> Result<String> {
        let name = &request.name;
        if built_in(name).is_some() || NetworkMode::is_word(name) {
            let message = format!("operation is not permitted on predefined {name} network");
            return Err(Error::new(Kind::Conflict, message));
        }
        let turn = sandbox::Turn::take();
        let network = self.store.create_network(name, |id, others| {
            let record = plan::plan(request, id, others)?;
            refuse_device(&record)?;
            Ok::<_, Error>(record)
        });
        let network = network?;
        // A crash from here on leaves a network whose bridge is made with its first container.
        if let Err(fault) = establish(&network.record) {
            let last = || {
                // The first fault is the one to tell.
                let _ = sandbox::dissolve(&network.record.bridge);
                Ok::<_, Error>(())
            };
            let _ = self
                .store
                .remove_network(&network, &|lease| self.needs(lease), last);
            return Err(fault);
        }
        drop(turn);
        let id = network.record.id;
        let stands = self.store.network(name)?;
        if stands.is_none_or(|network| network.record.id != id) {
            // Somebody has removed it, and found no bridge yet.
            let _ = sandbox::dissolve(&network.record.bridge);
            return Err(unknown(name));
        }
        self.note_network(&id, name, "create");
        Ok(id)
    }

    /// Lists networks, by name.
    ///
    /// # Errors
    /// When a filter cannot be understood, when the store cannot be read.
    pub fn networks(&self, filters: &[Filter]) -> Result<Vec<NetworkRow>> {
        const KNOWN: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];
        let filters = Filters::new(filters, &KNOWN)?;
        let dangling = filters.truth("dangling")?;
        if let Some(bad) = filters.values("type").iter().find(|kind| !is_kind(kind)) {
            let fault = format!("invalid filter 'type={bad}': expected builtin or custom");
            return Err(Error::new(Kind::Input, fault));
        }
        let mut rows = Vec::new();
        for row in self.all_networks()? {
            let is_built_in = built_in(&row.name).is_some();
            let dangles = || Ok::<_, Error>(!is_built_in && self.users(&row)?.is_empty());
            if filters.any("driver", |driver| driver == row.driver)
                && filters.any("id", |id| is_found(id, &row.record.id))
                && filters.any("name", |name| is_found(name, &row.name))
                && filters.any("scope", |scope| scope == "local")
                && filters.any("type", |kind| (kind == "builtin") == is_built_in)
                && filters.labels(&row.record.labels)
                && dangling.map_or(Ok(true), |wanted| dangles().map(|is| is == wanted))?
            {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// Everything about a network.
    ///
    /// # Errors
    /// When there is none of that name or id, when it cannot be read.
    pub fn inspect_network(&self, name: &str) -> Result<NetworkInspect> {
        let row = self.find_network(name)?;
        Ok(NetworkInspect::new(&row, &self.places(&row)?))
    }

    /// Removes a network that no running container is on.
    ///
    /// # Errors
    /// When there is none of that name or id, when a container is on it, when the kernel refuses.
    pub fn remove_network(&self, name: &str) -> Result<()> {
        let row = self.find_network(name)?;
        if built_in(&row.name).is_some() {
            let message = format!(
                "{} is a pre-defined network and cannot be removed",
                row.name
            );
            return Err(Error::new(Kind::Denied, message));
        }
        match self.discard_network(&row)? {
            users if users.is_empty() => Ok(()),
            users => Err(self.occupied(&row, &users)),
        }
    }

    /// Removes the networks that no running container is on and that meet all filters (`until`, `label`,
    /// `label!`): their names, and what has kept others from being removed.
    ///
    /// # Errors
    /// When a filter cannot be understood, when the store cannot be read.
    pub fn prune_networks(&self, filters: &[Filter]) -> Result<Swept> {
        let filters = Filters::new(filters, &PRUNE_FILTERS)?;
        let until = self.until(&filters)?;
        let mut swept = Swept::default();
        for row in self.all_networks()? {
            // What was made at need is made again.
            let is_built_in = built_in(&row.name).is_some();
            if (!is_built_in || self.store.network(&row.name)?.is_some())
                && filters.labels(&row.record.labels)
                && is_before(&row.record.created, until)
            {
                let users = self.discard_network(&row);
                let is_gone = |users: Vec<_>| users.is_empty() && !is_built_in;
                swept.note(row.name, users.map(|users| is_gone(users).then_some(0)));
            }
        }
        self.note_prune("network", 0);
        Ok(swept)
    }

    /// Removes a network: the ids of the containers that keep it from being removed.
    fn discard_network(&self, row: &NetworkRow) -> Result<Vec<String>> {
        let network = self.stored(row);
        let needs = |lease: &Lease| self.needs(lease);
        let last = || {
            let gone = sandbox::dissolve(&network.record.bridge);
            gone.map_err(|source| {
                let what = format!("cannot remove the bridge of network `{}`", row.name);
                Error::io(what, source)
            })
        };
        match self.store.remove_network(&network, &needs, last)? {
            Err(users) => Ok(users),
            Ok(_grave) => {
                self.note_network(&row.record.id, &row.name, "destroy");
                Ok(Vec::new())
            }
        }
    }

    fn occupied(&self, row: &NetworkRow, users: &[String]) -> Error {
        let name = |id: &String| match self.store.container(id) {
            Ok(container) => format!("name:{:?} id:{:?}", container.name, &id[..id.len().min(12)]),
            Err(_) => format!("id:{id:?}"),
        };
        let users: Vec<String> = users.iter().map(name).collect();
        let name = &row.name;
        let message = format!(
            "error while removing network: network {name} has active endpoints ({})",
            users.join(", ")
        );
        Error::new(Kind::Conflict, message).with_hint(format!(
            "stop these containers, or take them off: `smidge network disconnect {name} CONTAINER`"
        ))
    }

    /// All networks, by name, with those that are there without having been made.
    fn all_networks(&self) -> Result<Vec<NetworkRow>> {
        let mut rows: Vec<NetworkRow> = self.store.networks()?.into_iter().map(row).collect();
        for (name, driver) in BUILT_IN {
            if !rows.iter().any(|row| row.name == name) {
                rows.push(NetworkRow {
                    name: name.to_owned(),
                    record: self.unmade(name),
                    driver,
                });
            }
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(rows)
    }

    /// What can be said of a network that is there without having been made.
    fn unmade(&self, name: &str) -> NetworkRecord {
        let root = self.store.root().display();
        NetworkRecord {
            id: Digest::of(format!("{name} of {root}").as_bytes()).hex(),
            created: "0001-01-01T00:00:00Z".to_owned(),
            ..NetworkRecord::default()
        }
    }

    /// Finds a network by its name, its id or the beginning of its id.
    fn find_network(&self, name: &str) -> Result<NetworkRow> {
        if let Some(network) = self.store.network(name)? {
            return Ok(row(network));
        }
        let mut all = self.all_networks()?;
        if let Some(at) = all.iter().position(|row| row.name == name) {
            return Ok(all.swap_remove(at));
        }
        all.retain(|row| !name.is_empty() && row.record.id.starts_with(name));
        match (all.pop(), all.is_empty()) {
            (Some(row), true) => Ok(row),
            (Some(_), false) => {
                let message = format!(
                    "network {name} is ambiguous ({} matches found on ID prefix)",
                    all.len() + 1
                );
                Err(Error::new(Kind::Input, message))
            }
            (None, _) => Err(missing(name)),
        }
    }

    /// The name of a network that may be given by its id; of none, what was given.
    pub(crate) fn network_name(&self, text: &str) -> String {
        let found = self.find_network(text);
        found.map_or_else(|_| text.to_owned(), |row| row.name)
    }

    /// A network as the store has it.
    fn stored(&self, row: &NetworkRow) -> Network {
        Network {
            name: row.name.clone(),
            dir: self.store.root().join("networks").join(&row.name),
            record: row.record.clone(),
        }
    }

    /// The ids of the containers that need an address of a network.
    fn users(&self, row: &NetworkRow) -> Result<Vec<String>> {
        let leases = self.store.leases(&self.stored(row))?.into_iter();
        let users = leases.filter(|lease| self.needs(lease));
        Ok(users.map(|lease| lease.container).collect())
    }

    /// Whether a container needs the address that it was given: it runs, or is being started.
    fn needs(&self, lease: &Lease) -> bool {
        let dir = self.store.root().join("containers").join(&lease.container);
        let starter = lease.note.split_once(' ').and_then(|(pid, start_time)| {
            Some(Process {
                pid: pid.parse().ok()?,
                start_time: start_time.parse().ok()?,
            })
        });
        smidge_run::is_held(&dir) || starter.is_some_and(Process::is_alive)
    }

    fn note_network(&self, id: &str, name: &str, action: &str) {
        let event = Event::now("network", action, id);
        self.note(&event.with("name", name).with("type", "bridge"));
    }
}

fn is_kind(text: &str) -> bool {
    matches!(text, "builtin" | "custom")
}

/// What drives a network that is there without having been made; `None` for any other.
fn built_in(name: &str) -> Option<&'static str> {
    let known = BUILT_IN.iter().find(|(known, _)| *known == name);
    known.map(|(_, driver)| *driver)
}

fn row(network: Network) -> NetworkRow {
    NetworkRow {
        driver: built_in(&network.name).unwrap_or("bridge"),
        name: network.name,
        record: network.record,
    }
}

/// The machine's addresses on a network.
fn gateways(record: &NetworkRecord) -> Vec<Address> {
    let address = |subnet: &Subnet| within(subnet, subnet.gateway);
    record.subnets.iter().map(address).collect()
}

/// An address of a subnet with the number of bits that all of them have in common.
fn within(subnet: &Subnet, ip: IpAddr) -> Address {
    Address {
        ip,
        prefix: subnet.block.prefix(),
    }
}

/// Makes a network's bridge, where networks have some beyond their containers' lives.
fn establish(record: &NetworkRecord) -> Result<()> {
    let made = sandbox::establish(
        &record.bridge,
        &gateways(record),
        record.internal,
        plan::mtu(record),
    );
    made.map_err(|source| {
        let what = format!("cannot make the bridge `{}`", record.bridge);
        let is_denied = source.kind() == std::io::ErrorKind::PermissionDenied;
        let error = Error::io(what, source);
        match is_denied {
            true => error.with_hint(
                "this root may not configure the machine's network, as in most containers: use its own, `smidge run --network host IMAGE`",
            ),
            false => error,
        }
    })
}

/// Refuses to take over a device that is there already.
fn refuse_device(record: &NetworkRecord) -> Result<()> {
    match sandbox::has_device(&record.bridge) {
        Ok(false) => Ok(()),
        Ok(true) => {
            let message = format!("there is a device `{}` already", record.bridge);
            Err(Error::new(Kind::Conflict, message))
        }
        Err(source) => Err(Error::io("cannot look for network devices", source)),
    }
}

/// That there is no network of a name or id.
fn missing(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("network {name} not found"))
        .with_hint("what there is: `smidge network ls`")
}

/// The same for who wants to be on it.
fn unknown(name: &str) -> Error {
    missing(name).with_hint(format!("make it: `smidge network create {name}`"))
}
