//! The container's `/dev`: the nodes every program expects, its own terminals, shared memory.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::{Errno, Result};
use rustix::mount::MountAttrFlags;
use rustix::pty::OpenptFlags;

use crate::cgroup::DeviceRule;
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::isolation::{Device, Ipc};
use crate::mount::{self, Change, Depth};
use crate::spec::Spec;

/// Character devices and their numbers (the kernel's `Documentation/admin-guide/devices.txt`).
pub(crate) const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links beside them, and what they lead to.
pub(crate) const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

/// The group `tty`, by convention.
const TTY_GROUP: u32 = 5;

/// What `/dev/shm` may hold, in bytes, if nothing else is asked for: as much as in Docker.
const SHARED_MEMORY: u64 = 64 << 20;

/// The mounted `/dev` and what is mounted below it.
#[derive(Debug)]
pub(crate) struct Devices {
    dev: OwnedFd,
    pts: OwnedFd,
}

/// Mounts and fills `/dev`; `shared_memory` is another container's `/dev/shm`.
pub(crate) fn mount(
    spec: &Spec,
    root: &OwnedFd,
    shared_memory: Option<&OwnedFd>,
) -> std::result::Result<Devices, RunError> {
    let dev = mount_dev(spec, root).map_err(fault("/dev"))?;
    let pts = mount_pts(spec, &dev).map_err(fault("/dev/pts"))?;
    mount_queues(spec, &dev, shared_memory)?;
    add_devices(spec, root)?;
    Ok(Devices { dev, pts })
}

/// Mounts what processes share: `/dev/shm` and `/dev/mqueue`.
fn mount_queues(
    spec: &Spec,
    dev: &OwnedFd,
    shared_memory: Option<&OwnedFd>,
) -> std::result::Result<(), RunError> {
    if spec.isolation.ipc == Ipc::Host {
        for name in ["shm", "mqueue"] {
            let host = mount::clone(CWD, format!("/dev/{name}"), Depth::Flat);
            match host.and_then(|host| attach_below(&host, dev, name)) {
                // Not every host has them.
                Ok(()) | Err(Errno::NOENT) => (),
                Err(errno) => return Err(fault(&format!("/dev/{name}"))(errno)),
            }
        }
        return Ok(());
    }
    let closed = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    if let Some(shared) = shared_memory {
        attach_below(shared, dev, "shm").map_err(fault("/dev/shm"))?;
    } else if spec.isolation.ipc != Ipc::None {
        // To the kernel 0 means that there is no limit; to Docker that nothing is asked for.
        let size = spec.shm_size.filter(|size| *size > 0);
        let size = size.unwrap_or(SHARED_MEMORY).to_string();
        let options = [("mode", "1777"), ("size", size.as_str())];
        mount_below(dev, "shm", "tmpfs", &options, closed).map_err(fault("/dev/shm"))?;
    }
    let mounted = mount_below(dev, "mqueue", "mqueue", &[], closed);
    mounted.map(drop).map_err(fault("/dev/mqueue"))
}

fn fault(path: &str) -> impl FnOnce(Errno) -> RunError + use<> {
    let destination = path.to_owned();
    move |errno| RunError::Mount {
        destination,
        source: errno.into(),
    }
}

impl Devices {
    /// A mount of the container's own `/dev/null`.
    pub(crate) fn null(&self) -> Result<OwnedFd> {
        mount::clone(&self.dev, "null", Depth::Flat)
    }

    /// Makes a terminal in the container's `/dev/pts`, also found as `/dev/console`; gives its two
    /// ends, the container's last. The slave is taken from the master's descriptor: no path leads
    /// anywhere else (CVE-2025-52565).
    pub(crate) fn open_terminal(&self) -> Result<(OwnedFd, OwnedFd)> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = rustix::fs::openat(&self.pts, "ptmx", flags, Mode::empty())?;
        rustix::pty::unlockpt(&master)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        let console = mount::clone(&slave, "", Depth::Flat)?;
        make_file(&self.dev, "console")?;
        mount::attach(&console, &self.dev, "console")?;
        Ok((master, slave))
    }
}

/// A node that root makes in a file system opens any device of the host, unless its mount forbids that.
/// So the mount of `/dev` does, and the nodes that a container has are shown there by mounts of their
/// own, cloned before. In a user namespace the kernel sees to it.
fn mount_dev(spec: &Spec, root: &OwnedFd) -> Result<OwnedFd> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let dev = mount::new("tmpfs", &[("mode", "755"), ("size", "65536k")], attributes)?;
    let locked = spec.id_map == IdMap::None && !spec.insecure;
    let mut nodes = Vec::with_capacity(NODES.len());
    for (name, major, minor) in NODES {
        if !make_node(spec, &dev, name, makedev(major, minor))? {
            make_file(&dev, name)?;
            let host = mount::clone(CWD, format!("/dev/{name}"), Depth::Flat)?;
            if spec.id_map == IdMap::None {
                // Its owner and mode are the host's.
                mount::make_read_only(&host, Depth::Flat)?;
            }
            nodes.push((name, host));
        } else if locked {
            nodes.push((name, mount::clone(&dev, name, Depth::Flat)?));
        }
    }
    for (target, name) in LINKS {
        rustix::fs::symlinkat(target, &dev, name)?;
    }
    if locked {
        let no_devices = Change {
            no_devices: true,
            ..Change::default()
        };
        mount::change(&dev, no_devices)?;
    }
    let point = mount::point(root.as_fd(), "dev", mount::Kind::Directory)?;
    mount::attach(&dev, &point, "")?;
    for (name, node) in nodes {
        mount::attach(&node, &dev, name)?;
    }
    Ok(dev)
}

/// Makes a device; `false` where the kernel forbids that, as in every user namespace.
fn make_node(spec: &Spec, directory: &OwnedFd, name: &str, number: u64) -> Result<bool> {
    if spec.id_map != IdMap::None {
        return Ok(false);
    }
    let mode = Mode::from_raw_mode(0o666);
    match rustix::fs::mknodat(directory, name, FileType::CharacterDevice, mode, number) {
        Err(Errno::PERM) => Ok(false),
        made => made.map(|()| true),
    }
}

/// Whether a character device is one that every container has.
pub(crate) fn is_harmless(number: (u32, u32)) -> bool {
    NODES
        .iter()
        .any(|(_, major, minor)| (*major, *minor) == number)
}

/// What a group lets a container use, as runc has it: nothing but what is asked for, the usual devices,
/// terminals, and the making of nodes, which is no use of them.
pub(crate) fn rules(asked: &[DeviceRule]) -> Vec<DeviceRule> {
    let usual = NODES.iter().map(|(_, major, minor)| {
        let (major, minor) = (i64::from(*major), i64::from(*minor));
        DeviceRule::allow("c", Some(major), Some(minor), "rwm")
    });
    let more = [
        DeviceRule::allow("c", None, None, "m"),
        DeviceRule::allow("b", None, None, "m"),
        DeviceRule::allow("c", Some(5), Some(2), "rwm"),
        DeviceRule::allow("c", Some(136), None, "rwm"),
    ];
    let nothing = DeviceRule::default();
    let asked = asked.iter().cloned();
    std::iter::once(nothing)
        .chain(asked)
        .chain(usual)
        .chain(more)
        .collect()
}

/// Shows devices of the host.
fn add_devices(spec: &Spec, root: &OwnedFd) -> std::result::Result<(), RunError> {
    for device in &spec.isolation.devices {
        add_device(spec, root, device).map_err(|errno| RunError::Device {
            path: device.source.clone(),
            source: errno.into(),
        })?;
    }
    if spec.isolation.all_devices {
        for device in all_devices(Path::new("/dev")) {
            let added = add_device(spec, root, &device);
            // What the caller may not have, or what has gone meanwhile, is not for the container.
            match added {
                Ok(()) | Err(Errno::ACCESS | Errno::PERM | Errno::NOENT) => (),
                Err(errno) => {
                    return Err(RunError::Device {
                        path: device.source,
                        source: errno.into(),
                    });
                }
            }
        }
    }
    Ok(())
}

/// A node of the container's own, so that what becomes of its owner and mode stays inside; the host's
/// where the kernel lets nobody make one.
fn add_device(spec: &Spec, root: &OwnedFd, device: &Device) -> Result<()> {
    let host = rustix::fs::stat(&device.source)?;
    let file_type = FileType::from_raw_mode(host.st_mode);
    let own = || -> Result<OwnedFd> {
        let alone = mount::new("tmpfs", &[], MountAttrFlags::MOUNT_ATTR_NOSUID)?;
        let mode = Mode::from_raw_mode(host.st_mode & 0o7777);
        rustix::fs::mknodat(&alone, "device", file_type, mode, host.st_rdev)?;
        let (user, group) = (host.st_uid, host.st_gid);
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        rustix::fs::chownat(&alone, "device", Some(user), Some(group), AtFlags::empty())?;
        mount::clone(&alone, "device", Depth::Flat)
    };
    let tree = match spec.id_map {
        IdMap::None => own(),
        _ => Err(Errno::PERM),
    };
    let tree = match tree {
        Err(Errno::PERM) => mount::clone(CWD, &device.source, Depth::Flat)?,
        tree => tree?,
    };
    let point = mount::point(root.as_fd(), &device.destination, mount::Kind::File)?;
    mount::attach(&tree, &point, "")
}

/// Every device below a directory of the host's `/dev`, but for those that a container has of its own.
fn all_devices(directory: &Path) -> Vec<Device> {
    const OWN: [&str; 5] = ["pts", "shm", "mqueue", "console", "ptmx"];
    let mut found = Vec::new();
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let is_device = kind.is_char_device() || kind.is_block_device();
        let top = directory == Path::new("/dev");
        let own =
            OWN.iter().any(|own| name == *own) || NODES.iter().any(|(node, ..)| name == *node);
        if top && own {
            continue;
        }
        if kind.is_dir() {
            found.extend(all_devices(&path));
        } else if let Some(destination) = path.to_str().filter(|_| is_device) {
            found.push(Device {
                destination: destination.to_owned(),
                source: path.clone(),
            });
        }
    }
    found
}

fn make_file(directory: &OwnedFd, name: &str) -> Result<()> {
    rustix::fs::mknodat(
        directory,
        name,
        FileType::RegularFile,
        Mode::from_raw_mode(0o666),
        0,
    )
}

fn mount_pts(spec: &Spec, dev: &OwnedFd) -> Result<OwnedFd> {
    let mut options = vec![("ptmxmode", "0666"), ("mode", "0620")];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = |options: &[_]| mount_below(dev, "pts", "devpts", options, attributes);
    if !spec.id_map.maps_group(TTY_GROUP) {
        return mount(&options);
    }
    options.push(("gid", "5"));
    match mount(&options) {
        // In a container of somebody who has a single id, root has no such group, either.
        Err(Errno::INVAL) => mount(&options[..2]),
        mounted => mounted,
    }
}

fn mount_below(
    dev: &OwnedFd,
    name: &str,
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let mount = mount::new(kind, options, attributes)?;
    attach_below(&mount, dev, name)?;
    Ok(mount)
}

fn attach_below(mount: &OwnedFd, dev: &OwnedFd, name: &str) -> Result<()> {
    rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    mount::attach(mount, dev, name)
}
