//! What is kept of a container: everything that starting it again and inspecting it needs.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use smidge_image::{Digest, RunConfig};
use smidge_run::{Manner, Network, Port, Spec, State};
use smidge_store::Container;

use crate::network::NetworkMode;
use crate::{Engine, Error, Kind, Note, Result};

/// A container's `config.json`. Changing this is a format break.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When it was made, RFC 3339 with nanoseconds.
    pub created: String,
    /// The image as it was asked for.
    pub image: String,
    /// The image's id.
    pub image_id: Digest,
    /// The machine the image is for, in OCI's words.
    pub architecture: String,
    /// Its variant, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The image's config with what the options changed.
    pub config: RunConfig,
    /// What was asked of the host.
    pub host: HostOptions,
    /// What is mounted, for `inspect`.
    pub mounts: Vec<MountPoint>,
    /// What the sandbox is told.
    pub spec: Spec,
}

/// What was asked of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostOptions {
    /// `--volume` options as they were given.
    pub binds: Vec<String>,
    /// Published ports as they were asked for.
    pub ports: Vec<Port>,
    /// Whether all exposed ports are published.
    pub publish_all: bool,
    /// Whether it is removed when it has exited.
    pub auto_remove: bool,
    /// Seconds that `stop` waits, if not the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Whether the command line stayed with it.
    pub attached: bool,
    /// Which network it sees.
    #[serde(default, skip_serializing_if = "NetworkMode::is_usual")]
    pub network: NetworkMode,
    /// What differs from how containers are shut in by default, in Docker's words, for `inspect`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub asked: Map<String, Value>,
}

/// Something mounted in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountPoint {
    /// The volume's name; empty for a directory of the host.
    pub name: String,
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it is inside.
    pub destination: String,
    /// Whether it is read-only inside.
    pub read_only: bool,
    /// Whether the volume is this container's alone and goes with it.
    pub anonymous: bool,
    /// Whether the volume was another container's alone, and goes with the last that has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub borrowed: bool,
    /// Whether the volume starts with the image's files, if it is new.
    pub seeded: bool,
    /// `tmpfs` or `image`; empty for a volume or a directory of the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// How it is mounted.
    #[serde(default)]
    pub manner: Manner,
}

/// What lists show of a record. To take in no more of thousands of them is most of the time that a list takes.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outline {
    /// When the container was made, RFC 3339 with nanoseconds.
    pub created: String,
    /// The image as it was asked for.
    pub image: String,
    /// The image's id.
    pub image_id: Digest,
    /// Of the image's config with what the options changed.
    pub config: ConfigOutline,
    /// Of what was asked of the host.
    pub host: HostOutline,
    /// What is mounted.
    pub mounts: Vec<MountPoint>,
    /// Of what the sandbox is told.
    pub spec: SpecOutline,
}

/// See [`Outline`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigOutline {
    /// Ports that the program listens on: `8080/tcp`.
    pub exposed_ports: BTreeMap<String, IgnoredAny>,
    /// Free-form facts.
    pub labels: BTreeMap<String, String>,
}

/// See [`Outline`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HostOutline {
    /// Published ports as they were asked for.
    pub ports: Vec<Port>,
    network: NetworkMode,
}

/// See [`Outline`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SpecOutline {
    /// The program and its arguments.
    pub args: Vec<String>,
    network: Network,
}

/// A container with what is known of it: of its record all, or an [`Outline`].
#[derive(Clone, Debug)]
pub struct Known<R = Record> {
    /// Where it is kept.
    pub container: Container,
    /// How it was made.
    pub record: R,
    /// What has become of it.
    pub state: State,
    /// What was worth knowing when it was made, and is not kept.
    pub notes: Vec<Note>,
}

impl Record {
    /// Which network the container sees. Records of earlier versions say it to the sandbox alone.
    pub fn network(&self) -> NetworkMode {
        network(&self.host.network, self.spec.network)
    }

    /// The container's labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.config.labels
    }
}

impl Outline {
    /// Which network the container sees.
    pub fn network(&self) -> NetworkMode {
        network(&self.host.network, self.spec.network)
    }
}

fn network(asked: &NetworkMode, told: Network) -> NetworkMode {
    match (asked, told) {
        (NetworkMode::Private, Network::Host) => NetworkMode::Host,
        (NetworkMode::Private, Network::None) => NetworkMode::None,
        (asked, _) => asked.clone(),
    }
}

/// Waits until nobody changes, starts or removes a container. What is locked is its directory `etc`, for which nothing has
/// to be made: a full disk is no hindrance.
pub(super) fn lock(container: &Container) -> Result<File> {
    let path = container.dir.join("etc");
    let locked = File::open(&path).and_then(|file| file.lock().map(|()| file));
    locked.map_err(|source| Error::io(format!("cannot lock `{}`", path.display()), source))
}

impl Engine {
    /// Finds a container by its name, its id or the beginning of its id.
    ///
    /// # Errors
    /// When there is none, when several fit, when its record cannot be read.
    pub fn container(&self, name: &str) -> Result<Known> {
        self.known(self.store.container(name)?)
    }

    /// Finds a container whose record is to be changed, or that is to be started. Who wants to do so, too, waits
    /// until the file is closed, and finds what has become of it.
    pub(crate) fn turn(&self, name: &str) -> Result<(File, Known)> {
        let (locked, container) = self.locked(&self.store.container(name)?)?;
        Ok((locked, self.known(container)?))
    }

    /// The same to remove it: from then on nobody starts it. What has no `etc` yet gets one, so that its maker
    /// finds it taken, if it was not killed before.
    pub(super) fn last_turn(&self, container: &Container) -> Result<(File, Container)> {
        // Where it cannot be made, there is none that could be locked.
        let _ = std::fs::create_dir(container.dir.join("etc"));
        self.locked(container)
    }

    /// Waits for a container's lock, and finds it under the name that it has by then.
    pub(super) fn locked(&self, container: &Container) -> Result<(File, Container)> {
        let locked = lock(container);
        // If it is gone, that is what is to be told.
        let container = self.store.container_now(container)?;
        Ok((locked?, container))
    }

    pub(crate) fn known(&self, container: Container) -> Result<Known> {
        let damaged = |fault: Error| match fault.kind() {
            Kind::NotFound => fault,
            _ => fault.with_hint(format!("remove it: `smidge rm -f {}`", container.name)),
        };
        let record = container.record().map_err(|fault| damaged(fault.into()))?;
        let state = match State::read(&container.dir) {
            // It was removed after its record was read.
            Err(_) if !container.dir.exists() => {
                return Err(smidge_store::Error::NoSuchContainer(container.name).into());
            }
            state => state.map_err(|fault| damaged(fault.into()))?,
        };
        Ok(Known {
            container,
            record,
            state,
            notes: Vec::new(),
        })
    }

    /// All containers that can be read, the newest first. One that is removed meanwhile, or is
    /// damaged, is left out: it must not hide the others.
    pub(crate) fn all_containers(&self) -> Result<Vec<Known>> {
        let mut all = self.read_containers(|_| true, &mut Vec::new())?;
        all.sort_by_cached_key(|known: &Known| Reverse(known.record.created.clone()));
        Ok(all)
    }

    /// The same, in outline.
    pub(crate) fn outlines(&self) -> Result<Vec<Known<Outline>>> {
        self.outlines_that(|_| true, &mut Vec::new())
    }

    /// The same of those whose state is as wanted. Of the others no more than that is read. What is to be said of
    /// those that are damaged is added to `damaged`.
    pub(crate) fn outlines_that(
        &self,
        wanted: impl Fn(&State) -> bool,
        damaged: &mut Vec<Note>,
    ) -> Result<Vec<Known<Outline>>> {
        let mut all = self.read_containers(wanted, damaged)?;
        // Each is large: so they are put in their places once, and not moved about.
        all.sort_by_cached_key(|known: &Known<Outline>| Reverse(known.record.created.clone()));
        Ok(all)
    }

    fn read_containers<R: DeserializeOwned>(
        &self,
        wanted: impl Fn(&State) -> bool,
        damaged: &mut Vec<Note>,
    ) -> Result<Vec<Known<R>>> {
        let read = |container: &Container| -> Result<Option<(State, R)>> {
            let state = State::read(&container.dir)?;
            match wanted(&state) {
                true => Ok(Some((state, container.record()?))),
                false => Ok(None),
            }
        };
        let mut all = Vec::new();
        for container in self.store.containers()? {
            match read(&container) {
                Ok(Some((state, record))) => all.push(Known {
                    container,
                    record,
                    state,
                    notes: Vec::new(),
                }),
                Ok(None) => {}
                // It is being made, or was removed meanwhile.
                Err(fault) if fault.kind() == Kind::NotFound || !container.dir.exists() => {}
                Err(fault) => damaged.push(Note::new(format!(
                    "container `{0}` is damaged ({fault}): `smidge rm -f {0}` removes it",
                    container.name
                ))),
            }
        }
        Ok(all)
    }
}
