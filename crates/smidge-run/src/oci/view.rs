//! What a container sees of control groups, where its bundle mounts them: its own group.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Result;
use rustix::mount::{MountAttrFlags, MountPropagationFlags};

use super::mount::{Prepared, point};
use super::plan::Plan;
use crate::mount::{self, Depth, Kind};

/// Where groups are on the host.
const HOST: &str = "/sys/fs/cgroup";

/// Mounts the container's group in every hierarchy that it is in; the host's groups, for a container
/// that is in none.
pub(super) fn mount(plan: &Plan, root: &OwnedFd, prepared: &Prepared<'_>) -> Result<()> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let wanted = attributes | prepared.options.own.added;
    let point = point(root, prepared.mount, Kind::Directory)?;
    let none = MountAttrFlags::empty();
    let dressed = |path: &Path, added: MountAttrFlags, deep: bool| -> Result<OwnedFd> {
        let depth = if deep { Depth::Recursive } else { Depth::Flat };
        let tree = mount::clone(CWD, path, depth)?;
        mount::set_attributes(&tree, added, none, MountPropagationFlags::PRIVATE, deep)?;
        Ok(tree)
    };
    let Some(group) = &plan.group else {
        // Not the container's: it can be looked at.
        let tree = dressed(Path::new(HOST), wanted | read_only, true)?;
        return mount::attach(&tree, &point, "");
    };
    let mut names = group.v1_directories().peekable();
    if names.peek().is_none() {
        let own = group.v2_directory().map_or(Path::new(HOST), |path| path);
        return mount::attach(&dressed(own, wanted, false)?, &point, "");
    }
    let directory = mount::new("tmpfs", &[("mode", "755")], attributes)?;
    mount::attach(&directory, &point, "")?;
    let v2 = group.v2_directory().map(|path| ("unified", path));
    for (name, path) in names.map(|(name, path)| (name.as_str(), path)).chain(v2) {
        mkdirat(&directory, name, Mode::from_raw_mode(0o755))?;
        mount::attach(&dressed(path, wanted, false)?, &directory, name)?;
    }
    // Read-only it becomes when all that others mount there is in its place.
    mount::set_attributes(
        &directory,
        wanted - read_only,
        none,
        MountPropagationFlags::empty(),
        false,
    )
}
