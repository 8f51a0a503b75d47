//! `smidge history`.

use std::time::SystemTime;

use smidge_engine::image::Step;
use smidge_image::Platform;

use super::session::{Outcome, Session};
use crate::render::listing::{self, Columns, row};
use crate::render::words;

/// Show how an image came to be
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge history hello
  smidge history --no-trunc --format '{{.CreatedBy}}' hello")]
pub(super) struct Args {
    /// Name or id of the image
    image: String,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Sizes and times for people (on by default; --human=false for others)
    #[arg(short = 'H', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", hide_default_value = true, hide_possible_values = true, action = clap::ArgAction::Set)]
    human: bool,
    /// Show everything in full
    #[arg(long)]
    no_trunc: bool,
    /// Of an image for several machines, the one for OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Show ids alone
    #[arg(short, long)]
    quiet: bool,
}

const COLUMNS: Columns = Columns {
    headers: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
};

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let steps = session
        .engine()?
        .history(&args.image, args.platform.as_ref())?;
    let rows: Vec<_> = steps
        .iter()
        .map(|step| shown(step, session.host.now, args))
        .collect();
    let mut out = session.out();
    match args.quiet {
        true => listing::write(&mut out, &listing::lines(&rows, "{{.ID}}")?)?,
        false => listing::print(&mut out, &COLUMNS, args.format.as_deref(), &rows)?,
    }
    Ok(0)
}

fn shown(step: &Step, now: SystemTime, args: &Args) -> listing::Row {
    let id = match &step.id {
        Some(id) if args.no_trunc => id,
        Some(id) => words::short_id(id),
        None => "<missing>",
    };
    // A step's text may span lines; a table's row may not.
    let created_by = step.created_by.replace(['\t', '\n'], " ");
    let created_by = if args.no_trunc {
        created_by
    } else {
        words::ellipsis(&created_by, 45)
    };
    let created = step.created.as_deref().and_then(words::moment);
    let at = created.map(words::rfc3339).unwrap_or_default();
    let since = created.map_or_else(|| "N/A".to_owned(), |then| words::ago(now, then));
    let size = if args.human {
        words::size(step.size)
    } else {
        step.size.to_string()
    };
    row([
        ("ID", id.into()),
        (
            "CreatedSince",
            if args.human { since } else { at.clone() }.into(),
        ),
        ("CreatedAt", at.into()),
        ("CreatedBy", created_by.into()),
        ("Size", size.into()),
        ("Comment", step.comment.clone().into()),
    ])
}
