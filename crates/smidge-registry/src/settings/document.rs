//! A TOML file whose every fault has a line.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file;
use crate::{Error, Result};

/// A file's text, for saying where something is wrong.
#[derive(Clone, Copy)]
pub(super) struct Document<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl<'a> Document<'a> {
    /// The document's tables.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'a>>> {
        DeTable::parse(self.text).map_err(|error| {
            // A fault at the end of a line belongs to that line, not to the next one.
            let span = error.span().unwrap_or(0..0);
            self.fault(span, error.message())
        })
    }

    /// An error about a place in the document.
    pub(super) fn fault(&self, span: Range<usize>, why: impl AsRef<str>) -> Error {
        let line = self.line(span);
        let why = why.as_ref().replace('\n', "; ");
        file::fault(self.path, format!("line {line}: {why}"))
    }

    /// The line that a place is on.
    pub(super) fn line(&self, span: Range<usize>) -> usize {
        file::line_at(self.text.as_bytes(), span.start)
    }

    /// A value that must be a text.
    pub(super) fn text<'v>(&self, key: &str, value: &'v Spanned<DeValue<'_>>) -> Result<&'v str> {
        let text = value.get_ref().as_str();
        text.ok_or_else(|| self.of_kind(key, value, "a text"))
    }

    /// A value that must be `true` or `false`.
    pub(super) fn flag(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<bool> {
        let flag = value.get_ref().as_bool();
        flag.ok_or_else(|| self.of_kind(key, value, "`true` or `false`"))
    }

    /// A value that must be a list.
    pub(super) fn list<'v, 'i>(
        &self,
        key: &str,
        value: &'v Spanned<DeValue<'i>>,
    ) -> Result<&'v [Spanned<DeValue<'i>>]> {
        let list = value.get_ref().as_array();
        list.map(|array| &array[..])
            .ok_or_else(|| self.of_kind(key, value, "a list"))
    }

    /// A value that must be a table.
    pub(super) fn table<'v, 'i>(
        &self,
        key: &str,
        value: &'v Spanned<DeValue<'i>>,
    ) -> Result<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        table.ok_or_else(|| self.of_kind(key, value, "a table"))
    }

    /// The error for a value of the wrong kind.
    pub(super) fn of_kind(&self, key: &str, value: &Spanned<DeValue<'_>>, kind: &str) -> Error {
        let found = value.get_ref().type_str();
        self.fault(value.span(), format!("`{key}` must be {kind}, not {found}"))
    }

    /// The error for a key that means nothing, with the one that may be meant.
    pub(super) fn unknown(&self, key: &Spanned<impl AsRef<str>>, known: &[&str]) -> Error {
        let word = key.get_ref().as_ref();
        let better = match nearest(word, known) {
            Some(near) => format!(", did you mean `{near}`?"),
            None => format!(": possible are {}", listed(known)),
        };
        self.fault(key.span(), format!("unknown key `{word}`{better}"))
    }
}

fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase().replace('_', "-");
    let distance = |key: &&str| strsim::damerau_levenshtein(&word, key);
    let near = known.iter().copied().min_by_key(distance)?;
    (distance(&near) <= near.len().div_ceil(3)).then_some(near)
}

fn listed(known: &[&str]) -> String {
    let quoted: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
    quoted.join(", ")
}
