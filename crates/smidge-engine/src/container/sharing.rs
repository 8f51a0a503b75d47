//! What a container has of others: `--network`, `--ipc` and `--pid container:X`.

use smidge_run::{IdMap, Ipc, Joined, Mount, Namespace, Processes, Status};

use super::create::CreateRequest;
use super::record::{Known, Record};
use crate::network::NetworkMode;
use crate::{Engine, Error, Kind, Result};

/// What a container has of others.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// For the sandbox.
    pub(super) joined: Vec<Joined>,
    /// The id map of all that it shares something with.
    pub(super) id_map: Option<IdMap>,
    /// Whether its files on the disk have other ids than that map says.
    pub(super) shifted: bool,
    /// The container whose network it has.
    pub(super) network: Option<Box<Known>>,
    /// Docker's words for it, by the fields of `HostConfig`.
    pub(super) words: Vec<(&'static str, String)>,
}

impl Engine {
    /// Finds those that a new container is to share something with.
    ///
    /// # Errors
    /// When there is no such container, or what is asked for cannot be had of it.
    pub(super) fn shares(&self, request: &CreateRequest) -> Result<Shares> {
        let network = match &request.network {
            NetworkMode::Container(word) => word.split_once(':'),
            _ => None,
        };
        let network = network.map(|(_, name)| (Namespace::Network, name));
        let others = request.isolation.joined.iter();
        let others = others.map(|(namespace, name)| (*namespace, name.as_str()));
        let mut shares = Shares::default();
        for (namespace, name) in network.into_iter().chain(others) {
            check(request, namespace)?;
            if request.name.as_deref() == Some(name) {
                let fault = format!("cannot join own {namespace}");
                return Err(Error::new(Kind::Input, fault));
            }
            let known = self.container(name)?;
            offered(&known, namespace)?;
            let map = &known.record.spec.id_map;
            if shares.id_map.get_or_insert_with(|| map.clone()) != map {
                let fault = "cannot share with several containers: their user namespaces differ";
                return Err(Error::new(Kind::Input, fault));
            }
            shares.joined.push(Joined {
                namespace,
                dir: known.container.dir.clone(),
            });
            shares.shifted = known.record.spec.isolation.shifted;
            let word = format!("container:{}", known.container.id);
            match namespace {
                Namespace::Network => shares.network = Some(Box::new(known)),
                Namespace::Ipc => shares.words.push(("IpcMode", word)),
                Namespace::Processes => shares.words.push(("PidMode", word)),
            }
        }
        Ok(shares)
    }

    /// Refuses to start a container that shares something with one that does not run.
    pub(super) fn refuse_lonely(&self, record: &Record) -> Result<()> {
        for joined in &record.spec.isolation.joined {
            let id = joined.dir.file_name().unwrap_or_default().to_string_lossy();
            let known = self.container(&id)?;
            if known.state.status != Status::Running {
                let (name, what) = (&known.container.name, joined.namespace);
                let fault =
                    format!("cannot join the {what} of container `{name}`: it is not running");
                return Err(Error::new(Kind::Conflict, fault)
                    .with_hint(format!("start it first: `smidge start {name}`")));
            }
            if joined.namespace == Namespace::Network {
                self.lead_out(&known)?;
            }
        }
        Ok(())
    }
}

impl Shares {
    /// The network mode, with the id of the container in it.
    pub(super) fn network_mode(&self, asked: &NetworkMode) -> NetworkMode {
        match &self.network {
            Some(other) => NetworkMode::Container(format!("container:{}", other.container.id)),
            None => asked.clone(),
        }
    }

    /// A file that everybody on a network of containers has in common.
    pub(super) fn supplied(&self, destination: &str) -> Option<Mount> {
        let mounts = &self.network.as_ref()?.record.spec.mounts;
        let mount = mounts.iter().find(|mount| mount.destination == destination);
        mount.cloned()
    }
}

/// Refuses options that are for whoever has the namespace of their own.
fn check(request: &CreateRequest, namespace: Namespace) -> Result<()> {
    let names = &request.names;
    let conflicts: &[(bool, &str)] = match namespace {
        Namespace::Network => &[
            (names.hostname.is_some(), "hostname and the network mode"),
            (!names.servers.is_empty(), "dns and the network mode"),
            (
                !names.hosts.is_empty(),
                "custom host-to-IP mapping and the network mode",
            ),
            (
                !request.publish.is_empty() || request.publish_all,
                "port publishing and the container type network mode",
            ),
            (
                !request.expose.is_empty(),
                "port exposing and the container type network mode",
            ),
        ],
        Namespace::Processes => &[(
            request.lifetime.init == Some(true),
            "`--init` and `--pid container:`: orphans are the other container's",
        )],
        Namespace::Ipc => &[],
    };
    match conflicts.iter().find(|(given, _)| *given) {
        Some((_, what)) => {
            let fault = format!("conflicting options: {what}");
            Err(Error::new(Kind::Input, fault))
        }
        None => Ok(()),
    }
}

/// Refuses what a container does not have to offer.
fn offered(known: &Known, namespace: Namespace) -> Result<()> {
    let isolation = &known.record.spec.isolation;
    let hint = match namespace {
        Namespace::Ipc => match isolation.ipc {
            Ipc::Shareable | Ipc::Joined => return Ok(()),
            Ipc::Host => "it has the host's: `--ipc host`",
            Ipc::Private | Ipc::None => "run that one with `--ipc shareable`",
        },
        Namespace::Processes if isolation.processes == Processes::Host => {
            "it has the host's: `--pid host`"
        }
        Namespace::Processes | Namespace::Network => return Ok(()),
    };
    let name = &known.container.name;
    let fault =
        format!("cannot join the {namespace} of container `{name}`: it is not to be shared");
    Err(Error::new(Kind::Conflict, fault).with_hint(hint))
}
