//! `ps`: which containers there are.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use smidge_image::Digest;
use smidge_run::{Protocol, State, Status};

use super::port::parse_exposed;
use super::record::{Known, Outline};
use crate::image::{Filter, Filters, is_found};
use crate::network::NetworkMode;
use crate::{Engine, Error, Kind, Note, Result};

/// Which containers to list.
#[derive(Clone, Debug, Default)]
pub struct ContainerQuery {
    /// Those that do not run, too.
    pub all: bool,
    /// The newest so many of those that meet the conditions, whether they run or not; 0 is no limit.
    pub last: usize,
    /// Conditions.
    pub filters: Vec<Filter>,
}

/// A container in the list.
#[derive(Clone, Debug)]
pub struct Row {
    /// The container.
    pub known: Known<Outline>,
    /// Its published and exposed ports, in Docker's words.
    pub ports: String,
    /// Its image, as it was asked for; its id where that name no longer stands for it.
    pub image: String,
}

/// The filters of `ps`.
const FILTERS: [&str; 14] = [
    "is-task", "health", "id", "name", "label", "exited", "status", "ancestor", "before", "since",
    "volume", "publish", "expose", "network",
];

impl Engine {
    /// Lists containers, the newest first.
    ///
    /// # Errors
    /// When a filter cannot be understood or names what is not there, when the store cannot be read.
    pub fn containers(&self, query: &ContainerQuery) -> Result<Vec<Row>> {
        self.containers_and_damaged(query, &mut Vec::new())
    }

    /// As [`Engine::containers`]; adds to `damaged` what is to be said of those that cannot be read.
    ///
    /// # Errors
    /// As there.
    pub fn containers_and_damaged(
        &self,
        query: &ContainerQuery,
        damaged: &mut Vec<Note>,
    ) -> Result<Vec<Row>> {
        let filters = Filters::new(&query.filters, &FILTERS)?;
        check_values(&filters)?;
        let named_state = ["status", "exited"]
            .iter()
            .any(|key| !filters.values(key).is_empty());
        let everything = query.all || query.last > 0 || named_state;
        let wanted = |state: &State| everything || state.status.is_active();
        let mut all = self.outlines_that(wanted, damaged)?;
        let created = |key: &str| -> Result<Option<String>> {
            let name = filters.values(key).last();
            name.map(|name| Ok(self.container(name)?.record.created))
                .transpose()
        };
        let (before, since) = (created("before")?, created("since")?);
        let mut ancestors = Vec::new();
        for name in filters.values("ancestor") {
            // An image that is gone has no descendants to show.
            ancestors.extend(self.store.image(name).ok().map(|image| image.id));
        }
        let networks = filters.values("network").iter();
        let networks: Vec<String> = networks.map(|name| self.network_name(name)).collect();
        let by_ancestor = !filters.values("ancestor").is_empty();
        all.retain(|known| {
            suits(known, &filters)
                && on_one_of(known, &networks)
                && before
                    .as_ref()
                    .is_none_or(|bound| known.record.created < *bound)
                && since
                    .as_ref()
                    .is_none_or(|bound| known.record.created > *bound)
                && (!by_ancestor || ancestors.contains(&known.record.image_id))
        });
        if query.last > 0 {
            all.truncate(query.last);
        }
        let mut images = BTreeMap::new();
        let row = |known: Known<Outline>| Row {
            ports: ports(&known),
            image: self.image_shown(&known.record, &mut images),
            known,
        };
        Ok(all.into_iter().map(row).collect())
    }

    /// The image as it was asked for; its id where the name has gone, or stands for another one by now. Each name is
    /// looked up once.
    fn image_shown(
        &self,
        record: &Outline,
        known: &mut BTreeMap<String, Option<Digest>>,
    ) -> String {
        let name = &record.image;
        if !known.contains_key(name) {
            let now = match self.store.image(name) {
                // One of several platforms may be any of them.
                Ok(image) if image.index.is_some() => Some(record.image_id),
                Ok(image) => Some(image.id),
                Err(smidge_store::Error::NoSuchImage(_)) => None,
                Err(_) => Some(record.image_id),
            };
            known.insert(name.clone(), now);
        }
        match known.get(name) == Some(&Some(record.image_id)) {
            true => name.clone(),
            false => record.image_id.to_string(),
        }
    }
}

fn check_values(filters: &Filters) -> Result<()> {
    const STATES: [&str; 7] = [
        "created",
        "running",
        "paused",
        "restarting",
        "removing",
        "exited",
        "dead",
    ];
    if let Some(bad) = filters
        .values("status")
        .iter()
        .find(|s| !STATES.contains(&s.as_str()))
    {
        return Err(
            Error::new(Kind::Input, format!("invalid filter 'status={bad}'"))
                .with_fact(format!("expected one of: {}", STATES.join(", "))),
        );
    }
    check_states(filters)?;
    let is_task = |text: &&String| !matches!(text.as_str(), "true" | "false" | "1" | "0");
    if let Some(bad) = filters.values("is-task").iter().find(is_task) {
        let fault = format!("invalid filter 'is-task={bad}': expected true or false");
        return Err(Error::new(Kind::Input, fault));
    }
    match filters
        .values("exited")
        .iter()
        .find(|code| code.parse::<i32>().is_err())
    {
        Some(bad) => {
            let fault = format!("invalid filter 'exited={bad}': expected an exit status");
            Err(Error::new(Kind::Input, fault))
        }
        None => Ok(()),
    }
}

/// That health is asked for in words that there are, and ports as ports.
fn check_states(filters: &Filters) -> Result<()> {
    const HEALTH: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];
    let unknown = |word: &&String| !HEALTH.contains(&word.as_str());
    if let Some(bad) = filters.values("health").iter().find(unknown) {
        let fault = format!("invalid filter 'health={bad}'");
        return Err(Error::new(Kind::Input, fault)
            .with_fact(format!("expected one of: {}", HEALTH.join(", "))));
    }
    for key in ["publish", "expose"] {
        let no_port = |port: &&String| parse_exposed(port).is_none();
        if let Some(bad) = filters.values(key).iter().find(no_port) {
            let fault = format!("invalid filter '{key}={bad}': expected a port");
            return Err(Error::new(Kind::Input, fault));
        }
    }
    Ok(())
}

fn suits(known: &Known<Outline>, filters: &Filters) -> bool {
    let Known {
        container,
        record,
        state,
        ..
    } = known;
    let exposed = |wanted: &String| match parse_exposed(wanted) {
        Some((range, protocol)) => record.config.exposed_ports.keys().any(|port| {
            parse_exposed(port).is_some_and(|(p, q)| q == protocol && range.contains(p.start()))
        }),
        None => false,
    };
    // Where it is reached, as in Docker, not where it listens.
    let published = |wanted: &String| match parse_exposed(wanted) {
        Some((range, protocol)) => state
            .ports
            .iter()
            .any(|port| port.protocol == protocol && range.contains(&port.host_port)),
        None => false,
    };
    filters.any("id", |id| is_found(id, &container.id))
        && filters.any("name", |name| {
            is_found(name, &container.name) || is_found(name, &format!("/{}", container.name))
        })
        && filters.any("health", |wanted| {
            state
                .health
                .as_ref()
                .map_or("none", |health| health.status.word())
                == wanted
        })
        && filters.labels(&record.config.labels)
        // Tasks are for those who run services.
        && filters.any("is-task", |wanted| matches!(wanted.as_str(), "false" | "0"))
        && filters.any("status", |wanted| wanted == status_word(state))
        && filters.any("exited", |code| {
            state.status == Status::Exited && code.parse().ok() == state.exit_code
        })
        && filters.any("volume", |volume| {
            record
                .mounts
                .iter()
                .any(|m| m.name == *volume || m.destination == *volume)
        })
        && filters.any("publish", published)
        && filters.any("expose", exposed)
}

/// Whether a container is on one of these networks, if there are any.
fn on_one_of(known: &Known<Outline>, networks: &[String]) -> bool {
    let mode = known.record.network();
    networks.is_empty()
        || mode
            .names()
            .iter()
            .any(|name| networks.iter().any(|n| n == name))
}

/// The word for a state.
pub fn status_word(state: &State) -> &'static str {
    match state.status {
        Status::Created => "created",
        Status::Running if state.paused => "paused",
        Status::Running => "running",
        Status::Restarting => "restarting",
        Status::Exited => "exited",
    }
}

/// `0.0.0.0:8000-8002->8000-8002/tcp, 9090/tcp, 0.0.0.0:8081->8080/tcp`: what is published or exposed while it
/// runs.
fn ports(known: &Known<Outline>) -> String {
    let running = known.state.status == Status::Running;
    // On the machine's own network nothing has to be published.
    if !running || known.record.network() == NetworkMode::Host {
        return String::new();
    }
    let published = &known.state.ports;
    let is_published = |number, protocol| {
        let mut ports = published.iter();
        ports.any(|port| (port.container_port, port.protocol) == (number, protocol))
    };
    let exposed = known.record.config.exposed_ports.keys();
    let exposed = exposed.filter_map(|text| parse_exposed(text));
    let exposed = exposed.flat_map(|(range, protocol)| range.map(move |port| (port, protocol)));
    let alone = exposed.filter(|(port, protocol)| !is_published(*port, *protocol));
    let alone = alone.map(|(port, protocol)| (port, None, protocol));
    let published = published.iter().map(|port| {
        let address = SocketAddr::new(port.host_ip, port.host_port);
        (port.container_port, Some(address), port.protocol)
    });
    joined(published.chain(alone).collect())
}

/// Ports inside, each with where it is published, in Docker's order: neighbours that are published at their own
/// numbers, or not at all, are one range; ports with other numbers come last.
fn joined(mut ports: Vec<(u16, Option<SocketAddr>, Protocol)>) -> String {
    ports.sort_by_key(|(port, address, protocol)| (*port, *address, *protocol == Protocol::Udp));
    let (mut ranges, mut complete, mut moved) = (Vec::new(), Vec::new(), Vec::new());
    for (port, address, protocol) in ports {
        if let Some(address) = address.filter(|address| address.port() != port) {
            moved.push(format!("{address}->{port}/{protocol}"));
            continue;
        }
        let key = (address.map(|address| address.ip()), protocol);
        match ranges.iter_mut().find(|(known, _)| *known == key) {
            None => ranges.push((key, port..=port)),
            Some((_, range)) if u32::from(*range.end()) + 1 == u32::from(port) => {
                *range = *range.start()..=port;
            }
            Some((_, range)) => complete.push((key, std::mem::replace(range, port..=port))),
        }
    }
    let shown = complete
        .into_iter()
        .chain(ranges)
        .map(|((ip, protocol), range)| {
            let (first, last) = range.into_inner();
            let range = match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            };
            match ip {
                None => format!("{range}/{protocol}"),
                Some(IpAddr::V6(ip)) => format!("[{ip}]:{range}->{range}/{protocol}"),
                Some(ip) => format!("{ip}:{range}->{range}/{protocol}"),
            }
        });
    shown.chain(moved).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_ports_are_one_range() {
        let check = |ports: &[(u16, &str, Protocol)], expected: &str| {
            let ports = ports.iter();
            let ports = ports.map(|(port, at, protocol)| (*port, at.parse().ok(), *protocol));
            assert_eq!(joined(ports.collect()), expected);
        };
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        check(&[], "");
        check(
            &[(80, "0.0.0.0:8080", tcp), (80, "[::]:8080", tcp)],
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
        );
        check(
            &[
                (8001, "0.0.0.0:8001", tcp),
                (8000, "0.0.0.0:8000", tcp),
                (8000, "[::]:8000", tcp),
                (8001, "[::]:8001", tcp),
            ],
            "0.0.0.0:8000-8001->8000-8001/tcp, [::]:8000-8001->8000-8001/tcp",
        );
        check(
            &[
                (1, "", tcp),
                (2, "", udp),
                (2, "", tcp),
                (4, "", tcp),
                (7, "1.2.3.4:7", udp),
                (8, "1.2.3.4:9", udp),
            ],
            "1-2/tcp, 4/tcp, 2/udp, 1.2.3.4:7->7/udp, 1.2.3.4:9->8/udp",
        );
    }
}
