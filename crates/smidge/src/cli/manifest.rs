//! `smidge manifest`.

use super::session::{Outcome, Session};

/// Print an image's manifest in a registry, or put several images under one name
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_session: &Session, _args: &Args) -> Outcome {
    unimplemented!("manifest")
}
