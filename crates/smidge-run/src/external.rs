//! What is brought in from outside: files and directories of the host, images, memory.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags, major, minor};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::device;
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::mount::{self, Change, Depth, Kind};
use crate::spec::{Allowed, Manner, Mount, MountKind, Propagation, Spec};
use crate::within;

/// The mounts that stay connected with the host's: they are made before the host's mounts are cut off.
/// One place a mount, empty for those that are made later.
pub(crate) fn prepare(spec: &Spec) -> Result<Vec<Option<OwnedFd>>, RunError> {
    let prepare = |mount: &Mount| -> Result<Option<OwnedFd>, RunError> {
        if mount.manner.propagation == Propagation::Private || mount.kind != MountKind::Bind {
            return Ok(None);
        }
        let tree = source(mount)?;
        if mount.manner.propagation == Propagation::Slave {
            cut_off(mount, &tree)?;
        }
        Ok(Some(tree))
    };
    spec.mounts.iter().map(prepare).collect()
}

/// Loosens a tree of the host's as far as is asked for.
pub(crate) fn cut_off(mount: &Mount, tree: &OwnedFd) -> Result<(), RunError> {
    let propagation = mount.manner.propagation;
    if propagation == Propagation::Shared {
        return Ok(());
    }
    let change = Change {
        slave: propagation == Propagation::Slave,
        private: propagation == Propagation::Private,
        recursive: true,
        ..Change::default()
    };
    mount::change(tree, change).map_err(fault(mount))
}

/// Mounts one thing over the root file system; `prepared` is what [`prepare`] has made of it.
pub(crate) fn bring_in(
    spec: &Spec,
    mount: &Mount,
    prepared: Option<OwnedFd>,
    root: BorrowedFd<'_>,
) -> Result<(), RunError> {
    let tree = match (&mount.kind, prepared) {
        (_, Some(tree)) => tree,
        (MountKind::Bind, None) => source(mount)?,
        (MountKind::Tmpfs { size, mode }, None) => {
            new_tmpfs(*size, *mode, &mount.manner).map_err(fault(mount))?
        }
        (MountKind::Layers(layers), None) => {
            let user = spec.id_map != IdMap::None;
            joined(layers, mount, user).map_err(fault(mount))?
        }
    };
    let stat = rustix::fs::fstat(&tree).map_err(|errno| fault(mount)(errno))?;
    let file_type = FileType::from_raw_mode(stat.st_mode);
    let number = (major(stat.st_rdev), minor(stat.st_rdev));
    // Otherwise a node that root makes inside would open any device of the host.
    let no_devices = mount.kind == MountKind::Bind
        && spec.id_map == IdMap::None
        && !spec.insecure
        && match file_type {
            FileType::RegularFile | FileType::Socket | FileType::Fifo => false,
            FileType::CharacterDevice => !device::is_harmless(number),
            _ => true,
        };
    restrict(mount, &tree, no_devices).map_err(fault(mount))?;
    let kind = match file_type {
        FileType::Directory => Kind::Directory,
        _ => Kind::File,
    };
    let point = mount::point(root, &mount.destination, kind).map_err(fault(mount))?;
    mount::attach(&tree, &point, "").map_err(fault(mount))
}

/// Gives a mount its attributes: what is mounted below it opens no devices either, but may be writable.
fn restrict(mount: &Mount, tree: &OwnedFd, no_devices: bool) -> rustix::io::Result<()> {
    let all = Change {
        read_only: mount.read_only && !mount.manner.writable_below,
        no_devices,
        recursive: !mount.manner.flat,
        ..Change::default()
    };
    if all.read_only || all.no_devices {
        mount::change(tree, all)?;
    }
    match mount.read_only && !all.read_only {
        true => mount::make_read_only(tree, Depth::Flat),
        false => Ok(()),
    }
}

/// A mount of the source, or of the part of it that is asked for.
pub(crate) fn source(mount: &Mount) -> Result<OwnedFd, RunError> {
    let depth = match mount.manner.flat {
        true => Depth::Flat,
        false => Depth::Recursive,
    };
    let unreachable = |path: PathBuf| {
        move |errno: Errno| RunError::MountSource {
            path,
            source: errno.into(),
        }
    };
    let path = &mount.source;
    if mount.manner.subpath.is_empty() {
        return mount::clone(CWD, path, depth).map_err(unreachable(path.clone()));
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let whole = rustix::fs::openat(CWD, path, flags, Mode::empty());
    let whole = whole.map_err(unreachable(path.clone()))?;
    let below = path.join(mount.manner.subpath.trim_start_matches('/'));
    // Whatever links lie on the way, they lead nowhere outside.
    within::open(&whole, &*mount.manner.subpath, OFlags::PATH)
        .and_then(|part| mount::clone(&part, "", depth))
        .map_err(unreachable(below))
}

fn new_tmpfs(size: Option<u64>, mode: u32, manner: &Manner) -> rustix::io::Result<OwnedFd> {
    let mut attributes = MountAttrFlags::empty();
    for (allowed, closed) in [
        (Allowed::Suid, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (Allowed::Dev, MountAttrFlags::MOUNT_ATTR_NODEV),
        (Allowed::Exec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ] {
        attributes.set(closed, !manner.allowed.contains(&allowed));
    }
    let mode = format!("{mode:o}");
    let size = size.map(|bytes| bytes.to_string());
    let mut options = vec![("mode", mode.as_str())];
    if let Some(size) = &size {
        options.push(("size", size));
    }
    let settings = manner.settings.iter();
    options.extend(settings.map(|(name, value)| (name.as_str(), value.as_str())));
    mount::new("tmpfs", &options, attributes)
}

/// Layers as one read-only tree, or a part of it.
pub(crate) fn joined(layers: &[PathBuf], mount: &Mount, user: bool) -> rustix::io::Result<OwnedFd> {
    let tree = match layers {
        // The kernel joins no less than two.
        [only] => {
            let tree = mount::clone(CWD, only, Depth::Flat)?;
            let closed = Change {
                read_only: true,
                no_devices: true,
                ..Change::default()
            };
            mount::change(&tree, closed)?;
            tree
        }
        layers => {
            let layers: Vec<&PathBuf> = layers.iter().collect();
            mount::join(&layers, user, MountAttrFlags::MOUNT_ATTR_NODEV)?
        }
    };
    if mount.manner.subpath.is_empty() {
        return Ok(tree);
    }
    let part = within::open(&tree, &*mount.manner.subpath, OFlags::PATH)?;
    mount::clone(&part, "", Depth::Flat)
}

fn fault(mount: &Mount) -> impl FnOnce(Errno) -> RunError + use<> {
    let destination = mount.destination.clone();
    move |errno| RunError::Mount {
        destination,
        source: errno.into(),
    }
}
