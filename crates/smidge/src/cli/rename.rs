//! `smidge rename`.

use super::session::{Outcome, Session};

/// Give a container another name
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge rename web web-old")]
pub(super) struct Args {
    /// Name or id of the container
    container: String,
    /// The new name
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    engine.rename_container(&args.container, &args.name)?;
    Ok(0)
}
