//! Verbs that look at a container, or change what it may use.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use smidge_engine::container::duration;
use smidge_engine::oci::{self, OciResources};
use smidge_engine::{Error, Kind};

use super::verb::Format;
use super::{Call, fault};
use crate::cli::session::Outcome;

/// List a container's processes
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime ps web
  smidge runtime ps --format json web")]
pub(super) struct Ps {
    /// `table` or `json`: their numbers
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    id: String,
    /// What `ps` is called with [default: -ef]
    #[arg(
        value_name = "OPTION",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<String>,
}

impl Ps {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        let pids = call.runtime.processes(&self.id).map_err(fault)?;
        if self.format == Format::Json {
            call.session
                .print(&serde_json::Value::from(pids).to_string())?;
            return Ok(0);
        }
        let mut command = Command::new("ps");
        match self.options.is_empty() {
            true => command.arg("-ef"),
            false => command.args(&self.options),
        };
        let output = command.output();
        let output = output.map_err(|error| Error::io("cannot run `ps`", error))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines();
        let head = lines.next().unwrap_or_default();
        let at = head.split_whitespace().position(|word| word == "PID");
        let at = at.ok_or_else(|| Error::new(Kind::Input, "`ps` shows no column `PID`"))?;
        call.session.print(head)?;
        for line in lines {
            let pid = line
                .split_whitespace()
                .nth(at)
                .and_then(|word| word.parse().ok());
            if pid.is_some_and(|pid: u32| pids.contains(&pid)) {
                call.session.print(line)?;
            }
        }
        Ok(0)
    }
}

/// Make a container stand still
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime pause web")]
pub(super) struct Pause {
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    id: String,
}

impl Pause {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        call.runtime.pause(&self.id).map_err(fault)?;
        Ok(0)
    }
}

/// Let a container go on that stands still
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime resume web")]
pub(super) struct Resume {
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    id: String,
}

impl Resume {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        call.runtime.resume(&self.id).map_err(fault)?;
        Ok(0)
    }
}

/// Change what a container may use
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime update --memory 67108864 web
  smidge runtime update --resources resources.json web")]
pub(super) struct Update {
    /// Read `linux.resources` from a file, or from standard input: `-`
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight against others that use block devices, from 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// The span that --cpu-quota is for, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Processor time in every period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Weight against others that want processor time
    #[arg(long, value_name = "WEIGHT", alias = "cpu-share")]
    cpu_shares: Option<u64>,
    /// Processor time that may be saved up, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_burst: Option<u64>,
    /// 1: it gets what nobody else wants
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// The span that --cpu-rt-runtime is for, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// Real-time processes' time in every period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// Processors: 0-3,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory, in bytes
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory: Option<i64>,
    /// What it is brought back to when memory is short, in bytes
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_reservation: Option<i64>,
    /// Memory and swap together, in bytes
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Processes and threads
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    id: String,
}

impl Update {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        let mut wanted = match &self.resources {
            Some(path) => read(call, path)?,
            None => OciResources::default(),
        };
        fn set<T>(to: &mut Option<T>, from: Option<T>) {
            if from.is_some() {
                *to = from;
            }
        }
        set(&mut wanted.block_io.weight, self.blkio_weight);
        set(&mut wanted.cpu.period, self.cpu_period);
        set(&mut wanted.cpu.quota, self.cpu_quota);
        set(&mut wanted.cpu.shares, self.cpu_shares);
        set(&mut wanted.cpu.burst, self.cpu_burst);
        set(&mut wanted.cpu.idle, self.cpu_idle);
        set(&mut wanted.cpu.realtime_period, self.cpu_rt_period);
        set(&mut wanted.cpu.realtime_runtime, self.cpu_rt_runtime);
        set(&mut wanted.memory.limit, self.memory);
        set(&mut wanted.memory.reservation, self.memory_reservation);
        set(&mut wanted.memory.swap, self.memory_swap);
        set(&mut wanted.pids.limit, self.pids_limit);
        if let Some(list) = self.cpuset_cpus {
            wanted.cpu.cpus = list;
        }
        if let Some(list) = self.cpuset_mems {
            wanted.cpu.mems = list;
        }
        call.runtime.update(&self.id, &wanted).map_err(fault)?;
        Ok(0)
    }
}

fn read(call: &Call<'_>, path: &std::path::Path) -> Result<OciResources, Error> {
    let mut text = Vec::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut text).map(drop),
        _ => std::fs::read(call.session.host.absolute(path)).map(|bytes| text = bytes),
    };
    let said = || format!("cannot read `{}`", path.display());
    read.map_err(|error| Error::io(said(), error))?;
    OciResources::parse(&text).map_err(fault)
}

/// Show what a container uses, until it ends
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime events --stats web")]
pub(super) struct Events {
    /// The time from one look to the next: `500ms`, `1m`, or seconds
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    interval: String,
    /// Look once
    #[arg(long)]
    stats: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER")]
    id: String,
}

impl Events {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        let seconds = self.interval.parse().ok().map(Duration::from_secs);
        let interval = seconds.or_else(|| duration(&self.interval));
        let interval = interval.filter(|time| !time.is_zero()).ok_or_else(|| {
            let fault = format!("`--interval {}` is no time", self.interval);
            Error::new(Kind::Input, fault)
        })?;
        let mut seen = false;
        while let Some(stats) = call.runtime.stats(&self.id).map_err(fault)? {
            call.session.print(&stats.to_string())?;
            seen = true;
            if self.stats {
                break;
            }
            std::thread::sleep(interval);
        }
        match seen {
            true => Ok(0),
            false => Err(Error::new(
                Kind::Conflict,
                format!("container not running: `{}`", self.id),
            )),
        }
    }
}

/// Show what this runtime can do, as JSON
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime features")]
pub(super) struct Features {}

impl Features {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        call.session.print(&format!("{:#}", oci::features()))?;
        Ok(0)
    }
}

/// Write a config.json to begin with
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge runtime spec --bundle b
  smidge runtime spec --rootless")]
pub(super) struct Spec {
    /// The directory that it is written to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// For a container of one who is not root
    #[arg(long)]
    rootless: bool,
}

impl Spec {
    pub(super) fn run(self, call: &Call<'_>) -> Outcome {
        use std::io::Write as _;
        let path = call.session.host.absolute(&self.bundle).join("config.json");
        let text = format!("{:#}\n", oci::template(self.rootless));
        // One that is there is somebody's work.
        let file = std::fs::File::create_new(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Error::io(format!("cannot make `{}`", path.display()), error))?;
        Ok(0)
    }
}
