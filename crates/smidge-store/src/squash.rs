//! Several layers become one.

use std::collections::BTreeSet;
use std::io;

use smidge_image::{Descriptor, DiffId, LayerPath, LayerWriter, NodeKind, Tree as _, Whiteout};

use crate::error::READ;
use crate::flat::{Flat, Shown, open};
use crate::found::marker;
use crate::{BlobWriter, Error, LayeredTree, Snapshot, Store};

/// Which layers [`Store::squash`] is to make one of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Squash<'a> {
    /// The layers below, which stay as they are, the bottom one first.
    pub below: &'a [(Descriptor, DiffId)],
    /// The layers that become one, the bottom one first.
    pub layers: &'a [(Descriptor, DiffId)],
    /// The only files that are wanted, with all directories above them; `None` is all.
    pub wanted: Option<&'a BTreeSet<LayerPath>>,
}

/// One layer in the making.
struct Squashing<'a> {
    flat: Flat<'a>,
    /// What the layers below show by themselves.
    below: LayeredTree,
    squash: &'a Squash<'a>,
    layer: LayerWriter<BlobWriter<'a>>,
    entries: u64,
}

impl Store {
    /// Makes one layer that does what several do, one above the other: the files that they make up, as
    /// they state them, and whiteouts for what they remove of the layers below.
    ///
    /// # Errors
    /// When a layer is missing or corrupt, when the store cannot be written.
    pub fn squash(&self, squash: &Squash<'_>) -> Result<Snapshot, Error> {
        let all = [squash.below, squash.layers].concat();
        let mut squashing = Squashing {
            flat: Flat::new(self, &all, squash.below.len())?,
            below: open(self, squash.below)?,
            squash,
            layer: LayerWriter::new(self.blob_writer()?),
            entries: 0,
        };
        squashing.walk(self)?;
        let Squashing { layer, entries, .. } = squashing;
        let blob = layer
            .finish()
            .map_err(|error| self.io("write", &self.path("tmp"), error))?;
        let (digest, size) = blob.commit()?;
        Ok(Snapshot {
            diff_id: DiffId(digest),
            size,
            entries,
        })
    }
}

impl Squashing<'_> {
    /// Goes through everything that the layers touch. With each directory goes whether something above
    /// it hides all that is below the layers.
    fn walk(&mut self, store: &Store) -> Result<(), Error> {
        let mut pending = vec![(LayerPath::root(), false)];
        while let Some((path, hidden)) = pending.pop() {
            let is_wanted = |wanted: &BTreeSet<LayerPath>| wanted.contains(&path);
            if !path.is_root() && !self.squash.wanted.is_none_or(is_wanted) {
                continue;
            }
            let shown = self.flat.at(&path)?;
            let touched = |shown: &Shown| shown.stack.first() < Some(&self.flat.telling());
            let Some(shown) = shown.filter(touched) else {
                continue;
            };
            if !path.is_root() {
                let (layer, entries) = (&mut self.layer, &mut self.entries);
                self.flat.hand_out(&path, &shown, &mut |entry, content| {
                    *entries += 1;
                    layer
                        .append(entry, content)
                        .map_err(|error| Error::carried(error, |e| failed(store, &path, e)))
                })?;
            }
            if shown.node.kind == NodeKind::Directory {
                let names = self.flat.list(&path)?;
                let hidden = self.hide(store, (&path, hidden), &shown, &names)?;
                let below = names.iter().rev().filter_map(|name| path.join(name).ok());
                pending.extend(below.map(|path| (path, hidden)));
            }
        }
        Ok(())
    }

    /// Says what is gone from a directory; tells whether all that is below the layers is hidden in it.
    fn hide(
        &mut self,
        store: &Store,
        (path, hidden): (&LayerPath, bool),
        shown: &Shown,
        names: &[Vec<u8>],
    ) -> Result<bool, Error> {
        let reading = |error| store.io(READ, path.as_path(), error);
        let old = self.below.node(path).map_err(reading)?;
        if hidden || !old.is_some_and(|old| old.kind == NodeKind::Directory) {
            // What takes the place of a file has nothing to hide.
            return Ok(true);
        }
        if self.squash.below.is_empty() {
            return Ok(true);
        }
        if shown.stack.last() < Some(&self.flat.telling()) {
            self.mark(store, &Whiteout::Opaque(path.clone()))?;
            return Ok(true);
        }
        let kept: BTreeSet<&Vec<u8>> = names.iter().collect();
        for name in self.below.list(path).map_err(reading)? {
            if !kept.contains(&name) {
                let gone = path
                    .join(&name)
                    .map_err(io::Error::other)
                    .map_err(reading)?;
                self.mark(store, &Whiteout::Removed(gone))?;
            }
        }
        Ok(false)
    }

    fn mark(&mut self, store: &Store, whiteout: &Whiteout) -> Result<(), Error> {
        self.entries += 1;
        marker(whiteout)
            .and_then(|marker| self.layer.append(&marker, &mut io::empty()))
            .map_err(|error| Error::carried(error, |e| store.io("write", &store.path("tmp"), e)))
    }
}

fn failed(store: &Store, path: &LayerPath, error: io::Error) -> Error {
    store.io("pack", path.as_path(), error)
}
