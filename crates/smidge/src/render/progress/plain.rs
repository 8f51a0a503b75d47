//! Lines: one when a piece of work starts, and one when a blob is done; steps of Dockerfiles as
//! `BuildKit` prints them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smidge_engine::{Action, Progress, Settled, Silent, StepName, StepTask, Task};
use smidge_image::Digest;

use super::board::{Screen, Terminal};
use super::step::{Output, label, seconds};
use crate::render::words;

/// The sink.
pub(super) struct Plain<S: Screen = Terminal> {
    screen: S,
    state: Mutex<State>,
    /// Whether nothing is shown but the last words of what failed.
    quiet: bool,
}

/// The steps that have been started and not all been told about.
#[derive(Default)]
struct State {
    /// The number that the last step got.
    count: usize,
    /// The step that the lines on the screen are of, and since when.
    current: Option<(usize, Duration)>,
    /// Whether anything of a step has been printed.
    begun: bool,
    /// Those that go on, or wait to be told about, oldest first.
    steps: VecDeque<Step>,
    /// The last words of what failed.
    failures: String,
}

struct Step {
    number: usize,
    label: String,
    start: Duration,
    output: Output,
    /// Lines that are not printed yet.
    pending: Vec<String>,
    over: bool,
}

/// How long the lines of one step keep those of others waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most lines of a step that wait.
const WAITING: usize = 1000;

impl Plain {
    /// Lines on standard error.
    pub(super) fn new(quiet: bool) -> Self {
        Self::on(Terminal::default(), quiet)
    }
}

impl<S: Screen> Plain<S> {
    fn on(screen: S, quiet: bool) -> Self {
        Self {
            screen,
            state: Mutex::default(),
            quiet,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a step say something, and prints what is due.
    fn tell(&self, number: usize, change: impl FnOnce(&mut Step, Duration, &mut String)) {
        let now = self.screen.now();
        let mut state = self.state();
        let State {
            steps, failures, ..
        } = &mut *state;
        let Some(step) = steps.iter_mut().find(|step| step.number == number) else {
            return;
        };
        if !step.over {
            change(step, now.saturating_sub(step.start), failures);
        }
        let text = state.due(now);
        if !text.is_empty() && !self.quiet {
            self.screen.write(&text);
        }
    }
}

impl State {
    /// The lines to print now: of the step that is being told about, and of the next ones once it is
    /// over, or has had its time.
    fn due(&mut self, now: Duration) -> String {
        let mut text = String::new();
        loop {
            let index = match self.current {
                Some((number, since)) => {
                    let index = self.steps.iter().position(|step| step.number == number);
                    let has_had_its_time = now.saturating_sub(since) > PATIENCE;
                    let another = self.steps.iter().any(|step| {
                        let waits = has_had_its_time || step.pending.len() > WAITING;
                        step.number != number && !step.pending.is_empty() && waits
                    });
                    match index {
                        Some(index) if self.steps[index].pending.is_empty() && another => {
                            text.push_str(&format!("#{number} ...\n"));
                            self.next(now, &mut text, Some(number))
                        }
                        Some(index) => Some(index),
                        None => self.next(now, &mut text, None),
                    }
                }
                None => self.next(now, &mut text, None),
            };
            let Some(index) = index else { return text };
            let step = &mut self.steps[index];
            for line in step.pending.drain(..) {
                text.push_str(&format!("#{} {line}\n", step.number));
            }
            if !step.over {
                return text;
            }
            self.steps.remove(index);
            self.current = None;
        }
    }

    /// Begins to tell about the first step; about another than `but`, if that has something to tell.
    fn next(&mut self, now: Duration, text: &mut String, but: Option<usize>) -> Option<usize> {
        let index = self.steps.iter().position(|step| match but {
            Some(but) => step.number != but && !step.pending.is_empty(),
            None => true,
        })?;
        let step = &self.steps[index];
        if self.begun {
            text.push('\n');
        }
        text.push_str(&format!("#{} {}\n", step.number, step.label));
        self.begun = true;
        self.current = Some((step.number, now));
        Some(index)
    }
}

impl<S: Screen> Progress for Plain<S> {
    fn task(&self, name: &str, total: Option<u64>) -> Box<dyn Task + '_> {
        // It is part of a step, then, which is told about already.
        let is_part = self.state().steps.iter().any(|step| !step.over);
        match total {
            _ if is_part => {}
            Some(total) => self.line(&format!("{name} ({})", words::size(total))),
            None => self.line(name),
        }
        Box::new(Silent)
    }

    fn blob(&self, blob: &Digest, action: Action, total: Option<u64>) -> Box<dyn Task + '_> {
        let id = blob.short();
        drop(self.task(&format!("{id}: {}", action.doing()), total));
        let done = format!("{id}: {}", action.done());
        Box::new(Blob { plain: self, done })
    }

    fn settled(&self, blob: &Digest, action: Action, how: &Settled) {
        self.line(&format!("{}: {}", blob.short(), settled(action, how)));
    }

    fn step(&self, step: &StepName) -> Box<dyn StepTask + '_> {
        let mut state = self.state();
        state.count += 1;
        let number = state.count;
        state.steps.push_back(Step {
            number,
            label: label(step),
            start: self.screen.now(),
            output: Output::default(),
            pending: Vec::new(),
            over: false,
        });
        drop(state);
        self.tell(number, |_, _, _| {});
        Box::new(Told {
            plain: self,
            number,
        })
    }

    fn line(&self, text: &str) {
        if !self.quiet {
            self.screen.write(&format!("{text}\n"));
        }
    }

    fn inherit_stderr(&self) -> bool {
        !self.quiet
    }
}

impl<S: Screen> Drop for Plain<S> {
    fn drop(&mut self) {
        let failures = std::mem::take(&mut self.state().failures);
        if !failures.is_empty() {
            self.screen.write(&failures);
        }
    }
}

/// Docker's words for blobs that need no work.
pub(super) fn settled(action: Action, how: &Settled) -> String {
    match (how, action) {
        (Settled::Exists, Action::Push) => "Layer already exists".to_owned(),
        (Settled::Exists, _) => "Already exists".to_owned(),
        (Settled::Mounted(from), _) => format!("Mounted from {from}"),
    }
}

struct Blob<'p, S: Screen> {
    plain: &'p Plain<S>,
    done: String,
}

impl<S: Screen> Task for Blob<'_, S> {
    fn advance(&self, _bytes: u64) {}

    fn finish(&self) {
        self.plain.line(&self.done);
    }
}

/// A step's own.
struct Told<'p, S: Screen> {
    plain: &'p Plain<S>,
    number: usize,
}

impl Step {
    /// Ends it; its last line says how.
    fn end(&mut self, time: Duration, how: String) {
        let rest = self.output.end(time);
        self.pending.extend(rest.iter().map(|said| said.text()));
        self.pending.push(how);
        self.over = true;
    }
}

impl<S: Screen> StepTask for Told<'_, S> {
    fn output(&self, bytes: &[u8]) {
        self.plain.tell(self.number, |step, time, _| {
            let lines = step.output.take(time, bytes);
            step.pending.extend(lines.iter().map(|said| said.text()));
        });
    }

    fn cached(&self) {
        self.plain.tell(self.number, |step, time, _| {
            step.end(time, "CACHED".to_owned());
        });
    }

    fn finish(&self) {
        self.plain.tell(self.number, |step, time, _| {
            step.end(time, format!("DONE {}", seconds(time)));
        });
    }

    fn fail(&self, message: &str) {
        self.plain.tell(self.number, |step, time, failures| {
            step.end(time, format!("ERROR: {message}"));
            if step.output.last().next().is_some() {
                failures.push_str(&step.output.last_words(&step.label));
            }
        });
    }
}

impl<S: Screen> Drop for Told<'_, S> {
    fn drop(&mut self) {
        self.plain.tell(self.number, |step, time, _| {
            step.end(time, "CANCELED".to_owned());
        });
    }
}

#[cfg(test)]
mod tests;
