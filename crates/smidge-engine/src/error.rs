//! The one error of the engine: what went wrong, where, and what to do about it.
//!
//! Every crate below has its own error type; each is turned into this one here, exhaustively, so
//! that a new fault cannot forget its kind. Rendering is the binary's business.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who can mend a fault. Decides the exit code, and the HTTP status of the engine's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// What was asked for makes no sense as it was asked.
    Input,
    /// Something that was named does not exist.
    NotFound,
    /// Something is in the way: a name, a port, an image in use.
    Conflict,
    /// Something is forbidden to this user.
    Denied,
    /// The machine failed: disk, memory, kernel, another program.
    Host,
    /// The user's program does not compile.
    Compile,
    /// The program in the image cannot be started; the exit code is Docker's, 126 or 127.
    CannotRun(u8),
    /// smidge is wrong.
    Bug,
}

impl Kind {
    /// Who can mend what the system refused.
    pub(crate) fn of_io(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::NotFound,
            std::io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Host,
        }
    }

    /// The exit code of a command that fails like this.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Compile => 3,
            Self::CannotRun(code) => code,
            Self::Input
            | Self::NotFound
            | Self::Conflict
            | Self::Denied
            | Self::Host
            | Self::Bug => 1,
        }
    }
}

/// A place in a text file, with the line itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snippet {
    /// The file's name as the user knows it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line's text, without its end.
    pub source_line: String,
    /// How many characters are meant, at least 1.
    pub length: usize,
    /// What to say beside the carets.
    pub label: Option<String>,
}

impl Snippet {
    /// The place of the bytes `start..end` of `text`. What lies beyond the first line is left out,
    /// and positions inside a character or past the end are moved back to what exists.
    pub fn new(file: &str, text: &str, start: usize, end: usize) -> Self {
        let start = text.floor_char_boundary(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        // A byte order mark is no character that a reader sees.
        let mark = if line_start == 0 && text.starts_with('\u{feff}') {
            3
        } else {
            0
        };
        let (line_start, start) = (line_start + mark, start.max(mark));
        let line_end = text[start..]
            .find('\n')
            .map_or(text.len(), |length| start + length);
        let end = text.floor_char_boundary(end).clamp(start, line_end);
        Self {
            file: file.to_owned(),
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            source_line: text[line_start..line_end].trim_end_matches('\r').to_owned(),
            length: text[start..end].chars().count().max(1),
            label: None,
        }
    }

    /// Says something beside the carets.
    #[must_use]
    pub fn with_label(self, label: impl Into<String>) -> Self {
        Self {
            label: Some(label.into()),
            ..self
        }
    }
}

/// Something worth telling that is not a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// One sentence, lowercase, without a full stop.
    pub message: String,
    /// The place it is about.
    pub snippet: Option<Snippet>,
}

impl Note {
    /// A note about nothing in particular.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            snippet: None,
        }
    }
}

/// What went wrong in a verb.
///
/// `Display` prints the first line alone; the rest is data for the renderer.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    snippet: Option<Snippet>,
    facts: Vec<String>,
    hints: Vec<String>,
    related: Vec<Error>,
    cause: Option<Cause>,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Where the chain of causes goes on.
#[derive(Debug)]
enum Cause {
    /// With this error.
    By(AnyError),
    /// With the cause of this error, whose own text is the message already.
    Below(AnyError),
}

impl Error {
    /// An error with nothing but its first line: lowercase, names in backticks, no full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            snippet: None,
            facts: Vec::new(),
            hints: Vec::new(),
            related: Vec::new(),
            cause: None,
        }))
    }

    /// Takes over an error of another crate: its text becomes the first line, its causes stay.
    pub fn of(kind: Kind, error: impl Into<AnyError>) -> Self {
        let error = error.into();
        let mut this = Self::new(kind, error.to_string());
        this.0.cause = Some(Cause::Below(error));
        this
    }

    /// An operation on a file failed: `message` says what was tried, with the path.
    pub fn io(message: impl Into<String>, source: std::io::Error) -> Self {
        // The store's writers and readers speak through this type.
        let store = source.get_ref().and_then(|error| error.downcast_ref());
        let hint = store.and_then(crate::conversion::advice);
        let error = Self::new(Kind::of_io(&source), message).caused_by(source);
        hint.into_iter().fold(error, Self::with_hint)
    }

    /// Shows the place in a file.
    #[must_use]
    pub fn with_snippet(mut self, snippet: Snippet) -> Self {
        self.0.snippet = Some(snippet);
        self
    }

    /// Adds a fact, shown indented below the first line: `expected: …`.
    #[must_use]
    pub fn with_fact(mut self, fact: impl Into<String>) -> Self {
        self.0.facts.push(fact.into());
        self
    }

    /// Adds advice, with a command in backticks if there is one.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Adds a further fault that was found at the same time.
    #[must_use]
    pub fn with_related(mut self, related: Self) -> Self {
        self.0.related.push(related);
        self
    }

    /// Puts what was tried in front of the first line.
    #[must_use]
    pub(crate) fn framed(mut self, tried: &str) -> Self {
        self.0.message = format!("{tried}: {}", self.0.message);
        self
    }

    /// Names the underlying fault.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<AnyError>) -> Self {
        self.0.cause = Some(Cause::By(source.into()));
        self
    }

    /// The same fault, for somebody else to mend.
    #[must_use]
    pub(crate) fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Who can mend it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The first line.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The place in a file, if there is one.
    pub fn snippet(&self) -> Option<&Snippet> {
        self.0.snippet.as_ref()
    }

    /// Facts, one line each.
    pub fn facts(&self) -> &[String] {
        &self.0.facts
    }

    /// Advice, one line each.
    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// Further faults that were found at the same time, to be shown after this one.
    pub fn related(&self) -> &[Self] {
        &self.0.related
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.0.cause.as_ref()? {
            Cause::By(error) => Some(error.as_ref()),
            Cause::Below(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snippets_count_characters_and_stay_on_their_line() {
        let text = "FROM scratch\r\nCMD [\"/ä\", 1]\nUSER 1";
        let at = |start, end| {
            let s = Snippet::new("Dockerfile", text, start, end);
            (s.line, s.column, s.length, s.source_line)
        };
        let cmd = "CMD [\"/ä\", 1]".to_owned();
        assert_eq!(at(0, 4), (1, 1, 4, "FROM scratch".to_owned()));
        assert_eq!(at(18, 24), (2, 5, 5, cmd.clone()));
        assert_eq!(at(14, 999), (2, 1, 13, cmd.clone()));
        assert_eq!(at(22, 22), (2, 8, 1, cmd), "inside the two bytes of `ä`");
        assert_eq!(at(999, 1000), (3, 7, 1, "USER 1".to_owned()));
        assert_eq!(Snippet::new("f", "", 5, 2).source_line, "");
    }

    #[test]
    fn exit_codes_are_those_of_the_table() {
        assert_eq!(Kind::Compile.exit_code(), 3);
        assert_eq!(Kind::CannotRun(127).exit_code(), 127);
        assert_eq!(Kind::NotFound.exit_code(), 1);
    }
}
