//! Lines: one when a piece of work starts, and one when a blob is done.

use std::io::Write as _;

use smidge_engine::{Action, Progress, Settled, Silent, Task};
use smidge_image::Digest;

use crate::render::words;

/// The sink.
pub(super) struct Plain;

impl Progress for Plain {
    fn task(&self, name: &str, total: Option<u64>) -> Box<dyn Task + '_> {
        match total {
            Some(total) => self.line(&format!("{name} ({})", words::size(total))),
            None => self.line(name),
        }
        Box::new(Silent)
    }

    fn blob(&self, blob: &Digest, action: Action, total: Option<u64>) -> Box<dyn Task + '_> {
        let id = blob.short();
        drop(self.task(&format!("{id}: {}", action.doing()), total));
        Box::new(Blob { id, action })
    }

    fn settled(&self, blob: &Digest, action: Action, how: &Settled) {
        self.line(&format!("{}: {}", blob.short(), settled(action, how)));
    }

    fn line(&self, text: &str) {
        // Progress that nobody can see is no reason to stop.
        let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
    }

    fn inherit_stderr(&self) -> bool {
        true
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

struct Blob {
    id: String,
    action: Action,
}

impl Task for Blob {
    fn advance(&self, _bytes: u64) {}

    fn finish(&self) {
        Plain.line(&format!("{}: {}", self.id, self.action.done()));
    }
}
