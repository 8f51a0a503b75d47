//! An instruction's text with its continuations joined, which still knows where each byte stood.

use std::ops::Range;

use crate::span::{Span, Word};

/// The text of one instruction.
#[derive(Debug, Default)]
pub(crate) struct Line {
    text: String,
    /// Where runs of the text come from: offset in the text, offset in the source; ascending.
    runs: Vec<(usize, usize)>,
    /// The one place that stands for all of a text that is not in the source.
    fixed: Option<Span>,
}

impl Line {
    /// Makes a line that is not in the Dockerfile; all of it is shown at one place.
    pub(crate) fn elsewhere(text: &str, span: Span) -> Self {
        Self {
            text: text.to_owned(),
            runs: Vec::new(),
            fixed: Some(span),
        }
    }

    /// Appends a piece of the source that starts at an offset.
    pub(crate) fn push(&mut self, piece: &str, source: usize) {
        self.runs.push((self.text.len(), source));
        self.text.push_str(piece);
    }

    /// Returns all of it.
    pub(crate) fn all(&self) -> Slice<'_> {
        Slice {
            line: self,
            start: 0,
            end: self.text.len(),
        }
    }

    fn source_of(&self, offset: usize) -> usize {
        let run = self.runs.partition_point(|&(at, _)| at <= offset);
        match run.checked_sub(1).and_then(|run| self.runs.get(run)) {
            Some(&(at, source)) => source + (offset - at),
            None => 0,
        }
    }

    fn span(&self, range: Range<usize>) -> Span {
        if let Some(span) = self.fixed {
            return span;
        }
        if range.is_empty() {
            // Behind the last byte before it, not at the start of the line that follows.
            let at = match range.start {
                0 => self.source_of(0),
                start => self.source_of(start - 1) + 1,
            };
            return Span::new(at, at);
        }
        Span::new(
            self.source_of(range.start),
            self.source_of(range.end - 1) + 1,
        )
    }
}

/// A part of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice<'l> {
    line: &'l Line,
    start: usize,
    end: usize,
}

impl<'l> Slice<'l> {
    /// Returns its text.
    pub(crate) fn text(self) -> &'l str {
        &self.line.text[self.start..self.end]
    }

    /// Returns where it stands in the Dockerfile.
    pub(crate) fn span(self) -> Span {
        self.line.span(self.start..self.end)
    }

    /// Tells whether it has no text.
    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Returns a part, by offsets in its own text, which must be on character boundaries.
    pub(crate) fn part(self, range: Range<usize>) -> Self {
        let end = (self.start + range.end).min(self.end);
        Self {
            line: self.line,
            start: (self.start + range.start).min(end),
            end,
        }
    }

    /// Returns it from an offset on.
    pub(crate) fn from(self, offset: usize) -> Self {
        self.part(offset..self.end - self.start)
    }

    /// Returns it without white space at both ends.
    pub(crate) fn trim(self) -> Self {
        let text = self.text();
        let start = text.len() - text.trim_start().len();
        self.part(start..start.max(text.trim_end().len()))
    }

    /// Splits off what stands before the first blank; the rest is trimmed at its start.
    pub(crate) fn split_word(self) -> (Self, Self) {
        let text = self.text();
        let end = text.find(is_blank).unwrap_or(text.len());
        let rest = text[end..]
            .find(|c| !is_blank(c))
            .map_or(text.len(), |skip| end + skip);
        (self.part(0..end), self.from(rest))
    }

    /// Returns the words between blanks.
    pub(crate) fn words(self) -> impl Iterator<Item = Self> {
        let mut rest = self.trim();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (word, behind) = rest.split_word();
            rest = behind;
            Some(word)
        })
    }

    /// Returns its text with its place.
    pub(crate) fn word(self) -> Word {
        Word::new(self.text().to_owned(), self.span())
    }
}

/// Tells whether a character separates arguments: line ends never get this far.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_where_it_stands() {
        let source = "RUN a \\\n  bc d";
        let mut line = Line::default();
        line.push("RUN a ", 0);
        line.push("  bc d", 8);
        let found: Vec<_> = line
            .all()
            .words()
            .map(|word| word.span().text(source))
            .collect();
        assert_eq!(found, ["RUN", "a", "bc", "d"]);
    }

    #[test]
    fn a_word_across_a_continuation_covers_it() {
        let source = "RUN ab\\\ncd";
        let mut line = Line::default();
        line.push("RUN ab", 0);
        line.push("cd", 8);
        let (_, rest) = line.all().split_word();
        assert_eq!(rest.text(), "abcd");
        assert_eq!(rest.span().text(source), "ab\\\ncd");
        assert_eq!(rest.from(4).span(), Span::new(10, 10));
    }
}
