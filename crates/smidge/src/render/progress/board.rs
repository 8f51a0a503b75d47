//! Bars: a line for each piece of work under way, drawn over as bytes come.
//!
//! The cursor stands below the last line whenever nothing is being drawn, so that whatever ends this
//! process leaves a terminal that goes on where it should. A line is never as wide as the terminal, so
//! that it never wraps; where the terminal became narrower since and wrapped it anew, that is reckoned
//! with.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use smidge_engine::{Action, Progress, StepName, StepTask, Task};
use smidge_image::Digest;

use self::steps::{Row, Steps, Work};
use super::line::Line;
use super::rate::Rate;

/// What bars are drawn on.
pub(super) trait Screen: Send + Sync {
    /// Columns and rows.
    fn size(&self) -> (usize, usize);

    /// Writes to it.
    fn write(&self, text: &str);

    /// The time since some moment.
    fn now(&self) -> Duration;

    /// Whether some of it may be dimmed.
    fn has_colours(&self) -> bool {
        false
    }
}

/// Standard error.
pub(super) struct Terminal {
    start: Instant,
    colours: bool,
}

impl Default for Terminal {
    fn default() -> Self {
        let choice = anstream::AutoStream::choice(&std::io::stderr());
        Self {
            start: Instant::now(),
            colours: choice != anstream::ColorChoice::Never,
        }
    }
}

impl Screen for Terminal {
    fn size(&self) -> (usize, usize) {
        // A terminal that nobody gave a size says 0.
        let or = |size: u16, usual| if size == 0 { usual } else { size.into() };
        match tcgetwinsize(std::io::stderr()) {
            Ok(size) => (or(size.ws_col, 80), or(size.ws_row, 24)),
            Err(_) => (80, 24),
        }
    }

    fn write(&self, text: &str) {
        // Progress that nobody can see is no reason to stop.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn has_colours(&self) -> bool {
        self.colours
    }
}

/// All bars.
pub(super) struct Board<S: Screen> {
    screen: S,
    /// The milliseconds on the screen's clock before which nothing is drawn: not what is over at once,
    /// and not more often than anybody can see.
    due: AtomicU64,
    /// Bytes moved by all pieces of work so far.
    moved: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is under way, in the order in which it was started.
    pieces: Vec<Piece>,
    /// The next piece's key.
    next: u64,
    batch: Batch,
    /// Steps of a Dockerfile.
    steps: Steps,
    /// Columns of each of the lines that are on the screen.
    drawn: Vec<usize>,
}

/// What is done and awaited in all, until nothing is left to do.
#[derive(Default)]
struct Batch {
    /// Blobs that were announced, and their bytes.
    expected: (usize, u64),
    /// What was completed, and its bytes.
    finished: (usize, u64),
    rate: Rate,
}

struct Piece {
    key: u64,
    label: String,
    total: Option<u64>,
    done: Arc<AtomicU64>,
    rate: Rate,
}

/// Milliseconds between two drawings.
const OFTEN_ENOUGH: u64 = 100;

impl<S: Screen> Board<S> {
    pub(super) fn new(screen: S) -> Self {
        let due = milliseconds(screen.now()).saturating_add(OFTEN_ENOUGH);
        Self {
            screen,
            due: AtomicU64::new(due),
            moved: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, label: String, total: Option<u64>) -> Bar<'_, S> {
        let done = Arc::new(AtomicU64::new(0));
        let now = self.screen.now();
        let mut state = self.state();
        if state.pieces.is_empty() && state.batch.finished.0 == 0 {
            state.batch.rate = Rate::new(now, self.moved.load(Ordering::Relaxed));
        }
        let key = state.next;
        state.next += 1;
        state.pieces.push(Piece {
            key,
            label,
            total,
            done: Arc::clone(&done),
            rate: Rate::new(now, 0),
        });
        drop(state);
        self.draw_if_due();
        Bar {
            board: self,
            key,
            done,
        }
    }

    fn draw_if_due(&self) {
        let now = self.screen.now();
        let due = self.due.load(Ordering::Relaxed);
        if milliseconds(now) < due {
            return;
        }
        let next = milliseconds(now).saturating_add(OFTEN_ENOUGH);
        let claimed = self
            .due
            .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        // Whoever came first draws, and nobody waits for a terminal that is slow.
        if let (Ok(_), Ok(mut state)) = (claimed, self.state.try_lock()) {
            self.draw(&mut state, "");
        }
    }

    /// Draws all lines in place of those that are there, below a text that stays.
    fn draw(&self, state: &mut State, above: &str) {
        let (columns, rows) = self.screen.size();
        let mut text = to_start(&state.drawn, columns);
        if !above.is_empty() {
            text.push_str(&format!("\x1b[J{above}\r\n"));
        }
        let moved = self.moved.load(Ordering::Relaxed);
        let now = self.screen.now();
        let lines = state.lines((columns, rows), now, moved);
        // The bars come last, so they are what there is no room for.
        let mut shown = state.steps.rows((columns, rows), now);
        let room = rows.saturating_sub(1).saturating_sub(shown.len());
        shown.extend(lines.into_iter().take(room).map(Row::bright));
        for row in &shown {
            text.push_str(&row.text(self.screen.has_colours()));
            text.push_str("\x1b[K\r\n");
        }
        text.push_str("\x1b[J");
        state.drawn = shown.iter().map(Row::width).collect();
        self.screen.write(&text);
    }

    /// Takes all lines off the screen.
    fn clear(&self, state: &mut State) {
        if !state.drawn.is_empty() {
            let (columns, _) = self.screen.size();
            let text = to_start(&state.drawn, columns) + "\x1b[J";
            state.drawn.clear();
            self.screen.write(&text);
        }
    }

    /// Ends a piece of work.
    fn end(&self, key: u64, complete: bool) {
        let mut state = self.state();
        let Some(position) = state.pieces.iter().position(|piece| piece.key == key) else {
            return;
        };
        let piece = state.pieces.remove(position);
        let batch = &mut state.batch;
        if complete {
            let done = piece.done.load(Ordering::Relaxed);
            batch.finished.0 += 1;
            batch.finished.1 = batch.finished.1.saturating_add(piece.total.unwrap_or(done));
        }
        if state.pieces.is_empty() && state.batch.is_over() {
            state.batch = Batch::default();
            if state.steps.are_over() {
                self.clear(&mut state);
            } else {
                self.draw(&mut state, "");
            }
        }
    }
}

impl Batch {
    fn is_over(&self) -> bool {
        self.finished.0 >= self.expected.0
    }
}

impl State {
    /// The lines to show: as many pieces of work as there is room for, oldest first, and what all of
    /// them come to if there are several.
    fn lines(&mut self, (columns, rows): (usize, usize), now: Duration, moved: u64) -> Vec<String> {
        // The cursor needs a row and a column of its own.
        let (columns, rows) = (columns.saturating_sub(1), rows.saturating_sub(1));
        let total = self.total();
        let room = rows.saturating_sub(usize::from(total.is_some()));
        let label = total.as_ref().map(|total| total.label.chars().count());
        let labels = self.pieces.iter().map(|piece| piece.label.chars().count());
        let width = labels.chain(label).max().unwrap_or(0);
        let mut lines = Vec::new();
        for piece in &mut self.pieces {
            let done = piece.done.load(Ordering::Relaxed);
            let line = Line {
                label: &piece.label,
                done,
                total: piece.total,
                rate: piece.rate.sample(now, done),
            };
            lines.push(line.text(width, columns));
        }
        lines.truncate(room);
        let rate = self.batch.rate.sample(now, moved);
        if let Some(Total { label, done, bytes }) = total.filter(|_| rows > 0) {
            let line = Line {
                label: &label,
                done,
                total: bytes,
                rate,
            };
            lines.push(line.text(width, columns));
        }
        lines
    }

    /// What all work comes to, if there is more than one piece of it.
    fn total(&self) -> Option<Total> {
        let Batch {
            expected, finished, ..
        } = self.batch;
        let count = expected.0.max(finished.0 + self.pieces.len());
        if count < 2 {
            return None;
        }
        let done = |piece: &Piece| piece.done.load(Ordering::Relaxed);
        let mut totals = self.pieces.iter().map(|piece| piece.total);
        let started = totals.try_fold(0_u64, |sum, total| Some(sum.saturating_add(total?)));
        let bytes = started.map(|started| finished.1.saturating_add(started).max(expected.1));
        Some(Total {
            label: format!("total {}/{count}", finished.0),
            done: self
                .pieces
                .iter()
                .map(done)
                .fold(finished.1, u64::saturating_add),
            bytes: bytes.or(Some(expected.1).filter(|bytes| *bytes > 0)),
        })
    }
}

struct Total {
    label: String,
    done: u64,
    bytes: Option<u64>,
}

/// Goes to the start of the first of the lines that are on a terminal of so many columns.
fn to_start(drawn: &[usize], columns: usize) -> String {
    let rows = |width: &usize| width.div_ceil(columns.max(1)).max(1);
    match drawn.iter().map(rows).sum::<usize>() {
        0 => "\r".to_owned(),
        rows => format!("\r\x1b[{rows}A"),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl<S: Screen> Progress for Board<S> {
    fn task(&self, name: &str, total: Option<u64>) -> Box<dyn Task + '_> {
        Box::new(self.start(name.to_owned(), total))
    }

    fn blob(&self, blob: &Digest, action: Action, total: Option<u64>) -> Box<dyn Task + '_> {
        let label = format!("{}: {}", blob.short(), action.doing());
        Box::new(self.start(label, total))
    }

    fn expect(&self, blobs: usize, bytes: u64) {
        let expected = &mut self.state().batch.expected;
        *expected = (
            expected.0.saturating_add(blobs),
            expected.1.saturating_add(bytes),
        );
    }

    fn step(&self, step: &StepName) -> Box<dyn StepTask + '_> {
        let key = self.state().steps.start(step, self.screen.now());
        self.draw_if_due();
        Box::new(Work { board: self, key })
    }

    fn line(&self, text: &str) {
        let mut state = self.state();
        if state.drawn.is_empty() {
            self.screen.write(&format!("{text}\r\n"));
        } else {
            self.draw(&mut state, text);
        }
    }

    fn inherit_stderr(&self) -> bool {
        true
    }
}

impl<S: Screen> Drop for Board<S> {
    fn drop(&mut self) {
        let mut state = self.state();
        self.clear(&mut state);
        let failures = state.steps.failures();
        if !failures.is_empty() {
            self.screen.write(&failures.replace('\n', "\r\n"));
        }
    }
}

/// A piece of work's own.
struct Bar<'b, S: Screen> {
    board: &'b Board<S>,
    key: u64,
    done: Arc<AtomicU64>,
}

impl<S: Screen> Task for Bar<'_, S> {
    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.board.moved.fetch_add(bytes, Ordering::Relaxed);
        self.board.draw_if_due();
    }

    fn resume(&self, bytes: u64) {
        let mut state = self.board.state();
        self.done.store(bytes, Ordering::Relaxed);
        if let Some(piece) = state.pieces.iter_mut().find(|piece| piece.key == self.key) {
            piece.rate = Rate::new(self.board.screen.now(), bytes);
        }
    }

    fn finish(&self) {
        self.board.end(self.key, true);
    }
}

impl<S: Screen> Drop for Bar<'_, S> {
    fn drop(&mut self) {
        self.board.end(self.key, false);
    }
}

mod steps;
#[cfg(test)]
mod tests;
