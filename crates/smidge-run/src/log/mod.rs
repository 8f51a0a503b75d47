//! The program's output as Docker keeps it: `<id>-json.log`, one JSON object a line.
//!
//! ```text
//! {"log":"hello\n","stream":"stdout","time":"2026-11-21T22:09:00.000000000Z"}
//! ```
//!
//! A line of output longer than 16 KiB becomes several objects, of which only the last ends in a
//! newline. Where the log is limited, older lines are in `<id>-json.log.1`, `.2`, …. JSON holds no arbitrary bytes: what is not UTF-8 becomes U+FFFD, as in Docker's files.

mod reader;
mod writer;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::state;

pub use reader::{LogQuery, read};
pub(crate) use writer::Writer;

/// Which output stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, and all output of a program with a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The text, with its newline if it had one.
    #[serde(rename = "log")]
    pub text: String,
    /// Where it was written to.
    pub stream: Stream,
    /// When: RFC 3339 with nanoseconds.
    pub time: String,
}

/// The files of the log in `dir` by their age, which is counted from 0.
pub(crate) fn aged(dir: &Path, age: u32) -> PathBuf {
    let mut name = path(dir).into_os_string();
    if age > 0 {
        name.push(format!(".{age}"));
    }
    name.into()
}

/// The log of the container in `dir`.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(format!("{}-json.log", state::id(dir)))
}
