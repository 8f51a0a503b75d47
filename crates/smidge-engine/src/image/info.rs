//! `info` and `version`: what this smidge is, and what it has.

use serde::Serialize;

use crate::container::ContainerQuery;
use crate::{Engine, Result};

/// What `info` says.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// smidge's version.
    pub server_version: &'static str,
    /// Containers in the store.
    pub containers: usize,
    /// Those that run.
    pub containers_running: usize,
    /// Those that are paused: none.
    pub containers_paused: usize,
    /// Those that do not run.
    pub containers_stopped: usize,
    /// Images in the store.
    pub images: usize,
    /// How layers are joined.
    pub driver: &'static str,
    /// Where the store is.
    pub docker_root_dir: String,
    /// Whether it runs without privilege.
    pub rootless: bool,
    /// How containers' user ids appear on the host.
    pub id_map: &'static str,
    /// What the sandbox does about security.
    pub security_options: Vec<&'static str>,
    /// The kernel's version.
    pub kernel_version: String,
    /// The distribution.
    pub operating_system: String,
    /// The kind of operating system.
    #[serde(rename = "OSType")]
    pub os_type: &'static str,
    /// CPU architecture.
    pub architecture: &'static str,
    /// Processors.
    #[serde(rename = "NCPU")]
    pub cpus: usize,
    /// Bytes of memory.
    pub mem_total: u64,
    /// The host's name.
    pub name: String,
    /// Bytes of disk, by what they are for.
    pub disk: Disk,
}

/// Bytes of disk, by what they are for.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Disk {
    /// Images' blobs.
    pub blobs: u64,
    /// Images' files, unpacked.
    pub layers: u64,
    /// Containers.
    pub containers: u64,
    /// Volumes.
    pub volumes: u64,
    /// What can be made again.
    pub cache: u64,
}

impl Engine {
    /// Says what the store holds and what it stands on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn info(&self) -> Result<Info> {
        let containers = self
            .containers(&ContainerQuery {
                all: true,
                ..ContainerQuery::default()
            })?
            .len();
        let running = self.containers(&ContainerQuery::default())?.len();
        let usage = self.store.usage();
        let rootless = self.host.uid != 0;
        let system = rustix::system::uname();
        let mut security_options = vec!["name=seccomp,profile=builtin", "name=no-new-privileges"];
        if rootless {
            security_options.push("name=rootless");
        }
        let map = smidge_run::IdMap::for_host(&smidge_run::User::default());
        Ok(Info {
            server_version: env!("CARGO_PKG_VERSION"),
            containers,
            containers_running: running,
            containers_paused: 0,
            containers_stopped: containers - running.min(containers),
            images: self.store.images()?.len(),
            driver: "overlay",
            docker_root_dir: self.store.root().display().to_string(),
            rootless,
            id_map: match map {
                Ok(smidge_run::IdMap::None) => "the host's own",
                Ok(smidge_run::IdMap::Ranges { .. }) => "subordinate ranges",
                Ok(smidge_run::IdMap::Single { .. }) => "a single id",
                Err(_) => "unknown",
            },
            security_options,
            kernel_version: system.release().to_string_lossy().into_owned(),
            operating_system: operating_system(),
            os_type: "linux",
            architecture: std::env::consts::ARCH,
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            mem_total: memory(),
            name: system.nodename().to_string_lossy().into_owned(),
            disk: Disk {
                blobs: usage.blobs,
                layers: usage.layers,
                containers: usage.containers,
                volumes: usage.volumes,
                cache: usage.cache,
            },
        })
    }
}

/// `PRETTY_NAME` of os-release(5).
fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(
        || "Linux".to_owned(),
        |name| name.trim_matches('"').to_owned(),
    )
}

/// `MemTotal` of proc_meminfo(5), in bytes.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0).saturating_mul(1024)
}
