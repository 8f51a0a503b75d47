//! An image's files as one view.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use crate::LayerPath;

/// Bytes that can be read from anywhere.
pub trait ReadAt {
    /// The number of bytes there are.
    fn size(&self) -> u64;

    /// Reads into `buffer` what starts at `offset`; 0 bytes at the end and beyond.
    ///
    /// # Errors
    /// When the bytes cannot be had.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// What tells these bytes from all others without reading them: `None` where nothing does.
    fn identity(&self) -> Option<Identity> {
        None
    }

    /// Fills `buffer` with what starts at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when there are not as many bytes, and as [`ReadAt::read_at`].
    fn read_exact_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(offset, buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What a file system knows of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Other bytes for other content: device, inode, size and times.
    pub text: Vec<u8>,
    /// When the file last changed, after 1970; `None` if it never does.
    pub changed: Option<Duration>,
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .unwrap_or(&[]);
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.as_slice().size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.as_slice().read_at(offset, buffer)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn identity(&self) -> Option<Identity> {
        (**self).identity()
    }

    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buffer)
    }
}

/// What a file of an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Permission, set-id and sticky bits: `mode & 0o7777`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// The kinds of file that matter to who looks for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File {
        /// Bytes of content.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it points to, as it stands.
        target: Vec<u8>,
    },
    /// A device, pipe or socket.
    Other,
}

/// A file that was found by following symbolic links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its own path: no component is a symbolic link.
    pub path: LayerPath,
    /// What it is; never a symbolic link.
    pub node: Node,
    /// The symbolic links that led to it, in the order in which they were followed.
    pub links: Vec<LayerPath>,
}

/// As many symbolic links as Linux follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The files of an image, whatever holds them.
///
/// `node`, `open` and `list` do not follow symbolic links: a path that leads through one names
/// nothing. `find` and `resolve` do, and never leave the tree.
pub trait Tree: Send + Sync {
    /// What is at a path; `None` if nothing is.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn node(&self, path: &LayerPath) -> io::Result<Option<Node>>;

    /// Opens a regular file.
    ///
    /// # Errors
    /// When there is none at `path`, and when it cannot be read.
    fn open(&self, path: &LayerPath) -> io::Result<Box<dyn ReadAt + '_>>;

    /// The extended attributes of a regular file or directory, as a layer would state them; none where
    /// the tree does not know.
    ///
    /// # Errors
    /// When there is neither at `path`, and when it cannot be read.
    fn attributes(&self, path: &LayerPath) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        self.node(path)?
            .map(|_| BTreeMap::new())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// What a regular file shares with its other names (hard links) and with no other file; `None` where
    /// it has no other name, or the tree does not know.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn links(&self, _path: &LayerPath) -> io::Result<Option<(u64, u64)>> {
        Ok(None)
    }

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// When there is none at `path`, and when it cannot be read.
    fn list(&self, path: &LayerPath) -> io::Result<Vec<Vec<u8>>>;

    /// Follows a path as the kernel would in a container of this tree: absolute targets start at its
    /// root, and so do relative paths; `..` stops there. `None` if it leads nowhere.
    ///
    /// # Errors
    /// When the tree cannot be read, and after more than 40 symbolic links.
    fn find(&self, path: &[u8]) -> io::Result<Option<Found>> {
        let mut pending = components(path);
        let mut links = Vec::new();
        let mut here = LayerPath::root();
        while let Some(component) = pending.pop_front() {
            if component == b".." {
                here = here.parent().unwrap_or_default();
                continue;
            }
            let Ok(next) = here.join(&component) else {
                return Ok(None);
            };
            match self.node(&next)?.map(|node| node.kind) {
                None => return Ok(None),
                Some(NodeKind::Symlink { target }) => {
                    links.push(next);
                    if links.len() > MAX_LINKS {
                        return Err(too_many_links(path));
                    }
                    if target.starts_with(b"/") {
                        here = LayerPath::root();
                    }
                    let mut rest = components(&target);
                    rest.append(&mut pending);
                    pending = rest;
                }
                Some(NodeKind::Directory) => here = next,
                Some(_) if pending.is_empty() => here = next,
                Some(_) => return Ok(None),
            }
        }
        Ok(self.node(&here)?.map(|node| Found {
            path: here,
            node,
            links,
        }))
    }

    /// As [`Tree::find`], without the links.
    ///
    /// # Errors
    /// As [`Tree::find`].
    fn resolve(&self, path: &[u8]) -> io::Result<Option<(LayerPath, Node)>> {
        Ok(self.find(path)?.map(|found| (found.path, found.node)))
    }

    /// The whole content of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Tree::open`], and `FileTooLarge` for a larger one.
    fn read(&self, path: &LayerPath, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let size = file.size();
        if size > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("`{path}` has {size} bytes, more than the {limit} that are accepted"),
            ));
        }
        let length = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut content = vec![0; length];
        file.read_exact_at(0, &mut content)?;
        Ok(content)
    }
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    let named = |component: &&[u8]| !matches!(*component, b"" | b".");
    path.split(|byte| *byte == b'/')
        .filter(named)
        .map(<[u8]>::to_vec)
        .collect()
}

fn too_many_links(path: &[u8]) -> io::Error {
    let path = String::from_utf8_lossy(path);
    io::Error::other(format!(
        "`{path}` leads through more than {MAX_LINKS} symbolic links"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, EntryKind, MemoryTree};

    fn tree(files: &[(&str, &str)]) -> MemoryTree {
        let mut tree = MemoryTree::new();
        for (name, content) in files {
            let kind = match content.strip_prefix("-> ") {
                Some(target) => EntryKind::Symlink {
                    target: target.into(),
                },
                None => EntryKind::File {
                    size: content.len() as u64,
                },
            };
            tree.insert(
                Entry::new(LayerPath::try_from(*name).unwrap(), kind),
                (*content).into(),
            );
        }
        tree
    }

    #[test]
    fn links_are_followed_inside_the_tree() {
        let tree = tree(&[
            ("usr/lib/libc.so.6", "ELF"),
            ("usr/lib/libc.so", "-> libc.so.6"),
            ("lib", "-> usr/lib"),
            ("lib64", "-> /lib"),
            ("up", "-> ../../../usr"),
            ("usr/up", "-> .."),
            ("dangling", "-> /nowhere"),
            ("slash", "-> /"),
        ]);
        for (given, expected, links) in [
            ("/usr/lib/libc.so.6", "usr/lib/libc.so.6", &[][..]),
            (
                "usr//lib/./libc.so",
                "usr/lib/libc.so.6",
                &["usr/lib/libc.so"],
            ),
            (
                "/lib64/libc.so",
                "usr/lib/libc.so.6",
                &["lib64", "lib", "usr/lib/libc.so"],
            ),
            ("/../../lib/../lib/libc.so.6", "usr/lib/libc.so.6", &["lib"]),
            ("/up/lib", "usr/lib", &["up"]),
            ("/usr/up/usr", "usr", &["usr/up"]),
            ("/slash/usr", "usr", &["slash"]),
            ("/", "", &[]),
            ("", "", &[]),
        ] {
            let found = tree.find(given.as_bytes()).unwrap().expect(given);
            assert_eq!(found.path.as_bytes(), expected.as_bytes(), "{given}");
            let followed: Vec<_> = found.links.iter().map(LayerPath::to_string_lossy).collect();
            assert_eq!(followed, links, "{given}");
        }
        for nowhere in [
            "/nowhere",
            "/dangling",
            "/usr/lib/libc.so.6/x",
            "/lib/\0",
            "/nowhere/..",
        ] {
            assert_eq!(tree.resolve(nowhere.as_bytes()).unwrap(), None, "{nowhere}");
        }
    }

    #[test]
    fn circles_and_long_chains_of_links_end() {
        let chain: Vec<_> = (0..41)
            .map(|n| (n.to_string(), format!("-> {}", n + 1)))
            .collect();
        let mut files: Vec<_> = chain
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        files.extend([("41", "end"), ("a", "-> b"), ("b", "-> a/x")]);
        let tree = tree(&files);
        assert_eq!(tree.find(b"1").unwrap().unwrap().links.len(), 40);
        for endless in ["0", "a"] {
            let error = tree.find(endless.as_bytes()).unwrap_err();
            let expected = format!("`{endless}` leads through more than 40 symbolic links");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn contents_are_read_up_to_a_limit() {
        let tree = tree(&[("a", "12345"), ("l", "-> a")]);
        let path = |text: &str| LayerPath::try_from(text).unwrap();
        assert_eq!(tree.read(&path("a"), 5).unwrap(), b"12345");
        assert_eq!(
            tree.read(&path("a"), 4).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        assert_eq!(
            tree.read(&path("b"), 4).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert!(tree.read(&path("l"), 4).is_err());
    }

    #[test]
    fn bytes_are_read_from_anywhere() {
        let bytes = b"12345".to_vec();
        let mut buffer = [0; 3];
        for (offset, expected) in [(0, 3), (3, 2), (5, 0), (6, 0), (u64::MAX, 0)] {
            assert_eq!(bytes.read_at(offset, &mut buffer).unwrap(), expected);
        }
        bytes.read_exact_at(2, &mut buffer).unwrap();
        assert_eq!(&buffer, b"345");
        let error = bytes.read_exact_at(3, &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
