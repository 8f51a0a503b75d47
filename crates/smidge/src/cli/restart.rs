//! `smidge restart`.

use super::session::{Outcome, Session, each};
use super::stop::Whom;

/// Stop containers and start them again
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge restart web
  smidge restart -t 60 db                 give it a minute to end")]
pub(super) struct Args {
    #[command(flatten)]
    whom: Whom,
}

pub(super) fn run(session: &Session, Args { whom }: &Args) -> Outcome {
    let engine = session.engine()?;
    whom.containers
        .iter()
        .try_for_each(|name| engine.seal_for(name))?;
    let request = whom.request();
    each(&whom.containers, |name| {
        if let Some(note) = engine.restart(name, &request)? {
            session.note(&note);
        }
        session.print(name)
    })
}
