//! Places in a Dockerfile: byte spans, and the line and column that a reader counts.

use std::ops::Range;

/// A half-open range of bytes in the Dockerfile's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
}

impl Span {
    /// Makes a span; an `end` before `start` becomes an empty span at `start`.
    pub fn new(start: usize, end: usize) -> Self {
        Self {
            start,
            end: end.max(start),
        }
    }

    /// Returns the smallest span that covers both.
    pub fn join(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// Returns the number of bytes covered.
    pub fn len(self) -> usize {
        self.end - self.start
    }

    /// Tells whether no byte is covered.
    pub fn is_empty(self) -> bool {
        self.end == self.start
    }

    /// Returns the text that the span covers, or nothing where it does not fit the text.
    pub fn text(self, source: &str) -> &str {
        source.get(self.start..self.end).unwrap_or_default()
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self::new(range.start, range.end)
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spanned<T> {
    /// What was written.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Joins a value with its place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// A word as it stands in the Dockerfile, before variables are expanded.
pub type Word = Spanned<String>;

/// A line and column, both counted from 1; columns count characters, not bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Location {
    /// Finds the line and column of a byte offset; an offset past the end is the end.
    pub fn of(source: &str, offset: usize) -> Self {
        let start = line_start(source, offset);
        let offset = floor_boundary(source, offset);
        Self {
            line: source.as_bytes()[..start]
                .iter()
                .filter(|&&b| b == b'\n')
                .count()
                + 1,
            column: source[start..offset].chars().count() + 1,
        }
    }
}

/// Returns the source line that holds a byte offset, without its line ending.
pub fn source_line(source: &str, offset: usize) -> &str {
    let start = line_start(source, offset);
    let rest = &source[start..];
    let line = rest.split_once('\n').map_or(rest, |(line, _)| line);
    line.strip_suffix('\r').unwrap_or(line)
}

fn floor_boundary(source: &str, offset: usize) -> usize {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

fn line_start(source: &str, offset: usize) -> usize {
    let offset = floor_boundary(source, offset);
    let start = source[..offset]
        .rfind('\n')
        .map_or(0, |newline| newline + 1);
    // A byte order mark is not a character that a reader sees.
    if start == 0 && offset >= 3 && source.starts_with('\u{feff}') {
        3
    } else {
        start
    }
}
