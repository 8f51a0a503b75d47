//! Docker's grouped forms: `image ls` for `images`, `container rm` for `rm`, …

use clap::Subcommand;

use super::session::{Outcome, Session};
use super::{
    Command, attach, build, builder, commit, cp, create, debug, df, diff, events, exec, export,
    history, images, import, info, inspect, kill, load, logs, network, pause, port, prune, ps,
    pull, push, rename, restart, rm, rmi, run, save, start, stats, stop, tag, top, update, volume,
    wait,
};

/// Manage images
#[derive(Subcommand)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub(super) enum Image {
    Build(Box<build::Args>),
    History(history::Args),
    Import(import::Args),
    Inspect(inspect::Args),
    Load(load::Args),
    #[command(visible_alias = "list")]
    Ls(images::Args),
    Prune(prune::Images),
    Pull(pull::Args),
    Push(push::Args),
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
    Save(save::Args),
    Tag(tag::Args),
}

/// Manage containers
#[derive(Subcommand)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub(super) enum Container {
    Commit(commit::Args),
    Cp(cp::Args),
    Diff(diff::Args),
    Export(export::Args),
    Create(Box<create::Args>),
    Attach(attach::Args),
    Exec(exec::Args),
    Debug(debug::Args),
    Top(top::Args),
    Restart(restart::Args),
    Inspect(inspect::Args),
    Kill(kill::Args),
    Logs(logs::Args),
    Pause(pause::Args),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Args),
    Port(port::Args),
    Prune(prune::Containers),
    Rename(rename::Args),
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    Run(Box<run::Args>),
    Start(start::Args),
    Stats(stats::Args),
    Stop(stop::Args),
    Unpause(pause::Unpause),
    Update(update::Args),
    Wait(wait::Args),
}

/// Manage volumes
#[derive(Subcommand)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub(super) enum Volume {
    Create(volume::Create),
    Inspect(volume::Inspect),
    #[command(visible_alias = "list")]
    Ls(volume::Ls),
    Prune(volume::Prune),
    #[command(visible_alias = "remove")]
    Rm(volume::Rm),
}

impl Volume {
    /// Does what was asked for.
    pub(super) fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Create(args) => volume::create(session, &args),
            Self::Inspect(args) => volume::inspect(session, &args),
            Self::Ls(args) => volume::ls(session, &args),
            Self::Prune(args) => volume::prune(session, &args),
            Self::Rm(args) => volume::rm(session, &args),
        }
    }
}

/// Manage networks
#[derive(Subcommand)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub(super) enum Network {
    Connect(network::Connect),
    Create(Box<network::Create>),
    Disconnect(network::Disconnect),
    Inspect(network::Inspect),
    #[command(visible_alias = "list")]
    Ls(network::Ls),
    Prune(network::Prune),
    #[command(visible_alias = "remove")]
    Rm(network::Rm),
}

impl Network {
    /// Does what was asked for.
    pub(super) fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Connect(args) => network::connect(session, &args),
            Self::Create(args) => network::create(session, &args),
            Self::Disconnect(args) => network::disconnect(session, &args),
            Self::Inspect(args) => network::inspect(session, &args),
            Self::Ls(args) => network::ls(session, &args),
            Self::Prune(args) => network::prune(session, &args),
            Self::Rm(args) => network::rm(session, &args),
        }
    }
}

/// Build, and manage what builds leave for builds to come
#[derive(Subcommand)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub(super) enum Builder {
    Build(Box<build::Args>),
    Du(builder::Du),
    Prune(builder::Prune),
}

/// Manage smidge
#[derive(Subcommand)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub(super) enum System {
    Df(df::Args),
    Events(events::Args),
    Info(info::Args),
    Prune(prune::Args),
}

impl From<Image> for Command {
    fn from(command: Image) -> Self {
        match command {
            Image::Build(args) => Self::Build(args),
            Image::History(args) => Self::History(args),
            Image::Import(args) => Self::Import(args),
            Image::Inspect(args) => Self::Inspect(args.of(inspect::Type::Image)),
            Image::Load(args) => Self::Load(args),
            Image::Ls(args) => Self::Images(args),
            Image::Prune(args) => Self::Prune(args.into()),
            Image::Pull(args) => Self::Pull(args),
            Image::Push(args) => Self::Push(args),
            Image::Rm(args) => Self::Rmi(args),
            Image::Save(args) => Self::Save(args),
            Image::Tag(args) => Self::Tag(args),
        }
    }
}

impl From<Container> for Command {
    fn from(command: Container) -> Self {
        match command {
            Container::Commit(args) => Self::Commit(args),
            Container::Cp(args) => Self::Cp(args),
            Container::Diff(args) => Self::Diff(args),
            Container::Export(args) => Self::Export(args),
            Container::Create(args) => Self::Create(args),
            Container::Attach(args) => Self::Attach(args),
            Container::Exec(args) => Self::Exec(args),
            Container::Debug(args) => Self::Debug(args),
            Container::Top(args) => Self::Top(args),
            Container::Restart(args) => Self::Restart(args),
            Container::Inspect(args) => Self::Inspect(args.of(inspect::Type::Container)),
            Container::Kill(args) => Self::Kill(args),
            Container::Pause(args) => Self::Pause(args),
            Container::Unpause(args) => Self::Unpause(args),
            Container::Update(args) => Self::Update(args),
            Container::Stats(args) => Self::Stats(args),
            Container::Logs(args) => Self::Logs(args),
            Container::Ls(args) => Self::Ps(args),
            Container::Port(args) => Self::Port(args),
            Container::Prune(args) => Self::Prune(args.into()),
            Container::Rename(args) => Self::Rename(args),
            Container::Rm(args) => Self::Rm(args),
            Container::Run(args) => Self::Run(args),
            Container::Start(args) => Self::Start(args),
            Container::Stop(args) => Self::Stop(args),
            Container::Wait(args) => Self::Wait(args),
        }
    }
}

impl System {
    /// Does what was asked for.
    pub(super) fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Df(args) => df::run(session, &args),
            Self::Events(args) => events::run(session, &args),
            Self::Info(args) => info::run(session, &args),
            Self::Prune(args) => prune::run(session, &args),
        }
    }
}
