//! A directory of this machine as a tree.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

use smidge_image::{LayerPath, Node, NodeKind, ReadAt, Tree};

pub(crate) struct DirTree(pub(crate) PathBuf);

struct Opened(File, u64);

impl ReadAt for Opened {
    fn size(&self) -> u64 {
        self.1
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
}

impl Tree for DirTree {
    fn node(&self, path: &LayerPath) -> io::Result<Option<Node>> {
        let at = self.0.join(path.as_path());
        let metadata = match fs::symlink_metadata(&at) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let kind = if metadata.is_file() {
            NodeKind::File {
                size: metadata.len(),
            }
        } else if metadata.is_dir() {
            NodeKind::Directory
        } else if metadata.is_symlink() {
            NodeKind::Symlink {
                target: fs::read_link(&at)?.into_os_string().into_vec(),
            }
        } else {
            NodeKind::Other
        };
        let (mode, uid, gid) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
        Ok(Some(Node {
            kind,
            mode,
            uid,
            gid,
        }))
    }

    fn open(&self, path: &LayerPath) -> io::Result<Box<dyn ReadAt + '_>> {
        let file = File::open(self.0.join(path.as_path()))?;
        let size = file.metadata()?.len();
        Ok(Box::new(Opened(file, size)))
    }

    fn list(&self, path: &LayerPath) -> io::Result<Vec<Vec<u8>>> {
        let entries = fs::read_dir(self.0.join(path.as_path()))?;
        let mut names = entries
            .map(|entry| Ok(entry?.file_name().into_vec()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}
