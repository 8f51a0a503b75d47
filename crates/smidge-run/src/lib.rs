//! The sandbox: a [`Spec`] and directories become a process that sees nothing else.
//!
//! **Does**: namespaces, id maps, the root file system and its mounts, devices, capabilities, the
//! system call filter; the supervisor that owns a container's streams, log, ports and exit status.
//!
//! **Does not** know images, and lets no `unsafe` out of the one module that holds it.
//!
//! The two halves meet in [`launch`]: what is before it (`supervisor`, `terminal`, `port`, …) decides
//! where the streams lead and watches the process; what is behind it shuts the process in.

pub mod capability;
mod error;
mod idmap;
mod launch;
mod removal;
mod spec;
mod sys;

pub use error::RunError;
pub use idmap::{IdMap, Range};
pub use launch::{Launched, Stdio, launch};
pub use removal::remove_tree;
pub use spec::{Mount, MountKind, Network, Port, Protocol, Spec, User};
