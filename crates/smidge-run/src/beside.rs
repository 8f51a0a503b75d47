//! A root file system of tools, made for a process that enters a container: the container's own is seen
//! in it at [`TARGET`], and nothing of it is left in the container.
//!
//! ```text
//! /            the tools, read-only
//! ├── target   what the container's program sees as its root
//! ├── proc dev sys   the container's own
//! └── tmp      memory, gone with the process
//! ```

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space};

use crate::error::RunError;
use crate::idmap::IdMap;
use crate::join::Host;
use crate::mount::{self, Depth, Kind};
use crate::spec::Spec;
use crate::{identity, root, sys};

/// Where the container's files are.
pub const TARGET: &str = "/target";

/// What is taken over from the container besides: a directory, and what must be mounted there.
const TAKEN: [(&str, Option<i64>); 3] = [("proc", Some(0x9fa0)), ("sys", None), ("dev", None)];

/// Enters the container's namespaces but for its mounts, and a root of `tools`: directories, the top one
/// first. For a process with one thread.
pub(crate) fn enter(host: &Host, spec: &Spec, tools: &[PathBuf]) -> Result<(), RunError> {
    let setup = RunError::setup::<rustix::io::Errno>;
    host.enter_some(ThreadNameSpaceType::USER)
        .map_err(setup("enter the user namespace"))?;
    if spec.id_map != IdMap::None {
        identity::become_root(&spec.id_map)?;
    }
    // The host's mounts, to find the tools by; nothing that is done here is seen there.
    sys::unshare(libc::CLONE_NEWNS).map_err(RunError::setup("make a mount namespace"))?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private).map_err(setup("own the mounts"))?;
    let home = open("/proc/self/ns/mnt").map_err(setup("find the mount namespace"))?;
    host.enter_some(ThreadNameSpaceType::MOUNT)
        .map_err(setup("enter the mount namespace"))?;
    let clone = |path: &str| mount::clone(rustix::fs::CWD, path, Depth::Recursive);
    let target = clone("/").map_err(setup("take the container's files over"))?;
    let mut taken = Vec::with_capacity(TAKEN.len());
    for (name, magic) in TAKEN {
        let tree = clone(&format!("/{name}")).ok().filter(|tree| {
            let kind = rustix::fs::fstatfs(tree).map(|stat| stat.f_type);
            magic.is_none_or(|magic| kind == Ok(magic))
        });
        taken.extend(tree.map(|tree| (name, tree)));
    }
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Mount))
        .map_err(setup("return from the mount namespace"))?;
    host.enter_some(
        ThreadNameSpaceType::all() - ThreadNameSpaceType::USER - ThreadNameSpaceType::MOUNT,
    )
    .map_err(setup("enter the namespaces"))?;
    furnish(spec, tools, &target, &taken).map_err(setup("mount the tools"))
}

fn furnish(
    spec: &Spec,
    tools: &[PathBuf],
    target: &OwnedFd,
    taken: &[(&str, OwnedFd)],
) -> rustix::io::Result<()> {
    let closed = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let layers: Vec<&PathBuf> = tools.iter().collect();
    let tree = mount::join(&layers, spec.id_map != IdMap::None, closed)?;
    mount::attach(&tree, rustix::fs::CWD, "/")?;
    let memory = mount::new("tmpfs", &[("mode", "1777")], closed)?;
    let others = taken.iter().map(|(name, tree)| (*name, tree));
    for (name, mounted) in [("target", target), ("tmp", &memory)]
        .into_iter()
        .chain(others)
    {
        let point = mount::point(tree.as_fd(), name, Kind::Directory)?;
        mount::attach(mounted, &point, "")?;
    }
    root::enter(&tree)
}

fn open(path: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}
