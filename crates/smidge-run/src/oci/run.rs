//! What is done to a container that runs: made stand still, limited, looked at, added to.

use serde_json::{Value, json};

use super::attend::attend;
use super::create::{self, CreateOptions};
use super::error::OciError;
use super::exec::{self, ExecOptions};
use super::life::saved;
use super::record::{Place, Record, Status};
use super::resource::OciResources;
use super::{Runtime, Tell, namespace, option};
use crate::capability;
use crate::cgroup::{self, Group, Resources};
use crate::seccomp::{self, FLAGS};

impl Runtime {
    /// Makes a container, starts it, and waits for its end unless it is to be left alone (`detach`). Gives
    /// its exit code. It is removed afterwards unless it is to be kept.
    ///
    /// # Errors
    /// As [`Runtime::create`] and [`Runtime::start`]; nothing is left then.
    pub fn run(
        &self,
        id: &str,
        options: &CreateOptions,
        (detach, keep): (bool, bool),
        tell: Tell<'_>,
    ) -> Result<u8, OciError> {
        let created = create::create(&self.root, id, options, !detach, tell)?;
        if let Err(error) = self.start(id) {
            let _ = self.delete(id, true, tell);
            return Err(error);
        }
        if detach {
            return Ok(0);
        }
        let code = attend(created.pid, created.terminal)?;
        match keep {
            true => Ok(code),
            false => self.delete(id, true, tell).map(|()| code),
        }
    }

    /// Runs a program in a container, and waits for its end unless it is to be left alone. Gives its exit
    /// code.
    ///
    /// # Errors
    /// When the container does not run, or the program cannot.
    pub fn exec(
        &self,
        id: &str,
        options: &ExecOptions,
        detach: bool,
        tell: Tell<'_>,
    ) -> Result<u8, OciError> {
        let executed = exec::exec(self, id, options, !detach, tell)?;
        match detach {
            true => Ok(0),
            false => Ok(attend(executed.pid, executed.terminal)?),
        }
    }

    /// Makes a container stand still.
    ///
    /// # Errors
    /// When it does not run, or has no control group.
    pub fn pause(&self, id: &str) -> Result<(), OciError> {
        let (place, record, _lock) = self.locked(id)?;
        match place.status(&record) {
            Status::Running | Status::Created => Ok(group(&record, "pause")?.freeze()?),
            status => Err(record.refuse(status, "container not running")),
        }
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not stand still.
    pub fn resume(&self, id: &str) -> Result<(), OciError> {
        let (place, record, _lock) = self.locked(id)?;
        match place.status(&record) {
            Status::Paused => {
                group(&record, "resume")?.thaw();
                Ok(())
            }
            status => Err(record.refuse(status, "container not paused")),
        }
    }

    /// The numbers of a container's processes.
    ///
    /// # Errors
    /// `Missing`.
    pub fn processes(&self, id: &str) -> Result<Vec<u32>, OciError> {
        let record = Place::of(&self.root, id)?.read()?;
        let grouped = record.group.as_ref().map(Group::processes);
        Ok(match grouped.filter(|pids| !pids.is_empty()) {
            Some(pids) => pids,
            None if record.process.is_alive() => cgroup::of_container(record.process.pid),
            None => Vec::new(),
        })
    }

    /// Changes what a container may use; what is not spoken of stays as it is.
    ///
    /// # Errors
    /// When it has ended, or a limit cannot be had.
    pub fn update(&self, id: &str, resources: &OciResources) -> Result<(), OciError> {
        let (place, mut record, _lock) = self.locked(id)?;
        if place.status(&record) == Status::Stopped {
            return Err(record.refuse(Status::Stopped, "container not running"));
        }
        let mut all = allowed(&place, &record)?;
        let wanted = resources.change_of(&all)?;
        all.update(&wanted);
        let group = group(&record, "update")?;
        if let Some(limit) = wanted
            .memory
            .filter(|_| resources.memory.check_before_update)
        {
            let used = cgroup::usage_of(group, record.process.pid).memory;
            if used > limit {
                return Err(OciError::InUse { used, limit });
            }
        }
        group.set(&cgroup::completed(&wanted, &all))?;
        for file in resources.files()? {
            group.write_file(&file)?;
        }
        for (name, value) in &resources.unified {
            group.write_unified(name, value)?;
        }
        record.changed = Some(all);
        place.write(&record)
    }

    /// What a container uses, as `events` of runc has it; none if it has ended.
    ///
    /// # Errors
    /// `Missing`.
    pub fn stats(&self, id: &str) -> Result<Option<Value>, OciError> {
        let place = Place::of(&self.root, id)?;
        let record = place.read()?;
        if place.status(&record) == Status::Stopped {
            return Ok(None);
        }
        let group = record.group.clone().unwrap_or_default();
        let usage = cgroup::usage_of(&group, record.process.pid);
        Ok(Some(json!({
            "type": "stats",
            "id": id,
            "data": {
                "cpu": {"usage": {"total": u64::try_from(usage.cpu.as_nanos()).unwrap_or(u64::MAX)}},
                "memory": {"usage": {"usage": usage.memory, "limit": usage.memory_limit}},
                "pids": {"current": usage.pids},
                "blkio": {"ioServiceBytesRecursive": [
                    {"op": "Read", "value": usage.read}, {"op": "Write", "value": usage.written}
                ]},
            },
        })))
    }

    fn locked(&self, id: &str) -> Result<(Place, Record, std::fs::File), OciError> {
        let place = Place::of(&self.root, id)?;
        let lock = place.lock()?;
        let record = place.read()?;
        Ok((place, record, lock))
    }
}

/// What a container may use as it is now.
fn allowed(place: &Place, record: &Record) -> Result<Resources, OciError> {
    match (&record.changed, saved(place)) {
        (Some(changed), _) => Ok(changed.clone()),
        (None, Some(config)) => config.linux.resources.resources(),
        (None, None) => Ok(Resources::default()),
    }
}

fn group<'r>(record: &'r Record, verb: &str) -> Result<&'r Group, OciError> {
    record.group.as_ref().ok_or_else(|| OciError::Unsupported {
        what: verb.to_owned(),
        why: ": the container has no control group".to_owned(),
    })
}

/// What the runtime can do (`features.md`).
#[must_use]
pub fn features() -> Value {
    let capabilities = (0..).map_while(capability::name);
    let capabilities: Vec<String> = capabilities.map(|name| format!("CAP_{name}")).collect();
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let actions = [
        "KILL",
        "KILL_PROCESS",
        "KILL_THREAD",
        "TRAP",
        "ERRNO",
        "TRACE",
        "ALLOW",
        "LOG",
    ];
    let spelled = |prefix: &str, names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("{prefix}{name}")).collect()
    };
    let flags = |supported: bool| -> Vec<&str> {
        let of = FLAGS.iter().filter(|(_, can)| *can || !supported);
        of.map(|(name, _)| *name).collect()
    };
    let apparmor = std::fs::read("/sys/module/apparmor/parameters/enabled");
    let apparmor = apparmor.is_ok_and(|text| text.starts_with(b"Y"));
    let selinux = std::path::Path::new("/sys/fs/selinux/enforce").exists();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": super::OCI_VERSION,
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"
        ],
        "mountOptions": option::names(),
        "linux": {
            "namespaces": namespace::names(),
            "capabilities": capabilities,
            "cgroup": {
                "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true
            },
            "seccomp": {
                "enabled": true,
                "actions": spelled("SCMP_ACT_", &actions),
                "operators": spelled("SCMP_CMP_", &operators),
                "archs": seccomp::architectures(),
                "knownFlags": flags(false),
                "supportedFlags": flags(true),
            },
            "apparmor": {"enabled": apparmor},
            "selinux": {"enabled": selinux},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": true}},
        },
        "annotations": {"io.smidge.version": env!("CARGO_PKG_VERSION")},
    })
}

/// The description of a bundle to begin with: a shell in `rootfs`, shut in as others' containers are. Without
/// root its one id is the caller's.
#[must_use]
pub fn template(rootless: bool) -> Value {
    let text = include_str!("template.json");
    let mut config: Value = serde_json::from_str(text).unwrap_or_default();
    config["ociVersion"] = super::OCI_VERSION.into();
    if rootless {
        without_root(&mut config);
    }
    config
}

fn without_root(config: &mut Value) {
    let ids = [
        ("uidMappings", rustix::process::geteuid().as_raw()),
        ("gidMappings", rustix::process::getegid().as_raw()),
    ];
    for (name, id) in ids {
        config["linux"][name] = json!([{"containerID": 0, "hostID": id, "size": 1}]);
    }
    if let Some(resources) = config["linux"].as_object_mut() {
        resources.remove("resources");
    }
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|one| one["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys" {
            *mount = json!({
                "destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]
            });
        }
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| option != "gid=5");
        }
    }
}
