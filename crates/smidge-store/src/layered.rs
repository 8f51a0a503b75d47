//! An image's files as one view over its unpacked layers.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::Stat;
use smidge_image::{LayerPath, Node, ReadAt, Tree};

use crate::DirTree;
use crate::tree::Overlaid;

/// Unpacked layers, seen as overlayfs would show them.
#[derive(Debug)]
pub struct LayeredTree {
    /// The top one first.
    layers: Vec<DirTree>,
    /// The layers of directories that were looked for: unpacked layers do not change.
    known: Mutex<HashMap<LayerPath, Vec<usize>>>,
}

impl LayeredTree {
    /// Takes directories for overlayfs' `lowerdir`, the top one first.
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub fn open(layers: &[PathBuf]) -> io::Result<Self> {
        let layers = layers.iter().map(|path| DirTree::open_layer(path));
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            known: Mutex::default(),
        })
    }

    pub(crate) fn layer(&self, number: usize) -> &DirTree {
        &self.layers[number]
    }

    /// The layers that a path is in, by their numbers from the top: one for a file, all that merge for
    /// a directory, none if there is nothing.
    pub(crate) fn stack(&self, path: &LayerPath) -> io::Result<Vec<usize>> {
        if let Some(known) = self.known().get(path) {
            return Ok(known.clone());
        }
        let above = match path.parent() {
            Some(parent) => {
                let above = self.stack(&parent)?;
                // Nothing is below a file; and a link is not to be followed.
                if !self.known().contains_key(&parent) {
                    return Ok(Vec::new());
                }
                above
            }
            None => (0..self.layers.len()).collect(),
        };
        let mut merged = Vec::new();
        for (position, &number) in above.iter().enumerate() {
            let layer = &self.layers[number];
            match layer.overlaid_in_directory(path)? {
                None => continue,
                Some(Overlaid::Directory) => merged.push(number),
                Some(Overlaid::Other) if merged.is_empty() => return Ok(vec![number]),
                Some(Overlaid::Other | Overlaid::Whiteout) => break,
            }
            if position + 1 < above.len() && layer.is_opaque(path)? {
                break;
            }
        }
        if !merged.is_empty() {
            self.known().insert(path.clone(), merged.clone());
        }
        Ok(merged)
    }

    /// What is at a path, and the layer that has it; `None` if nothing is.
    pub(crate) fn find(&self, path: &LayerPath) -> io::Result<Option<(&DirTree, Stat)>> {
        let Some(layer) = self.top(path)? else {
            return Ok(None);
        };
        Ok(layer.stat(path)?.map(|stat| (layer, stat)))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<LayerPath, Vec<usize>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn top(&self, path: &LayerPath) -> io::Result<Option<&DirTree>> {
        Ok(self
            .stack(path)?
            .first()
            .map(|number| &self.layers[*number]))
    }
}

impl Tree for LayeredTree {
    fn node(&self, path: &LayerPath) -> io::Result<Option<Node>> {
        match self.top(path)? {
            Some(layer) => layer.node(path),
            None if path.is_root() => Ok(Some(empty_root())),
            None => Ok(None),
        }
    }

    fn open(&self, path: &LayerPath) -> io::Result<Box<dyn ReadAt + '_>> {
        let layer = self.top(path)?.ok_or(io::ErrorKind::NotFound)?;
        Tree::open(layer, path)
    }

    fn attributes(&self, path: &LayerPath) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        match self.top(path)? {
            Some(layer) => layer.attributes(path),
            None if path.is_root() => Ok(BTreeMap::new()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn links(&self, path: &LayerPath) -> io::Result<Option<(u64, u64)>> {
        match self.top(path)? {
            Some(layer) => layer.links(path),
            None => Ok(None),
        }
    }

    fn list(&self, path: &LayerPath) -> io::Result<Vec<Vec<u8>>> {
        let stack = self.stack(path)?;
        if stack.is_empty() && !path.is_root() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut names: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for number in stack {
            let layer = &self.layers[number];
            for name in layer.list(path)? {
                if names.contains_key(&name) {
                    continue;
                }
                let child = path.join(&name).map_err(io::Error::other)?;
                let shown = layer.overlaid_in_directory(&child)? != Some(Overlaid::Whiteout);
                names.insert(name, shown);
            }
        }
        Ok(names
            .into_iter()
            .filter_map(|(name, shown)| shown.then_some(name))
            .collect())
    }
}

/// The root directory of an image without layers.
fn empty_root() -> Node {
    Node {
        kind: smidge_image::NodeKind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
    }
}
