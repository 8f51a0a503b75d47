//! The runtime's command line as others call it: the OCI runtime specification's bundles and life cycle, by
//! the verbs of runc.
//!
//! ```text
//! config     what a bundle's config.json says        plan       … found to make sense
//! schedule   when and where its program runs
//! create     the caller's side of a new container    init       … and the first process's
//! mount, device, view, process, namespace, hook      what these two do, a file a part
//! record     what is known of containers             life       what becomes of one that is there
//! exec       a further program in one                    run        what is done to one that runs
//! attend     a caller that stays until the end
//! ```
//!
//! There is no supervisor: `create` returns when the first process waits to be started, and whoever is
//! above the caller waits for its end, as conmon and containerd's shim do. Everything below the mounts is
//! the sandbox's own: places are resolved inside the root, the root is entered before privileges go, and the
//! program is executed by a small sealed file, so that no container gets hold of smidge's binary.

mod attend;
mod config;
mod create;
mod device;
mod error;
mod exec;
mod hook;
mod idmapped;
mod init;
mod life;
mod mount;
mod namespace;
mod option;
mod outside;
mod plan;
mod process;
mod record;
mod resource;
mod run;
mod schedule;
mod view;

use std::path::PathBuf;

pub use crate::signal::signal_number;
pub use create::{CreateOptions, is_in_first_user_namespace};
pub use error::OciError;
pub use exec::ExecOptions;
pub use record::OCI_VERSION;
pub use resource::{BlockIo, Cpu, Memory, OciResources, Pids};
pub use run::{features, template};

/// Who is told what is not as it was asked for, and keeps nobody from going on.
pub type Tell<'t> = &'t dyn Fn(&str);

/// The containers of one runtime.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Where they are written down.
    pub root: PathBuf,
}
