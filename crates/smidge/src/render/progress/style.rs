//! How progress is shown.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::ValueEnum;
use smidge_engine::{Host, Progress};

use super::board::{Board, Terminal};
use super::json::Json;
use super::plain::Plain;

/// `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Style {
    // Bars on a terminal, lines elsewhere.
    #[default]
    Auto,
    // Bars, whatever standard error is.
    Tty,
    // A line when a piece of work starts, and one when it is done.
    Plain,
    #[value(alias = "quiet")]
    None,
    // A JSON object a line, as in Docker's API.
    #[value(alias = "rawjson")]
    Json,
}

/// The progress sink for a style.
pub(crate) fn sink(style: Style, host: &Host) -> Box<dyn Progress> {
    let dumb = host.env.get("TERM").is_some_and(|term| term == "dumb");
    match style {
        Style::None => Box::new(Plain::new(true)),
        Style::Tty => Box::new(Board::new(Terminal::default())),
        Style::Json => Box::new(Json::default()),
        Style::Auto if !dumb && std::io::stderr().is_terminal() => {
            Box::new(Board::new(Terminal::default()))
        }
        Style::Auto | Style::Plain => Box::new(Plain::new(false)),
    }
}

/// How long a piece of work took, for people: `1.2 s`, `45 ms`.
pub(crate) fn took(duration: Duration) -> String {
    match duration.as_millis() {
        milliseconds @ 0..1000 => format!("{milliseconds} ms"),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}
