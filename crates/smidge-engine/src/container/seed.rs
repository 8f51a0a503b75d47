//! What a new volume starts with: the files that the image has in its place, as in Docker.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::Path;

use smidge_image::{LayerPath, Node, NodeKind, Tree};

use crate::{Error, Result};

/// Copies a directory of an image into an empty volume. A volume that holds something, or a place
/// where the image has no directory, is left alone. `owners` says whether files get their owners, which
/// takes root, if only that of a user namespace.
pub(crate) fn seed(tree: &dyn Tree, place: &str, volume: &Path, owners: bool) -> Result<()> {
    let copied = || {
        if fs::read_dir(volume)?.next().is_some() {
            return Ok(());
        }
        match tree.resolve(place.as_bytes())? {
            Some((from, node)) if node.kind == NodeKind::Directory => {
                Seeding { tree, owners }.directory(&from, &node, volume)
            }
            _ => Ok(()),
        }
    };
    copied().map_err(|source: io::Error| {
        Error::io(
            format!("cannot fill the volume for `{place}` with the image's files"),
            source,
        )
    })
}

struct Seeding<'t> {
    tree: &'t dyn Tree,
    owners: bool,
}

impl Seeding<'_> {
    /// Fills a directory that exists, then gives it its owner and mode.
    fn directory(&self, from: &LayerPath, node: &Node, to: &Path) -> io::Result<()> {
        for name in self.tree.list(from)? {
            let path = from.join(&name).map_err(io::Error::other)?;
            let Some(node) = self.tree.node(&path)? else {
                continue;
            };
            self.entry(&path, &node, &to.join(OsStr::from_bytes(&name)))?;
        }
        self.finish(node, to)
    }

    fn entry(&self, from: &LayerPath, node: &Node, to: &Path) -> io::Result<()> {
        match &node.kind {
            NodeKind::Directory => {
                fs::create_dir(to)?;
                self.directory(from, node, to)
            }
            NodeKind::File { .. } => {
                self.content(from, &mut File::create_new(to)?)?;
                self.finish(node, to)
            }
            NodeKind::Symlink { target } => {
                symlink(OsStr::from_bytes(target), to)?;
                self.give(node, to)
            }
            // Devices and pipes are no data.
            NodeKind::Other => Ok(()),
        }
    }

    fn content(&self, from: &LayerPath, to: &mut File) -> io::Result<()> {
        let file = self.tree.open(from)?;
        let mut buffer = vec![0; 1 << 16];
        let mut offset = 0;
        loop {
            let read = file.read_at(offset, &mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..read])?;
            offset += read as u64;
        }
    }

    fn give(&self, node: &Node, path: &Path) -> io::Result<()> {
        match self.owners {
            true => match lchown(path, Some(node.uid), Some(node.gid)) {
                // Nobody of that id exists in this user namespace.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                given => given,
            },
            false => Ok(()),
        }
    }

    fn finish(&self, node: &Node, path: &Path) -> io::Result<()> {
        self.give(node, path)?;
        // After the owner: changing that takes the set-id bits away.
        fs::set_permissions(path, Permissions::from_mode(node.mode & 0o7777))
    }
}

#[cfg(test)]
mod tests {
    use smidge_image::{Entry, EntryKind, MemoryTree};

    use super::*;

    fn tree() -> MemoryTree {
        let mut tree = MemoryTree::new();
        let mut add = |path: &str, kind: EntryKind, mode: u32, content: &[u8]| {
            let mut entry = Entry::new(LayerPath::parse(path.as_bytes()).unwrap(), kind);
            entry.mode = mode;
            tree.insert(entry, content.to_vec());
        };
        add("data", EntryKind::Directory, 0o750, b"");
        add("data/sub", EntryKind::Directory, 0o700, b"");
        add(
            "data/sub/file",
            EntryKind::File { size: 5 },
            0o640,
            b"hello",
        );
        add(
            "data/link",
            EntryKind::Symlink {
                target: b"../../etc/passwd".to_vec(),
            },
            0o777,
            b"",
        );
        add("data/pipe", EntryKind::Fifo, 0o600, b"");
        add("other", EntryKind::File { size: 0 }, 0o600, b"");
        tree
    }

    #[test]
    fn an_empty_volume_gets_the_images_files() {
        let volume = tempfile::tempdir().unwrap();
        seed(&tree(), "/data", volume.path(), false).unwrap();
        let file = volume.path().join("sub/file");
        assert_eq!(fs::read(&file).unwrap(), b"hello");
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o7777,
            0o640
        );
        assert_eq!(
            volume.path().metadata().unwrap().permissions().mode() & 0o7777,
            0o750
        );
        let link = volume.path().join("link");
        assert_eq!(fs::read_link(link).unwrap(), Path::new("../../etc/passwd"));
        assert!(!volume.path().join("pipe").exists());

        fs::write(&file, "mine").unwrap();
        seed(&tree(), "/data", volume.path(), false).unwrap();
        assert_eq!(
            fs::read(&file).unwrap(),
            b"mine",
            "a volume in use is left alone"
        );
    }

    #[test]
    fn places_without_a_directory_leave_the_volume_empty() {
        let volume = tempfile::tempdir().unwrap();
        for place in ["/none", "/other"] {
            seed(&tree(), place, volume.path(), false).unwrap();
            assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 0, "{place}");
        }
    }
}
