//! `inspect` of a container, in the shape of Docker's API.

use serde::Serialize;
use serde_json::{Map, Value, json};
use smidge_run::{Outlook, Port, Reason, Status};

use super::lifetime;
use super::list::status_word;
use super::mount_option::propagation_name;
use super::reason::{brief, sentence};
use super::record::{Known, MountPoint, Record};
use super::resource;
use crate::{Engine, Result};

/// What Docker writes for "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Docker's `ContainerInspect`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerInspect {
    /// The container's id.
    pub id: String,
    /// When it was made.
    pub created: String,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What has become of it.
    pub state: Value,
    /// The image's id.
    pub image: String,
    /// Its `/etc/resolv.conf` on the host.
    pub resolv_conf_path: String,
    /// Its `/etc/hostname` on the host.
    pub hostname_path: String,
    /// Its `/etc/hosts` on the host.
    pub hosts_path: String,
    /// Its log.
    pub log_path: String,
    /// Its name, with the slash that Docker puts before it.
    pub name: String,
    /// How often it was started again by itself.
    pub restart_count: u32,
    /// How its layers are joined.
    pub driver: &'static str,
    /// What it runs on.
    pub platform: &'static str,
    /// SELinux's label for what is mounted: none.
    pub mount_label: &'static str,
    /// SELinux's label for its processes: none.
    pub process_label: &'static str,
    /// Its profile of AppArmor: none.
    pub app_armor_profile: &'static str,
    /// The programs that were started in it beside its own: not kept.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// What was asked of the host.
    pub host_config: Value,
    /// Where its files are.
    pub graph_driver: Value,
    /// What is mounted in it.
    pub mounts: Vec<Value>,
    /// What the program was told.
    pub config: Value,
    /// How it can be reached.
    pub network_settings: Value,
}

impl Engine {
    /// Everything about a container.
    ///
    /// # Errors
    /// When there is no such container, or its record cannot be read.
    pub fn inspect_container(&self, name: &str) -> Result<ContainerInspect> {
        let mut known = self.container(name)?;
        self.lead_out_to_be_seen(&mut known);
        let mut settings = self.network_settings(&known);
        if let Some(why) = self.why_shut(&known.record.network()) {
            settings.insert("NoWayOut".to_owned(), why.into());
        }
        Ok(inspected(&known, settings))
    }
}

fn inspected(known: &Known, networks: Map<String, Value>) -> ContainerInspect {
    let Known {
        container, record, ..
    } = known;
    let below = |name: &str| container.dir.join(name).display().to_string();
    let (path, args) = match record.spec.args.split_first() {
        Some((path, args)) => (path.clone(), args.to_vec()),
        None => (String::new(), Vec::new()),
    };
    ContainerInspect {
        id: container.id.clone(),
        created: record.created.clone(),
        path,
        args,
        state: state(known),
        image: record.image_id.to_string(),
        resolv_conf_path: below("etc/resolv.conf"),
        hostname_path: below("etc/hostname"),
        hosts_path: below("etc/hosts"),
        log_path: below(&format!("{}-json.log", container.id)),
        name: format!("/{}", container.name),
        restart_count: known.state.restart_count,
        driver: "overlay",
        platform: "linux",
        mount_label: "",
        process_label: "",
        app_armor_profile: "",
        exec_ids: None,
        host_config: host_config(record),
        graph_driver: graph_driver(known),
        mounts: record.mounts.iter().map(mount).collect(),
        config: config(record),
        network_settings: network_settings(known, networks),
    }
}

fn state(known: &Known) -> Value {
    let state = &known.state;
    let time = |text: &str| {
        if text.is_empty() {
            NEVER.to_owned()
        } else {
            text.to_owned()
        }
    };
    let mut shown = json!({
        "Status": status_word(state),
        "Running": state.status.is_active(),
        "Paused": state.paused,
        "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": false,
        "Pid": state.pid,
        "ExitCode": state.exit_code.unwrap_or(0),
        "Error": state.error,
        "StartedAt": time(&state.started_at),
        "FinishedAt": time(&state.finished_at),
    });
    if let Value::Object(fields) = &mut shown {
        if let Some(health) = &state.health {
            fields.insert("Health".to_owned(), super::health::shown(health));
        }
        let reason = state.reason.as_ref().map(shown_reason);
        fields.insert("Reason".to_owned(), reason.unwrap_or_default());
    }
    shown
}

/// Why it did not start or has ended; smidge's own.
fn shown_reason(reason: &Reason) -> Value {
    json!({
        "Cause": reason.cause,
        "Brief": brief(reason),
        "Message": sentence(reason),
        "Facts": reason.facts,
        "Hints": reason.hints,
        "Certain": reason.certain,
    })
}

fn host_config(record: &Record) -> Value {
    let mut fields = usual_host_config(record);
    if let Value::Object(fields) = &mut fields {
        fields.extend(record.host.asked.clone());
    }
    fields
}

fn usual_host_config(record: &Record) -> Value {
    let spec = &record.spec;
    let (masked, read_only) = smidge_run::masked_paths(spec);
    let mut config = json!({
        "Binds": record.host.binds,
        "NetworkMode": record.network().word(),
        "PortBindings": bindings(&record.host.ports, true),
        "RestartPolicy": lifetime::shown(spec.lifetime.restart),
        "AutoRemove": record.host.auto_remove,
        "PublishAllPorts": record.host.publish_all,
        "ReadonlyRootfs": spec.read_only,
        "Privileged": false,
        "Init": spec.init,
        "LogConfig": {"Type": "json-file", "Config": {}},
        "ShmSize": 64 << 20,
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "UsernsMode": "",
        "CgroupnsMode": match spec.resources.host_cgroup_namespace {
            true => "host",
            false => "private",
        },
        "Cgroup": "",
        "Runtime": "smidge",
        "VolumeDriver": "",
        "ContainerIDFile": "",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        // Other systems', which scripts that know all fields ask for.
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "SecurityOpt": match spec.no_new_privileges {
            true => json!(["no-new-privileges"]),
            false => json!([]),
        },
        "DeviceRequests": null,
        "MaskedPaths": masked,
        "ReadonlyPaths": read_only,
    });
    // What scripts count and go through, where nothing was asked for.
    const LISTS: [&str; 11] = [
        "CapAdd",
        "CapDrop",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "Devices",
        "ExtraHosts",
        "GroupAdd",
        "Links",
        "Ulimits",
        "VolumesFrom",
    ];
    if let Value::Object(fields) = &mut config {
        fields.extend(LISTS.map(|name| (name.to_owned(), json!([]))));
    }
    if let Value::Object(fields) = &mut config {
        fields.extend(resource::host_config(&spec.resources));
    }
    config
}

fn graph_driver(known: &Known) -> Value {
    let layers = known
        .record
        .spec
        .layers
        .iter()
        .map(|layer| layer.display().to_string());
    let below = |name: &str| known.container.dir.join(name).display().to_string();
    json!({
        "Name": "overlay",
        "Data": {
            "LowerDir": layers.collect::<Vec<_>>().join(":"),
            "UpperDir": below("upper"),
            "WorkDir": below("work"),
        },
    })
}

fn mount(mount: &MountPoint) -> Value {
    let kind = match (mount.kind.as_str(), mount.name.as_str()) {
        ("", "") => "bind",
        ("", _) => "volume",
        (kind, _) => kind,
    };
    let propagation = match mount.manner.propagation {
        propagation if kind == "bind" => propagation_name(propagation),
        _ => "",
    };
    let mut value = json!({
        "Type": kind,
        "Source": mount.source.display().to_string(),
        "Destination": mount.destination,
        "Mode": if mount.read_only { "ro" } else { "" },
        "RW": !mount.read_only,
        "Propagation": propagation,
    });
    if !mount.name.is_empty()
        && let Value::Object(fields) = &mut value
    {
        fields.insert("Name".to_owned(), mount.name.clone().into());
        fields.insert("Driver".to_owned(), "local".into());
    }
    value
}

fn config(record: &Record) -> Value {
    let (spec, config) = (&record.spec, &record.config);
    let attached = record.host.attached;
    json!({
        "Hostname": spec.hostname,
        "Domainname": spec.isolation.domainname,
        "User": config.user,
        "AttachStdin": attached && spec.stdin,
        "AttachStdout": attached,
        "AttachStderr": attached,
        "ExposedPorts": config.exposed_ports,
        "Tty": spec.tty,
        "OpenStdin": spec.stdin,
        "StdinOnce": attached && spec.stdin,
        "Env": config.env,
        "Cmd": config.cmd,
        "Image": record.image,
        "Volumes": config.volumes,
        "WorkingDir": config.working_dir,
        "Entrypoint": config.entrypoint,
        "OnBuild": config.on_build,
        "Labels": config.labels,
        "StopSignal": config.stop_signal.as_deref().unwrap_or("SIGTERM"),
        "StopTimeout": record.host.stop_timeout,
        "Healthcheck": config.healthcheck,
    })
}

fn network_settings(known: &Known, networks: Map<String, Value>) -> Value {
    let ports = match known.state.status {
        Status::Running => {
            let mut ports = match bindings(&known.state.ports, false) {
                Value::Object(ports) => ports,
                _ => Map::new(),
            };
            for exposed in known.record.config.exposed_ports.keys() {
                ports.entry(exposed.clone()).or_insert(Value::Null);
            }
            Value::Object(ports)
        }
        Status::Created | Status::Restarting | Status::Exited => json!({}),
    };
    let mut settings = networks;
    // For `nsenter --net=…`.
    let sandbox = match known.state.status {
        Status::Running => format!("/proc/{}/ns/net", known.state.pid),
        Status::Created | Status::Restarting | Status::Exited => String::new(),
    };
    for (name, value) in [
        ("Bridge", json!("")),
        ("SandboxID", json!(known.container.id)),
        ("SandboxKey", json!(sandbox)),
        ("HairpinMode", json!(false)),
        ("LinkLocalIPv6Address", json!("")),
        ("LinkLocalIPv6PrefixLen", json!(0)),
        ("SecondaryIPAddresses", Value::Null),
        ("SecondaryIPv6Addresses", Value::Null),
    ] {
        settings.insert(name.to_owned(), value);
    }
    settings.insert("Ports".to_owned(), ports);
    // Smidge's own.
    if let Outlook::Shut(why) = &known.state.outlook {
        settings.insert("NoWayOut".to_owned(), why.as_str().into());
    }
    Value::Object(settings)
}

/// Ports of the host by the container's. A port that the kernel is to choose was asked for as ``.
fn bindings(ports: &[Port], asked: bool) -> Value {
    let mut all = Map::new();
    for port in ports {
        let key = format!("{}/{}", port.container_port, port.protocol);
        let host_port = match port.host_port {
            0 if asked => String::new(),
            first if port.last_host_port != 0 => format!("{first}-{}", port.last_host_port),
            number => number.to_string(),
        };
        let host_ip = match port.host_ip.is_unspecified() && asked {
            true => String::new(),
            false => port.host_ip.to_string(),
        };
        let binding = json!({"HostIp": host_ip, "HostPort": host_port});
        if let Value::Array(list) = all.entry(key).or_insert_with(|| json!([]))
            && !list.contains(&binding)
        {
            list.push(binding);
        }
    }
    Value::Object(all)
}
