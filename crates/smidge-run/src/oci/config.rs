//! What a bundle's `config.json` says, as far as it is heeded: fields of the OCI runtime specification
//! 1.2 (`config.md`, `config-linux.md`). Others are ignored, as the specification wants it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::resource::OciResources;
use crate::seccomp::Profile;

/// A container, as `config.json` describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    pub(super) oci_version: String,
    pub(super) root: Option<Root>,
    #[serde(default)]
    pub(super) mounts: Vec<Mount>,
    pub(super) process: Option<Process>,
    #[serde(default)]
    pub(super) hostname: String,
    #[serde(default)]
    pub(super) domainname: String,
    #[serde(default)]
    pub(super) hooks: Hooks,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) linux: Linux,
    pub(super) vm: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Root {
    pub(super) path: PathBuf,
    #[serde(default)]
    pub(super) readonly: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mount {
    pub(super) destination: String,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) source: PathBuf,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(default)]
    pub(super) uid_mappings: Vec<IdMapping>,
    #[serde(default)]
    pub(super) gid_mappings: Vec<IdMapping>,
}

/// A program that runs in a container: its first one, or one that `exec` adds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Process {
    pub(super) terminal: bool,
    pub(super) console_size: Option<ConsoleSize>,
    pub(super) user: User,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) cwd: String,
    pub(super) capabilities: Capabilities,
    pub(super) rlimits: Vec<Rlimit>,
    pub(super) no_new_privileges: bool,
    pub(super) apparmor_profile: String,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) selinux_label: String,
    pub(super) scheduler: Option<Scheduler>,
    pub(super) io_priority: Option<IoPriority>,
    #[serde(rename = "execCPUAffinity")]
    pub(super) affinity: Affinity,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConsoleSize {
    pub(super) height: u16,
    pub(super) width: u16,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) umask: Option<u32>,
    pub(super) additional_gids: Vec<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Capabilities {
    pub(super) bounding: Vec<String>,
    pub(super) effective: Vec<String>,
    pub(super) inheritable: Vec<String>,
    pub(super) permitted: Vec<String>,
    pub(super) ambient: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Rlimit {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) hard: u64,
    pub(super) soft: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct IoPriority {
    pub(super) class: String,
    #[serde(default)]
    pub(super) priority: u8,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Scheduler {
    pub(super) policy: String,
    pub(super) nice: i32,
    pub(super) priority: u32,
    pub(super) flags: Vec<String>,
    /// In nanoseconds, as are the two below.
    pub(super) runtime: u64,
    pub(super) deadline: u64,
    pub(super) period: u64,
}

/// Lists of processors.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Affinity {
    /// Before the process is in the container's control group.
    pub(super) initial: String,
    /// From then on.
    #[serde(rename = "final")]
    pub(super) last: String,
}

/// How far a clock is ahead of the host's.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TimeOffset {
    pub(super) secs: i64,
    pub(super) nanosecs: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Hooks {
    pub(super) prestart: Vec<Hook>,
    pub(super) create_runtime: Vec<Hook>,
    pub(super) create_container: Vec<Hook>,
    pub(super) start_container: Vec<Hook>,
    pub(super) poststart: Vec<Hook>,
    pub(super) poststop: Vec<Hook>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Hook {
    pub(super) path: PathBuf,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    /// In seconds.
    pub(super) timeout: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Linux {
    pub(super) namespaces: Vec<Namespace>,
    pub(super) uid_mappings: Vec<IdMapping>,
    pub(super) gid_mappings: Vec<IdMapping>,
    pub(super) devices: Vec<Device>,
    pub(super) cgroups_path: String,
    pub(super) resources: OciResources,
    pub(super) rootfs_propagation: String,
    pub(super) seccomp: Option<Profile>,
    pub(super) sysctl: BTreeMap<String, String>,
    pub(super) masked_paths: Vec<String>,
    pub(super) readonly_paths: Vec<String>,
    pub(super) mount_label: String,
    pub(super) intel_rdt: Option<Value>,
    pub(super) personality: Option<Personality>,
    pub(super) time_offsets: BTreeMap<String, TimeOffset>,
    pub(super) net_devices: Option<Value>,
    pub(super) memory_policy: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Namespace {
    #[serde(rename = "type")]
    pub(super) kind: NamespaceKind,
    #[serde(default)]
    pub(super) path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NamespaceKind {
    User,
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct IdMapping {
    #[serde(rename = "containerID")]
    pub(super) container: u32,
    #[serde(rename = "hostID")]
    pub(super) host: u32,
    pub(super) size: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) path: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) major: u32,
    #[serde(default)]
    pub(super) minor: u32,
    pub(super) file_mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Personality {
    pub(super) domain: String,
    #[serde(default)]
    pub(super) flags: Vec<String>,
}

impl Linux {
    /// Whether the container has a namespace of a kind that is not the caller's.
    pub(super) fn has(&self, kind: NamespaceKind) -> bool {
        self.namespaces
            .iter()
            .any(|namespace| namespace.kind == kind)
    }

    /// Whether it gets a new one.
    pub(super) fn makes(&self, kind: NamespaceKind) -> bool {
        let is_new =
            |namespace: &Namespace| namespace.kind == kind && namespace.path.as_os_str().is_empty();
        self.namespaces.iter().any(is_new)
    }
}

/// Reads a text of JSON in which `null` means that nothing is said, as Go writes empty lists.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    let mut value: Value = serde_json::from_slice(text)?;
    drop_nulls(&mut value);
    serde_json::from_value(value)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => {
            list.retain(|value| !value.is_null());
            list.iter_mut().for_each(drop_nulls);
        }
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_writes_is_read() {
        let text = br#"{"ociVersion":"1.0.2","mounts":null,"process":{"args":["x"],"cwd":"/",
            "user":{"uid":1,"gid":2,"additionalGids":null},"unknown":{"a":[null]}},
            "linux":{"namespaces":[{"type":"network","path":"/p"},{"type":"pid"}]}}"#;
        let config: Config = parse(text).unwrap();
        let process = config.process.unwrap();
        assert_eq!((process.user.uid, process.user.gid), (1, 2));
        assert!(config.linux.has(NamespaceKind::Network));
        assert!(!config.linux.makes(NamespaceKind::Network));
        assert!(config.linux.makes(NamespaceKind::Pid));
        assert!(parse::<Config>(b"{\"ociVersion\":3}").is_err());
        assert!(parse::<Config>(b"[").is_err());
    }
}
