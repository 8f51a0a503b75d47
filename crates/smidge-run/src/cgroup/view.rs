//! What a container with limits sees of them: its own groups in `/sys/fs/cgroup`, read-only, where
//! language runtimes look how much memory and how many processors they have.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, mkdirat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::group::Group;
use crate::error::RunError;
use crate::mount::{self, Kind};

/// Where groups are seen.
const PLACE: &str = "/sys/fs/cgroup";

/// Mounts the groups that the process is at the top of: it has a namespace of its own for them.
pub(crate) fn mount(group: &Group, root: &OwnedFd) -> Result<(), RunError> {
    match place(group, root) {
        // A kernel without the directory has nothing to show.
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(RunError::Mount {
            destination: PLACE.to_owned(),
            source: errno.into(),
        }),
    }
}

fn place(group: &Group, root: &OwnedFd) -> rustix::io::Result<()> {
    let names: Vec<&String> = group.v1_names().collect();
    let point = mount::point(root.as_fd(), PLACE, Kind::Directory)?;
    if names.is_empty() {
        return mount::attach(&new("cgroup2", "")?, &point, "");
    }
    let closed = closed() & !MountAttrFlags::MOUNT_ATTR_RDONLY;
    let directory = mount::new("tmpfs", &[("mode", "755")], closed)?;
    mount::attach(&directory, &point, "")?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for name in names {
        mkdirat(&directory, name.as_str(), Mode::from_raw_mode(0o755))?;
        let together = hierarchy_of(&groups, name);
        mount::attach(&new("cgroup", together)?, &directory, name)?;
    }
    if group.v2().is_some() {
        mkdirat(&directory, "unified", Mode::from_raw_mode(0o755))?;
        mount::attach(&new("cgroup2", "")?, &directory, "unified")?;
    }
    mount::make_read_only(&directory, mount::Depth::Flat)
}

fn closed() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_RDONLY
}

/// All controllers of the hierarchy that has one (`/proc/self/cgroup`, cgroups(7)): it can only be
/// mounted with all of them.
fn hierarchy_of<'t>(groups: &'t str, controller: &'t str) -> &'t str {
    groups
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .find(|names| names.split(',').any(|name| name == controller))
        .unwrap_or(controller)
}

/// A mount of the hierarchy with `controllers`, mounted nowhere yet.
fn new(kind: &str, controllers: &str) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "cgroup")?;
    for controller in controllers.split(',').filter(|name| !name.is_empty()) {
        fsconfig_set_flag(&context, controller)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, closed())
}
