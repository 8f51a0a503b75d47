//! Some of an image's files.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use smidge_image::{LayerPath, Node, ReadAt, Tree};

use crate::build::layer::RootFs;

/// The files of an image that stay.
pub(super) struct View<'v> {
    pub(super) rootfs: &'v RootFs,
    pub(super) wanted: &'v BTreeSet<LayerPath>,
}

impl View<'_> {
    fn shows(&self, path: &LayerPath) -> bool {
        path.is_root() || self.wanted.contains(path)
    }
}

impl Tree for View<'_> {
    fn node(&self, path: &LayerPath) -> io::Result<Option<Node>> {
        match self.shows(path) {
            true => self.rootfs.node(path),
            false => Ok(None),
        }
    }

    fn open(&self, path: &LayerPath) -> io::Result<Box<dyn ReadAt + '_>> {
        match self.shows(path) {
            true => self.rootfs.open(path),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn attributes(&self, path: &LayerPath) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        self.rootfs.attributes(path)
    }

    fn list(&self, path: &LayerPath) -> io::Result<Vec<Vec<u8>>> {
        let mut names = self.rootfs.list(path)?;
        names.retain(|name| path.join(name).is_ok_and(|path| self.shows(&path)));
        Ok(names)
    }
}
