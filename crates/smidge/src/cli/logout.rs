//! `smidge logout`.

use super::session::{Outcome, Session};

/// Log out of a registry
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_session: &Session, _args: &Args) -> Outcome {
    unimplemented!("logout")
}
