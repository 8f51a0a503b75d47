//! The container's `/dev`: devices that every container has, those of `linux.devices`, and its console.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstatfs, makedev};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;

use super::config::{self, Process};
use super::mount::fault;
use super::plan::Plan;
use crate::device::{LINKS, NODES};
use crate::error::RunError;
use crate::identity;
use crate::mount::{self, Depth, Kind};
use crate::null;
use crate::within;

/// The magic number of devpts (`statfs(2)`).
const DEVPTS: i64 = 0x1cd1;

/// Makes the devices, and the links beside them.
pub(super) fn make(plan: &Plan, root: &OwnedFd) -> Result<(), RunError> {
    for (name, major, minor) in NODES {
        let device = config::Device {
            path: format!("/dev/{name}"),
            kind: "c".to_owned(),
            major,
            minor,
            file_mode: Some(0o666),
            uid: None,
            gid: None,
        };
        let named = |one: &config::Device| one.path == device.path;
        if !plan.config.linux.devices.iter().any(named) {
            add(root, &device)?;
        }
    }
    plan.config
        .linux
        .devices
        .iter()
        .try_for_each(|device| add(root, device))?;
    link(root).map_err(fault("/dev"))
}

fn link(root: &OwnedFd) -> rustix::io::Result<()> {
    let dev = mount::point(root.as_fd(), "/dev", Kind::Directory)?;
    for (target, name) in LINKS {
        if name == "core" && mount::existing(root.as_fd(), target).is_err() {
            continue;
        }
        if name == "ptmx" {
            let _ = rustix::fs::unlinkat(&dev, name, AtFlags::empty());
        }
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => (),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn add(root: &OwnedFd, device: &config::Device) -> Result<(), RunError> {
    try_add(root, device).map_err(|errno| RunError::Device {
        path: device.path.clone().into(),
        source: errno.into(),
    })
}

/// A node of the container's own; the host's where the kernel lets nobody make one.
fn try_add(root: &OwnedFd, device: &config::Device) -> rustix::io::Result<()> {
    let path = Path::new(&device.path);
    let (Some(parent), Some(name)) = (path.parent().and_then(Path::to_str), path.file_name())
    else {
        return Err(Errno::INVAL);
    };
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        _ => return Err(Errno::INVAL),
    };
    let directory = mount::point(root.as_fd(), parent, Kind::Directory)?;
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    let number = match kind {
        FileType::Fifo => 0,
        _ => makedev(device.major, device.minor),
    };
    match rustix::fs::mknodat(&directory, name, kind, mode, number) {
        Ok(()) => {
            let ids = (device.uid.map(identity::uid), device.gid.map(identity::gid));
            let (uid, gid) = ids;
            rustix::fs::chownat(&directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        }
        Err(Errno::EXIST) => {
            let there = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let same = FileType::from_raw_mode(there.st_mode) == kind && there.st_rdev == number;
            match same {
                true => Ok(()),
                false => Err(Errno::EXIST),
            }
        }
        Err(Errno::PERM) => show(root, &device.path, number),
        Err(errno) => Err(errno),
    }
}

/// Shows the host's device of the same path, if it is the same device.
fn show(root: &OwnedFd, path: &str, number: u64) -> rustix::io::Result<()> {
    let tree = mount::clone(CWD, path, Depth::Flat)?;
    if rustix::fs::fstat(&tree)?.st_rdev != number {
        return Err(Errno::NODEV);
    }
    // Its owner and mode are the host's, for a root that is the host's, too.
    mount::make_read_only(&tree, Depth::Flat)?;
    let point = mount::point(root.as_fd(), path, Kind::File)?;
    mount::attach(&tree, &point, "")
}

/// A mount of the host's `/dev/null`, checked to be it. It can be written to, but not changed.
pub(super) fn null() -> Result<OwnedFd, RunError> {
    let clone = || {
        let null = mount::clone(CWD, "/dev/null", Depth::Flat)?;
        if !null::is_null(null.as_fd())? {
            return Err(Errno::NODEV);
        }
        mount::make_read_only(&null, Depth::Flat)?;
        Ok(null)
    };
    clone().map_err(fault("/dev/null"))
}

/// Opens a new terminal of the devpts at `/dev/pts` below `root`, which is checked to be one: no path of
/// the container's leads anywhere else (CVE-2025-52565). Gives its master and its slave.
pub(super) fn open_terminal(
    root: impl AsFd,
    process: &Process,
) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let pts = within::open(root, "dev/pts", OFlags::PATH | OFlags::DIRECTORY)?;
    if fstatfs(&pts)?.f_type as i64 != DEVPTS {
        return Err(Errno::NOTTY);
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::openat(&pts, "ptmx", flags, Mode::empty())?;
    if fstatfs(&master)?.f_type as i64 != DEVPTS {
        return Err(Errno::NOTTY);
    }
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    if let Some(size) = process.console_size {
        let size = rustix::termios::Winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&slave, size)?;
    }
    // A user that has no id here cannot own it.
    let _ = rustix::fs::fchown(&slave, Some(identity::uid(process.user.uid)), None);
    Ok((master, slave))
}

/// Shows a terminal as `/dev/console`. A link of that name is not followed.
pub(super) fn show_console(root: &OwnedFd, slave: &OwnedFd) -> rustix::io::Result<()> {
    let dev = mount::point(root.as_fd(), "/dev", Kind::Directory)?;
    let mode = Mode::from_raw_mode(0o666);
    match rustix::fs::mknodat(&dev, "console", FileType::RegularFile, mode, 0) {
        Ok(()) | Err(Errno::EXIST) => (),
        Err(errno) => return Err(errno),
    }
    let tree = mount::clone(slave, "", Depth::Flat)?;
    mount::attach(&tree, &dev, "console")
}
