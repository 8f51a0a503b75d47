//! What is below an upper directory, looked up without regard to what is not asked for.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use rustix::fs::Stat;
use smidge_image::LayerPath;

use crate::DirTree;
use crate::tree::Overlaid;

/// Unpacked layers, asked for one path after the other.
pub(crate) struct Below {
    /// The top one first.
    layers: Vec<DirTree>,
}

/// Directories of the upper layer, and the layers in which they are as well, by their numbers.
#[derive(Default)]
pub(crate) struct Merged(HashMap<LayerPath, Vec<usize>>);

impl Below {
    pub(crate) fn open(layers: &[PathBuf]) -> io::Result<Self> {
        let layers = layers.iter().map(|path| DirTree::open_layer(path));
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn layer(&self, number: usize) -> &DirTree {
        &self.layers[number]
    }

    /// The roots of all layers merge.
    pub(crate) fn merged(&self) -> Merged {
        let all = (0..self.layers.len()).collect();
        Merged(HashMap::from([(LayerPath::root(), all)]))
    }

    /// The layer that a path is in, whose parent directory is known to `merged`.
    pub(crate) fn find(
        &self,
        path: &LayerPath,
        merged: &Merged,
    ) -> io::Result<Option<(usize, Stat)>> {
        let numbers = path.parent().and_then(|parent| merged.0.get(&parent));
        for &number in numbers.into_iter().flatten() {
            if let Some(stat) = self.layers[number].stat(path)? {
                let hidden = Overlaid::of(&stat) == Overlaid::Whiteout;
                return Ok((!hidden).then_some((number, stat)));
            }
        }
        Ok(None)
    }

    /// Makes a directory known to `merged`, whose parent is. One that is `opaque` merges with nothing.
    /// Tells whether there is one below.
    pub(crate) fn enter(
        &self,
        path: &LayerPath,
        opaque: bool,
        merged: &mut Merged,
    ) -> io::Result<bool> {
        let mut numbers = Vec::new();
        let above = path.parent().and_then(|parent| merged.0.get(&parent));
        for &number in above.into_iter().flatten() {
            match self.layers[number].overlaid(path)? {
                None => continue,
                Some(Overlaid::Directory) => numbers.push(number),
                Some(Overlaid::Whiteout | Overlaid::Other) => break,
            }
            if self.layers[number].is_opaque(path)? {
                break;
            }
        }
        let found = !numbers.is_empty();
        if found && !opaque {
            merged.0.insert(path.clone(), numbers);
        }
        Ok(found)
    }
}
