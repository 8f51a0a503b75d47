//! `smidge login`.

use super::session::{Outcome, Session};

/// Log in to a registry
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_session: &Session, _args: &Args) -> Outcome {
    unimplemented!("login")
}
