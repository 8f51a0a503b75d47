//! `.dockerignore`: which files of a context are left out.

/// The patterns of a `.dockerignore` file.
#[derive(Clone, Debug, Default)]
pub struct Patterns {}

impl Patterns {
    /// Reads the patterns of a `.dockerignore` file.
    ///
    /// # Errors
    /// A pattern whose brackets or escapes are not closed.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let _ = text;
        unimplemented!()
    }

    /// Makes patterns from a list, as `--exclude` gives it.
    ///
    /// # Errors
    /// A pattern whose brackets or escapes are not closed.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, PatternError> {
        let _ = patterns.iter().map(AsRef::as_ref).collect::<String>();
        unimplemented!()
    }

    /// Tells whether a path of the context, `/`-separated and relative to its root, is left out.
    pub fn ignored(&self, path: &str) -> bool {
        let _ = path;
        unimplemented!()
    }

    /// Tells whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }

    /// Tells whether something below an ignored directory may still be wanted, so that it must be
    /// looked into.
    pub fn may_include_below(&self, directory: &str) -> bool {
        let _ = directory;
        unimplemented!()
    }
}

/// A pattern that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("illegal exclusion pattern `{pattern}` on line {line}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// Its line, from 1.
    pub line: usize,
}
