//! `smidge create`.

use super::option::container::ContainerArgs;
use super::session::{Outcome, Session};

/// Make a container without starting it
///
/// Takes the options of `run` and prints the container's id; `smidge start` starts it.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
#[command(after_help = "Examples:
  smidge create --name web -p 80:80 app   make it
  smidge start web                        start it")]
pub(super) struct Args {
    #[command(flatten)]
    container: ContainerArgs,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    match args.container.make(session, &engine, true)? {
        Some(known) => {
            session.print(&known.container.id)?;
            Ok(0)
        }
        None => Ok(1),
    }
}
