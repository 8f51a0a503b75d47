//! JSON objects, one a line, in the form of Docker's API (`jsonmessage`).

use std::cell::Cell;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use smidge_engine::{Action, Progress, Settled, Task};
use smidge_image::Digest;

use super::plain;

/// The least time between two reports of one piece of work.
const OFTEN_ENOUGH: Duration = Duration::from_millis(100);

/// The sink: where its lines go.
pub(super) struct Json {
    write: fn(&str),
}

impl Default for Json {
    fn default() -> Self {
        Self {
            // Progress that nobody can see is no reason to stop.
            write: |text| drop(std::io::stderr().write_all(text.as_bytes())),
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        static WRITTEN: RefCell<String> = const { RefCell::new(String::new()) };
    }

    #[test]
    fn messages_are_those_of_dockers_api() {
        let json = Json {
            write: |text| WRITTEN.with_borrow_mut(|written| written.push_str(text)),
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
