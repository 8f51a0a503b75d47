//! Names of files inside an image.

use std::borrow::Cow;
use std::fmt;

/// A path inside an image, normalised: relative, without empty, `.` or `..` components, without
/// NUL. The root is the empty path. Any other byte may occur: names need not be UTF-8.
///
/// The order is that of the bytes, so a directory always comes before what it holds.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerPath(Vec<u8>);

/// Why bytes do not name a file inside an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A `..` component could lead out of the image.
    #[error("path `{0}` contains `..`")]
    Parent(String),
    /// No file system can hold a NUL in a name.
    #[error("path `{}` contains a NUL byte", .0.escape_default())]
    Nul(String),
}

impl LayerPath {
    /// The root directory of an image.
    pub fn root() -> Self {
        Self::default()
    }

    /// Normalises a path: leading, doubled and trailing slashes and `.` components are dropped.
    ///
    /// # Errors
    /// When there is a `..` component or a NUL byte.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        Self::root().join(bytes)
    }

    /// The path of `name`, itself a path of any length, below this one. See [`LayerPath::parse`].
    ///
    /// # Errors
    /// When there is a `..` component or a NUL byte in `name`.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        if name.contains(&0) {
            return Err(PathError::Nul(String::from_utf8_lossy(name).into_owned()));
        }
        let mut path = self.clone();
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    return Err(PathError::Parent(
                        String::from_utf8_lossy(name).into_owned(),
                    ));
                }
                component => path.push(component),
            }
        }
        Ok(path)
    }

    fn push(&mut self, component: &[u8]) {
        if !self.is_root() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(component);
    }

    /// The bytes: `usr/bin/env`; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as a relative one of this system; empty for the root.
    #[cfg(unix)]
    pub fn as_path(&self) -> &std::path::Path {
        use std::os::unix::ffi::OsStrExt as _;
        std::path::Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }

    /// The path as text without a leading `/`; bytes that are not UTF-8 are replaced.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// The directory that holds this file; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.split()?;
        Some(Self(parent.to_vec()))
    }

    /// The last component; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.split().map(|(_, name)| name)
    }

    fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0),
        })
    }

    /// The components, from the root down; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|component| !component.is_empty())
    }

    /// Every directory above this file, the root first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        let slashes = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let root = (!self.is_root()).then(Self::root);
        root.into_iter()
            .chain(slashes.map(|(at, _)| Self(self.0[..at].to_vec())))
    }

    /// Whether this is `base` or lies below it.
    pub fn starts_with(&self, base: &Self) -> bool {
        base.is_root()
            || self
                .0
                .strip_prefix(base.0.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// Whether this is the root directory.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<&str> for LayerPath {
    type Error = PathError;

    fn try_from(text: &str) -> Result<Self, PathError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.to_string_lossy())
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> LayerPath {
        LayerPath::try_from(text).unwrap()
    }

    #[test]
    fn paths_are_normalised() {
        for (given, expected) in [
            ("", ""),
            ("/", ""),
            ("./", ""),
            ("a", "a"),
            ("/a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("//a/././b", "a/b"),
            ("..a/b..", "..a/b.."),
            ("a b/é", "a b/é"),
        ] {
            assert_eq!(path(given).as_bytes(), expected.as_bytes(), "{given}");
            assert_eq!(path(given).to_string(), format!("/{expected}"));
        }
        assert_eq!(
            LayerPath::parse(b"\xff/\x01").unwrap().as_bytes(),
            b"\xff/\x01"
        );
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for bad in ["..", "../a", "a/..", "a/../b", "/../a"] {
            assert_eq!(
                LayerPath::try_from(bad),
                Err(PathError::Parent(bad.to_owned()))
            );
            assert!(path("a").join(bad.as_bytes()).is_err());
        }
        assert!(matches!(LayerPath::parse(b"a\0b"), Err(PathError::Nul(_))));
    }

    #[test]
    fn parts_of_a_path_are_its_components() {
        let deep = path("a/b/c");
        assert_eq!(deep.parent(), Some(path("a/b")));
        assert_eq!(path("a").parent(), Some(LayerPath::root()));
        assert_eq!(LayerPath::root().parent(), None);
        assert_eq!(deep.file_name(), Some(&b"c"[..]));
        assert_eq!(LayerPath::root().file_name(), None);
        assert_eq!(deep.components().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!(LayerPath::root().components().count(), 0);
        assert_eq!(
            deep.ancestors().collect::<Vec<_>>(),
            [path(""), path("a"), path("a/b")]
        );
        assert_eq!(LayerPath::root().ancestors().count(), 0);
        assert!(deep.starts_with(&path("a/b")) && deep.starts_with(&deep));
        assert!(deep.starts_with(&LayerPath::root()));
        assert!(!path("ab").starts_with(&path("a")));
        assert_eq!(path("a").join(b"b/./c").unwrap(), deep);
    }
}
