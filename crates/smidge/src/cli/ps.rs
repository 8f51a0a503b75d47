//! `smidge ps`.

use std::time::SystemTime;

use serde_json::Value;
use smidge_engine::container::{
    ContainerQuery, Known, MountPoint, Outline, Reason, Row, State, brief, sentence, status_word,
};
use smidge_engine::image::Filter;
use smidge_engine::{Error, Note};

use super::session::{Outcome, Session};
use crate::render::listing::{self, Columns, row};
use crate::render::words;

/// List containers
///
/// Where it is known why a container does not run, STATUS tells it behind Docker's words; in a template,
/// `.Status` is Docker's words alone, and `.Reason` the reason.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge ps                               containers that run
  smidge ps -a                            all containers
  smidge ps -q -f status=exited           ids of those that have ended
  smidge ps --format '{{.Names}}: {{.Status}}'")]
pub(super) struct Args {
    /// Show those that do not run, too
    #[arg(short, long)]
    all: bool,
    /// Show those that meet a condition: id, name, label, exited, status, ancestor, before, since,
    /// volume, publish, expose, network, health or is-task; repeatable
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show the newest N of those that are meant, whether they run or not
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    last: Option<i64>,
    /// Show the newest of those that are meant, whether it runs or not
    #[arg(short, long)]
    latest: bool,
    /// Show everything in full
    #[arg(long)]
    no_trunc: bool,
    /// Show ids alone
    #[arg(short, long)]
    quiet: bool,
    /// Show how much each has written
    #[arg(short, long)]
    size: bool,
}

/// The table with sizes.
const WITH_SIZE: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.StatusReason}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

const COLUMNS: Columns = Columns {
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("StatusReason", "STATUS"),
        ("Reason", "REASON"),
        ("State", "STATE"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Size", "SIZE"),
    ],
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.StatusReason}}\t{{.Ports}}\t{{.Names}}",
};

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let query = ContainerQuery {
        all: args.all,
        // As in Docker: no number, or one below 1, is no limit.
        last: match args.last.and_then(|last| usize::try_from(last).ok()) {
            None if args.latest => 1,
            last => last.unwrap_or(0),
        },
        filters: args.filter.clone(),
    };
    let engine = session.engine()?;
    let mut damaged = Vec::new();
    let containers = engine.containers_and_damaged(&query, &mut damaged)?;
    if args.all && args.filter.is_empty() {
        damaged.iter().for_each(|note| session.note(note));
    }
    if args.quiet && args.format.is_some() {
        let ignored = "`--format` is ignored, because `--quiet` shows ids alone";
        session.note(&Note::new(ignored));
    }
    let now = session.host.now;
    let format = match args.format.as_deref() {
        None | Some("table") if args.size => Some(WITH_SIZE),
        format => format,
    };
    // To add it up takes a while.
    let sized = args.size || format.is_some_and(|format| format.contains(".Size"));
    let row = |row: &Row| -> Result<listing::Row, Error> {
        let known = &row.known;
        let size = match sized {
            true => size(engine.container_size(&known.container, &known.record.image_id)?),
            false => "0B".to_owned(),
        };
        let mut shown = shown(row, now, args.no_trunc);
        if let Value::Object(fields) = &mut shown.value {
            fields.insert("Size".to_owned(), size.into());
            // What none of the tables of ours shows takes as long as all that they do.
            if format.is_some_and(|format| format != WITH_SIZE) {
                fields.extend(rest(row, args.no_trunc));
            }
        }
        Ok(shown)
    };
    let mut out = session.out();
    if args.quiet {
        let line = |row: &Row| format!("{}\n", id(row, args.no_trunc));
        listing::write(&mut out, &containers.iter().map(line).collect::<String>())?;
        std::mem::forget(containers);
        return Ok(0);
    }
    let rows: Vec<_> = containers.iter().map(row).collect::<Result<_, _>>()?;
    listing::print(&mut out, &COLUMNS, format, &rows)?;
    // The process ends now, and takes its memory along: to give back what a thousand containers take, piece
    // by piece, is a good part of the time.
    std::mem::forget((rows, containers));
    Ok(0)
}

/// What a container has written, and with its image.
fn size((changed, all): (u64, u64)) -> String {
    let (changed, all) = (words::size(changed), words::size(all));
    format!("{changed} (virtual {all})")
}

fn id(line: &Row, full: bool) -> &str {
    match full {
        true => &line.known.container.id,
        false => words::short_id(&line.known.container.id),
    }
}

/// What the usual tables show.
fn shown(line: &Row, now: SystemTime, full: bool) -> listing::Row {
    let Known {
        container,
        record,
        state,
        ..
    } = &line.known;
    let created = words::moment(&record.created);
    let ago = created.map(|then| words::ago(now, then));
    let mut row = row([
        ("ID", id(line, full).into()),
        ("Image", image(&line.image, full).into()),
        ("Command", command(record, full).into()),
        ("RunningFor", ago.unwrap_or_default().into()),
        ("Ports", line.ports.clone().into()),
        ("Names", container.name.clone().into()),
    ]);
    if let Value::Object(fields) = &mut row.value {
        fields.extend(standing(state, now, full));
    }
    row.labels.clone_from(&record.config.labels);
    row
}

/// What templates may ask for beside that.
fn rest(line: &Row, full: bool) -> [(String, Value); 6] {
    let Known { record, state, .. } = &line.known;
    let created = words::moment(&record.created);
    let label = |(key, value): (&String, &String)| format!("{key}={value}");
    let labels: Vec<String> = record.config.labels.iter().map(label).collect();
    let volumes = record.mounts.iter().filter(|mount| !mount.name.is_empty());
    [
        ("CreatedAt", created.map(words::stamp).unwrap_or_default()),
        ("State", status_word(state).to_owned()),
        ("Labels", labels.join(",")),
        ("Mounts", mounts(record, full)),
        ("LocalVolumes", volumes.count().to_string()),
        ("Networks", record.network().names().join(",")),
    ]
    .map(|(name, text)| (name.to_owned(), text.into()))
}

/// How it is, in Docker's words, with the reason behind them, and the reason alone.
fn standing(state: &State, now: SystemTime, full: bool) -> [(String, Value); 3] {
    let status = words::status(state, now);
    let behind = |reason: &Reason| match full {
        true => format!("{status}: {}", sentence(reason)),
        false => format!("{status}: {}", words::ellipsis(&brief(reason), 48)),
    };
    let reason = state.reason.as_ref();
    [
        ("Reason", reason.map(sentence).unwrap_or_default()),
        ("StatusReason", reason.map_or(status.clone(), behind)),
        ("Status", status),
    ]
    .map(|(name, text)| (name.to_owned(), text.into()))
}

/// The image as it was asked for; an id is shortened.
fn image(image: &str, full: bool) -> &str {
    let is_id = image.starts_with("sha256:") || image.len() == 64;
    match is_id && !full {
        true => words::short_id(image),
        false => image,
    }
}

fn command(record: &Outline, full: bool) -> String {
    let command = record.spec.args.join(" ");
    format!(
        "{:?}",
        if full {
            command
        } else {
            words::ellipsis(&command, 20)
        }
    )
}

/// What is mounted: volumes by name, directories by path.
fn mounts(record: &Outline, full: bool) -> String {
    let name = |mount: &MountPoint| match mount.name.as_str() {
        "" => mount.source.to_string_lossy().into_owned(),
        name => name.to_owned(),
    };
    let short = |name: String| {
        if full {
            name
        } else {
            words::ellipsis(&name, 15)
        }
    };
    record
        .mounts
        .iter()
        .map(|mount| short(name(mount)))
        .collect::<Vec<_>>()
        .join(",")
}
