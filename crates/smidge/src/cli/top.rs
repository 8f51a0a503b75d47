//! `smidge top`.

use super::session::{Outcome, Session};
use crate::render::control::neutral;
use crate::render::{listing, table};

/// List the processes of a container
///
/// With their ids on this machine. The options are those of `ps`: `-ef`, `aux`, and `-o` with fields.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge top web
  smidge top web -o pid,rss,comm")]
pub(super) struct Args {
    /// Name or id
    container: String,
    /// Options of `ps` [default: -ef]
    #[arg(
        value_name = "PS OPTIONS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<String>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let (headers, rows) = session.engine()?.top(&args.container, &args.options)?;
    // A process may call itself what it likes.
    let cell = |text: String| text.replace(['\n', '\t'], " ");
    let line = |row: Vec<String>| {
        let cells: Vec<String> = row.into_iter().map(cell).collect();
        neutral(&cells.join("\t")) + "\n"
    };
    let lines: String = std::iter::once(headers).chain(rows).map(line).collect();
    listing::write(&mut session.out(), &table::align_wide(&lines, 20))?;
    Ok(0)
}
