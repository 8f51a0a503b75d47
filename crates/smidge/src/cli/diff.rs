//! `smidge diff`.

use smidge_engine::container::Change;

use super::session::{Outcome, Session};
use crate::render::listing;

/// Show what a container has changed of its image's files
///
/// A is for what is new, C for what is another now, D for what is gone.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge diff web")]
pub(super) struct Args {
    /// Name or id of the container
    container: String,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let changes = session.engine()?.diff(&args.container)?;
    let mut text = String::new();
    for (path, change) in changes {
        text.push_str(match change {
            Change::Added => "A ",
            Change::Changed => "C ",
            Change::Deleted => "D ",
        });
        text.push_str(&String::from_utf8_lossy(&path));
        text.push('\n');
    }
    listing::write(&mut session.out(), &text)?;
    Ok(0)
}
