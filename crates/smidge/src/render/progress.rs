//! Progress of long work on standard error: bars on a terminal, lines elsewhere, or nothing.

use std::cell::Cell;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::termios::tcgetwinsize;
use smidge_engine::{Host, Progress, Silent, Task};

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
    // A JSON object a line, as in Docker's API.
    Json,
}

/// The progress sink for a style.
pub(crate) fn sink(style: Style, host: &Host) -> Box<dyn Progress> {
    let dumb = host.env.get("TERM").is_some_and(|term| term == "dumb");
    match style {
        Style::None => Box::new(Silent),
        Style::Json => Box::new(Plain),
        Style::Auto if !dumb && std::io::stderr().is_terminal() => Box::new(Bars),
        Style::Auto | Style::Plain => Box::new(Plain),
    }
}

/// One line of the terminal, drawn over as bytes come; nothing ticks by itself, so there is no thread.
struct Bars;

/// Clears the terminal's current line and goes back to its start.
const CLEAR: &str = "\r\x1b[K";

impl Progress for Bars {
    fn task(&self, name: &str, total: Option<u64>) -> Box<dyn Task + '_> {
        Box::new(Bar {
            name: name.to_owned(),
            total,
            done: Cell::new(0),
            drawn: Cell::new(None),
        })
    }

    fn line(&self, text: &str) {
        show(&format!("{CLEAR}{text}\n"));
    }

    fn inherit_stderr(&self) -> bool {
        true
    }
}

struct Bar {
    name: String,
    total: Option<u64>,
    done: Cell<u64>,
    /// When it was last drawn, if it is on the terminal now.
    drawn: Cell<Option<Instant>>,
}

impl Bar {
    /// What there is to see, at most `columns` wide.
    fn text(&self, columns: usize) -> String {
        const CELLS: u64 = 30;
        let Self { name, total, .. } = self;
        let done = self.done.get();
        let text = match *total {
            Some(total) => {
                let filled = done.min(total).saturating_mul(CELLS) / total.max(1);
                let bar = format!("{:=>1$}", ">", filled as usize);
                let (done, total) = (words::size(done), words::size(total));
                format!("{name} {bar:0$} {done}/{total}", CELLS as usize)
            }
            None => format!("{name} {}", words::size(done)),
        };
        format!("{text:.columns$}")
    }
}

impl Task for Bar {
    fn advance(&self, bytes: u64) {
        const OFTEN_ENOUGH: Duration = Duration::from_millis(100);
        self.done.set(self.done.get().saturating_add(bytes));
        let now = Instant::now();
        let drawn = self.drawn.get();
        if drawn.is_none_or(|drawn| now.duration_since(drawn) >= OFTEN_ENOUGH) {
            let columns = tcgetwinsize(std::io::stderr()).map_or(0, |size| size.ws_col);
            // A terminal that nobody gave a size says 0.
            let columns = if columns == 0 { 80 } else { columns };
            show(&format!("{CLEAR}{}", self.text(columns.into())));
            self.drawn.set(Some(now));
        }
    }

    fn finish(&self) {
        if self.drawn.take().is_some() {
            show(CLEAR);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Progress that nobody can see is no reason to stop.
fn show(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
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
        show(&format!("{text}\n"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_how_much_of_the_work_is_done() {
        let text = |total, done, columns| {
            let bar = Bar {
                name: "packing".to_owned(),
                total,
                done: Cell::new(done),
                drawn: Cell::new(None),
            };
            bar.text(columns)
        };
        let half = "packing ==============>                1MB/2MB";
        assert_eq!(text(Some(2_000_000), 1_000_000, 80), half);
        assert_eq!(text(Some(2_000_000), 1_000_000, 9), "packing =");
        let full = "packing =============================> 3B/2B";
        assert_eq!(text(Some(2), 3, 80), full);
        let empty = "packing >                              0B/0B";
        assert_eq!(text(Some(0), 0, 80), empty);
        assert_eq!(text(None, 1_500, 80), "packing 1.5kB");
        text(Some(u64::MAX), u64::MAX, 0);
    }
}
