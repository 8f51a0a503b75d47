//! `smidge events`.

use serde_json::{Value, json};
use smidge_engine::event::{Event, EventQuery};
use smidge_engine::image::Filter;

use super::session::{Outcome, Session};
use crate::render::listing::{self, Row};
use crate::render::words;

/// Show what happens to containers, images, networks and volumes
///
/// What happened in the last 7 days is kept. Without --until it goes on until it is stopped.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge events                           what happens from now on
  smidge events --since 1h --until 0s     what happened in the last hour
  smidge events -f type=container -f event=die --format '{{.Actor.Attributes.name}}'")]
pub(super) struct Args {
    /// Show those that meet a condition: container, event, image, label, network, scope, type or volume; repeatable
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// A Go template, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Begin with those from a time on: 2026-11-21T09:30:00Z, or how long ago: 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Stop at a time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let query = EventQuery {
        since: args.since.clone(),
        until: args.until.clone(),
        filters: args.filter.clone(),
    };
    if let Some(format) = args.format.as_deref() {
        // Not at the first event, which may be long in coming.
        listing::lines(&[], format)?;
    }
    let mut out = session.out();
    session.engine()?.events(&query, &mut |event| {
        let text = shown(event, args.format.as_deref())?;
        listing::write(&mut out, &text)
    })?;
    Ok(0)
}

fn shown(event: &Event, format: Option<&str>) -> Result<String, smidge_engine::Error> {
    match format {
        None | Some("") => Ok(line(event)),
        Some("json" | "{{json .}}") => Ok(format!("{}\n", api(event))),
        Some(format) => listing::lines(
            &[Row {
                value: fields(event),
                labels: event.attributes.clone(),
                ..Row::default()
            }],
            format,
        ),
    }
}

/// As Docker's command prints it.
fn line(event: &Event) -> String {
    let attributes = event.attributes.iter();
    let attributes: Vec<String> = attributes.map(|(k, v)| format!("{k}={v}")).collect();
    let time = words::rfc3339_nanos(event.time);
    let (kind, action, id) = (&event.kind, &event.action, &event.id);
    match attributes.is_empty() {
        true => format!("{time} {kind} {action} {id}\n"),
        false => format!("{time} {kind} {action} {id} ({})\n", attributes.join(", ")),
    }
}

/// As Docker's API has it.
fn api(event: &Event) -> Value {
    let mut value = json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time / 1_000_000_000,
        "timeNano": event.time,
    });
    if event.kind != "volume"
        && let Value::Object(fields) = &mut value
    {
        fields.insert("status".to_owned(), event.action.clone().into());
        fields.insert("id".to_owned(), event.id.clone().into());
        if let Some(image) = event.attributes.get("image") {
            fields.insert("from".to_owned(), image.clone().into());
        }
    }
    value
}

/// What a template can name.
fn fields(event: &Event) -> Value {
    json!({
        "Status": event.action,
        "ID": event.id,
        "From": event.attributes.get("image").cloned().unwrap_or_default(),
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "Scope": "local",
        "Time": event.time / 1_000_000_000,
        "TimeNano": event.time,
    })
}
