//! Why a program does not start, and why one has died.
//!
//! ```text
//! fault   what the proof finds, by the word for each cause
//! words   what a program says before it dies, as far as it tells the cause
//! death   signals, memory, and what was said, held against the container's files
//! files   questions to these files
//! ```
//!
//! Whoever asks looks at the files from inside the container, so that mounts and changes count. A program
//! that works costs nothing: the question is asked after an end that nobody wanted.

mod death;
mod fault;
mod files;
mod words;

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use smidge_run::log::LogQuery;
use smidge_run::{Failure, Outlook, Reason, RunError, Spec, View};
use smidge_store::DirTree;
use smidge_trim::Fault;

use self::death::Evidence;
use self::files::Files;
use super::record::Record;
use crate::{Engine, Error, Kind, Snippet};

/// A cause that was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) reason: Reason,
    /// The exit status of a command that fails for it.
    code: u8,
    snippet: Option<Snippet>,
}

impl Finding {
    /// A cause by its word, in a few words, and as a sentence.
    fn new(cause: &str, brief: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: Reason {
                cause: cause.to_owned(),
                brief: brief.into(),
                message: message.into(),
                certain: true,
                ..Reason::default()
            },
            code: 126,
            snippet: None,
        }
    }

    /// Says that it is a guess.
    fn guessed(mut self) -> Self {
        self.reason.certain = false;
        self
    }

    fn fact(mut self, fact: impl Into<String>) -> Self {
        self.reason.facts.push(fact.into());
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.reason.hints.push(hint.into());
        self
    }

    /// Puts the names of the container and its image where they are meant.
    pub(super) fn addressed(mut self, record: &Record) -> Self {
        let Reason {
            brief,
            message,
            facts,
            hints,
            ..
        } = &mut self.reason;
        // Names and lines of the container's must not end ours.
        for text in [brief, message].into_iter().chain(facts).chain(hints) {
            *text = text.replace(char::is_control, " ");
        }
        let label = std::fs::read_to_string(record.spec.dir.join("name")).unwrap_or_default();
        let name = label
            .split_once(' ')
            .map_or("CONTAINER", |(_, name)| name.trim_end());
        for hint in &mut self.reason.hints {
            *hint = hint
                .replace("CONTAINER`", &format!("{name}`"))
                .replace("IMAGE`", &format!("{}`", record.image));
        }
        self
    }

    /// The error of a program that did not start.
    pub(crate) fn into_error(self) -> Error {
        let error = Error::new(Kind::CannotRun(self.code), sentence(&self.reason));
        let error = match self.snippet {
            Some(snippet) => error.with_snippet(snippet),
            None => error,
        };
        let Reason { facts, hints, .. } = self.reason;
        let error = facts.into_iter().fold(error, Error::with_fact);
        hints.into_iter().fold(error, Error::with_hint)
    }
}

/// The sentence that tells a reason.
pub fn sentence(reason: &Reason) -> String {
    match reason.certain {
        true => reason.message.clone(),
        false => format!("probably, {}", reason.message),
    }
}

/// The few words that tell a reason.
pub fn brief(reason: &Reason) -> String {
    match reason.certain {
        true => reason.brief.clone(),
        false => format!("probably {}", reason.brief),
    }
}

impl Engine {
    /// Why a program could not be started, if that can be told.
    pub(super) fn start_finding(&self, record: &Record, fault: &RunError) -> Option<Finding> {
        if !is_about_the_program(fault) {
            return None;
        }
        let spec = &record.spec;
        let looked = smidge_run::look(spec, View::Inside, &[], || {
            at_root(|files| fault::examine(record, fault, files))
        });
        let finding = match looked.and_then(smidge_run::Onlooker::finish) {
            Ok(answer) => understood(&answer),
            // Where nobody can look, the image's own files may tell.
            Err(_) => {
                let image = self.store.image(&record.image_id.to_string()).ok()?;
                let tree = self.store.tree(&image).ok()?;
                fault::examine(record, fault, &Files::of(&tree))
            }
        };
        finding.map(|finding| finding.addressed(record))
    }
}

/// Whether the container's files may say more than the error does.
fn is_about_the_program(fault: &RunError) -> bool {
    matches!(
        fault,
        RunError::Exec { .. } | RunError::NotInPath { .. } | RunError::WorkingDirectory { .. }
    )
}

/// Finds out, for the supervisor of a container, why its program has failed. `shut` is why nothing leads out
/// of its network, where that is so of all containers.
pub(super) fn inquest(
    record: &Record,
    failure: &Failure<'_>,
    shut: Option<&'static str>,
) -> Option<Reason> {
    let spec = &record.spec;
    let finding = match failure {
        Failure::NotStarted(fault) if is_about_the_program(fault) => {
            let answer = look_back(spec, |files| fault::examine(record, fault, files));
            answer?
        }
        Failure::NotStarted(_) => return None,
        Failure::Ended(death) => {
            let mut death = death.clone();
            if let Some(why) = shut {
                death.outlook = Outlook::Shut(why.to_owned());
            }
            let evidence = Evidence::gather(record, &death, last_words(spec, &death.since))?;
            match evidence.needs_files() {
                true => look_back(spec, |files| evidence.judge(files))?,
                false => evidence.judge(&Files::of(&smidge_image::MemoryTree::new()))?,
            }
        }
    };
    Some(finding.addressed(record).reason)
}

fn look_back(spec: &Spec, examine: impl FnOnce(&Files<'_>) -> Option<Finding>) -> Option<Finding> {
    let answer = smidge_run::look_back(spec, || at_root(examine)).ok()?;
    understood(&answer)
}

/// Examines the files of this process's root, which is the container's.
fn at_root(examine: impl FnOnce(&Files<'_>) -> Option<Finding>) -> Vec<u8> {
    let finding = DirTree::open(Path::new("/"))
        .ok()
        .and_then(|tree| examine(&Files::inside(&tree)));
    serde_json::to_vec(&finding).unwrap_or_default()
}

fn understood(answer: &[u8]) -> Option<Finding> {
    serde_json::from_slice(answer).ok().flatten()
}

/// The last lines that the program has written since it was started.
fn last_words(spec: &Spec, since: &str) -> Vec<String> {
    /// Lines, and bytes of each, that are looked at.
    const LINES: usize = 40;
    const LONGEST: usize = 1000;
    let mut lines = Vec::new();
    if !spec.log {
        return lines;
    }
    let query = LogQuery {
        tail: Some(LINES),
        since: Some(since.to_owned()).filter(|since| !since.is_empty()),
        ..LogQuery::default()
    };
    let mut keep = |entry: &smidge_run::log::Entry| -> io::Result<()> {
        let end = entry.text.floor_char_boundary(LONGEST);
        lines.push(entry.text[..end].trim_end().to_owned());
        Ok(())
    };
    // A log that cannot be read tells nothing.
    let _ = smidge_run::log::read(&spec.dir, &query, &mut keep);
    lines
}

/// The proof's word against the program of a container, in an image's files or a container's.
pub(super) fn proven_fault(record: &Record, tree: &dyn smidge_image::Tree) -> Option<Fault> {
    fault::proven(record, tree)
}

/// What the proof finds, with what helps against it.
pub(super) fn of_fault(fault: &Fault) -> Finding {
    fault::finding(fault, None)
}
