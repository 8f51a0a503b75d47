//! `smidge ps`.

use std::time::SystemTime;

use serde_json::Value;
use smidge_engine::Error;
use smidge_engine::container::{
    ContainerQuery, Known, MountPoint, Reason, Record, Row, State, brief, sentence, status_word,
};
use smidge_engine::image::Filter;

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
    /// Show the newest N, whether they run or not
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Show the newest, whether it runs or not
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
        last: if args.latest { Some(1) } else { args.last },
        filters: args.filter.clone(),
    };
    let engine = session.engine()?;
    let containers = engine.containers(&query)?;
    let now = session.host.now;
    let format = match args.format.as_deref() {
        None | Some("table") if args.size => Some(WITH_SIZE),
        format => format,
    };
    // To add it up takes a while.
    let sized = args.size || format.is_some_and(|format| format.contains(".Size"));
    let row = |row: &Row| -> Result<listing::Row, Error> {
        let size = match sized {
            true => size(engine.container_size(&row.known)?),
            false => "0B".to_owned(),
        };
        let mut shown = shown(row, now, args.no_trunc);
        if let Value::Object(fields) = &mut shown.value {
            fields.insert("Size".to_owned(), size.into());
        }
        Ok(shown)
    };
    let rows: Vec<_> = containers.iter().map(row).collect::<Result<_, _>>()?;
    let mut out = session.out();
    match args.quiet {
        true => listing::write(&mut out, &listing::lines(&rows, "{{.ID}}")?)?,
        false => listing::print(&mut out, &COLUMNS, format, &rows)?,
    }
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

fn shown(line: &Row, now: SystemTime, full: bool) -> listing::Row {
    let Known {
        container,
        record,
        state,
        ..
    } = &line.known;
    let id = if full {
        container.id.as_str()
    } else {
        words::short_id(&container.id)
    };
    let created = words::moment(&record.created);
    let labels: Vec<String> = record
        .labels()
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let volumes = record
        .mounts
        .iter()
        .filter(|mount| !mount.name.is_empty())
        .count();
    let networks = record.network().names().join(",");
    let mut row = row([
        ("ID", id.into()),
        ("Image", image(record, full).into()),
        ("Command", command(record, full).into()),
        (
            "CreatedAt",
            created.map(words::stamp).unwrap_or_default().into(),
        ),
        (
            "RunningFor",
            created
                .map(|then| words::ago(now, then))
                .unwrap_or_default()
                .into(),
        ),
        ("State", status_word(state).into()),
        ("Ports", line.ports.clone().into()),
        ("Names", container.name.clone().into()),
        ("Labels", labels.join(",").into()),
        ("Mounts", mounts(record, full).into()),
        ("LocalVolumes", volumes.to_string().into()),
        ("Networks", networks.into()),
    ]);
    if let Value::Object(fields) = &mut row.value {
        fields.extend(standing(state, now, full));
    }
    row.labels.clone_from(record.labels());
    row
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
fn image(record: &Record, full: bool) -> &str {
    let is_id = record.image.starts_with("sha256:") || record.image.len() == 64;
    if is_id && !full {
        words::short_id(&record.image)
    } else {
        &record.image
    }
}

fn command(record: &Record, full: bool) -> String {
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
fn mounts(record: &Record, full: bool) -> String {
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
