//! `smidge registry`.

use super::session::{Outcome, Session};

/// Serve the store as a registry
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_session: &Session, _args: &Args) -> Outcome {
    unimplemented!("registry")
}
