//! `smidge copy`.

use super::session::{Outcome, Session};

/// Copy an image from one place to another
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_session: &Session, _args: &Args) -> Outcome {
    unimplemented!("copy")
}
