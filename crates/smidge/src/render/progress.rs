//! Progress of long work on standard error: bars on a terminal, lines elsewhere, or nothing.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use smidge_engine::{Progress, Silent, Task};

use super::words;

/// `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Style {
    // Bars on a terminal, lines elsewhere.
    #[default]
    Auto,
    // A line for each piece of work.
    Plain,
    None,
}

/// The progress sink for a style.
pub(crate) fn sink(style: Style) -> Box<dyn Progress> {
    match style {
        Style::None => Box::new(Silent),
        Style::Auto if std::io::stderr().is_terminal() => Box::new(Bars::new()),
        Style::Auto | Style::Plain => Box::new(Plain),
    }
}

/// Bars, redrawn in place as bytes come; nothing ticks by itself, so there is no thread.
struct Bars {
    all: MultiProgress,
}

impl Bars {
    fn new() -> Self {
        Self {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
        }
    }
}

impl Progress for Bars {
    fn task(&self, name: &str, total: Option<u64>) -> Box<dyn Task + '_> {
        let template = match total {
            Some(_) => "{msg} {bar:30} {decimal_bytes}/{decimal_total_bytes}",
            None => "{msg} {decimal_bytes}",
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        let bar = self.all.add(bar.with_style(style));
        bar.set_message(name.to_owned());
        Box::new(Bar(bar))
    }

    fn line(&self, text: &str) {
        let _ = self.all.println(text);
    }

    fn inherit_stderr(&self) -> bool {
        true
    }
}

struct Bar(ProgressBar);

impl Task for Bar {
    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A line when a piece of work starts.
struct Plain;

impl Progress for Plain {
    fn task(&self, name: &str, total: Option<u64>) -> Box<dyn Task + '_> {
        match total {
            Some(total) => self.line(&format!("{name} ({})", words::size(total))),
            None => self.line(name),
        }
        Box::new(Silent)
    }

    fn line(&self, text: &str) {
        // Progress that nobody can see is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn inherit_stderr(&self) -> bool {
        true
    }
}

/// How long a piece of work took, for people: `1.2 s`, `45 ms`.
pub(crate) fn took(duration: Duration) -> String {
    match duration.as_millis() {
        milliseconds @ 0..1000 => format!("{milliseconds} ms"),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}
