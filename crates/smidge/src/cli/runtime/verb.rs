//! The verbs of `smidge runtime`.

use std::path::PathBuf;

use smidge_engine::oci::{self, CreateOptions};
use smidge_engine::{Error, Kind};

use super::{Call, fault};
use crate::cli::session::Outcome;
use crate::render::table;

/// Make a container that waits for its start
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime create --bundle b web")]
pub(super) struct Create {
    #[command(flatten)]
    bundle: Bundle,
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    id: String,
}

/// How a container is made.
#[derive(clap::Args)]
pub(super) struct Bundle {
    /// The directory of the bundle: config.json and a root file system
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Send the program's terminal to whoever listens at a socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write the number of the first process to a file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send a handle of the first process to whoever listens at a socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Change the root without pivot_root, as on a ramdisk
    #[arg(long)]
    no_pivot: bool,
    /// Share the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Hand on as many descriptors from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
}

impl Bundle {
    pub(super) fn options(&self, call: &Call<'_>) -> CreateOptions {
        let host = &call.session.host;
        let path = |path: &PathBuf| host.absolute(path);
        let mut options = CreateOptions {
            bundle: path(&self.bundle),
            console_socket: self.console_socket.as_ref().map(path),
            pid_file: self.pid_file.as_ref().map(path),
            pidfd_socket: self.pidfd_socket.as_ref().map(path),
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            env: Vec::new(),
            no_cgroups: call.no_cgroups,
        };
        // Sockets that somebody listens at for the program (sd_listen_fds(3)).
        let listening = host
            .env
            .get("LISTEN_FDS")
            .and_then(|text| text.parse().ok());
        if let Some(count) = listening.filter(|count: &u32| *count > 0) {
            options.preserve_fds = options.preserve_fds.saturating_add(count);
            options.env = vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()];
        }
        options
    }
}

impl Create {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        let options = self.bundle.options(call);
        let tell = |text: &str| call.warn(text);
        let created = call.runtime.create(&self.id, &options, &tell);
        created.map_err(fault)?;
        Ok(0)
    }
}

/// Let the program of a container run that was created
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime start web")]
pub(super) struct Start {
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    id: String,
}

impl Start {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        call.runtime.start(&self.id).map_err(fault)?;
        Ok(0)
    }
}

/// Show the state of a container as JSON
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime state web")]
pub(super) struct State {
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    id: String,
}

impl State {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        let state = call.runtime.state(&self.id).map_err(fault)?;
        call.session.print(&format!("{state:#}"))?;
        Ok(0)
    }
}

/// Send a signal to a container
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime kill web TERM
  smidge runtime kill --all web KILL")]
pub(super) struct Kill {
    /// To all of its processes, also after its first one has ended
    #[arg(short, long)]
    all: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    id: String,
    /// The signal's name or number
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    signal: String,
}

impl Kill {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        let signal = oci::signal_number(&self.signal).ok_or_else(|| {
            let fault = format!("`{}` is no signal", self.signal);
            Error::new(Kind::Input, fault)
        })?;
        let killed = call.runtime.kill(&self.id, signal, self.all);
        killed.map_err(fault)?;
        Ok(0)
    }
}

/// Remove a container that has ended
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime delete web
  smidge runtime delete --force web")]
pub(super) struct Delete {
    /// Kill it if it runs; one that does not exist is no error
    #[arg(short, long)]
    force: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    id: String,
}

impl Delete {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        let tell = |text: &str| call.warn(text);
        let deleted = call.runtime.delete(&self.id, self.force, &tell);
        deleted.map_err(fault)?;
        Ok(0)
    }
}

/// List containers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime list
  smidge runtime list --format json")]
pub(super) struct List {
    /// Show ids alone
    #[arg(short, long)]
    quiet: bool,
    /// `table` or `json`
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

/// How a list is shown.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

impl List {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        let states = call.runtime.list().map_err(fault)?;
        let text = |state: &serde_json::Value, name: &str| match &state[name] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if self.quiet {
            for state in &states {
                call.session.print(&text(state, "id"))?;
            }
            return Ok(0);
        }
        if self.format == Format::Json {
            call.session
                .print(&serde_json::Value::from(states).to_string())?;
            return Ok(0);
        }
        let names = ["id", "pid", "status", "bundle", "created", "owner"];
        let heads = names.map(str::to_uppercase);
        let rows = states
            .iter()
            .map(|state| names.map(|name| text(state, name)).to_vec());
        let rows: Vec<String> = std::iter::once(heads.to_vec())
            .chain(rows)
            .map(|row: Vec<String>| row.join("\t"))
            .collect();
        call.session
            .print(table::align(&rows.join("\n")).trim_end())?;
        Ok(0)
    }
}
