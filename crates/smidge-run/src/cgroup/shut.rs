//! Which devices programs of root's containers may use, whatever they make or mount.
//!
//! In a user namespace the kernel opens no device for them. Without one it is what is mounted that forbids it
//! (`nodev`), and no group is made for that alone. But some containers get at mounts that do not: for those
//! it takes a group. A group that is there anyway says it again.

use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::fs::FileTypeExt as _;

use rustix::fs::{major, minor};
use rustix::thread::CapabilitySet;

use super::controller::Controller;
use super::device::DeviceRule;
use super::group::{Group, Wanted};
use super::hierarchy::Hierarchies;
use super::lack::Lack;
use crate::device;
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::oci::is_in_first_user_namespace;
use crate::spec::{Allowed, Mount, Propagation, Spec};

/// What a container's group is to say of devices.
pub(crate) struct Shut<'s> {
    spec: &'s Spec,
    /// The option by which it gets at devices without, if there is one.
    way: Option<&'static str>,
}

impl<'s> Shut<'s> {
    /// What is to be said of those of `spec`.
    pub(crate) fn of(spec: &'s Spec) -> Self {
        let way = way(spec).filter(|_| applies(spec));
        Self { spec, way }
    }

    /// Whether that alone takes a group.
    pub(super) fn takes_group(&self) -> bool {
        self.way.is_some()
    }

    /// The controller, if it can be had.
    pub(super) fn wanted(&self, hierarchies: &Hierarchies) -> Option<Wanted> {
        let can = applies(self.spec) && self.lack(hierarchies).is_none();
        can.then_some((Controller::Devices, self.way.unwrap_or("--device")))
    }

    /// Why the controller cannot be had.
    fn lack(&self, hierarchies: &Hierarchies) -> Option<Lack> {
        let parent = &self.spec.resources.cgroup_parent;
        match hierarchies.with(Controller::Devices) {
            Some((hierarchy, _)) => hierarchy.place(parent).err(),
            None => Some(Lack::Missing),
        }
    }

    /// Says it to a group.
    ///
    /// # Errors
    /// When the kernel does not take it, and nothing else keeps the container from devices.
    pub(super) fn apply(&self, group: &Group) -> Result<(), RunError> {
        if !applies(self.spec) || !group.decides_about_devices() {
            return Ok(());
        }
        let shown = self.spec.isolation.devices.iter();
        let shown: Vec<_> = shown.filter_map(|device| rule(&device.source)).collect();
        let option = self.way.unwrap_or("--device");
        match group.allow_devices(option, &device::rules(&shown)) {
            Err(error) if self.way.is_some() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Why a container could use every device of the host's, though it was given none.
pub fn unshut(spec: &Spec) -> Option<RunError> {
    let shut = Shut::of(spec);
    let option = shut.way?;
    let hierarchies = Hierarchies::of_host().ok()?;
    Some(RunError::NoController {
        option: option.to_owned(),
        controller: Controller::Devices.to_string(),
        why: shut.lack(&hierarchies)?,
    })
}

/// Whether a container's programs would have the host's root's right to devices, and are not to have it.
fn applies(spec: &Spec) -> bool {
    spec.id_map == IdMap::None
        && !spec.insecure
        && !spec.isolation.all_devices
        && is_in_first_user_namespace()
}

/// What brings mounts in that open devices: made inside, or later by the host.
fn way(spec: &Spec) -> Option<&'static str> {
    let mounts = |is_open: fn(&Mount) -> bool| spec.mounts.iter().any(is_open);
    if spec.capabilities & CapabilitySet::SYS_ADMIN.bits() != 0 {
        Some("--cap-add SYS_ADMIN")
    } else if mounts(|mount| mount.manner.allowed.contains(&Allowed::Dev)) {
        Some("--tmpfs …:dev")
    } else if mounts(|mount| mount.manner.propagation != Propagation::Private) {
        Some("bind-propagation")
    } else {
        None
    }
}

/// Allows a device that is shown.
fn rule(path: &std::path::Path) -> Option<DeviceRule> {
    let found = fs::metadata(path).ok()?;
    let kind = match found.file_type() {
        kind if kind.is_block_device() => "b",
        kind if kind.is_char_device() => "c",
        _ => return None,
    };
    let number = found.st_rdev();
    let (first, second) = (major(number).into(), minor(number).into());
    Some(DeviceRule::allow(kind, Some(first), Some(second), "rwm"))
}
