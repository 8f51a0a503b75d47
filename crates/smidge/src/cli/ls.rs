//! `smidge ls`.

use super::connection::ConnectionArgs;
use super::session::{Outcome, Session};
use crate::render::listing;

/// List the tags of a repository in a registry
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge ls alpine                        on Docker Hub
  smidge ls localhost:5000/app")]
pub(super) struct Args {
    /// The repository
    #[arg(value_name = "REPOSITORY")]
    repository: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let connection = args.connection.connection(session);
    let tags = session
        .engine()?
        .remote_tags(&args.repository, &connection)?;
    let lines: String = tags.iter().map(|tag| format!("{tag}\n")).collect();
    listing::write(&mut session.out(), &lines)?;
    Ok(0)
}
