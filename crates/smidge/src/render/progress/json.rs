//! JSON objects, one a line, in the form of Docker's API (`jsonmessage`).

use std::cell::Cell;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use smidge_engine::{Action, Progress, Settled, StepName, StepTask, Task};
use smidge_image::Digest;

use super::plain;
use super::step::{Output, Said, label};

/// The least time between two reports of one piece of work.
const OFTEN_ENOUGH: Duration = Duration::from_millis(100);

/// The sink: where its lines go.
pub(super) struct Json {
    write: fn(&str),
    /// How many steps were started.
    steps: AtomicUsize,
}

impl Default for Json {
    fn default() -> Self {
        Self {
            // Progress that nobody can see is no reason to stop.
            write: |text| drop(std::io::stderr().write_all(text.as_bytes())),
            steps: AtomicUsize::new(0),
        }
    }
}

impl Json {
    fn tell(&self, status: &str, id: Option<&str>, detail: Option<Value>) {
        let mut message = Map::new();
        message.insert("status".to_owned(), status.into());
        if let Some(detail) = detail {
            message.insert("progressDetail".to_owned(), detail);
        }
        if let Some(id) = id {
            message.insert("id".to_owned(), id.into());
        }
        (self.write)(&format!("{}\n", Value::from(message)));
    }
}

impl Progress for Json {
    fn task(&self, name: &str, total: Option<u64>) -> Box<dyn Task + '_> {
        Box::new(Piece::new(self, name.to_owned(), None, total))
    }

    fn blob(&self, blob: &Digest, action: Action, total: Option<u64>) -> Box<dyn Task + '_> {
        let (start, doing) = match action {
            Action::Pull => ("Pulling fs layer", "Downloading"),
            Action::Push => ("Preparing", action.doing()),
            Action::Copy | Action::Compress => ("Waiting", action.doing()),
        };
        let id = blob.short();
        self.tell(start, Some(&id), Some(json!({})));
        let blob = Some((id, action.done()));
        Box::new(Piece::new(self, doing.to_owned(), blob, total))
    }

    fn settled(&self, blob: &Digest, action: Action, how: &Settled) {
        let status = plain::settled(action, how);
        self.tell(&status, Some(&blob.short()), Some(json!({})));
    }

    fn step(&self, step: &StepName) -> Box<dyn StepTask + '_> {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        let task = Step {
            json: self,
            id: format!("#{number}"),
            start: Instant::now(),
            output: Mutex::new(Some(Output::default())),
        };
        task.tell(&[("status", "started".into()), ("name", label(step).into())]);
        Box::new(task)
    }

    fn line(&self, text: &str) {
        (self.write)(&format!("{}\n", json!({ "stream": format!("{text}\n") })));
    }

    fn inherit_stderr(&self) -> bool {
        false
    }
}

struct Piece<'j> {
    json: &'j Json,
    doing: String,
    /// A blob's id, and what there is to say once it is done.
    blob: Option<(String, &'static str)>,
    total: Option<u64>,
    done: Cell<u64>,
    told: Cell<Option<Instant>>,
}

impl<'j> Piece<'j> {
    fn new(
        json: &'j Json,
        doing: String,
        blob: Option<(String, &'static str)>,
        total: Option<u64>,
    ) -> Self {
        Self {
            json,
            doing,
            blob,
            total,
            done: Cell::new(0),
            told: Cell::new(None),
        }
    }

    fn tell(&self) {
        let mut detail = json!({ "current": self.done.get() });
        if let Some(total) = self.total {
            detail["total"] = total.into();
        }
        let id = self.blob.as_ref().map(|(id, _)| id.as_str());
        self.json.tell(&self.doing, id, Some(detail));
        self.told.set(Some(Instant::now()));
    }
}

impl Task for Piece<'_> {
    fn advance(&self, bytes: u64) {
        self.done.set(self.done.get().saturating_add(bytes));
        if self.told.get().is_none_or(|t| t.elapsed() >= OFTEN_ENOUGH) {
            self.tell();
        }
    }

    fn resume(&self, bytes: u64) {
        self.done.set(bytes);
    }

    fn finish(&self) {
        match &self.blob {
            Some((id, done)) => self.json.tell(done, Some(id), Some(json!({}))),
            None => self.tell(),
        }
    }
}

/// A step of a Dockerfile: a message when it starts, one a line of its output, and one when it is over.
struct Step<'j> {
    json: &'j Json,
    id: String,
    start: Instant,
    /// `None` once it is over.
    output: Mutex<Option<Output>>,
}

impl Step<'_> {
    fn tell(&self, fields: &[(&str, Value)]) {
        let mut message = Map::new();
        message.insert("id".to_owned(), self.id.clone().into());
        for (name, value) in fields {
            message.insert((*name).to_owned(), value.clone());
        }
        (self.json.write)(&format!("{}\n", Value::from(message)));
    }

    fn tell_line(&self, said: &Said) {
        self.tell(&[
            ("stream", format!("{}\n", said.line).into()),
            ("time", rounded(said.time).into()),
        ]);
    }

    fn end(&self, status: &str, error: Option<&str>) {
        let output = &mut *self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut output) = output.take() else {
            return;
        };
        let time = self.start.elapsed();
        output
            .end(time)
            .iter()
            .for_each(|said| self.tell_line(said));
        let mut fields = vec![("status", status.into()), ("time", rounded(time).into())];
        fields.extend(error.map(|error| ("error", error.into())));
        self.tell(&fields);
    }
}

/// Seconds, to the millisecond.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

impl StepTask for Step<'_> {
    fn output(&self, bytes: &[u8]) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(output) = &mut *output {
            let lines = output.take(self.start.elapsed(), bytes);
            lines.iter().for_each(|said| self.tell_line(said));
        }
    }

    fn cached(&self) {
        self.end("cached", None);
    }

    fn finish(&self) {
        self.end("done", None);
    }

    fn fail(&self, message: &str) {
        self.end("failed", Some(message));
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.end("canceled", None);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        static WRITTEN: RefCell<String> = const { RefCell::new(String::new()) };
    }

    #[test]
    fn steps_are_told_a_line_a_message() {
        let json = Json {
            write: |text| WRITTEN.with_borrow_mut(|written| written.push_str(text)),
            steps: AtomicUsize::new(0),
        };
        let step = json.step(&StepName {
            number: 2,
            total: 3,
            text: "RUN make".to_owned(),
            ..StepName::default()
        });
        step.output(b"one\ntw");
        step.output(b"o");
        step.fail("exit status 2");
        drop(step);
        let written = WRITTEN.take();
        let untimed = |line: &str| {
            let mut message: Map<String, Value> = serde_json::from_str(line).unwrap();
            let timed = message.remove("time").is_some_and(|time| time.is_number());
            let started = message
                .get("status")
                .is_some_and(|status| status == "started");
            assert_eq!(timed, !started, "{line}");
            Value::from(message).to_string()
        };
        let lines: Vec<String> = written.lines().map(untimed).collect();
        assert_eq!(
            lines,
            [
                r##"{"id":"#1","status":"started","name":"[2/3] RUN make"}"##,
                r##"{"id":"#1","stream":"one\n"}"##,
                r##"{"id":"#1","stream":"two\n"}"##,
                r##"{"id":"#1","status":"failed","error":"exit status 2"}"##,
            ]
        );
    }

    #[test]
    fn messages_are_those_of_dockers_api() {
        let json = Json {
            write: |text| WRITTEN.with_borrow_mut(|written| written.push_str(text)),
            steps: AtomicUsize::new(0),
        };
        let digest = Digest::of(b"");
        let task = json.blob(&digest, Action::Pull, Some(10));
        task.resume(4);
        task.advance(1);
        task.advance(5);
        task.finish();
        drop(task);
        json.settled(&digest, Action::Push, &Settled::Exists);
        let task = json.task("packing", None);
        task.advance(7);
        task.finish();
        drop(task);
        json.line("a \"quoted\" line");
        expect_test::expect![[r#"
            {"status":"Pulling fs layer","progressDetail":{},"id":"e3b0c44298fc"}
            {"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"e3b0c44298fc"}
            {"status":"Pull complete","progressDetail":{},"id":"e3b0c44298fc"}
            {"status":"Layer already exists","progressDetail":{},"id":"e3b0c44298fc"}
            {"status":"packing","progressDetail":{"current":7}}
            {"status":"packing","progressDetail":{"current":7}}
            {"stream":"a \"quoted\" line\n"}
        "#]]
        .assert_eq(&WRITTEN.take());
    }
}
