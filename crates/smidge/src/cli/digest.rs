//! `smidge digest`.

use super::session::{Outcome, Session};

/// Print the digest of an image in a registry
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_session: &Session, _args: &Args) -> Outcome {
    unimplemented!("digest")
}
