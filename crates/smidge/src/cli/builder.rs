//! `smidge builder`: what builds have left for builds to come.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use smidge_engine::Error;
use smidge_engine::container::parse_bytes;
use smidge_engine::image::{CacheKind, CachePruneRequest, CacheRecord};

use super::prune::confirmed;
use super::session::{Outcome, Session};
use crate::render::{table, words};

/// Show what builds have left for builds to come
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge builder du
  smidge builder du --filter type=mount   the directories of RUN --mount=type=cache")]
pub(super) struct Du {
    /// Only what a condition holds for: until=24h, type=step|mount, id=ID; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
    /// Show ids in full, and what made each
    #[arg(long)]
    verbose: bool,
}

/// Remove what builds have left for builds to come
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge builder prune
  smidge builder prune -a -f              everything; do not ask
  smidge builder prune -f --filter until=168h
                                          what was not used for a week
  smidge builder prune -f --keep-storage 10g
                                          keep what was used last")]
pub(super) struct Prune {
    /// Also what is part of an image, and takes up no room of its own
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what a condition holds for: until=24h, type=step|mount, id=ID; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Keep so much of what was used last
    #[arg(long, visible_alias = "reserved-space", value_name = "SIZE", value_parser = parse_bytes)]
    keep_storage: Option<u64>,
    /// Print each thing that was removed
    #[arg(long)]
    verbose: bool,
}

pub(super) fn du(session: &Session, args: &Du) -> Outcome {
    let request = request(true, &args.filter)?;
    let engine = session.engine()?;
    let mut records = engine.build_cache()?;
    records.retain(|record| request.matches(record, session.host.now));
    if args.json {
        for record in &records {
            session.print(&described(record).to_string())?;
        }
        return Ok(0);
    }
    let mut text = "ID\tTYPE\tSIZE\tLAST USED\tUSES\tDESCRIPTION\n".to_owned();
    for record in &records {
        text.push_str(&row(session, record, args.verbose));
    }
    let all: u64 = records.iter().map(|record| record.size).sum();
    let own = records.iter().filter(|record| is_reclaimable(record));
    let own: u64 = own.map(|record| record.size).sum();
    session.print(table::align(&text).trim_end())?;
    session.print(&format!("Reclaimable: {}", words::size(own)))?;
    session.print(&format!("Total: {}", words::size(all)))?;
    Ok(0)
}

fn is_reclaimable(record: &CacheRecord) -> bool {
    !record.in_use && !record.shared
}

fn row(session: &Session, record: &CacheRecord, whole: bool) -> String {
    let used = UNIX_EPOCH + Duration::from_secs(record.last_used);
    let id: String = match whole || record.kind != CacheKind::Step {
        true => record.id.clone(),
        false => record.id.chars().take(12).collect(),
    };
    let mark = match (record.in_use, record.shared) {
        (true, _) => " (in use)",
        (_, true) => " (shared)",
        _ => "",
    };
    let description: String = match whole {
        true => record.description.clone(),
        false => record.description.chars().take(60).collect(),
    };
    let text = format!(
        "{id}\t{}\t{}{mark}\t{}\t{}\t{}",
        word(record.kind),
        words::size(record.size),
        words::ago(session.host.now, used),
        record.uses,
        description.split_whitespace().collect::<Vec<_>>().join(" "),
    );
    crate::render::control::neutral(&text) + "\n"
}

fn word(kind: CacheKind) -> &'static str {
    match kind {
        CacheKind::Step => "step",
        CacheKind::Mount => "mount",
    }
}

fn described(record: &CacheRecord) -> serde_json::Value {
    json!({
        "id": record.id,
        "type": word(record.kind),
        "description": record.description,
        "size": record.size,
        "created": record.created,
        "lastUsed": record.last_used,
        "uses": record.uses,
        "inUse": record.in_use,
        "shared": record.shared,
    })
}

fn request(all: bool, filters: &[String]) -> Result<CachePruneRequest, Error> {
    let mut request = CachePruneRequest {
        all,
        ..CachePruneRequest::default()
    };
    for filter in filters {
        request.add_filter(filter)?;
    }
    Ok(request)
}

pub(super) fn prune(session: &Session, args: &Prune) -> Outcome {
    let mut request = request(args.all, &args.filter)?;
    request.keep = args.keep_storage;
    let what = match args.all {
        true => "everything that builds have left for builds to come",
        false => "what builds have left for builds to come, and is part of no image",
    };
    if !args.force && !confirmed(what, "builder prune")? {
        return Ok(1);
    }
    let (records, bytes) = session.engine()?.prune_build_cache(&request)?;
    for record in records.iter().filter(|_| args.verbose) {
        session.print(&format!("deleted: {} {}", word(record.kind), record.id))?;
    }
    session.print(&format!("Total reclaimed space: {}", words::size(bytes)))?;
    Ok(0)
}
