//! Steps of a Dockerfile on a terminal, as `BuildKit` draws them: a line that stays for each that is
//! over, and below these, drawn over, the steps under way with the last lines of their output.

use std::collections::BTreeMap;
use std::time::Duration;

use smidge_engine::{StepName, StepTask};

use super::{Board, Screen};
use crate::render::progress::step::{Output, Said, cut, label, seconds, width};

/// How many lines of a step's output are shown while it goes on.
const LINES: usize = 6;

/// All steps.
#[derive(Default)]
pub(super) struct Steps {
    /// Those under way, in the order in which they were started.
    running: Vec<Running>,
    /// The next one's key.
    next: u64,
    /// When the first was started.
    start: Option<Duration>,
    over: usize,
    /// How many steps each stage has that was heard of, by its platform and name.
    totals: BTreeMap<(Option<String>, Option<String>), usize>,
    /// How many there were that belong to no stage.
    alone: usize,
    /// The last words of what failed.
    failures: String,
}

struct Running {
    key: u64,
    label: String,
    start: Duration,
    output: Output,
}

/// A line on the screen.
pub(super) struct Row {
    text: String,
    dim: bool,
}

impl Row {
    /// A line of a bar.
    pub(super) fn bright(text: String) -> Self {
        Self { text, dim: false }
    }

    /// Its columns.
    pub(super) fn width(&self) -> usize {
        width(&self.text)
    }

    /// What is written.
    pub(super) fn text(&self, colours: bool) -> String {
        match self.dim && colours {
            true => format!("\x1b[2m{}\x1b[0m", self.text),
            false => self.text.clone(),
        }
    }
}

impl Steps {
    /// Starts one; gives its key.
    pub(super) fn start(&mut self, name: &StepName, now: Duration) -> u64 {
        self.start.get_or_insert(now);
        match name.total {
            0 => self.alone += 1,
            total => {
                let stage = (name.platform.clone(), name.stage.clone());
                self.totals.insert(stage, total.max(name.number));
            }
        }
        self.next += 1;
        self.running.push(Running {
            key: self.next,
            label: label(name),
            start: now,
            output: Output::default(),
        });
        self.next
    }

    /// Whether none is under way.
    pub(super) fn are_over(&self) -> bool {
        self.running.is_empty()
    }

    /// Ends one: the line that stays.
    fn end(&mut self, key: u64, end: End, now: Duration, columns: usize) -> Option<String> {
        let index = self.running.iter().position(|step| step.key == key)?;
        let mut step = self.running.remove(index);
        let time = now.saturating_sub(step.start);
        self.over += usize::from(end.is_good());
        let mark = match end {
            End::Done => "",
            End::Cached => "CACHED ",
            End::Failed => "ERROR ",
            End::Canceled => "CANCELED ",
        };
        if let End::Failed = end {
            step.output.end(time);
            if step.output.last().next().is_some() {
                let words = step.output.last_words(&step.label);
                self.failures.push_str(&words);
            }
        }
        Some(timed(&format!(" => {mark}{}", step.label), time, columns))
    }

    /// What is shown when all is over.
    pub(super) fn failures(&mut self) -> String {
        std::mem::take(&mut self.failures)
    }

    /// The rows of what is under way.
    pub(super) fn rows(&self, (columns, rows): (usize, usize), now: Duration) -> Vec<Row> {
        let Some(start) = self.start.filter(|_| !self.running.is_empty()) else {
            return Vec::new();
        };
        // The cursor needs a row of its own.
        let room = rows.saturating_sub(1);
        let total = self.alone + self.totals.values().sum::<usize>();
        let time = seconds(now.saturating_sub(start));
        let count = total.max(self.over + self.running.len());
        let heading = format!("[+] Building {time} ({}/{count})", self.over);
        let mut shown = vec![Row::bright(cut(&heading, columns.saturating_sub(1)))];
        // Every step has its line before any has lines of output.
        let spare = room.saturating_sub(1 + self.running.len());
        let share = (spare / self.running.len()).min(LINES);
        for step in &self.running {
            let time = now.saturating_sub(step.start);
            let text = timed(&format!(" => {}", step.label), time, columns);
            shown.push(Row::bright(text));
            shown.extend(step.lines(share, columns));
        }
        shown.truncate(room);
        shown
    }
}

impl Running {
    /// The last lines of its output.
    fn lines(&self, count: usize, columns: usize) -> Vec<Row> {
        let last: Vec<&Said> = self.output.last().rev().take(count).collect();
        let row = |said: &&Said| {
            let line = said.line.replace('\t', " ");
            let text = cut(&format!(" => => # {line}"), columns.saturating_sub(1));
            Row { text, dim: true }
        };
        last.iter().rev().map(row).collect()
    }
}

/// A text with a time at the right edge, where there is room for that. A column is left free for the
/// cursor, so that nothing wraps.
fn timed(text: &str, time: Duration, columns: usize) -> String {
    let columns = columns.saturating_sub(1);
    let time = seconds(time);
    let Some(room) = columns
        .checked_sub(time.len() + 1)
        .filter(|room| *room >= 20)
    else {
        return cut(text, columns);
    };
    let text = match width(text) > room {
        true => format!("{}...", cut(text, room - 3)),
        false => text.to_owned(),
    };
    let blanks = room.saturating_sub(width(&text)) + 1;
    format!("{text}{}{time}", " ".repeat(blanks))
}

/// How a step ends.
#[derive(Clone, Copy)]
enum End {
    Done,
    Cached,
    Failed,
    Canceled,
}

impl End {
    fn is_good(self) -> bool {
        matches!(self, Self::Done | Self::Cached)
    }
}

/// A step's own.
pub(super) struct Work<'b, S: Screen> {
    pub(super) board: &'b Board<S>,
    pub(super) key: u64,
}

impl<S: Screen> Work<'_, S> {
    fn end(&self, end: End) {
        let board = self.board;
        let mut state = board.state();
        let (columns, _) = board.screen.size();
        let now = board.screen.now();
        if let Some(line) = state.steps.end(self.key, end, now, columns) {
            board.draw(&mut state, &line);
        }
    }
}

impl<S: Screen> StepTask for Work<'_, S> {
    fn output(&self, bytes: &[u8]) {
        let now = self.board.screen.now();
        let mut state = self.board.state();
        let running = &mut state.steps.running;
        if let Some(step) = running.iter_mut().find(|step| step.key == self.key) {
            let time = now.saturating_sub(step.start);
            step.output.take(time, bytes);
        }
        drop(state);
        self.board.draw_if_due();
    }

    fn cached(&self) {
        self.end(End::Cached);
    }

    fn finish(&self) {
        self.end(End::Done);
    }

    fn fail(&self, _message: &str) {
        // Whoever called for the build tells it.
        self.end(End::Failed);
    }
}

impl<S: Screen> Drop for Work<'_, S> {
    fn drop(&mut self) {
        self.end(End::Canceled);
    }
}
