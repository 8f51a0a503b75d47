//! `smidge export`.

use super::cp::output;
use super::save::to_file;
use super::session::{Outcome, Session};
use std::path::PathBuf;

/// Write a container's files as a tar archive
///
/// What is mounted in the container, volumes included, is left out.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge export -o web.tar web
  smidge export web | tar -t")]
pub(super) struct Args {
    /// Name or id of the container
    container: String,
    /// Write to a file, not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    match &args.output {
        None => engine.export(&args.container, &output()?)?,
        Some(path) => to_file(&session.host.absolute(path), |file| {
            engine.export(&args.container, file.get_ref())
        })?,
    }
    Ok(0)
}
