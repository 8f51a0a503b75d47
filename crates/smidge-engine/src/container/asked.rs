//! What was asked for beside the usual, in Docker's words: a part of `inspect`'s `HostConfig`.

use serde_json::{Map, Value, json};
use smidge_run::{Ipc, Processes};

use super::create::CreateRequest;
use super::isolation::{Isolation, Settled, Users};
use super::mount_option::parse_mount;
use crate::Host;

/// Docker's fields, those alone that are not as they usually are.
pub(super) fn asked(request: &CreateRequest, settled: &Settled, host: &Host) -> Map<String, Value> {
    let (isolation, names) = (&request.isolation, &request.names);
    let mut fields = Map::new();
    let lists = [
        ("CapAdd", &isolation.cap_add),
        ("CapDrop", &isolation.cap_drop),
        ("SecurityOpt", &isolation.security),
        ("GroupAdd", &isolation.groups),
        ("Dns", &names.servers),
        ("DnsSearch", &names.search),
        ("DnsOptions", &names.options),
        ("ExtraHosts", &names.hosts),
        ("VolumesFrom", &request.volumes_from),
    ];
    for (name, list) in lists {
        if !list.is_empty() {
            fields.insert(name.to_owned(), json!(list));
        }
    }
    let mut pairs = |name: &str, texts: &[String], separator: char| {
        let split = |text: &String| {
            let (key, value) = text.split_once(separator).unwrap_or((text, ""));
            (key.to_owned(), Value::from(value))
        };
        if !texts.is_empty() {
            let map: Map<String, Value> = texts.iter().map(split).collect();
            fields.insert(name.to_owned(), Value::Object(map));
        }
    };
    pairs("Sysctls", &isolation.sysctls, '=');
    pairs("Tmpfs", &request.tmpfs, ':');
    pairs("Annotations", &request.annotations, '=');
    if !request.mounts.is_empty() {
        // What could not be read was refused long before.
        let read = request
            .mounts
            .iter()
            .filter_map(|text| parse_mount(text, host).ok());
        let mounts: Vec<Value> = read.map(|option| option.told()).collect();
        fields.insert("Mounts".to_owned(), mounts.into());
    }
    if request.log_driver.is_some() || !request.log_options.is_empty() {
        fields.insert("LogConfig".to_owned(), log_config(request));
    }
    if let Some(size) = isolation.shm_size.filter(|size| *size > 0) {
        fields.insert("ShmSize".to_owned(), size.into());
    }
    for (name, mode) in shared(isolation) {
        fields.insert(name.to_owned(), mode.into());
    }
    if isolation.privileged {
        fields.insert("Privileged".to_owned(), true.into());
    }
    fields.extend(limits_and_devices(settled));
    fields
}

fn limits_and_devices(settled: &Settled) -> Map<String, Value> {
    let mut fields = Map::new();
    let limits = settled.limits.iter().map(|limit| {
        let number = |limit: Option<u64>| limit.map_or(json!(-1), Value::from);
        json!({"Name": limit.name(), "Soft": number(limit.soft), "Hard": number(limit.hard)})
    });
    let limits: Vec<Value> = limits.collect();
    if !limits.is_empty() {
        fields.insert("Ulimits".to_owned(), limits.into());
    }
    let devices = settled.isolation.devices.iter().map(|device| {
        json!({"PathOnHost": device.source, "PathInContainer": device.destination,
            "CgroupPermissions": "rwm"})
    });
    let devices: Vec<Value> = devices.collect();
    if !devices.is_empty() {
        fields.insert("Devices".to_owned(), devices.into());
    }
    fields
}

/// The namespaces that are not the container's own.
fn shared(isolation: &Isolation) -> Vec<(&'static str, &'static str)> {
    let ipc = match isolation.ipc {
        // Whose it is, is said elsewhere.
        Ipc::Private | Ipc::Joined => None,
        Ipc::Shareable => Some(("IpcMode", "shareable")),
        Ipc::None => Some(("IpcMode", "none")),
        Ipc::Host => Some(("IpcMode", "host")),
    };
    let uts = isolation.host_names.then_some(("UTSMode", "host"));
    let pid = (isolation.processes == Processes::Host).then_some(("PidMode", "host"));
    let users = match isolation.users {
        Users::Usual => None,
        Users::Host => Some(("UsernsMode", "host")),
        Users::Own => Some(("UsernsMode", "auto")),
    };
    let all = ipc.into_iter().chain(uts).chain(pid);
    all.chain(users).collect()
}

fn log_config(request: &CreateRequest) -> Value {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), Value::from(value))
    };
    let options: Map<String, Value> = request.log_options.iter().map(pair).collect();
    let driver = request.log_driver.as_deref().unwrap_or("json-file");
    json!({"Type": driver, "Config": options})
}
