//! The verbs on containers.

mod asked;
mod commit;
mod control;
mod copy;
mod create;
mod debug;
mod emulation;
pub(crate) mod env;
mod exec;
mod health;
mod inspect;
mod isolation;
mod lifecycle;
mod lifetime;
mod list;
mod log_option;
mod logs;
mod mount;
mod mount_option;
mod names;
mod owned;
mod port;
mod reason;
mod record;
mod resource;
mod seed;
mod sharing;
mod start;
mod top;
mod user;
mod userns;
mod visit;
mod volume;
mod watched;

pub use commit::CommitRequest;
pub use copy::CopyOptions;
pub use create::{CreateRequest, PullPolicy};
pub use debug::{DebugRequest, Session, Tools};
pub use exec::{ExecRequest, Execution};
pub use health::HealthRequest;
pub use inspect::ContainerInspect;
pub use isolation::{Isolation, Users};
pub use lifecycle::StopRequest;
pub use lifetime::Lifetime;
pub use list::{ContainerQuery, Row, status_word};
pub use logs::{LogRequest, duration};
pub use names::Names;
pub(crate) use names::full_name;
pub use port::parse_publish;
pub use reason::{brief, sentence};
pub use record::{
    ConfigOutline, HostOptions, HostOutline, Known, MountPoint, Outline, Record, SpecOutline,
};
pub use resource::{parse_bytes, parse_bytes_or_unlimited, parse_cpus, parse_device_rate};
pub use start::{End, Running, Streams};
pub use volume::{Volume, VolumeSource, parse_volume};

pub(crate) use emulation::emulator;
pub(crate) use lifecycle::{PRUNE_FILTERS, is_before};
pub(crate) use logs::nanoseconds;
pub(crate) use user::{Account, find as find_user};

pub use smidge_run::{
    DeviceRate, HealthStatus, Ipc, Namespace, Network, Processes, Publish, Reason, Resources,
    State, Status, Usage, log::Stream,
};
pub use smidge_store::Change;

#[cfg(test)]
mod tests;
