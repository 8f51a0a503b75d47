//! `smidge push`.

use super::session::{Outcome, Session};

/// Send an image to a registry
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_session: &Session, _args: &Args) -> Outcome {
    unimplemented!("push")
}
