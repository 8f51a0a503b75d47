//! `smidge images`.

use std::time::SystemTime;

use smidge_engine::image::{Filter, ImageQuery, Listed};

use super::session::{Outcome, Session};
use crate::render::listing::{self, Columns, row};
use crate::render::words;

/// List images
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge images                           all images, the newest first
  smidge images 'hello*'                  those whose name fits a pattern
  smidge images -q -f dangling=true       ids of those without a name
  smidge images -a --format 'table {{.Repository}}\t{{.ID}}\t{{.Platform}}'
  smidge images --format '{{.Repository}}:{{.Tag}} {{.Size}}'")]
pub(super) struct Args {
    /// Name, or pattern of names
    #[arg(value_name = "NAME[:TAG]")]
    reference: Option<String>,
    /// Show the images for all platforms, not for this machine alone
    #[arg(short, long)]
    all: bool,
    /// Show the digests by which registries know them
    #[arg(long)]
    digests: bool,
    /// Show those that meet a condition: dangling, label, reference, before, since
    /// or until; repeatable
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show everything in full
    #[arg(long)]
    no_trunc: bool,
    /// Show ids alone
    #[arg(short, long)]
    quiet: bool,
}

const HEADERS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("Containers", "CONTAINERS"),
    ("Platform", "PLATFORM"),
];
const COLUMNS: Columns = Columns {
    headers: HEADERS,
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
};
const WITH_DIGESTS: Columns = Columns {
    headers: HEADERS,
    table: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
};

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let query = ImageQuery {
        reference: args.reference.clone(),
        filters: args.filter.clone(),
        all: args.all,
    };
    let images = session.engine()?.images(&query)?;
    let rows: Vec<_> = images
        .iter()
        .map(|image| shown(image, session.host.now, args.no_trunc))
        .collect();
    let mut out = session.out();
    if args.quiet {
        listing::write(&mut out, &listing::lines(&rows, "{{.ID}}")?)?;
        return Ok(0);
    }
    let columns = if args.digests {
        &WITH_DIGESTS
    } else {
        &COLUMNS
    };
    listing::print(&mut out, columns, args.format.as_deref(), &rows)?;
    Ok(0)
}

fn shown(image: &Listed, now: SystemTime, full: bool) -> listing::Row {
    const NONE: &str = "<none>";
    let repository = image.name.as_ref().map(|name| name.familiar_name());
    let tag = image.name.as_ref().and_then(|name| name.tag());
    let id = if full {
        image.id.to_string()
    } else {
        image.id.short()
    };
    let digest = image
        .digest
        .map_or_else(|| NONE.to_owned(), |digest| digest.to_string());
    let created = image.created.as_deref().and_then(words::moment);
    let size = words::size(image.size);
    let mut row = row([
        (
            "Repository",
            repository.unwrap_or_else(|| NONE.to_owned()).into(),
        ),
        ("Tag", tag.unwrap_or(NONE).into()),
        ("Digest", digest.into()),
        ("ID", id.into()),
        (
            "CreatedSince",
            created
                .map_or_else(|| "N/A".to_owned(), |t| words::ago(now, t))
                .into(),
        ),
        (
            "CreatedAt",
            created
                .map_or_else(|| "N/A".to_owned(), words::stamp)
                .into(),
        ),
        ("Size", size.clone().into()),
        ("VirtualSize", size.into()),
        ("UniqueSize", "N/A".into()),
        ("SharedSize", "N/A".into()),
        ("Containers", image.containers.to_string().into()),
        ("Platform", image.platform.to_string().into()),
    ]);
    row.labels.clone_from(&image.labels);
    row
}
