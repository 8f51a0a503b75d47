//! `smidge stats`.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use smidge_engine::container::{ContainerQuery, Known, Usage};
use smidge_engine::{Engine, Error, Kind};

use super::session::{Outcome, Session};
use crate::render::listing::{self, Columns, row, unwritable};
use crate::render::words;

/// Show what containers use
///
/// Counts are those of the container's control group where it has one, and those of its processes
/// otherwise.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge stats                            what runs, again and again; Ctrl-C ends it
  smidge stats --no-stream web            once
  smidge stats --no-stream --format '{{.Name}}: {{.MemUsage}}'")]
pub(super) struct Args {
    /// Name or id; repeatable [default: what runs]
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Show those that do not run, too
    #[arg(short, long)]
    all: bool,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
    /// Show ids in full
    #[arg(long)]
    no_trunc: bool,
}

const COLUMNS: Columns = Columns {
    headers: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
};

/// Between two looks, whose difference is the share of the processor.
const PAUSE: Duration = Duration::from_secs(1);

/// Moves to the top of the screen and clears it.
const CLEAR: &str = "\x1b[H\x1b[J";

/// A look at a container that runs.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    usage: Usage,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    let mut before = BTreeMap::new();
    for (known, _) in chosen(&engine, args, true)? {
        if let Some(look) = look(&engine, &known)? {
            before.insert(known.container.id, look);
        }
    }
    loop {
        std::thread::sleep(PAUSE);
        let mut now = BTreeMap::new();
        let mut rows = Vec::new();
        for (known, called) in chosen(&engine, args, false)? {
            let current = look(&engine, &known)?;
            let earlier = before.get(&known.container.id);
            rows.push(shown((&known, called), (earlier, current.as_ref()), args));
            now.extend(current.map(|current| (known.container.id, current)));
        }
        let mut out = session.out();
        if !args.no_stream && std::io::stdout().is_terminal() {
            // Not as what is listed is: that loses what moves the cursor.
            out.write_all(CLEAR.as_bytes()).map_err(unwritable)?;
        }
        listing::print(&mut out, &COLUMNS, args.format.as_deref(), &rows)?;
        if args.no_stream || (rows.is_empty() && !args.containers.is_empty()) {
            return Ok(0);
        }
        before = now;
    }
}

/// The containers to show, those that were named with their names; or what there is. All that were named must
/// be there at first.
fn chosen<'a>(
    engine: &Engine,
    args: &'a Args,
    is_first: bool,
) -> Result<Vec<(Known, Option<&'a str>)>, Error> {
    if !args.containers.is_empty() {
        let known = args.containers.iter().map(|name| {
            let known = engine.container(name)?;
            Ok((known, Some(name.as_str())))
        });
        let is_there = |known: &Result<_, Error>| {
            is_first || !matches!(known, Err(error) if error.kind() == Kind::NotFound)
        };
        return known.filter(is_there).collect();
    }
    let query = ContainerQuery {
        all: args.all,
        ..ContainerQuery::default()
    };
    let rows = engine.containers(&query)?.into_iter();
    // One that is removed meanwhile has nothing to tell.
    let known = rows.filter_map(|row| engine.container(&row.known.container.id).ok());
    Ok(known.map(|known| (known, None)).collect())
}

fn look(engine: &Engine, known: &Known) -> Result<Option<Look>, Error> {
    let usage = engine.usage(known)?;
    let at = Instant::now();
    Ok(usage.map(|usage| Look { at, usage }))
}

/// A container's row; it is also told as it was called.
fn shown(
    (known, called): (&Known, Option<&str>),
    (before, now): (Option<&Look>, Option<&Look>),
    args: &Args,
) -> listing::Row {
    let id = &known.container.id;
    let id = match args.no_trunc {
        true => id.as_str(),
        false => words::short_id(id),
    };
    let usage = now.map(|look| look.usage).unwrap_or_default();
    let percent = |part: f64, whole: f64| match whole > 0.0 {
        true => format!("{:.2}%", part / whole * 100.0),
        false => "0.00%".to_owned(),
    };
    let (worked, passed) = match (before, now) {
        (Some(before), Some(now)) => (
            now.usage.cpu.saturating_sub(before.usage.cpu),
            now.at - before.at,
        ),
        _ => (Duration::ZERO, Duration::ZERO),
    };
    let both = |one: u64, other: u64| format!("{} / {}", words::size(one), words::size(other));
    let memory = (
        words::binary_size(usage.memory),
        words::binary_size(usage.memory_limit),
    );
    row([
        ("Container", called.unwrap_or(id).into()),
        ("ID", id.into()),
        ("Name", known.container.name.clone().into()),
        (
            "CPUPerc",
            percent(worked.as_secs_f64(), passed.as_secs_f64()).into(),
        ),
        ("MemUsage", format!("{} / {}", memory.0, memory.1).into()),
        (
            "MemPerc",
            percent(usage.memory as f64, usage.memory_limit as f64).into(),
        ),
        ("NetIO", both(usage.received, usage.sent).into()),
        ("BlockIO", both(usage.read, usage.written).into()),
        ("PIDs", usage.pids.to_string().into()),
    ])
}
