//! The sandbox: a [`Spec`] and directories become a process that sees nothing else.
//!
//! **Does**: namespaces, id maps, the root file system and its mounts, devices, capabilities, the
//! system call filter; the supervisor that owns a container's streams, log, ports and exit status.
//!
//! **Does not** know images, and lets no `unsafe` out of the one module that holds it.
//!
//! The two halves meet in [`launch`]: what is before it (`supervisor`, `terminal`, `port`, …) decides
//! where the streams lead and watches the process; what is behind it shuts the process in.

mod beside;
pub mod capability;
mod cgroup;
mod channel;
mod chroot;
mod client;
mod clock;
mod copied;
mod device;
mod emulator;
mod error;
mod executable;
mod external;
mod frame;
mod halt;
mod health;
mod hub;
mod identity;
mod idmap;
mod inside;
mod isolation;
mod join;
pub mod journal;
mod keeper;
mod kernel;
mod launch;
mod leftover;
mod lifetime;
mod limit;
pub mod log;
mod message;
mod mount;
mod netns;
pub mod network;
mod null;
pub mod oci;
mod outlet;
mod peer;
pub mod port;
mod pretend;
mod probe;
mod program;
mod reaper;
mod reason;
mod removal;
mod root;
mod seal;
mod seccomp;
mod session;
mod shift;
mod signal;
mod skeleton;
mod spawner;
mod spec;
mod state;
mod supervisor;
mod sys;
mod terminal;
mod view;
mod visitor;
mod within;

pub use beside::TARGET;
pub use cgroup::{
    DeviceRate, Lack, Resources, Usage, pause, processes, remove_group, unpause, unshut, update,
    update_next, usage,
};
pub use clock::now;
pub use copied::{Changes, root as copied_root};
pub use error::RunError;
pub use halt::{Halt, halt};
pub use health::{Health, HealthState, HealthStatus, Probe, ProbeResult};
pub use idmap::{IdMap, Range};
pub use isolation::{Device, Ipc, Isolation, Joined, Namespace, Processes};
pub use join::{join, read_inside};
pub use kernel::masked_paths;
pub use launch::{Launched, Stdio, launch};
pub use lifetime::{Lifetime, Restart};
pub use limit::{Limit, LimitedResource};
pub use outlet::{Lay, Outlet, Way, lead_out};
pub use pretend::Pretence;
pub use reason::{Death, Failure, Inquest, Reason};
pub use removal::remove_tree;
pub use seal::{looks_into_others, seal};
pub use seccomp::{Profile, call_name, fatal_calls, refuses_call};
pub use session::{Attach, Ended, Started, attach};
pub use signal::{signal_name, signal_number};
pub use skeleton::make_skeleton;
pub use spawner::{Finished, Running, Spawner, Streams};
pub use spec::{
    Allowed, Emulator, LogLimit, Manner, Mount, MountKind, Network, Port, Propagation, Protocol,
    Publish, Spec, User, WayOut,
};
pub use state::{
    Outlook, Process, State, Status, change_restart, is_held, keep, note_failure, retire, signal,
    wait,
};
pub use supervisor::{Watch, start, start_watched};
pub use sys::{end_with_caller, fail_at_file_size_limit};
pub use view::{Onlooker, View, look, look_back};
pub use visitor::{visit, visit_beside};
