//! `smidge digest`.

use smidge_image::Platform;

use super::connection::ConnectionArgs;
use super::session::{Outcome, Session};

/// Print the digest of an image in a registry
///
/// Nothing is fetched. An image for several platforms has the digest of its index.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge digest alpine:3.20
  smidge digest --platform linux/arm64 alpine:3.20
                                          of the image for one platform")]
pub(super) struct Args {
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
    /// The digest of the image for one platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let connection = args.connection.connection(session);
    let engine = session.engine()?;
    let digest = engine.remote_digest(&args.image, args.platform.as_ref(), &connection)?;
    session.print(&digest.to_string())?;
    Ok(0)
}
