//! Whiteouts: how a layer says that something below it is gone (image-spec, layer.md).

use crate::LayerPath;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry of a layer removes from the layers below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whiteout {
    /// This file or directory is gone: the entry is called `.wh.<name>`.
    Removed(LayerPath),
    /// Everything that lower layers put in this directory is gone: the entry is called
    /// `.wh..wh..opq`.
    Opaque(LayerPath),
}

impl Whiteout {
    /// What an entry of this name removes; `None` for an ordinary file.
    pub fn of(path: &LayerPath) -> Option<Self> {
        let name = path.file_name()?;
        let parent = path.parent()?;
        if name == OPAQUE {
            return Some(Self::Opaque(parent));
        }
        let removed = parent.join(name.strip_prefix(PREFIX)?).ok()?;
        (removed != parent).then_some(Self::Removed(removed))
    }

    /// The name of the entry that says this. `None` when the root itself is to be removed.
    pub fn path(&self) -> Option<LayerPath> {
        match self {
            Self::Opaque(directory) => directory.join(OPAQUE).ok(),
            Self::Removed(removed) => {
                let name = [PREFIX, removed.file_name()?].concat();
                removed.parent()?.join(&name).ok()
            }
        }
    }

    /// Whether a name has the whiteout prefix but removes nothing that could exist: `.wh.`,
    /// `.wh..`, `.wh...`. Applied naively, these remove the directory they are in, or the one above.
    pub(crate) fn is_malformed(path: &LayerPath) -> bool {
        path.file_name()
            .is_some_and(|name| matches!(name, b".wh." | b".wh.." | b".wh..."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteouts_are_told_from_files() {
        let path = |text: &str| LayerPath::try_from(text).unwrap();
        for (entry, expected) in [
            ("a/.wh.b", Some(Whiteout::Removed(path("a/b")))),
            (".wh.b", Some(Whiteout::Removed(path("b")))),
            ("a/.wh..wh..opq", Some(Whiteout::Opaque(path("a")))),
            (".wh..wh..opq", Some(Whiteout::Opaque(path("")))),
            (".wh..b", Some(Whiteout::Removed(path(".b")))),
            ("a/.whb", None),
            ("a.wh.b", None),
            (".wh.dir/b", None),
            ("", None),
        ] {
            let whiteout = Whiteout::of(&path(entry));
            assert_eq!(whiteout, expected, "{entry}");
            assert_eq!(
                whiteout.and_then(|w| w.path()),
                expected.map(|_| path(entry))
            );
        }
    }

    #[test]
    fn whiteouts_of_dot_names_are_malformed() {
        for bad in [".wh.", "a/.wh..", "a/.wh..."] {
            let path = LayerPath::try_from(bad).unwrap();
            assert_eq!(Whiteout::of(&path), None);
            assert!(Whiteout::is_malformed(&path));
        }
    }
}
