//! `smidge ls`.

use super::session::{Outcome, Session};

/// List the tags of a repository in a registry
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_session: &Session, _args: &Args) -> Outcome {
    unimplemented!("ls")
}
