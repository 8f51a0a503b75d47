//! What differs from how containers are shut in by default: options of the sandbox that few use.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::seccomp::Profile;

/// What differs from how containers are shut in by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Isolation {
    /// The NIS domain name of the UTS namespace.
    pub domainname: String,
    /// Settings of the container's own namespaces: paths below `/proc/sys`, and values.
    pub sysctls: Vec<(String, String)>,
    /// Devices of the host that the container has.
    pub devices: Vec<Device>,
    /// Whether it has all of the host's devices.
    pub all_devices: bool,
    /// Whether nothing of `/proc` and `/sys` is hidden or read-only.
    pub unmasked: bool,
    /// The system call filter, if not the default one.
    pub profile: Option<Profile>,
    /// Whether the host's names are the container's: no UTS namespace.
    pub host_names: bool,
    /// Which shared memory, semaphores and message queues it has.
    pub ipc: Ipc,
    /// Which processes it sees.
    pub processes: Processes,
    /// Namespaces of other containers that it has in place of its own. Whoever shares one is in the
    /// other's user namespace as well, so the id map must be the other's.
    pub joined: Vec<Joined>,
    /// Whether the files that are the container's own have the ids on the disk that it knows, whatever
    /// the id map: their mounts translate.
    pub shifted: bool,
}

/// Which shared memory, semaphores and message queues a container has (`ipc_namespaces(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipc {
    /// Its own.
    #[default]
    Private,
    /// Its own, without `/dev/shm`.
    None,
    /// The host's.
    Host,
    /// Its own, which others may share.
    Shareable,
    /// Another container's: see [`Isolation::joined`].
    Joined,
}

/// Which processes a container sees (`pid_namespaces(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Processes {
    /// Its own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// Another container's: see [`Isolation::joined`].
    Joined,
}

/// A namespace of another container, which has to run when it is joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// What is shared.
    pub namespace: Namespace,
    /// The other container's directory.
    pub dir: PathBuf,
}

/// A kind of namespace that containers may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// Network devices, addresses and ports.
    Network,
    /// Shared memory, semaphores and message queues; with them `/dev/shm`.
    Ipc,
    /// Processes.
    Processes,
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::Ipc => "IPC namespace",
            Self::Processes => "PID namespace",
        })
    }
}

/// A device of the host that a container has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its path on the host.
    pub source: PathBuf,
    /// Its path inside.
    pub destination: String,
}

impl Isolation {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether another container's namespace takes the place of its own.
    pub(crate) fn joins(&self, namespace: Namespace) -> bool {
        self.joined
            .iter()
            .any(|joined| joined.namespace == namespace)
    }
}
