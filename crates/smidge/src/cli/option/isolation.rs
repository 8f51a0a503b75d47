//! Options that say how far a container is shut in.

use smidge_engine::container::{CreateRequest, Ipc, Namespace, Processes, Users, parse_bytes};

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
    /// Its shared memory and queues: private, shareable, none (without /dev/shm), host or container:NAME
    #[arg(long, value_name = "WHOSE", value_parser = ipc)]
    ipc: Option<(Ipc, Option<String>)>,
    /// Whose processes it sees: its own, or those of host or container:NAME
    #[arg(long, value_name = "WHOSE", value_parser = pid)]
    pid: Option<(Processes, Option<String>)>,
    /// Whose user ids root's container has: host, or auto for its own, from those of `containers` in
    /// /etc/subuid and /etc/subgid
    #[arg(long, value_name = "WHOSE", value_parser = userns)]
    userns: Option<Users>,
    /// Whose host name it has: private or host
    #[arg(long, value_name = "WHOSE", value_parser = uts)]
    uts: Option<bool>,
}

/// `--ipc`.
fn ipc(text: &str) -> Result<(Ipc, Option<String>), String> {
    let mode = match text {
        "" | "private" => Ipc::Private,
        "shareable" => Ipc::Shareable,
        "none" => Ipc::None,
        "host" => Ipc::Host,
        _ => match of_container(text) {
            Some(name) => return Ok((Ipc::Joined, Some(name))),
            None => {
                let expected = "expected private, shareable, none, host or container:NAME";
                return Err(expected.to_owned());
            }
        },
    };
    Ok((mode, None))
}

/// `--pid`.
fn pid(text: &str) -> Result<(Processes, Option<String>), String> {
    match (text, of_container(text)) {
        ("" | "private", _) => Ok((Processes::Own, None)),
        ("host", _) => Ok((Processes::Host, None)),
        (_, Some(name)) => Ok((Processes::Joined, Some(name))),
        _ => Err("expected host or container:NAME".to_owned()),
    }
}

/// `--userns`.
fn userns(text: &str) -> Result<Users, String> {
    match text {
        "" => Ok(Users::Usual),
        "host" => Ok(Users::Host),
        "auto" => Ok(Users::Own),
        _ => Err("expected host or auto".to_owned()),
    }
}

/// The NAME of `container:NAME`.
fn of_container(text: &str) -> Option<String> {
    let name = text.strip_prefix("container:")?;
    (!name.is_empty()).then(|| name.to_owned())
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
    /// The container whose processes are to be shared.
    pub(super) fn shared_processes(&self) -> Option<&str> {
        self.pid.as_ref()?.1.as_deref()
    }

    /// Whether its programs may look into others.
    pub(super) fn may_trace(&self) -> bool {
        let name = |text: &String| text.to_ascii_uppercase().replacen("CAP_", "", 1);
        let mut names = self.cap_add.iter().map(name);
        names.any(|name| name == "SYS_PTRACE" || name == "ALL")
    }

    /// Tells the engine.
    pub(super) fn apply(&self, request: &mut CreateRequest) {
        let (ipc, ipc_of) = self.ipc.clone().unwrap_or_default();
        let (processes, processes_of) = self.pid.clone().unwrap_or_default();
        let joined = [
            (Namespace::Ipc, ipc_of),
            (Namespace::Processes, processes_of),
        ];
        let joined = joined.into_iter();
        let joined = joined.filter_map(|(namespace, name)| Some((namespace, name?)));
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
            ipc,
            processes,
            users: self.userns.unwrap_or_default(),
            joined: joined.collect(),
            host_names: self.uts.unwrap_or_default(),
        };
    }
}
