//! Who the process is, and what it may do.

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::capability;
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::spec::Spec;

pub(crate) fn uid(number: u32) -> Uid {
    Uid::from_raw(number)
}

pub(crate) fn gid(number: u32) -> Gid {
    Gid::from_raw(number)
}

/// Becomes the user namespace's root, if it has one: the ids that the setup's files get.
pub(crate) fn become_root(map: &IdMap) -> Result<(), RunError> {
    if map.maps_group(0) {
        set_group(0)?;
    }
    if map.maps_user(0) {
        set_user(0)?;
    }
    Ok(())
}

/// Becomes the program's user with no more than the spec's capabilities; all of them means those that
/// there are here. For root they are in effect
/// at once; for others `execve(2)` would take them away, so they lose them here, and with them every
/// right to execute what the user may not.
pub(crate) fn drop_privileges(spec: &Spec) -> Result<(), RunError> {
    let capabilities = if spec.insecure || spec.capabilities == capability::ALL {
        permitted()?
    } else {
        CapabilitySet::from_bits_retain(spec.capabilities)
    };
    bound(capabilities).map_err(RunError::setup("drop capabilities"))?;
    change_user(spec)?;
    hold(spec, capabilities)
}

/// The same without namespaces, where the process may have less to begin with, and may not change all
/// that it has.
pub(crate) fn drop_what_can_be_dropped(spec: &Spec) -> Result<(), RunError> {
    let wanted = match spec.insecure || spec.capabilities == capability::ALL {
        true => CapabilitySet::all(),
        false => CapabilitySet::from_bits_retain(spec.capabilities),
    };
    let capabilities = permitted()? & wanted;
    match bound(capabilities) {
        Err(Errno::PERM) => (),
        bound => bound.map_err(RunError::setup("drop capabilities"))?,
    }
    change_user(spec)?;
    hold(spec, capabilities)
}

fn permitted() -> Result<CapabilitySet, RunError> {
    let sets = rustix::thread::capabilities(None);
    let sets = sets.map_err(RunError::setup("look at the capabilities"))?;
    Ok(sets.permitted)
}

fn change_user(spec: &Spec) -> Result<(), RunError> {
    if !matches!(spec.id_map, IdMap::Single { .. }) {
        let groups: Vec<Gid> = spec.user.groups.iter().copied().map(gid).collect();
        match set_thread_groups(&groups) {
            // In a container of somebody who has a single id, even root may not: those that it has stay.
            Err(Errno::PERM) if spec.user.groups.iter().all(|id| *id == spec.user.gid) => (),
            set => set.map_err(RunError::setup("set the supplementary groups"))?,
        }
    }
    // Who only believes to be somebody else stays root.
    if !spec.pretend {
        set_group(spec.user.gid)?;
        set_user(spec.user.uid)?;
    }
    Ok(())
}

fn hold(spec: &Spec, capabilities: CapabilitySet) -> Result<(), RunError> {
    let held = if spec.user.uid == 0 || spec.pretend {
        capabilities
    } else {
        CapabilitySet::empty()
    };
    let sets = CapabilitySets {
        effective: held,
        permitted: held,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(RunError::setup("drop capabilities"))?;
    if spec.no_new_privileges {
        set_no_new_privs(true).map_err(RunError::setup("give up new privileges"))?;
    }
    Ok(())
}

/// Removes every other capability from the bounding set, those included that only the kernel knows.
pub(crate) fn bound(capabilities: CapabilitySet) -> rustix::io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if capabilities.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => (),
            // The first number that this kernel has no capability for.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn set_user(number: u32) -> Result<(), RunError> {
    let id = uid(number);
    set_thread_res_uid(id, id, id).map_err(RunError::setup("set the user"))
}

fn set_group(number: u32) -> Result<(), RunError> {
    let id = gid(number);
    set_thread_res_gid(id, id, id).map_err(RunError::setup("set the group"))
}
