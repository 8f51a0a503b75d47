//! The container's `/dev`: the nodes every program expects, its own terminals, shared memory.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev};
use rustix::io::{Errno, Result};
use rustix::mount::MountAttrFlags;
use rustix::pty::OpenptFlags;

use crate::error::RunError;
use crate::idmap::IdMap;
use crate::mount::{self, Depth};
use crate::spec::Spec;

/// Character devices and their numbers (the kernel's `Documentation/admin-guide/devices.txt`).
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
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

/// Mounts and fills `/dev`.
pub(crate) fn mount(spec: &Spec, root: &OwnedFd) -> std::result::Result<Devices, RunError> {
    let fault = |path: &'static str| {
        move |errno: Errno| RunError::Mount {
            destination: path.to_owned(),
            source: errno.into(),
        }
    };
    let dev = mount_dev(spec, root).map_err(fault("/dev"))?;
    let pts = mount_pts(spec, &dev).map_err(fault("/dev/pts"))?;
    let closed = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    // To the kernel 0 means that there is no limit; to Docker that nothing is asked for.
    let size = spec.shm_size.filter(|size| *size > 0);
    let size = size.unwrap_or(SHARED_MEMORY).to_string();
    let options = [("mode", "1777"), ("size", size.as_str())];
    mount_below(&dev, "shm", "tmpfs", &options, closed).map_err(fault("/dev/shm"))?;
    mount_below(&dev, "mqueue", "mqueue", &[], closed).map_err(fault("/dev/mqueue"))?;
    Ok(Devices { dev, pts })
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

fn mount_dev(spec: &Spec, root: &OwnedFd) -> Result<OwnedFd> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let dev = mount::new("tmpfs", &[("mode", "755"), ("size", "65536k")], attributes)?;
    let point = mount::point(root.as_fd(), "dev", mount::Kind::Directory)?;
    mount::attach(&dev, &point, "")?;
    for (name, major, minor) in NODES {
        make_node(spec, &dev, name, makedev(major, minor))?;
    }
    for (target, name) in LINKS {
        rustix::fs::symlinkat(target, &dev, name)?;
    }
    Ok(dev)
}

/// Makes a device; where the kernel forbids that, as in every user namespace, shows the host's.
fn make_node(spec: &Spec, dev: &OwnedFd, name: &str, number: u64) -> Result<()> {
    if spec.id_map == IdMap::None {
        let mode = Mode::from_raw_mode(0o666);
        match rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode, number) {
            Err(Errno::PERM) => (),
            made => return made,
        }
    }
    make_file(dev, name)?;
    let host = mount::clone(CWD, format!("/dev/{name}"), Depth::Flat)?;
    mount::attach(&host, dev, name)
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
    if spec.id_map.maps_group(TTY_GROUP) {
        options.push(("gid", "5"));
    }
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mount_below(dev, "pts", "devpts", &options, attributes)
}

fn mount_below(
    dev: &OwnedFd,
    name: &str,
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let mount = mount::new(kind, options, attributes)?;
    rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    mount::attach(&mount, dev, name)?;
    Ok(mount)
}
