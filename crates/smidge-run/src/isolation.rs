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
}
