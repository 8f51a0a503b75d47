//! Options that say how far a container is shut in.

use smidge_engine::container::{CreateRequest, Ipc, parse_bytes};

/// How far the container is shut in.
#[derive(clap::Args)]
#[command(next_help_heading = "Isolation")]
pub(super) struct IsolationArgs {
    /// Let the container write to volumes alone
    #[arg(long)]
    read_only: bool,
    /// Add a capability, or ALL; repeatable
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Take a capability away, or ALL; repeatable
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// no-new-privileges[=BOOL] [default: true], seccomp=FILE|unconfined, systempaths=unconfined;
    /// repeatable
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Shut it in hardly at all: all capabilities, all devices, no filter of system calls
    #[arg(long)]
    privileged: bool,
    /// Give it a device of this machine; repeatable
    #[arg(long, value_name = "PATH[:PATH[:rwm]]")]
    device: Vec<String>,
    /// Set a kernel parameter of its own namespaces; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// Limit what each of its processes may use, such as nofile=1024:4096; repeatable
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Add the user to a group; repeatable
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    shm_size: Option<u64>,
    /// Its shared memory and queues: private, none (without /dev/shm) or host
    #[arg(long, value_name = "WHOSE", value_parser = ipc)]
    ipc: Option<Ipc>,
    /// Whose host name it has: private or host
    #[arg(long, value_name = "WHOSE", value_parser = uts)]
    uts: Option<bool>,
}

/// `--ipc`.
fn ipc(text: &str) -> Result<Ipc, String> {
    match text {
        "" | "private" => Ok(Ipc::Private),
        "none" => Ok(Ipc::None),
        "host" => Ok(Ipc::Host),
        _ => Err("expected private, none or host".to_owned()),
    }
}

/// `--uts`: whether it is the host's.
fn uts(text: &str) -> Result<bool, String> {
    match text {
        "" | "private" => Ok(false),
        "host" => Ok(true),
        _ => Err("expected private or host".to_owned()),
    }
}

impl IsolationArgs {
    /// Tells the engine.
    pub(super) fn apply(&self, request: &mut CreateRequest) {
        request.isolation = smidge_engine::container::Isolation {
            read_only: self.read_only,
            privileged: self.privileged,
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            security: self.security_opt.clone(),
            sysctls: self.sysctl.clone(),
            devices: self.device.clone(),
            groups: self.group_add.clone(),
            limits: self.ulimit.clone(),
            shm_size: self.shm_size,
            ipc: self.ipc.unwrap_or_default(),
            host_names: self.uts.unwrap_or_default(),
        };
    }
}
