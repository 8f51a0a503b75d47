//! Directories that layers imply: some archives hold `var/lib/x` and not `var/lib`. Such a directory is
//! the one of the layers below, whereas overlayfs would show the attributes that the highest layer made
//! up. So a stack of layers gets another one on top, which holds nothing but these directories.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use smidge_image::{Digest, Entry, EntryKind, LayerPath, Tree as _};

use crate::beside::Beside;
use crate::error::READ;
use crate::extract::{Extractor, Whiteouts};
use crate::{Error, LayeredTree, Ownership, Store};

/// Digits of a stack's digest in the name of its directories.
const DIGITS: usize = 16;

impl Store {
    /// The layer on top of `layers` (the top one first) that mends what they imply, if they need one.
    pub(crate) fn implied_parents(
        &self,
        layers: &[PathBuf],
        ownership: Ownership,
        note: &mut dyn FnMut(String),
    ) -> Result<Option<PathBuf>, Error> {
        // What the lowest implies is all that is known of it.
        let Some((top, _)) = layers.split_first().filter(|(_, below)| !below.is_empty()) else {
            return Ok(None);
        };
        let reading = |error| self.io(READ, &self.path("layers"), error);
        let implied = layers.iter().map(|at| Ok(Beside::load(at)?.implied));
        let implied: Vec<_> = implied.collect::<io::Result<_>>().map_err(reading)?;
        if implied.iter().all(BTreeSet::is_empty) {
            return Ok(None);
        }
        let path = beside_top(top, layers);
        if path.is_dir() {
            return Ok(Some(path));
        }
        let stack = Stack {
            tree: LayeredTree::open(layers).map_err(reading)?,
            implied,
        };
        let entries = stack.entries().map_err(reading)?;
        if entries.is_empty() {
            return Ok(None);
        }
        let temp = self.temp_dir()?;
        let root = temp.directory().as_fd();
        let mut extractor = Extractor::new(root, ownership, Whiteouts::Overlay, note);
        let fault = |path: &LayerPath, fault| self.fault("implied directories", path, fault);
        for entry in entries.values() {
            extractor
                .extract(entry, &mut io::empty())
                .map_err(|error| fault(&entry.path, error))?;
        }
        extractor
            .finish()
            .map_err(|(path, error)| fault(&path, error))?;
        temp.persist(self, &path)?;
        Ok(Some(path))
    }
}

/// Where the directories of a stack are kept: beside its top layer, with which they go.
fn beside_top(top: &Path, layers: &[PathBuf]) -> PathBuf {
    let names = layers.iter().filter_map(|path| path.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    let stack = Digest::of(names.join(" ").as_bytes()).hex();
    top.with_extension(&stack[..DIGITS])
}

/// Layers, and what each of them implies.
struct Stack {
    tree: LayeredTree,
    implied: Vec<BTreeSet<LayerPath>>,
}

impl Stack {
    /// The directories that look wrong, and those above them, as they are to look.
    fn entries(&self) -> io::Result<BTreeMap<LayerPath, Entry>> {
        let mut entries = BTreeMap::new();
        for path in self.implied.iter().flatten() {
            if entries.contains_key(path) || !self.is_wrong(path)? {
                continue;
            }
            let mut next = Some(path.clone());
            while let Some(path) = next.filter(|path| !path.is_root()) {
                if let Some((_, true_one)) = self.layers(&path)? {
                    entries.insert(path.clone(), self.entry(&path, true_one)?);
                }
                next = path.parent();
            }
        }
        Ok(entries)
    }

    /// The layer whose directory is seen, and the one that says how it is to look: the highest that
    /// mentions it. `None` if nothing is at the path.
    fn layers(&self, path: &LayerPath) -> io::Result<Option<(usize, usize)>> {
        let merged = self.tree.stack(path)?;
        let mut mention = merged
            .iter()
            .filter(|at| !self.implied[**at].contains(path));
        let Some(&seen) = merged.first() else {
            return Ok(None);
        };
        Ok(Some((seen, mention.next().copied().unwrap_or(seen))))
    }

    fn is_wrong(&self, path: &LayerPath) -> io::Result<bool> {
        let Some((seen, true_one)) = self.layers(path)? else {
            return Ok(false);
        };
        if seen == true_one {
            return Ok(false);
        }
        let [seen, true_one] = [seen, true_one].map(|at| self.tree.layer(at));
        Ok(seen.node(path)? != true_one.node(path)?
            || seen.attributes(path)? != true_one.attributes(path)?)
    }

    fn entry(&self, path: &LayerPath, layer: usize) -> io::Result<Entry> {
        let layer = self.tree.layer(layer);
        let mut entry = Entry::new(path.clone(), EntryKind::Directory);
        if let (Some(node), Some(stat)) = (layer.node(path)?, layer.stat(path)?) {
            (entry.mode, entry.uid, entry.gid) = (node.mode, node.uid, node.gid);
            entry.mtime = stat.st_mtime;
            entry.xattrs = layer.attributes(path)?;
        }
        Ok(entry)
    }
}
