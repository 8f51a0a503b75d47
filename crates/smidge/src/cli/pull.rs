//! `smidge pull`.

use smidge_engine::image::registries_not_supported;
use smidge_image::Reference;

use super::session::{Outcome, Session};
use crate::render::listing;

/// Fetch an image (registries are not supported yet)
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge pull scratch                     says that it is built in")]
pub(super) struct Args {
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    image: Reference,
    /// Print the name alone
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let name = args.image.familiar();
    if name != "scratch:latest" {
        return Err(registries_not_supported(&name));
    }
    let text = match args.quiet {
        true => "scratch\n",
        false => "scratch: built in, nothing to pull\n",
    };
    listing::write(&mut session.out(), text)?;
    Ok(0)
}
