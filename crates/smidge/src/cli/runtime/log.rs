//! The file that whoever calls the runtime reads errors from.

use std::error::Error as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use smidge_engine::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What a line of the log looks like.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

/// Adds an `error` or a `warning` to the log. A log that cannot be written has nobody to tell.
pub(super) fn write(path: &Path, format: Format, level: &str, message: &str) {
    let time = OffsetDateTime::now_utc()
        .format(&Rfc3339)
        .unwrap_or_default();
    let line = match format {
        Format::Json => json!({"level": level, "msg": message, "time": time}).to_string(),
        Format::Text => format!("time=\"{time}\" level={level} msg={}", json!(message)),
    };
    let file = OpenOptions::new().append(true).create(true).open(path);
    let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
}

/// An error, its causes and what to do about it, in a line.
pub(super) fn line(error: &Error) -> String {
    let mut text = error.message().to_owned();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    for hint in error.hints() {
        text.push_str("; ");
        text.push_str(hint);
    }
    text.replace('\n', " ")
}
