//! What stays mounted around the root of a container that is entered without `pivot_root(2)`.
//!
//! It cannot be seen any more, but the kernel counts it: as long as a whole `/proc` or `/sys` is mounted
//! somewhere, whoever makes a user namespace inside gets a new one, of which nothing is hidden
//! (`mount_namespaces(7)`). So they are taken away, as runc does it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};

use crate::cgroup::unescaped;

/// A mount, as proc_pid_mountinfo(5) has it.
struct Mount {
    id: u64,
    parent: u64,
    /// Whether it shows the whole of a file system of the kernel's.
    is_view: bool,
    point: PathBuf,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|byte| *byte == b' ');
        let mut number = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
        let (id, parent) = (number()?, number()?);
        let root = words.nth(1)?;
        let point = unescaped(words.next()?);
        let kind = words.skip_while(|word| *word != b"-").nth(1)?;
        Some(Self {
            id,
            parent,
            is_view: root == b"/" && matches!(kind, b"proc" | b"sysfs"),
            point,
        })
    }
}

/// The views of `/proc` and `/sys` that are mounted anywhere but in or below the mount `root`.
fn views(mounts: &[u8], root: u64) -> Vec<PathBuf> {
    let lines = mounts.split(|byte| *byte == b'\n');
    let mounts: Vec<Mount> = lines.filter_map(Mount::parse).collect();
    let parents: BTreeMap<u64, u64> = mounts.iter().map(|one| (one.id, one.parent)).collect();
    let is_outside = |mount: &&Mount| {
        // The topmost has itself for a parent, or one that is not listed.
        let up = |id: &u64| parents.get(id).copied().filter(|parent| parent != id);
        !std::iter::successors(Some(mount.id), up).any(|id| id == root)
    };
    let views = mounts.iter().filter(|mount| mount.is_view);
    views
        .filter(is_outside)
        .map(|mount| mount.point.clone())
        .collect()
}

/// Takes away, or covers, what shows the whole of `/proc` or `/sys` outside of the container's `root`. To be
/// called while paths still are the host's.
pub(super) fn take_away_views(root: &OwnedFd) -> rustix::io::Result<()> {
    let mounts = std::fs::read("/proc/self/mountinfo");
    let mounts = mounts.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let found = statx(root, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    for point in views(&mounts, found.stx_mnt_id) {
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        match mount_change(&point, slave) {
            // It has gone with one above.
            Err(Errno::NOENT | Errno::INVAL) => continue,
            changed => changed?,
        }
        match unmount(&point, UnmountFlags::DETACH) {
            // Of another user namespace's.
            Err(Errno::INVAL | Errno::PERM) => {
                rustix::mount::mount("tmpfs", &point, "tmpfs", MountFlags::empty(), None)?;
            }
            unmounted => unmounted?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_outside_of_the_root_are_found() {
        let mounts = b"\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw,nosuid - proc proc rw
24 23 0:6 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw
25 22 0:7 / /sys rw shared:3 - sysfs sysfs rw
26 22 0:5 /sys /part rw - proc proc rw
27 22 0:5 / /an\\040other rw - proc proc rw
40 22 0:50 / / rw - overlay overlay rw
41 40 0:51 / /proc rw - proc proc rw
42 41 0:51 / /proc/again rw - proc proc rw
";
        let found = views(mounts, 40);
        let expected = ["/proc", "/sys", "/an other"];
        assert_eq!(found, expected.map(PathBuf::from));
        assert_eq!(views(mounts, 22), Vec::<PathBuf>::new());
    }
}
