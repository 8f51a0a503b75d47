//! The kernel's own file systems, `/proc` and `/sys`, and what of them a container must not see or
//! change: Docker's lists.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::device::Devices;
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::mount::{self, Depth, Kind};
use crate::spec::{Network, Spec};

/// Directories of `/proc` that are hidden.
const HIDDEN_DIRECTORIES: [&str; 3] = ["acpi", "asound", "scsi"];

/// Files of `/proc` that are hidden.
const HIDDEN_FILES: [&str; 7] = [
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "timer_list",
    "timer_stats",
];

/// Directories of `/sys` that are hidden.
const HIDDEN_SYS: [&str; 2] = ["devices/virtual/powercap", "firmware"];

/// What of `/proc` can be read but not written.
const READ_ONLY_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

const CLOSED: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// What of `/proc` and `/sys` a container does not see, and what of it cannot be written, as Docker lists them.
/// Processors' `thermal_throttle`, which is hidden where there is one, is not among them.
pub fn masked_paths(spec: &Spec) -> (Vec<String>, Vec<String>) {
    if spec.insecure || spec.isolation.unmasked {
        return (Vec::new(), Vec::new());
    }
    let below = |dir: &str, names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("{dir}/{name}")).collect()
    };
    let mut hidden = below("/proc", &HIDDEN_DIRECTORIES);
    hidden.extend(below("/proc", &HIDDEN_FILES));
    hidden.sort();
    hidden.extend(below("/sys", &HIDDEN_SYS));
    (hidden, below("/proc", &READ_ONLY_PROC))
}

/// Mounts `/proc` and `/sys` of the container's namespaces; `others` is `/proc` of processes that it shares.
pub(crate) fn mount(
    spec: &Spec,
    root: &OwnedFd,
    devices: &Devices,
    others: Option<&OwnedFd>,
) -> Result<(), RunError> {
    let proc = mount_proc(spec, root, others).map_err(fault("/proc"))?;
    set_network_defaults(spec, &proc);
    let settings = spec.isolation.sysctls.iter();
    set_sysctls(settings.map(|(name, value)| (name, value)), &proc)?;
    let sys = mount_sys(spec, root).map_err(fault("/sys"))?;
    if spec.insecure || spec.isolation.unmasked {
        return Ok(());
    }
    let mut empty = EmptyDirectory::default();
    for path in HIDDEN_DIRECTORIES {
        cover(&proc, path, |_| empty.mount()).map_err(fault(path))?;
    }
    for path in HIDDEN_SYS {
        cover(&sys, path, |_| empty.mount()).map_err(fault(path))?;
    }
    hide_throttling(&sys, &mut empty).map_err(fault("/sys"))?;
    for path in HIDDEN_FILES {
        cover(&proc, path, |_| devices.null()).map_err(fault(path))?;
    }
    for path in READ_ONLY_PROC {
        cover(&proc, path, |place| {
            let mount = mount::clone(place, "", Depth::Recursive)?;
            mount::make_read_only(&mount, Depth::Recursive)?;
            Ok(mount)
        })
        .map_err(fault(path))?;
    }
    Ok(())
}

/// One empty, read-only file system that stands for every hidden directory.
#[derive(Default)]
struct EmptyDirectory(Option<OwnedFd>);

impl EmptyDirectory {
    /// The file system itself at first, then clones of it.
    fn mount(&mut self) -> rustix::io::Result<OwnedFd> {
        if let Some(first) = &self.0 {
            return mount::clone(first, "", Depth::Flat);
        }
        let attributes = CLOSED | MountAttrFlags::MOUNT_ATTR_RDONLY;
        let first = mount::new("tmpfs", &[("mode", "0555")], attributes)?;
        self.0 = Some(rustix::io::fcntl_dupfd_cloexec(&first, 0)?);
        Ok(first)
    }
}

/// The view of the container's own process ids. In another container of which something of `/proc` is
/// hidden, the kernel makes no new one (mount_namespaces(7)): what is seen there has to do, where
/// processes have other numbers.
fn mount_proc(
    spec: &Spec,
    root: &OwnedFd,
    others: Option<&OwnedFd>,
) -> rustix::io::Result<OwnedFd> {
    let point = mount::point(root.as_fd(), "proc", Kind::Directory)?;
    if let Some(proc) = others {
        mount::attach(proc, &point, "")?;
        return rustix::io::fcntl_dupfd_cloexec(proc, 0);
    }
    let proc = match mount::new("proc", &[], CLOSED) {
        Err(Errno::PERM) if spec.id_map != IdMap::None => {
            mount::clone(CWD, "/proc", Depth::Recursive)?
        }
        made => made?,
    };
    mount::attach(&proc, &point, "")?;
    Ok(proc)
}

/// The container's own view where it has a network namespace of its own; the kernel refuses to show
/// the host's network anew in a user namespace, so there the host's `/sys` is shown, and where something
/// of it is hidden, as in another container.
fn mount_sys(spec: &Spec, root: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let point = mount::point(root.as_fd(), "sys", Kind::Directory)?;
    let borrowed = spec.network == Network::Host && spec.id_map != IdMap::None;
    let made = if borrowed {
        Err(Errno::PERM)
    } else {
        let mut attributes = CLOSED;
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, !spec.insecure);
        mount::new("sysfs", &[], attributes)
    };
    let sys = match made {
        Err(Errno::PERM) if spec.id_map != IdMap::None => {
            let sys = mount::clone(CWD, "/sys", Depth::Recursive)?;
            mount::make_read_only(&sys, Depth::Recursive)?;
            sys
        }
        made => made?,
    };
    mount::attach(&sys, &point, "")?;
    Ok(sys)
}

/// Lays a mount over `path`, unless this kernel has no such file. Looks first: to make a mount and
/// throw it away costs more than everything else here, as the kernel waits for all its readers.
fn cover(
    directory: &OwnedFd,
    path: &str,
    mount: impl FnOnce(&OwnedFd) -> rustix::io::Result<OwnedFd>,
) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, path, flags, Mode::empty()) {
        Ok(place) => mount::attach(&mount(&place)?, &place, ""),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Lets every user of the container listen on every port and ping, as Docker does. Old kernels lack
/// the files, and a group range may not be mapped; neither keeps a program from starting.
fn set_network_defaults(spec: &Spec, proc: &OwnedFd) {
    if !spec.network.is_own() {
        return;
    }
    let groups = spec.id_map.mapped_groups();
    let settings = [
        ("sys/net/ipv4/ip_unprivileged_port_start", "0"),
        ("sys/net/ipv4/ping_group_range", groups.as_str()),
    ];
    for (path, value) in settings {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::openat(proc, path, flags, Mode::empty()) {
            let _ = rustix::io::write(&file, value.as_bytes());
        }
    }
}

/// Settings that were asked for. They are found below the new `/proc` itself, wherever links or mounts
/// lead (CVE-2025-52881).
pub(crate) fn set_sysctls<'s>(
    settings: impl IntoIterator<Item = (&'s String, &'s String)>,
    proc: &OwnedFd,
) -> Result<(), RunError> {
    for (name, value) in settings {
        let path = format!("sys/{}", sysctl_path(name));
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(proc, path, flags, Mode::empty(), inside)
            .and_then(|file| rustix::io::write(&file, value.as_bytes()))
            .map_err(|errno| RunError::Sysctl {
                name: name.clone(),
                value: value.clone(),
                source: errno.into(),
            })?;
    }
    Ok(())
}

/// The file of a setting: dots stand between its parts, unless slashes do.
pub(crate) fn sysctl_path(name: &str) -> String {
    let first = name.find(['.', '/']);
    match first.and_then(|at| name.as_bytes().get(at)) {
        Some(b'.') => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Hides how the processors were throttled, which tells what their neighbours do, where the first
/// one tells it.
fn hide_throttling(sys: &OwnedFd, empty: &mut EmptyDirectory) -> rustix::io::Result<()> {
    for number in 0.. {
        let cpu = format!("devices/system/cpu/cpu{number}");
        let path = format!("{cpu}/thermal_throttle");
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(sys, path, flags, Mode::empty()) {
            Ok(place) => mount::attach(&empty.mount()?, &place, "")?,
            Err(Errno::NOENT) if number == 0 => break,
            // One that is switched off has none; after the last one there is nothing.
            Err(Errno::NOENT) => {
                match rustix::fs::accessat(sys, cpu, Access::EXISTS, AtFlags::empty()) {
                    Ok(()) => (),
                    Err(_) => break,
                }
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn fault(path: &str) -> impl FnOnce(Errno) -> RunError {
    move |errno| RunError::Mount {
        destination: path.to_owned(),
        source: io::Error::from(errno),
    }
}
