//! `smidge logout`.

use super::connection::ConnectionArgs;
use super::session::{Outcome, Session};

/// Log out of a registry
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge logout                           Docker Hub
  smidge logout ghcr.io")]
pub(super) struct Args {
    /// The registry [default: Docker Hub]
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let connection = args.connection.connection(session);
    let engine = session.engine()?;
    let (registry, was_known) = engine.logout(args.registry.as_deref(), &connection)?;
    // Docker calls its own registry by the key in its file.
    let shown = match registry.as_str() {
        "docker.io" => "https://index.docker.io/v1/",
        other => other,
    };
    session.print(&match was_known {
        true => format!("Removing login credentials for {shown}"),
        false => format!("Not logged in to {shown}"),
    })?;
    Ok(0)
}
