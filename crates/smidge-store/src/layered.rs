//! An image's files as one view over its unpacked layers.

use std::io;

use smidge_image::{LayerPath, Node, ReadAt, Tree};

use crate::DirTree;

/// Unpacked layers, seen as overlayfs would show them.
#[derive(Debug)]
pub struct LayeredTree {
    #[expect(dead_code, reason = "about to be used")]
    layers: Vec<DirTree>,
}

impl Tree for LayeredTree {
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
