//! Directories of the machine as trees.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use smidge_image::{LayerPath, Node, ReadAt, Tree};

/// A directory and all below it, as if it were `/`: no symbolic link leads out of it.
#[derive(Debug)]
pub struct DirTree {
    #[expect(dead_code, reason = "about to be used")]
    root: OwnedFd,
}

/// An open file of the machine.
#[derive(Debug)]
pub struct FileAt {
    file: File,
    size: u64,
}

impl FileAt {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(File::open(path)?)
    }

    /// Takes a file that is open.
    ///
    /// # Errors
    /// When its size cannot be told.
    pub fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

impl ReadAt for FileAt {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

impl DirTree {
    /// Takes a directory as a tree.
    ///
    /// # Errors
    /// When it is none, or cannot be read.
    pub fn open(_root: &Path) -> io::Result<Self> {
        unimplemented!()
    }
}

impl Tree for DirTree {
    fn node(&self, _path: &LayerPath) -> io::Result<Option<Node>> {
        unimplemented!()
    }

    fn open(&self, _path: &LayerPath) -> io::Result<Box<dyn ReadAt + '_>> {
        unimplemented!()
    }

    fn list(&self, _path: &LayerPath) -> io::Result<Vec<Vec<u8>>> {
        unimplemented!()
    }
}
