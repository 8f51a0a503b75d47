//! `smidge config`.

use std::io::Write as _;

use smidge_image::Platform;

use super::connection::ConnectionArgs;
use super::session::{Outcome, Session};
use crate::render::listing::unwritable;

/// Print an image's config in a registry
///
/// The bytes are printed as they are, so that their SHA-256 is the image's id. No layer is fetched.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge config alpine
  smidge config --platform linux/arm64 alpine | jq .config.Env")]
pub(super) struct Args {
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
    /// The platform, if not this machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let connection = args.connection.connection(session);
    let engine = session.engine()?;
    let config = engine.remote_config(&args.image, args.platform.as_ref(), &connection)?;
    let mut out = session.out();
    let written = out.write_all(&config).and_then(|()| out.flush());
    written.map_err(unwritable)?;
    Ok(0)
}
