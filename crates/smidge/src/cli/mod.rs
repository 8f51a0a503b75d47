//! The command line: Docker's words wherever Docker has the thing. One file a subcommand.
//!
//! # Exit codes
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | not done; standard error says why |
//! | 3 | the user's program does not compile |
//! | 125 | wrong flags, as in Docker; `run`: smidge could not make the container |
//! | 126 | `run`: the program is there and cannot be executed |
//! | 127 | `run`: the program, or what it needs to start, is not there |
//! | 128+n | `run`, `start -a`, `exec`, `attach`: the program was killed by signal n |
//! | other | `run`, `start -a`, `exec`, `attach`: the program's own |

mod attach;
mod build;
mod builder;
mod commit;
mod compression;
mod config;
mod connection;
mod copy;
mod cp;
mod create;
mod debug;
mod df;
mod diff;
mod digest;
mod dockerfile;
mod events;
mod exec;
mod export;
mod group;
mod help;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod ldd;
mod load;
mod login;
mod logout;
mod logs;
mod ls;
mod manifest;
mod network;
mod option;
mod pause;
mod port;
mod progress;
mod prompt;
mod provision;
mod prune;
mod ps;
mod pull;
mod push;
mod quick;
mod registry;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod runtime;
mod save;
mod session;
mod spelling;
mod start;
mod stats;
mod stop;
mod tag;
mod top;
mod update;
mod usage;
mod version;
mod volume;
mod wait;

use std::error::Error as _;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use smidge_engine::{Error, Kind};

use session::Session;

use crate::render::listing;
use crate::surroundings;

/// From any program to the smallest container that runs it
#[derive(Parser)]
#[command(
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    top: Top,
    #[command(subcommand)]
    command: Command,
}

/// What comes before the subcommand.
#[derive(clap::Args)]
struct Top {
    /// Where images and containers are kept [default: $SMIDGE_ROOT, else /var/lib/smidge for root
    /// and ~/.local/share/smidge for others]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Where logins are [default: $DOCKER_CONFIG, else ~/.docker]
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
}

/// The subcommands.
#[derive(Subcommand)]
enum Command {
    Build(Box<build::Args>),
    Run(Box<run::Args>),
    Create(Box<create::Args>),
    Ps(ps::Args),
    Logs(logs::Args),
    Exec(exec::Args),
    Debug(debug::Args),
    Top(top::Args),
    Attach(attach::Args),
    Restart(restart::Args),
    Start(start::Args),
    Stop(stop::Args),
    Kill(kill::Args),
    Pause(pause::Args),
    Unpause(pause::Unpause),
    Update(update::Args),
    Stats(stats::Args),
    Wait(wait::Args),
    Cp(cp::Args),
    Diff(diff::Args),
    Commit(commit::Args),
    Export(export::Args),
    Rename(rename::Args),
    Port(port::Args),
    Rm(rm::Args),
    Inspect(inspect::Args),
    Images(images::Args),
    History(history::Args),
    Tag(tag::Args),
    Rmi(rmi::Args),
    Save(save::Args),
    Load(load::Args),
    Import(import::Args),
    Pull(pull::Args),
    Push(push::Args),
    Copy(copy::Args),
    Login(login::Args),
    Logout(logout::Args),
    Ls(ls::Args),
    Digest(digest::Args),
    Manifest(manifest::Args),
    Config(config::Args),
    Registry(registry::Args),
    Runtime(Box<runtime::Args>),
    Ldd(ldd::Args),
    Events(events::Args),
    Prune(prune::Args),
    Info(info::Args),
    Version(version::Args),
    #[command(subcommand)]
    Image(group::Image),
    #[command(subcommand)]
    Container(group::Container),
    #[command(subcommand)]
    Volume(group::Volume),
    #[command(subcommand)]
    Network(group::Network),
    #[command(subcommand)]
    System(group::System),
    #[command(subcommand, alias = "buildx")]
    Builder(group::Builder),
}

/// Why a command did not do what it should.
pub(crate) struct Failure {
    /// What went wrong.
    pub(crate) error: Error,
    /// How the process ends.
    pub(crate) exit_code: u8,
}

impl Failure {
    /// Whether all that went wrong is that nobody reads the output any more.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        // A registry or a daemon that hangs up is another matter.
        if self.error.message() != crate::render::listing::UNWRITABLE {
            return false;
        }
        let mut source = self.error.source();
        while let Some(cause) = source {
            let io = cause.downcast_ref::<std::io::Error>();
            if io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe) {
                return true;
            }
            source = cause.source();
        }
        false
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit_code = error.kind().exit_code();
        Self { error, exit_code }
    }
}

/// The grammar.
fn command(called: &'static str) -> clap::Command {
    let command = Cli::command().name(called).bin_name(called);
    help::finish(command)
}

/// Parses and does what a command line says.
pub(crate) fn main(argv: Vec<OsString>, called: &'static str) -> Result<u8, Failure> {
    if let Some(cli) = quick::parse(&argv, called) {
        return obey(cli, called);
    }
    let mut command = command(called);
    let spelled = spelling::spelled(&command, argv);
    let parsed = command
        .try_get_matches_from_mut(spelled.argv)
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    match parsed {
        Ok(cli) => obey(cli, called),
        Err(fault) => answer(&fault, &command, called, &spelled.path),
    }
}

/// Does what a command line says.
fn obey(cli: Cli, called: &'static str) -> Result<u8, Failure> {
    let mut host = surroundings::host()?;
    if let Some(dir) = cli.top.config {
        let dir = host.absolute(&dir).display().to_string();
        host.env.insert("DOCKER_CONFIG".to_owned(), dir);
    }
    let session = Session {
        called,
        host,
        root: cli.top.root,
    };
    dispatch(&session, cli.command)
}

/// Shows help or the version, or says what is wrong with the command line.
fn answer(
    fault: &clap::Error,
    command: &clap::Command,
    called: &str,
    path: &[String],
) -> Result<u8, Failure> {
    let shown = matches!(
        fault.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if shown {
        let text = fault.render().to_string();
        listing::write(&mut std::io::stdout(), &text)?;
        return Ok(0);
    }
    // As in Docker, a command that does not exist or has too few arguments or too many is not the same as
    // wrong flags.
    let exit_code = match fault.kind() {
        ErrorKind::InvalidSubcommand | ErrorKind::MissingRequiredArgument => 1,
        ErrorKind::UnknownArgument if !usage::is_flag(fault) => 1,
        _ => 125,
    };
    Err(Failure {
        error: usage::error(fault, command, called, path),
        exit_code,
    })
}

fn dispatch(session: &Session, command: Command) -> Result<u8, Failure> {
    Ok(match command {
        Command::Build(args) => build::run(session, &args),
        Command::Run(args) => return run_one(session, &args),
        Command::Create(args) => return create::run(session, &args).map_err(of_create),
        Command::Ps(args) => ps::run(session, &args),
        Command::Logs(args) => logs::run(session, &args),
        Command::Exec(args) => exec::run(session, &args),
        Command::Debug(args) => debug::run(session, &args),
        Command::Top(args) => top::run(session, &args),
        Command::Attach(args) => attach::run(session, &args),
        Command::Restart(args) => restart::run(session, &args),
        Command::Start(args) => return start::run(session, &args).map_err(of_start),
        Command::Stop(args) => stop::run(session, &args),
        Command::Kill(args) => kill::run(session, &args),
        Command::Pause(args) => pause::run(session, &args),
        Command::Unpause(args) => pause::unpause(session, &args),
        Command::Update(args) => update::run(session, &args),
        Command::Stats(args) => stats::run(session, &args),
        Command::Wait(args) => wait::run(session, &args),
        Command::Cp(args) => cp::run(session, &args),
        Command::Diff(args) => diff::run(session, &args),
        Command::Commit(args) => commit::run(session, &args),
        Command::Export(args) => export::run(session, &args),
        Command::Rename(args) => rename::run(session, &args),
        Command::Port(args) => port::run(session, &args),
        Command::Rm(args) => rm::run(session, &args),
        Command::Inspect(args) => inspect::run(session, &args),
        Command::Images(args) => images::run(session, &args),
        Command::History(args) => history::run(session, &args),
        Command::Tag(args) => tag::run(session, &args),
        Command::Rmi(args) => rmi::run(session, &args),
        Command::Save(args) => save::run(session, &args),
        Command::Load(args) => load::run(session, &args),
        Command::Import(args) => import::run(session, &args),
        Command::Pull(args) => pull::run(session, &args),
        Command::Push(args) => push::run(session, &args),
        Command::Copy(args) => copy::run(session, &args),
        Command::Login(args) => login::run(session, &args),
        Command::Logout(args) => logout::run(session, &args),
        Command::Ls(args) => ls::run(session, &args),
        Command::Digest(args) => digest::run(session, &args),
        Command::Manifest(args) => manifest::run(session, &args),
        Command::Config(args) => config::run(session, &args),
        Command::Registry(args) => registry::run(session, &args),
        Command::Runtime(args) => return runtime::run(session, *args),
        Command::Ldd(args) => ldd::run(session, &args),
        Command::Events(args) => events::run(session, &args),
        Command::Prune(args) => prune::run(session, &args),
        Command::Info(args) => info::run(session, &args),
        Command::Version(args) => version::run(session, &args),
        Command::Image(group) => return dispatch(session, group.into()),
        Command::Container(group) => return dispatch(session, group.into()),
        Command::System(group) => group.run(session),
        Command::Network(group) => group.run(session),
        Command::Volume(group) => group.run(session),
        Command::Builder(group::Builder::Build(args)) => build::run(session, &args),
        Command::Builder(group::Builder::Du(args)) => builder::du(session, &args),
        Command::Builder(group::Builder::Prune(args)) => builder::prune(session, &args),
    }?)
}

fn run_one(session: &Session, args: &run::Args) -> Result<u8, Failure> {
    run::check(args)?;
    run::run(session, args).map_err(of_run)
}

/// That a program cannot start is told apart by `run` and `exec` alone, as in Docker.
fn of_start(error: Error) -> Failure {
    Failure {
        error,
        exit_code: 1,
    }
}

/// Options that cannot be understood are told apart from what fails, as in Docker.
fn of_create(error: Error) -> Failure {
    let exit_code = match error.kind() {
        Kind::Input => 125,
        other => other.exit_code(),
    };
    Failure { error, exit_code }
}

/// What `run` fails with is told apart from what the program fails with.
fn of_run(error: Error) -> Failure {
    let exit_code = match error.kind() {
        Kind::CannotRun(code) => code,
        _ => 125,
    };
    Failure { error, exit_code }
}

#[cfg(test)]
mod tests;
