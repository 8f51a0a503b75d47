//! `smidge pause` and `smidge unpause`.

use super::session::{Outcome, Session, each};

/// Make containers stand still
///
/// Their processes keep what they have, and get no processor time until `smidge unpause`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge pause web")]
pub(super) struct Args {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Let containers go on that stand still
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge unpause web")]
pub(super) struct Unpause {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    each(&args.containers, |name| {
        engine.pause(name)?;
        session.print(name)
    })
}

pub(super) fn unpause(session: &Session, args: &Unpause) -> Outcome {
    let engine = session.engine()?;
    each(&args.containers, |name| {
        engine.unpause(name)?;
        session.print(name)
    })
}
