//! How far a container is shut in.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use smidge_run::{Device, Ipc, Limit, Namespace, Network, Processes, Profile, capability};

use crate::host::read_whole;
use crate::{Error, Host, Kind, Result};

/// How far a container is shut in, as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// `--read-only`.
    pub read_only: bool,
    /// `--privileged`.
    pub privileged: bool,
    /// `--cap-add`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--security-opt`.
    pub security: Vec<String>,
    /// `--sysctl NAME=VALUE`.
    pub sysctls: Vec<String>,
    /// `--device PATH[:PATH[:rwm]]`.
    pub devices: Vec<String>,
    /// `--group-add`.
    pub groups: Vec<String>,
    /// `--ulimit NAME=SOFT[:HARD]`.
    pub limits: Vec<String>,
    /// `--shm-size`, in bytes.
    pub shm_size: Option<u64>,
    /// `--ipc`.
    pub ipc: Ipc,
    /// `--pid`.
    pub processes: Processes,
    /// `--userns`.
    pub users: Users,
    /// The containers that `--ipc` and `--pid` name.
    pub joined: Vec<(Namespace, String)>,
    /// `--uts host`.
    pub host_names: bool,
}

/// Whose ids a container has (`--userns`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Users {
    /// Root's containers the host's own, others' what their user may map.
    #[default]
    Usual,
    /// The host's own.
    Host,
    /// Its own, which nobody else has.
    Own,
}

/// The same, understood: what the sandbox is told.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) capabilities: u64,
    pub(super) seccomp: bool,
    pub(super) no_new_privileges: bool,
    pub(super) limits: Vec<Limit>,
    pub(super) isolation: smidge_run::Isolation,
}

impl Isolation {
    /// Understands what was asked for.
    ///
    /// # Errors
    /// [`Kind::Input`] when an option cannot be understood or met.
    pub(super) fn settle(&self, network: Network, host: &Host) -> Result<Settled> {
        let mut settled = Settled {
            capabilities: self.capabilities()?,
            seccomp: !self.privileged,
            no_new_privileges: !self.privileged,
            limits: Vec::new(),
            isolation: smidge_run::Isolation {
                all_devices: self.privileged,
                ipc: self.ipc,
                processes: self.processes,
                host_names: self.host_names,
                ..smidge_run::Isolation::default()
            },
        };
        for option in &self.security {
            settled.secure(option, host)?;
        }
        for text in &self.limits {
            let invalid =
                |why| Error::new(Kind::Input, format!("invalid `--ulimit {text}`: {why}"));
            settled.limits.push(Limit::parse(text).map_err(invalid)?);
        }
        for text in &self.sysctls {
            settled
                .isolation
                .sysctls
                .push(sysctl(text, network, self.ipc)?);
        }
        for text in &self.devices {
            settled.isolation.devices.extend(devices(text)?);
        }
        Ok(settled)
    }

    /// The program's capabilities, by Docker's rules: `ALL` on one side makes the other side the exception.
    fn capabilities(&self) -> Result<u64> {
        let bits = |option: &str, names: &[String]| -> Result<u64> {
            names.iter().try_fold(0, |bits, name| {
                let bit = capability::parse(name).ok_or_else(|| {
                    let field = if option == "cap-add" {
                        "CapAdd"
                    } else {
                        "CapDrop"
                    };
                    let known = name.to_ascii_uppercase();
                    let known = known.strip_prefix("CAP_").unwrap_or(&known);
                    let fault = format!("invalid {field}: unknown capability: \"CAP_{known}\"");
                    Error::new(Kind::Input, fault)
                        .with_hint("the names are those of capabilities(7): `NET_ADMIN`, or `ALL`")
                })?;
                Ok(bits | bit)
            })
        };
        let (added, dropped): (u64, u64) = (
            bits("cap-add", &self.cap_add)?,
            bits("cap-drop", &self.cap_drop)?,
        );
        let is_all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("all"));
        Ok(match (is_all(&self.cap_add), is_all(&self.cap_drop)) {
            _ if self.privileged => capability::ALL,
            (true, true) => capability::ALL,
            (true, false) => capability::ALL & !dropped,
            (false, true) => added,
            (false, false) => capability::DEFAULT & !dropped | added,
        })
    }
}

impl Settled {
    /// Does what one `--security-opt` says.
    fn secure(&mut self, option: &str, host: &Host) -> Result<()> {
        let invalid = |why: String| {
            Error::new(
                Kind::Input,
                format!("invalid `--security-opt {option}`: {why}"),
            )
        };
        // The colon is Docker's older form.
        let pair = option.split_once('=').or_else(|| option.split_once(':'));
        match pair.unwrap_or((option, "")) {
            ("no-new-privileges", value) => {
                self.no_new_privileges = match value {
                    "" | "true" => true,
                    "false" => false,
                    _ => return Err(invalid("expected true or false".to_owned())),
                };
            }
            ("seccomp", "unconfined") => self.seccomp = false,
            ("seccomp", "builtin") => self.seccomp = true,
            ("seccomp", file) if !file.is_empty() => {
                let path = host.absolute(Path::new(file));
                let text = read_whole(&path).and_then(|bytes| {
                    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
                });
                let text = text.map_err(|source| {
                    let shown = path.display();
                    Error::io(format!("cannot read the seccomp profile `{shown}`"), source)
                })?;
                let fault = |why| {
                    let shown = path.display();
                    Error::new(
                        Kind::Input,
                        format!("invalid seccomp profile `{shown}`: {why}"),
                    )
                };
                self.seccomp = true;
                self.isolation.profile = Some(Profile::parse(&text).map_err(fault)?);
            }
            ("systempaths", "unconfined") => self.isolation.unmasked = true,
            // Nothing is confined by them.
            ("apparmor", "unconfined") | ("label", "disable") => {}
            ("apparmor" | "label", _) => {
                return Err(invalid(
                    "smidge loads no profiles of AppArmor and sets no labels of SELinux".to_owned(),
                ));
            }
            _ => {
                return Err(invalid("there is no such option".to_owned()).with_hint(
                    "there are no-new-privileges[=BOOL], seccomp=FILE|unconfined, systempaths=unconfined",
                ));
            }
        }
        Ok(())
    }
}

/// Settings of an IPC namespace, beside those that begin with `fs.mqueue.` (`runc`, and `sysctl(2)`).
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// A setting as a path below `/proc/sys`, and its value. Only those of namespaces are the container's
/// to have.
fn sysctl(text: &str, network: Network, ipc: Ipc) -> Result<(String, String)> {
    let invalid = |why: &str| Error::new(Kind::Input, format!("invalid `--sysctl {text}`: {why}"));
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| invalid("expected NAME=VALUE, as in `net.ipv4.ip_forward=1`"))?;
    // As in sysctl(8), the first separator says which one separates; the other one is part of a name.
    let path: String = match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('.') => {
            let swapped = name.chars().map(|character| match character {
                '.' => '/',
                '/' => '.',
                other => other,
            });
            swapped.collect()
        }
        _ => name.to_owned(),
    };
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(invalid("that is no name of a setting"));
    }
    match path.split_once('/') {
        Some(("net", _)) if network == Network::Host => Err(invalid(
            "the network is the host's: set it there, or leave `--network host` away",
        )),
        Some(("kernel" | "fs", _)) if ipc == Ipc::Host => Err(invalid(
            "these are the host's: set it there, or leave `--ipc host` away",
        )),
        Some(("net", _)) => Ok((path, value.to_owned())),
        _ if IPC.contains(&path.as_str()) || path.starts_with("fs/mqueue/") => {
            Ok((path, value.to_owned()))
        }
        _ => Err(invalid(
            "it is not in a separate kernel namespace, but the whole machine's",
        )),
    }
}

/// `PATH[:PATH[:rwm]]`: a device, or all that are in a directory.
fn devices(text: &str) -> Result<Vec<Device>> {
    let invalid =
        |why: String| Error::new(Kind::Input, format!("invalid `--device {text}`: {why}"));
    let is_access = |part: &str| !part.is_empty() && part.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, access] if is_access(access) => (source, source, access),
        [source, destination] => (source, destination, "rwm"),
        [source, destination, access] if is_access(access) => (source, destination, access),
        _ => return Err(invalid("expected PATH[:PATH[:rwm]]".to_owned())),
    };
    if !source.starts_with('/') {
        return Err(invalid(match source.contains('=') {
            true => "devices of the Container Device Interface are not supported".to_owned(),
            false => format!("`{source}` is not an absolute path"),
        }));
    }
    let destination = super::volume::clean_destination(destination).map_err(invalid)?;
    if !(access.contains('r') && access.contains('w')) {
        let why = "only a device's own permissions limit who reads and writes it: leave `:r` or `:w` away";
        return Err(invalid(why.to_owned()));
    }
    let mut found = Vec::new();
    collect(Path::new(source), &destination, &mut found)
        .map_err(|error| invalid(error.to_string()))?;
    match found.is_empty() {
        true => Err(invalid("not a device node".to_owned())),
        false => Ok(found),
    }
}

fn collect(source: &Path, destination: &str, found: &mut Vec<Device>) -> std::io::Result<()> {
    let metadata = source.metadata()?;
    let kind = metadata.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        found.push(Device {
            source: PathBuf::from(source),
            destination: destination.to_owned(),
        });
    } else if kind.is_dir() {
        for entry in source.read_dir()? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let known = found.len();
            // What is no device is not meant.
            if collect(&entry.path(), &format!("{destination}/{name}"), found).is_err() {
                found.truncate(known);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::test_host;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn settled(isolation: &Isolation) -> Result<Settled> {
        isolation.settle(Network::Private, &test_host(Path::new("/work")))
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_in_docker() {
        let bits = |added: &[&str], dropped: &[&str]| {
            let isolation = Isolation {
                cap_add: texts(added),
                cap_drop: texts(dropped),
                ..Isolation::default()
            };
            settled(&isolation).map(|settled| settled.capabilities).ok()
        };
        let admin = 1 << 21;
        assert_eq!(bits(&[], &[]), Some(capability::DEFAULT));
        assert_eq!(
            bits(&["SYS_ADMIN"], &["cap_chown"]),
            Some(capability::DEFAULT & !1 | admin)
        );
        assert_eq!(bits(&["cap_sys_admin"], &["ALL"]), Some(admin));
        assert_eq!(
            bits(&["all"], &["SYS_ADMIN"]),
            Some(capability::ALL & !admin)
        );
        assert_eq!(bits(&[], &["all"]), Some(0));
        assert_eq!(bits(&["NOPE"], &[]), None);
    }

    #[test]
    fn settings_of_the_whole_machine_are_refused() {
        let name = |text: &str| {
            sysctl(text, Network::Private, Ipc::Private)
                .map(|(name, _)| name)
                .ok()
        };
        assert_eq!(
            name("net.ipv4.ip_forward=1").as_deref(),
            Some("net/ipv4/ip_forward")
        );
        assert_eq!(
            name("net.ipv4.conf.eth0/1.x=1").as_deref(),
            Some("net/ipv4/conf/eth0.1/x")
        );
        assert_eq!(name("kernel.shmmax=1").as_deref(), Some("kernel/shmmax"));
        assert_eq!(
            name("fs/mqueue/msg_max=1").as_deref(),
            Some("fs/mqueue/msg_max")
        );
        for bad in [
            "kernel.core_pattern=x",
            "vm.swappiness=1",
            "net.ipv4",
            "net/../kernel/x=1",
            "=1",
        ] {
            assert_eq!(name(bad), None, "{bad}");
        }
        assert!(sysctl("net.ipv4.ip_forward=1", Network::Host, Ipc::Private).is_err());
    }

    #[test]
    fn devices_are_read_as_docker_writes_them() {
        let shown = |text: &str| match devices(text) {
            Ok(found) => format!("{} {}", found[0].source.display(), found[0].destination),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown("/dev/null"), "/dev/null /dev/null");
        assert_eq!(
            shown("/dev/null:/dev/nothing:rwm"),
            "/dev/null /dev/nothing"
        );
        assert_eq!(shown("/dev/null:rw"), "/dev/null /dev/null");
        for (bad, expected) in [
            ("/dev/no-such", "No such file"),
            ("null", "not an absolute path"),
            ("vendor.com/class=x", "Container Device Interface"),
            ("/dev/null:/x:r", "own permissions"),
            ("/etc/passwd", "not a device node"),
        ] {
            assert!(shown(bad).contains(expected), "{bad}: {}", shown(bad));
        }
    }

    #[test]
    fn security_options_are_understood_or_refused() {
        let with = |options: &[&str]| {
            settled(&Isolation {
                security: texts(options),
                ..Isolation::default()
            })
        };
        let plain = with(&[]).unwrap();
        assert!(plain.seccomp && plain.no_new_privileges);
        assert!(
            !with(&["no-new-privileges=false"])
                .unwrap()
                .no_new_privileges
        );
        assert!(with(&["no-new-privileges"]).unwrap().no_new_privileges);
        assert!(!with(&["seccomp:unconfined"]).unwrap().seccomp);
        assert!(
            with(&["systempaths=unconfined"])
                .unwrap()
                .isolation
                .unmasked
        );
        assert!(with(&["apparmor=unconfined", "label=disable"]).is_ok());
        for bad in [
            "seccomp",
            "seccomp=/no/such",
            "apparmor=mine",
            "label=type:x",
            "fast",
            "no-new-privileges=x",
        ] {
            assert!(with(&[bad]).is_err(), "{bad}");
        }
    }
}
