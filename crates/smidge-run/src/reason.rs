//! Why a container's program did not start, or how it came to end: what is kept of it, and what whoever
//! finds it out is told.

use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::state::Outlook;

/// Why a program did not start or has ended, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reason {
    /// A word for it that stays the same: `no-library`.
    pub cause: String,
    /// A few words, for a list of containers.
    pub brief: String,
    /// A sentence without its full stop.
    pub message: String,
    /// What else is known, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<String>,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// Whether that is certain; it is probable otherwise.
    pub certain: bool,
}

/// What went wrong with a container's program.
#[derive(Debug)]
pub enum Failure<'a> {
    /// It could not be started again.
    NotStarted(&'a RunError),
    /// It ended, though nobody asked for that, and not with 0.
    Ended(Death),
}

/// How a program ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Death {
    /// Its exit status, or 128 + the signal that killed it.
    pub code: i32,
    /// The signal that killed it, if one did.
    pub signal: Option<i32>,
    /// Its process id on the host, which may be another's by now.
    pub pid: u32,
    /// Whether one of the container's processes was killed because its memory was used up.
    pub out_of_memory: bool,
    /// When it was started, RFC 3339 with nanoseconds.
    pub since: String,
    /// Whether something led out of its network namespace.
    pub outlook: Outlook,
}

/// Finds out why, in a process of the supervisor's and while the container's directory is locked.
pub type Inquest<'a> = &'a dyn Fn(&Failure<'_>) -> Option<Reason>;
