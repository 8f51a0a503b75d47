//! What is to become a container: a bundle that was read and found to make sense.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::config::{self, Config, IdMapping, NamespaceKind, Process};
use super::error::OciError;
use super::idmapped::Mapped;
use super::option::{self, Options};
use super::process;
use crate::cgroup::Group;
use crate::idmap::{IdMap, Range};
use crate::kernel::sysctl_path;

/// A container that is being made.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) id: String,
    /// The bundle's directory: an absolute path.
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) config: Config,
    pub(super) process: Process,
    pub(super) id_map: IdMap,
    pub(super) group: Option<Group>,
    /// Whether the root is changed without `pivot_root(2)`.
    pub(super) no_pivot: bool,
    /// Whether the container shares the caller's session keyring.
    pub(super) no_new_keyring: bool,
    /// How many descriptors from 3 on the program gets from the caller.
    pub(super) preserved: u32,
    /// Mounts whose owners are mapped.
    pub(super) mapped: Vec<Mapped>,
    /// What is to be shown, as the caller sees it: whoever is root in a user namespace alone may not come to
    /// all of it.
    pub(super) opened: Vec<Mapped>,
}

impl Plan {
    /// What of it is not as it was asked for.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let label = &self.config.linux.mount_label;
        let lost = !label.is_empty() && !super::mount::is_labelling();
        let lost = lost
            .then(|| format!("`linux.mountLabel` is `{label}`, and SELinux is not enabled here"));
        let resources = self.config.linux.resources.warning();
        process::warnings(&self.process)
            .into_iter()
            .chain(lost)
            .chain(resources)
    }
}

/// The name of a bundle's description.
pub(super) const CONFIG: &str = "config.json";

/// Reads a bundle's description.
pub(super) fn read(bundle: &Path) -> Result<(PathBuf, Vec<u8>), OciError> {
    let fault = |path: PathBuf| {
        move |source: std::io::Error| OciError::Config {
            path,
            detail: source.to_string(),
        }
    };
    let bundle = fs::canonicalize(bundle).map_err(fault(bundle.to_owned()))?;
    let path = bundle.join(CONFIG);
    let text = read_regular(&path).map_err(fault(path))?;
    Ok((bundle, text))
}

/// Far above what any description weighs; read into memory, it takes many times as much.
const LIMIT: u64 = 16 << 20;

/// Reads a file that is one, and not too large: another would have no end, or be waited for for ever.
pub(super) fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut text)?;
    match text.len() as u64 > LIMIT {
        true => Err(io::Error::other(format!("it has more than {LIMIT} bytes"))),
        false => Ok(text),
    }
}

/// Makes sense of a bundle's description.
///
/// # Errors
/// `Config`, when it makes none; `Unsupported`.
pub(super) fn plan(id: &str, bundle: &Path, text: &[u8]) -> Result<Plan, OciError> {
    let path = bundle.join(CONFIG);
    let fault = |detail: String| OciError::Config {
        path: path.clone(),
        detail,
    };
    let mut config: Config = config::parse(text).map_err(|error| fault(error.to_string()))?;
    // To change the root of the caller's own would be to change everybody's.
    config.linux.namespaces.retain(|one| !is_own_mounts(one));
    let process = config.process.take();
    let process = process.ok_or_else(|| fault("it has no `process`".to_owned()))?;
    let root = config.root.as_ref();
    let root = root.ok_or_else(|| fault("it has no `root`".to_owned()))?;
    let rootfs = bundle.join(&root.path);
    let rootfs = fs::canonicalize(&rootfs)
        .ok()
        .filter(|path| path.is_dir())
        .ok_or_else(|| fault(format!("`{}` is no directory", rootfs.display())))?;
    check(&config).map_err(|error| match error {
        Fault::Senseless(detail) => fault(detail),
        Fault::Unsupported(error) => error,
    })?;
    process::check(&process).map_err(fault)?;
    let id_map = id_map(&config).map_err(fault)?;
    Ok(Plan {
        id: id.to_owned(),
        bundle: bundle.to_owned(),
        rootfs,
        config,
        process,
        id_map,
        group: None,
        no_pivot: false,
        no_new_keyring: false,
        preserved: 0,
        mapped: Vec::new(),
        opened: Vec::new(),
    })
}

/// Whether a namespace that is to be joined is the one that the caller's mounts are in.
fn is_own_mounts(namespace: &config::Namespace) -> bool {
    let own = || {
        let (own, named) = (
            fs::metadata("/proc/self/ns/mnt")?,
            fs::metadata(&namespace.path)?,
        );
        Ok::<_, io::Error>((own.dev(), own.ino()) == (named.dev(), named.ino()))
    };
    namespace.kind == NamespaceKind::Mount && own().unwrap_or(false)
}

enum Fault {
    Senseless(String),
    Unsupported(OciError),
}

impl From<String> for Fault {
    fn from(detail: String) -> Self {
        Self::Senseless(detail)
    }
}

impl From<OciError> for Fault {
    fn from(error: OciError) -> Self {
        Self::Unsupported(error)
    }
}

fn check(config: &Config) -> Result<(), Fault> {
    let linux = &config.linux;
    if !config.oci_version.starts_with("1.") {
        let version = &config.oci_version;
        return Err(format!("`ociVersion` is `{version}`: 1.x is understood").into());
    }
    for (at, namespace) in linux.namespaces.iter().enumerate() {
        let again = |other: &config::Namespace| other.kind == namespace.kind;
        if linux.namespaces[..at].iter().any(again) {
            return Err(format!("a namespace is named twice: {:?}", namespace.kind).into());
        }
    }
    check_clocks(linux)?;
    for path in linux.masked_paths.iter().chain(&linux.readonly_paths) {
        if !path.starts_with('/') {
            return Err(format!("`{path}` is to be masked or read-only: no absolute path").into());
        }
    }
    for (what, asked) in [
        ("vm", &config.vm),
        ("linux.intelRdt", &linux.intel_rdt),
        ("linux.netDevices", &linux.net_devices),
        ("linux.memoryPolicy", &linux.memory_policy),
    ] {
        if asked.is_some() {
            return Err(OciError::unsupported(what).into());
        }
    }
    if let Some(personality) = &linux.personality {
        process::persona(personality)?;
    }
    check_hooks(&config.hooks)?;
    let named = !config.hostname.is_empty() || !config.domainname.is_empty();
    if named && !linux.has(NamespaceKind::Uts) {
        return Err("`hostname` and `domainname` need a uts namespace"
            .to_owned()
            .into());
    }
    if let Some(profile) = &linux.seccomp {
        profile
            .check()
            .map_err(|detail| format!("`linux.seccomp`: {detail}"))?;
    }
    let propagation = &linux.rootfs_propagation;
    if !propagation.is_empty() && option::propagation(propagation).is_none() {
        return Err(format!("`linux.rootfsPropagation` is `{propagation}`").into());
    }
    for name in linux.sysctl.keys() {
        check_sysctl(config, name)?;
    }
    for mount in &config.mounts {
        Options::parse(&mount.options)?.check(&mount.kind)?;
        if !super::mount::is_plain(Path::new(&mount.destination)) {
            return Err(format!("a mount leads to `{}`", mount.destination).into());
        }
    }
    Ok(())
}

/// Clocks are set before anybody is in a namespace.
fn check_clocks(linux: &config::Linux) -> Result<(), String> {
    if !linux.time_offsets.is_empty() && !linux.makes(NamespaceKind::Time) {
        return Err("`linux.timeOffsets` need a new time namespace".to_owned());
    }
    let known = |name: &&String| matches!(name.as_str(), "monotonic" | "boottime");
    match linux.time_offsets.keys().find(|name| !known(name)) {
        Some(name) => Err(format!("`linux.timeOffsets`: there is no clock `{name}`")),
        None => Ok(()),
    }
}

fn check_hooks(hooks: &config::Hooks) -> Result<(), String> {
    let kinds = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (kind, hook) in kinds
        .into_iter()
        .flat_map(|(kind, all)| all.iter().map(move |one| (kind, one)))
    {
        let path = hook.path.display();
        if !hook.path.is_absolute() {
            return Err(format!("the {kind} hook `{path}` is no absolute path"));
        }
        if hook.timeout == Some(0) {
            return Err(format!(
                "the {kind} hook `{path}` has a `timeout` of 0 seconds"
            ));
        }
    }
    Ok(())
}

/// Only what belongs to a namespace of the container's own can be set for it alone.
fn check_sysctl(config: &Config, name: &str) -> Result<(), String> {
    let path = sysctl_path(name);
    let of = |kind: NamespaceKind, prefixes: &[&str]| {
        prefixes.iter().any(|prefix| path.starts_with(prefix)) && config.linux.has(kind)
    };
    let ipc = ["kernel/msg", "kernel/sem", "kernel/shm", "fs/mqueue/"];
    let uts = ["kernel/domainname", "kernel/hostname"];
    match of(NamespaceKind::Ipc, &ipc)
        || of(NamespaceKind::Network, &["net/"])
        || of(NamespaceKind::Uts, &uts)
        || of(NamespaceKind::User, &["user/"])
    {
        true if super::mount::is_plain(Path::new(&path)) => Ok(()),
        _ => Err(format!(
            "the sysctl `{name}` belongs to no namespace of the container's own"
        )),
    }
}

fn id_map(config: &Config) -> Result<IdMap, String> {
    let linux = &config.linux;
    let (uids, gids) = (&linux.uid_mappings, &linux.gid_mappings);
    if !linux.makes(NamespaceKind::User) {
        return match uids.is_empty() && gids.is_empty() || linux.has(NamespaceKind::User) {
            true => Ok(IdMap::None),
            false => Err("ids are mapped without a user namespace".to_owned()),
        };
    }
    if uids.is_empty() || gids.is_empty() {
        return Err("a user namespace needs `uidMappings` and `gidMappings`".to_owned());
    }
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if let ([user], [group]) = (uids.as_slice(), gids.as_slice())
        && !uid.is_root()
        && (user.size, group.size) == (1, 1)
        && (user.host, group.host) == (uid.as_raw(), gid.as_raw())
    {
        return Ok(IdMap::Single {
            uid: user.container,
            gid: group.container,
            host_uid: user.host,
            host_gid: group.host,
        });
    }
    Ok(IdMap::Ranges {
        uids: ranges(uids),
        gids: ranges(gids),
    })
}

/// Mappings in the sandbox's words.
pub(super) fn ranges(mappings: &[IdMapping]) -> Vec<Range> {
    let range = |mapping: &IdMapping| Range {
        container: mapping.container,
        host: mapping.host,
        length: mapping.size,
    };
    mappings.iter().map(range).collect()
}
