//! `smidge config`.

use super::session::{Outcome, Session};

/// Print an image's config in a registry
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_session: &Session, _args: &Args) -> Outcome {
    unimplemented!("config")
}
