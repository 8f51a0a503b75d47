//! Mounts whose files' owners appear as others (`mount_setattr(2)`, "ID-mapped mounts"): made by the
//! caller, for only who may do it on the host may do it at all.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::process::WaitOptions;

use super::config::{self, IdMapping};
use super::mount::fault;
use super::option::Options;
use super::plan::{Plan, ranges};
use crate::channel::Channel;
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::mount::{self, Depth};
use crate::sys;

/// A tree that is ready to be attached, and the number of the mount that it is for.
pub(super) type Mapped = (usize, OwnedFd);

/// Makes the mounts that ask for it.
pub(super) fn make(plan: &Plan) -> Result<Vec<Mapped>, RunError> {
    let mut made = Vec::new();
    for (number, mount) in plan.config.mounts.iter().enumerate() {
        let Ok(options) = Options::parse(&mount.options) else {
            continue;
        };
        let asked = options
            .id_mapped
            .or((!mount.uid_mappings.is_empty()).then_some(false));
        if let Some(deep) = asked {
            let tree = one(plan, mount, (options.bind == Some(true), deep));
            made.push((number, tree.map_err(fault(&mount.destination))?));
        }
    }
    Ok(made)
}

fn one(
    plan: &Plan,
    mount: &config::Mount,
    (recursive, deep): (bool, bool),
) -> rustix::io::Result<OwnedFd> {
    let linux = &plan.config.linux;
    let (uids, gids): (&[IdMapping], &[IdMapping]) = match mount.uid_mappings.is_empty() {
        true => (&linux.uid_mappings, &linux.gid_mappings),
        false => (&mount.uid_mappings, &mount.gid_mappings),
    };
    if uids.is_empty() || gids.is_empty() {
        return Err(Errno::INVAL);
    }
    let map = IdMap::Ranges {
        uids: ranges(uids),
        gids: ranges(gids),
    };
    let depth = match recursive {
        true => Depth::Recursive,
        false => Depth::Flat,
    };
    let tree = mount::clone(CWD, plan.bundle.join(&mount.source), depth)?;
    let namespace = namespace(&map)?;
    sys::map_mount(tree.as_fd(), namespace.as_fd(), deep)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(tree)
}

/// A user namespace with a map, which no process is in.
fn namespace(map: &IdMap) -> rustix::io::Result<OwnedFd> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let (outer, inner) = Channel::pair()?;
    let cloned = sys::clone_into(libc::CLONE_NEWUSER, None).map_err(errno)?;
    let Some((pid, _pidfd)) = cloned else {
        // Until nobody is left to tell it anything.
        drop(outer);
        let _ = inner.wait();
        sys::exit(0);
    };
    let made = map.apply(pid).map_err(|_| Errno::PERM).and_then(|()| {
        let path = format!("/proc/{}/ns/user", pid.as_raw_nonzero());
        File::open(path).map_err(errno)
    });
    drop((outer, inner));
    let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    Ok(made?.into())
}
