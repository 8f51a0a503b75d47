//! Control groups: what a container may use, how much it does use, and making it stand still.
//!
//! **No group is made when nothing asks for one.** [`Resources`] that name a limit make one before the
//! program starts, and so do options that bring mounts into a container of root's that open devices
//! ([`unshut`]); [`pause`] and [`update`] make one of a running container, and move it in.
//!
//! Every arrangement of the kernel's hierarchies is served: version 1 with a hierarchy a controller,
//! version 2, and both side by side (cgroups(7)). A group is a directory in each hierarchy that it takes:
//!
//! ```text
//! MOUNT/smidge/ID          the caller may write to the hierarchy's top: root
//! DELEGATED/smidge/ID      elsewhere below the highest directory that belongs to the caller
//! MOUNT/PARENT/ID          `--cgroup-parent`
//! ```
//!
//! Which directories these are is written to `cgroup.json` in the container's directory before they are
//! made, and removed after them: whoever finds the file of a container that does not run clears away.

mod controller;
mod device;
mod directory;
mod freeze;
mod group;
mod hierarchy;
mod lack;
mod placed;
mod process;
mod resources;
mod setting;
mod shut;
mod usage;
mod view;

pub use freeze::{pause, unpause};
pub use group::{remove_group, update, update_next};
pub use lack::Lack;
pub use process::processes;
pub use resources::{DeviceRate, Resources};
pub use shut::unshut;
pub use usage::{Usage, usage};

pub(crate) use device::DeviceRule;

pub(crate) use freeze::is_paused;
pub(crate) use group::{Group, forget_changes};
pub(crate) use hierarchy::unescaped;
pub(crate) use placed::ControllerFile;
pub(crate) use process::of_container;
pub(crate) use setting::completed;
pub(crate) use shut::Shut;
pub(crate) use usage::usage_of;
pub(crate) use view::mount as mount_view;

#[cfg(test)]
mod tests;
