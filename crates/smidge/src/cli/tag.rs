//! `smidge tag`.

use super::session::{Outcome, Session};

/// Give an image one more name
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge tag hello ghcr.io/acme/hello:1.0")]
pub(super) struct Args {
    /// Name or id of the image
    source: String,
    /// The new name
    #[arg(value_name = "NAME[:TAG]")]
    target: String,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    session.engine()?.tag(&args.source, &args.target)?;
    Ok(0)
}
