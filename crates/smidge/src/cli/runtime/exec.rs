//! `smidge runtime run` and `exec`.

use std::path::PathBuf;

use smidge_engine::oci::ExecOptions;
use smidge_engine::{Error, Kind};

use super::verb::Bundle;
use super::{Call, fault};
use crate::cli::session::Outcome;

/// Make a container, start it, wait for its end, and remove it
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime run --bundle b web")]
pub(super) struct Run {
    #[command(flatten)]
    bundle: Bundle,
    /// Do not wait for its end, nor remove it
    #[arg(short, long)]
    detach: bool,
    /// Do not remove it
    #[arg(long)]
    keep: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    id: String,
}

impl Run {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        let options = self.bundle.options(call);
        let (how, tell) = ((self.detach, self.keep), |text: &str| call.warn(text));
        let ran = call.runtime.run(&self.id, &options, how, &tell);
        ran.map_err(fault)
    }
}

/// Run a program in a container
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime exec web ls /
  smidge runtime exec --tty web sh
  smidge runtime exec --process process.json --detach --pid-file pid web")]
pub(super) struct Exec {
    /// Read the program's description from a file: `process` of a config.json
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Do not wait for its end
    #[arg(short, long)]
    detach: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Run it as a user
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Add a group; repeatable
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Run it in a directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Add a variable; repeatable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Add a capability; repeatable
    #[arg(short, long, value_name = "CAPABILITY")]
    cap: Vec<String>,
    /// Let it get no new privileges
    #[arg(long)]
    no_new_privs: bool,
    /// AppArmor's profile for it
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// SELinux's label of it
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// Put it into a control group below the container's; repeatable
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    cgroup: Vec<String>,
    /// Send a handle of it to whoever listens at a socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Start it in a container that stands still, too: it goes on with it
    #[arg(long)]
    ignore_paused: bool,
    /// Send its terminal to whoever listens at a socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write its number to a file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Hand on as many descriptors from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    id: String,
    /// The program and its arguments
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

impl Exec {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        let host = &call.session.host;
        let path = |path: &PathBuf| host.absolute(path);
        let process =
            match &self.process {
                Some(file) => Some(std::fs::read(path(file)).map_err(|error| {
                    Error::io(format!("cannot read `{}`", file.display()), error)
                })?),
                None => None,
            };
        if process.is_none() && self.command.is_empty() {
            let fault = "neither `--process` nor a program is given";
            return Err(Error::new(Kind::Input, fault));
        }
        let options = ExecOptions {
            process,
            args: self.command,
            env: self.env,
            cwd: self.cwd,
            user: self.user.as_deref().map(user).transpose()?,
            groups: self.additional_gids,
            capabilities: self.cap,
            tty: self.tty,
            no_new_privileges: self.no_new_privs,
            apparmor: self.apparmor,
            label: self.process_label,
            cgroups: self.cgroup,
            pidfd_socket: self.pidfd_socket.as_ref().map(path),
            ignore_paused: self.ignore_paused,
            console_socket: self.console_socket.as_ref().map(path),
            pid_file: self.pid_file.as_ref().map(path),
            preserve_fds: self.preserve_fds,
        };
        let tell = |text: &str| call.warn(text);
        let ran = call.runtime.exec(&self.id, &options, self.detach, &tell);
        ran.map_err(fault)
    }
}

fn user(text: &str) -> Result<(u32, Option<u32>), Error> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let wrong = |_| {
        Error::new(
            Kind::Input,
            format!("`{text}` is no `UID[:GID]`, in numbers"),
        )
    };
    let gid = gid.map(str::parse).transpose().map_err(wrong)?;
    Ok((uid.parse().map_err(wrong)?, gid))
}
