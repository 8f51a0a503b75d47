//! Which files of a source are copied: all but what is ignored and excluded, or what `--parents` names.

use smidge_dockerfile::ignore::{PatternError, Patterns};
use smidge_image::LayerPath;

use super::chmod::Chmod;
use super::context::components;
use crate::{Error, Kind, Result};

/// The flags of `COPY` and `ADD` that change which files are copied, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags {
    /// `--exclude`: relative to each source.
    pub(super) excluded: Patterns,
    /// `--parents`.
    pub(super) parents: bool,
    /// `--chmod`.
    pub(super) chmod: Option<Chmod>,
    /// `--link`: what is there before is not looked at.
    pub(super) link: bool,
}

impl Flags {
    /// Leaves out what matches patterns of `--exclude`, which are those of `.dockerignore`.
    ///
    /// # Errors
    /// When one is no pattern.
    pub(super) fn excluding(mut self, patterns: &[String]) -> Result<Self> {
        self.excluded = Patterns::new(patterns).map_err(|PatternError { pattern, .. }| {
            let message = format!("cannot exclude `{pattern}`: it is not a pattern");
            Error::new(Kind::Input, message)
        })?;
        Ok(self)
    }

    /// Changes modes as `--chmod` says.
    ///
    /// # Errors
    /// When it is no mode.
    pub(super) fn chmod(mut self, mode: Option<&str>) -> Result<Self> {
        let parsed = mode.map(Chmod::parse).transpose();
        self.chmod = parsed.map_err(|error| {
            Error::new(Kind::Input, error.to_string())
                .with_hint("modes are octal, up to 7777, or symbolic such as `u+x,go-w`")
        })?;
        Ok(self)
    }
}

/// What becomes of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// It is copied.
    Taken,
    /// Something in this directory may be copied, and takes it along.
    Searched,
    /// It stays away, with all that is in it.
    Left,
}

/// What patterns that leave out have to say about a path.
pub(super) fn fate(patterns: &Patterns, path: &LayerPath, directory: bool) -> Fate {
    if patterns.is_empty() {
        return Fate::Taken;
    }
    let path = path.to_string_lossy();
    if !patterns.ignored(&path) {
        Fate::Taken
    } else if directory && patterns.may_include_below(&path) {
        Fate::Searched
    } else {
        Fate::Left
    }
}

/// A source of `COPY --parents`.
pub(super) struct Parents<'s> {
    /// What comes before `/./`, and is not made in the image: the root if there is none.
    pub(super) pivot: &'s str,
    /// What comes after it, normalised; empty for everything.
    pub(super) pattern: String,
}

impl<'s> Parents<'s> {
    /// Takes a source apart. Only the first `/./` counts, as in BuildKit.
    pub(super) fn new(source: &'s str) -> Self {
        let (pivot, pattern) = source.split_once("/./").unwrap_or(("/", source));
        Self {
            pivot: if pivot.is_empty() { "/" } else { pivot },
            pattern: components(pattern).join("/"),
        }
    }

    /// The patterns that leave out all other files; here `**` stands for any number of directories.
    ///
    /// # Errors
    /// When it is no pattern.
    pub(super) fn others(&self) -> Result<Patterns> {
        if self.pattern.is_empty() {
            return Ok(Patterns::default());
        }
        let patterns = ["**".to_owned(), format!("!{}", self.pattern)];
        Patterns::new(&patterns).map_err(|_| {
            let message = format!(
                "`{}` is not a pattern: a bracket or backslash is left open",
                self.pattern
            );
            Error::new(Kind::Input, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_split_at_the_pivot() {
        for (source, pivot, pattern) in [
            ("a/b", "/", "a/b"),
            ("./a/./b", "./a", "b"),
            ("/x/a/./b/./c", "/x/a", "b/c"),
            ("x/.", "/", "x"),
            (".", "/", ""),
            ("/./a", "/", "a"),
            ("a*/./**/e", "a*", "**/e"),
            ("../a", "/", "a"),
        ] {
            let parents = Parents::new(source);
            assert_eq!(
                (parents.pivot, parents.pattern.as_str()),
                (pivot, pattern),
                "{source}"
            );
        }
    }

    #[test]
    fn patterns_pick_files_and_the_directories_above_them() {
        let others = Parents::new("a/**/e").others().unwrap();
        let path = |text: &str| LayerPath::try_from(text).unwrap();
        let fate = |text, directory| fate(&others, &path(text), directory);
        assert_eq!(fate("a", true), Fate::Searched);
        assert_eq!(fate("a/x", true), Fate::Searched);
        assert_eq!(fate("a/x/e", true), Fate::Taken);
        assert_eq!(fate("a/x/e/below", false), Fate::Taken);
        assert_eq!(fate("a/x/f", false), Fate::Left);
        assert_eq!(fate("b", true), Fate::Left);
        assert!(Parents::new("[").others().is_err());
    }
}
