//! A tree that is held in memory.

use std::collections::BTreeMap;
use std::io;

use crate::{Entry, EntryKind, LayerPath, Node, NodeKind, ReadAt, Tree};

/// An image's files in memory, for small images and for tests.
///
/// Directories that were never inserted exist if something is below them: 0755, root's.
#[derive(Clone, Debug, Default)]
pub struct MemoryTree {
    files: BTreeMap<LayerPath, File>,
}

#[derive(Clone, Debug)]
struct File {
    node: Node,
    content: Vec<u8>,
}

impl MemoryTree {
    /// A tree with nothing but its root.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a file in, in place of what was at its path. The size is that of `content`; a hard link
    /// takes the node and content of its target, and is left out if there is none.
    pub fn insert(&mut self, entry: Entry, content: Vec<u8>) {
        let Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            ..
        } = entry;
        let kind = match kind {
            EntryKind::File { .. } => NodeKind::File {
                size: content.len() as u64,
            },
            EntryKind::Directory => NodeKind::Directory,
            EntryKind::Symlink { target } => NodeKind::Symlink { target },
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } | EntryKind::Fifo => {
                NodeKind::Other
            }
            EntryKind::Hardlink { target } => {
                if let Some(file) = self.files.get(&target).cloned() {
                    self.files.insert(path, file);
                }
                return;
            }
        };
        self.files.insert(
            path,
            File {
                node: Node {
                    kind,
                    mode,
                    uid,
                    gid,
                },
                content,
            },
        );
    }

    fn below<'t>(&'t self, path: &'t LayerPath) -> impl Iterator<Item = &'t LayerPath> {
        self.files
            .range(path..)
            .map(|(file, _)| file)
            .take_while(|file| file.as_bytes().starts_with(path.as_bytes()))
            .filter(move |file| *file != path && file.starts_with(path))
    }
}

impl Tree for MemoryTree {
    fn node(&self, path: &LayerPath) -> io::Result<Option<Node>> {
        if let Some(file) = self.files.get(path) {
            return Ok(Some(file.node.clone()));
        }
        let implied = path.is_root() || self.below(path).next().is_some();
        Ok(implied.then_some(Node {
            kind: NodeKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
        }))
    }

    fn open(&self, path: &LayerPath) -> io::Result<Box<dyn ReadAt + '_>> {
        match self.files.get(path) {
            Some(File {
                node:
                    Node {
                        kind: NodeKind::File { .. },
                        ..
                    },
                content,
            }) => Ok(Box::new(content.as_slice())),
            Some(_) => Err(error(
                io::ErrorKind::InvalidInput,
                path,
                "is not a regular file",
            )),
            None => Err(error(io::ErrorKind::NotFound, path, "does not exist")),
        }
    }

    fn list(&self, path: &LayerPath) -> io::Result<Vec<Vec<u8>>> {
        match self.node(path)?.map(|node| node.kind) {
            Some(NodeKind::Directory) => {}
            Some(_) => return Err(error(io::ErrorKind::NotADirectory, path, "is no directory")),
            None => return Err(error(io::ErrorKind::NotFound, path, "does not exist")),
        }
        let depth = path.components().count();
        let mut names: Vec<_> = self
            .below(path)
            .filter_map(|file| file.components().nth(depth).map(<[u8]>::to_vec))
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }
}

fn error(kind: io::ErrorKind, path: &LayerPath, what: &str) -> io::Error {
    io::Error::new(kind, format!("`{path}` {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_exist_for_what_is_below() {
        let path = |text: &str| LayerPath::try_from(text).unwrap();
        let file = EntryKind::File { size: 0 };
        let mut tree = MemoryTree::new();
        for name in ["a/b/c", "a/b", "a-b", "a/b.d", "z"] {
            let kind = if name == "a/b" {
                EntryKind::Directory
            } else {
                file.clone()
            };
            tree.insert(
                Entry {
                    mode: 0o700,
                    ..Entry::new(path(name), kind)
                },
                vec![1],
            );
        }
        let mode = |name: &str| tree.node(&path(name)).unwrap().map(|node| node.mode);
        assert_eq!(mode("a"), Some(0o755));
        assert_eq!(mode("a/b"), Some(0o700));
        assert_eq!(mode("a/x"), None);
        let list = |name: &str| tree.list(&path(name)).map(|names| names.join(&b' '));
        assert_eq!(list("").unwrap(), b"a a-b z");
        assert_eq!(list("a").unwrap(), b"b b.d");
        assert_eq!(list("a/b").unwrap(), b"c");
        assert_eq!(list("z").unwrap_err().to_string(), "`/z` is no directory");
        assert_eq!(list("x").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(
            MemoryTree::new().list(&LayerPath::root()).unwrap(),
            Vec::<Vec<u8>>::new()
        );
        let size = tree.node(&path("z")).unwrap().map(|node| node.kind);
        assert_eq!(size, Some(NodeKind::File { size: 1 }));
    }
}
