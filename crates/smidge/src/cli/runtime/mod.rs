//! `smidge runtime`: the command line of an OCI runtime, as runc has it, for Podman, containerd and Docker.

mod exec;
mod log;
mod look;
mod verb;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Subcommand;
use smidge_engine::oci::{OCI_VERSION, OciError, Runtime, is_in_first_user_namespace};
use smidge_engine::{Error, Host, Kind};

use super::Failure;
use super::session::{Outcome, Session};

/// Run containers for Podman, containerd and Docker
#[derive(clap::Args)]
#[command(long_about = "Run containers for Podman, containerd and Docker

The command line of an OCI runtime, as runc has it. Called through a link named `smidge-runtime`,
smidge is this command alone:

    ln -s \"$(command -v smidge)\" /usr/local/bin/smidge-runtime
    podman --cgroup-manager cgroupfs --runtime /usr/local/bin/smidge-runtime run IMAGE
    dockerd --add-runtime smidge=/usr/local/bin/smidge-runtime
    ctr run --runc-binary /usr/local/bin/smidge-runtime IMAGE NAME

Options in front of COMMAND: --root DIR, --log FILE, --log-format text|json, and
--cgroup-manager cgroupfs|disabled. systemd is not asked for control groups.")]
pub(super) struct Args {
    /// Where containers are written down [default: /run/smidge-runtime for root and
    /// $XDG_RUNTIME_DIR/smidge-runtime for others]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write errors to a file, too
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// What they look like there: `text` or `json`
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: log::Format,
    /// Taken for compatibility: there is nothing more to tell
    #[arg(long)]
    debug: bool,
    /// Taken for compatibility: it is found out
    #[arg(long, value_name = "BOOL")]
    rootless: Option<String>,
    /// Let systemd make control groups: refused where a container has one
    #[arg(long)]
    systemd_cgroup: bool,
    /// Who makes control groups: `cgroupfs`, or nobody, `disabled`
    #[arg(long, value_name = "MANAGER", default_value = "cgroupfs")]
    cgroup_manager: Manager,
    /// Show the version
    #[arg(short, long)]
    version: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Manager {
    Cgroupfs,
    Disabled,
    Systemd,
}

/// The verbs.
#[derive(Subcommand)]
enum Verb {
    Create(verb::Create),
    Start(verb::Start),
    State(verb::State),
    Kill(verb::Kill),
    Delete(verb::Delete),
    List(verb::List),
    Run(exec::Run),
    Exec(Box<exec::Exec>),
    Ps(look::Ps),
    Pause(look::Pause),
    Resume(look::Resume),
    Update(Box<look::Update>),
    Events(look::Events),
    Features(look::Features),
    Spec(look::Spec),
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// What every verb works with.
struct Call<'a> {
    session: &'a Session,
    runtime: Runtime,
    /// Whether containers get no control groups.
    no_cgroups: bool,
    /// Where faults are written, and how.
    log: (Option<PathBuf>, log::Format),
}

impl Call<'_> {
    /// Tells what is not as it was asked for: in the log if there is one, for standard error is the program's.
    fn warn(&self, text: &str) {
        match &self.log {
            (Some(path), format) => log::write(path, *format, "warning", text),
            (None, _) => self.session.tell(&format!("warning: {text}")),
        }
    }
}

pub(super) fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let Some(verb) = args.verb else {
        return Ok(version(session, args.version)?);
    };
    // As runc has it, to be told from what programs end with.
    let exit_code = if matches!(verb, Verb::Exec(_)) {
        255
    } else {
        1
    };
    let log = args.log.map(|path| session.host.absolute(&path));
    let root = args.root.map(|root| session.host.absolute(&root));
    let call = Call {
        session,
        runtime: Runtime {
            root: root.unwrap_or_else(|| default_root(&session.host)),
        },
        no_cgroups: args.cgroup_manager == Manager::Disabled,
        log: (log, args.log_format),
    };
    let systemd = args.systemd_cgroup || args.cgroup_manager == Manager::Systemd;
    let outcome = match (systemd, verb) {
        (true, Verb::Create(_) | Verb::Run(_)) => Err(no_systemd()),
        (_, verb) => dispatch(&call, verb),
    };
    outcome.map_err(|error| {
        // A line: conmon looks at the last one alone.
        let line = log::line(&error);
        if let (Some(path), format) = &call.log {
            log::write(path, *format, "error", &line);
        }
        // Whatever it is, it is the runtime's fault and not the program's.
        let error = Error::new(Kind::Host, line);
        Failure { error, exit_code }
    })
}

fn dispatch(call: &Call<'_>, verb: Verb) -> Outcome {
    match verb {
        Verb::Create(args) => args.run(call),
        Verb::Start(args) => args.run(call),
        Verb::State(args) => args.run(call),
        Verb::Kill(args) => args.run(call),
        Verb::Delete(args) => args.run(call),
        Verb::List(args) => args.run(call),
        Verb::Run(args) => args.run(call),
        Verb::Exec(args) => args.run(call),
        Verb::Ps(args) => args.run(call),
        Verb::Pause(args) => args.run(call),
        Verb::Resume(args) => args.run(call),
        Verb::Update(args) => args.run(call),
        Verb::Events(args) => args.run(call),
        Verb::Features(args) => args.run(call),
        Verb::Spec(args) => args.run(call),
        Verb::Other(words) => Err(no_such(&words)),
    }
}

fn version(session: &Session, asked: bool) -> Outcome {
    if !asked {
        let error = Error::new(Kind::Input, "no command is given");
        return Err(error.with_hint("`smidge runtime --help` lists them"));
    }
    let version = env!("CARGO_PKG_VERSION");
    session.print(&format!(
        "smidge-runtime version {version}\nspec: {OCI_VERSION}"
    ))?;
    Ok(0)
}

fn no_such(words: &[OsString]) -> Error {
    let verb = words
        .first()
        .map(|word| word.to_string_lossy())
        .unwrap_or_default();
    match &*verb {
        "checkpoint" | "restore" => Error::new(
            Kind::Input,
            format!("there is no `{verb}`: processes are neither saved nor brought back"),
        ),
        _ => Error::new(Kind::Input, format!("there is no command `{verb}`"))
            .with_hint("`smidge runtime --help` lists them"),
    }
}

fn no_systemd() -> Error {
    Error::new(Kind::Input, "systemd cannot be asked for control groups")
        .with_hint("Podman: `podman --cgroup-manager=cgroupfs`")
        .with_hint("Docker: `dockerd --exec-opt native.cgroupdriver=cgroupfs`")
        .with_hint("containerd: `SystemdCgroup = false` in the options of the runtime")
}

fn default_root(host: &Host) -> PathBuf {
    let variable = host.env.get("XDG_RUNTIME_DIR");
    // Who is root in a user namespace alone is somebody else: Podman's way.
    let is_root = host.uid == 0 && is_in_first_user_namespace();
    match variable.filter(|dir| !is_root && !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir).join("smidge-runtime"),
        None => PathBuf::from("/run/smidge-runtime"),
    }
}

/// A runtime's error as the engine's.
fn fault(error: OciError) -> Error {
    let kind = match &error {
        OciError::Id { .. } | OciError::Config { .. } | OciError::Unsupported { .. } => Kind::Input,
        OciError::Missing { .. } => Kind::NotFound,
        OciError::Exists { .. } | OciError::State { .. } | OciError::InUse { .. } => Kind::Conflict,
        OciError::Hook { .. } | OciError::NotInPath { .. } | OciError::Run(_) => Kind::Host,
    };
    match error {
        OciError::Run(error) => Error::from(error),
        error => Error::of(kind, error),
    }
}
