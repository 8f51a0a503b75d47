//! Mounts of a bundle: what they show, opened while the host's files can still be reached, then attached
//! to places that are found inside the root and cannot be exchanged any more.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, fstatfs, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, unmount,
};

use super::config::{self, NamespaceKind};
use super::idmapped::Mapped;
use super::option::{Attributes, Options};
use super::plan::Plan;
use super::view;
use crate::copied;
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::mount::{self, Depth, Kind, PROC};
use crate::within;

/// What of `/proc` others may be mounted over, as runc has it: files that tell of the machine. Anything
/// else there is what keeps the container in.
const REPLACEABLE: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// A mount with its source open, if it has one.
pub(super) struct Prepared<'c> {
    pub(super) mount: &'c config::Mount,
    pub(super) options: Options,
    tree: Option<OwnedFd>,
}

impl Prepared<'_> {
    /// Whether it shows a file or directory that is there.
    pub(super) fn is_bind(&self) -> bool {
        self.tree.is_some()
    }
}

/// Whether a file or directory is shown, and whether with what is mounted below it.
fn depth(mount: &config::Mount, options: &Options) -> Option<bool> {
    match (options.bind, mount.kind.as_str()) {
        (Some(deep), _) => Some(deep),
        (None, "bind") => Some(false),
        (None, "rbind") => Some(true),
        (None, _) => None,
    }
}

/// Stands for the root among the numbers of mounts.
const ROOT: usize = usize::MAX;

/// The root as [`open_all`] has found it.
pub(super) fn opened_root(plan: &Plan) -> Option<&OwnedFd> {
    let root = plan.opened.iter().find(|(number, _)| *number == ROOT);
    root.map(|(_, tree)| tree)
}

/// Opens what is to be shown as root, for a container whose root is somebody else.
pub(super) fn open_all(plan: &Plan) -> Vec<Mapped> {
    if plan.id_map == IdMap::None || !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    let one = |(number, mount): (usize, &config::Mount)| {
        let options = Options::parse(&mount.options).ok()?;
        let tree = open(plan, mount, depth(mount, &options)?).ok()?;
        Some((number, tree))
    };
    let root = clone_root(&plan.rootfs).map(|root| (ROOT, root));
    let mounts = plan.config.mounts.iter().enumerate();
    mounts.filter_map(one).chain(root).collect()
}

/// Opens what is to be shown: while paths are the host's, and with the caller's identity.
pub(super) fn prepare(plan: &Plan) -> Result<Vec<Prepared<'_>>, RunError> {
    let one = |(number, mount): (usize, _)| {
        let mount: &config::Mount = mount;
        let options = Options::parse(&mount.options).map_err(|error| RunError::Mount {
            destination: mount.destination.clone(),
            source: io::Error::other(error.to_string()),
        })?;
        let mut options = options;
        let own = |trees: &[Mapped]| -> Result<Option<OwnedFd>, RunError> {
            let tree = trees.iter().find(|(of, _)| *of == number);
            let copied = tree.map(|(_, tree)| rustix::io::fcntl_dupfd_cloexec(tree, 0));
            copied.transpose().map_err(fault(&mount.destination))
        };
        let tree = match (own(&plan.mapped)?, depth(mount, &options)) {
            (Some(tree), _) => Some(tree),
            (None, Some(deep)) => Some(match (open(plan, mount, deep), own(&plan.opened)?) {
                (Err(error), Some(tree)) if error.errno() == Some(libc::EACCES) => tree,
                (opened, _) => opened?,
            }),
            (None, None) => None,
        };
        if tree.is_none() && is_devices(mount) {
            // Until the devices are there.
            options.own.added -= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        Ok(Prepared {
            mount,
            options,
            tree,
        })
    };
    plan.config.mounts.iter().enumerate().map(one).collect()
}

/// Mounts the root over itself, for a container whose mounts are in the caller's namespace: what is mounted
/// below it goes with it. Gives the mount's number (`statx(2)`).
pub(super) fn cover_root(rootfs: &Path) -> Result<u64, RunError> {
    let cover = || {
        let tree = clone_root(rootfs)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::open(rootfs, flags, Mode::empty())?;
        mount::attach(&tree, &place, "")?;
        number(rootfs)
    };
    cover().map_err(|errno: Errno| RunError::RootFs {
        dir: rootfs.to_owned(),
        step: "mount it over itself".to_owned(),
        source: errno.into(),
    })
}

/// Takes away what [`cover_root`] has mounted, and nothing else.
pub(super) fn uncover_root(rootfs: &Path, covered: Option<u64>) {
    if covered.is_some() && number(rootfs).ok() == covered {
        let _ = unmount(rootfs, UnmountFlags::DETACH);
    }
}

/// The number of the mount that a path leads to.
fn number(path: &Path) -> rustix::io::Result<u64> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)?;
    Ok(found.stx_mnt_id)
}

/// The root with all that is mounted in it, mounted nowhere yet. What is mounted in it from now on is not to
/// be seen where it comes from.
pub(super) fn clone_root(rootfs: &Path) -> rustix::io::Result<OwnedFd> {
    let root = mount::clone(CWD, rootfs, Depth::Recursive)?;
    let none = MountAttrFlags::empty();
    mount::set_attributes(&root, none, none, MountPropagationFlags::PRIVATE, true)?;
    Ok(root)
}

/// Whether a mount is where devices are made.
pub(super) fn is_devices(mount: &config::Mount) -> bool {
    mount.destination.trim_end_matches('/') == "/dev"
}

/// Makes the directories of devices and of version 1's groups read-only where that is asked for: what others
/// mount there has its place by now.
pub(super) fn finish_directories(plan: &Plan, root: &OwnedFd) -> Result<(), RunError> {
    let groups = plan
        .group
        .as_ref()
        .is_some_and(|group| group.v1_directories().next().is_some());
    for mount in &plan.config.mounts {
        let is_ours = is_devices(mount) || groups && mount.kind == "cgroup";
        let options = Options::parse(&mount.options);
        let added = options.map(|options| (options.bind, options.own.added));
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        if is_ours && added.is_ok_and(|(bind, added)| bind.is_none() && added.contains(read_only)) {
            mount::existing(root.as_fd(), &mount.destination)
                .and_then(|place| mount::make_read_only(&place, Depth::Flat))
                .map_err(fault(&mount.destination))?;
        }
    }
    Ok(())
}

fn open(plan: &Plan, mount: &config::Mount, deep: bool) -> Result<OwnedFd, RunError> {
    let source = plan.bundle.join(&mount.source);
    let depth = match deep {
        true => Depth::Recursive,
        false => Depth::Flat,
    };
    mount::clone(CWD, &source, depth).map_err(|errno| RunError::MountSource {
        path: source,
        source: errno.into(),
    })
}

/// Attaches a mount below `root`.
pub(super) fn attach(plan: &Plan, root: &OwnedFd, prepared: Prepared<'_>) -> Result<(), RunError> {
    let fault = fault(&prepared.mount.destination);
    match (&prepared.tree, prepared.mount.kind.as_str()) {
        (None, "cgroup" | "cgroup2") => view::mount(plan, root, &prepared),
        _ => place(plan, root, &prepared),
    }
    .map_err(fault)
}

fn place(plan: &Plan, root: &OwnedFd, prepared: &Prepared<'_>) -> rustix::io::Result<()> {
    let (mount, options) = (prepared.mount, &prepared.options);
    let tree = match &prepared.tree {
        Some(tree) => rustix::io::fcntl_dupfd_cloexec(tree, 0)?,
        None => file_system(plan, root, mount, options)?,
    };
    let kind = match is_directory(&tree)? {
        true => Kind::Directory,
        false => Kind::File,
    };
    let point = point(root, mount, kind)?;
    if options.copy_up {
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode & 0o7777);
        copy_up(&point, &tree)?;
        // What it covers may have been made for this moment alone.
        rustix::fs::chmodat(&tree, ".", mode, AtFlags::empty())?;
    }
    dress(&tree, options)?;
    mount::attach(&tree, &point, "")?;
    propagate(&tree, options)
}

/// Gives a mount its attributes. A bind mount keeps those of its source that are not spoken of.
pub(super) fn dress(tree: &OwnedFd, options: &Options) -> rustix::io::Result<()> {
    let none = MountPropagationFlags::empty();
    for (Attributes { added, cleared }, deep) in [(options.own, false), (options.recursive, true)] {
        if !added.is_empty() || !cleared.is_empty() {
            mount::set_attributes(tree, added, cleared, none, deep)?;
        }
    }
    if options.propagation.is_empty() {
        // Whatever the source's: what is mounted inside stays inside.
        let none = MountAttrFlags::empty();
        mount::set_attributes(tree, none, none, MountPropagationFlags::PRIVATE, true)?;
    }
    Ok(())
}

fn propagate(tree: &OwnedFd, options: &Options) -> rustix::io::Result<()> {
    let none = MountAttrFlags::empty();
    for (flags, deep) in &options.propagation {
        mount::set_attributes(tree, none, none, *flags, *deep)?;
    }
    Ok(())
}

/// Where a mount belongs, made if it is missing. Nothing but a few harmless files of `/proc` is covered
/// (CVE-2019-16884), wherever links lead.
pub(super) fn point(
    root: &OwnedFd,
    mount: &config::Mount,
    kind: Kind,
) -> rustix::io::Result<OwnedFd> {
    let point = mount::point(root.as_fd(), &mount.destination, kind)?;
    let is_proc = fstatfs(&point)?.f_type as i64 == PROC;
    let below = Path::new(&mount.destination).strip_prefix("/proc");
    let replaceable = below.is_ok_and(|below| REPLACEABLE.iter().any(|one| below == *one));
    if is_proc && !replaceable && mount.kind != "proc" {
        return Err(Errno::PERM);
    }
    // What is hidden below them is hidden by name.
    if matches!(mount.kind.as_str(), "proc" | "sysfs") {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        return within::open_without_links(root, &*mount.destination, flags);
    }
    Ok(point)
}

/// A new file system. Where the kernel makes none in a user namespace, because something of the one that
/// is there is hidden, that one has to do.
fn file_system(
    plan: &Plan,
    root: &OwnedFd,
    mount: &config::Mount,
    options: &Options,
) -> rustix::io::Result<OwnedFd> {
    let shown_instead = match mount.kind.as_str() {
        "sysfs" => Some("/sys"),
        "proc" if !plan.config.linux.has(NamespaceKind::Pid) => Some("/proc"),
        _ => None,
    };
    match (make(plan, root, mount, options), shown_instead) {
        (Err(Errno::PERM), Some(host)) => {
            let tree = mount::clone(CWD, host, Depth::Recursive)?;
            mount::make_read_only(&tree, Depth::Recursive)?;
            Ok(tree)
        }
        (made, _) => made,
    }
}

fn make(
    plan: &Plan,
    root: &OwnedFd,
    mount: &config::Mount,
    options: &Options,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(mount.kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    let source = match mount.source.as_os_str().is_empty() {
        true => Path::new(&mount.kind),
        false => &mount.source,
    };
    fsconfig_set_string(&context, "source", source)?;
    for (name, value) in &options.data {
        match value {
            Some(value) => fsconfig_set_string(&context, name.as_str(), value.as_str())?,
            None => fsconfig_set_flag(&context, name.as_str())?,
        }
    }
    let has_mode = options.data.iter().any(|(name, _)| name == "mode");
    if mount.kind == "tmpfs"
        && !has_mode
        && let Ok(covered) = mount::existing(root.as_fd(), &mount.destination)
    {
        // As runc has it: what was there before decides.
        let mode = rustix::fs::fstat(&covered)?.st_mode & 0o7777;
        fsconfig_set_string(&context, "mode", format!("{mode:o}"))?;
    }
    let label = &plan.config.linux.mount_label;
    if is_labelling()
        && !label.is_empty()
        && matches!(mount.kind.as_str(), "tmpfs" | "mqueue" | "devpts")
    {
        fsconfig_set_string(&context, "context", label.as_str())?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, options.own.added)
}

/// Whether files have labels here (`selinux(8)`).
pub(super) fn is_labelling() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Copies what is in a mount point into what is going to cover it.
fn copy_up(point: &OwnedFd, tree: &OwnedFd) -> rustix::io::Result<()> {
    let path = |file: &OwnedFd| format!("/proc/self/fd/{}", file.as_raw_fd());
    let copied = copied::copy_contents(path(point).as_ref(), path(tree).as_ref());
    copied.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn is_directory(file: &OwnedFd) -> rustix::io::Result<bool> {
    let mode = rustix::fs::fstat(file)?.st_mode;
    Ok(FileType::from_raw_mode(mode) == FileType::Directory)
}

/// Makes `path` read-only, if it is there, with everything below it.
pub(super) fn protect(root: &OwnedFd, path: &str) -> Result<(), RunError> {
    cover(root, path, |place| {
        let tree = mount::clone(place, "", Depth::Recursive)?;
        mount::make_read_only(&tree, Depth::Recursive)?;
        Ok(tree)
    })
}

/// Hides `path`, if it is there: a directory behind an empty one, a file behind `null`.
pub(super) fn mask(root: &OwnedFd, path: &str, null: &OwnedFd) -> Result<(), RunError> {
    cover(root, path, |place| match is_directory(place)? {
        true => {
            let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            mount::new("tmpfs", &[("mode", "0555")], attributes)
        }
        // A mount that is clear of the root: nothing of the container's stands for it (CVE-2025-31133).
        false => mount::clone(null, "", Depth::Flat),
    })
}

fn cover(
    root: &OwnedFd,
    path: &str,
    tree: impl FnOnce(&OwnedFd) -> rustix::io::Result<OwnedFd>,
) -> Result<(), RunError> {
    match mount::existing(root.as_fd(), path) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        found => found.and_then(|place| mount::attach(&tree(&place)?, &place, "")),
    }
    .map_err(fault(path))
}

/// Whether a text is a path of directories and names alone.
pub(super) fn is_plain(path: &Path) -> bool {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    path.components().all(plain)
}

pub(super) fn fault(path: &str) -> impl FnOnce(Errno) -> RunError + use<> {
    let destination = path.to_owned();
    move |errno| RunError::Mount {
        destination,
        source: errno.into(),
    }
}
