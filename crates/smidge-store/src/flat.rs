//! Layers, seen as the files that they make up, each with what its layer says of it.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::path::PathBuf;

use smidge_image::{
    Descriptor, DiffId, Entry, EntryKind, LayerPath, Node, NodeKind, ReadAt as _, Tree,
};

use crate::attribute;
use crate::checkout::walk_layer;
use crate::error::READ;
use crate::{Error, LayeredTree, Ownership, Store};

/// The most bytes that the attributes of a layer's files may have: all of them are held in memory.
const HELD: usize = 64 << 20;

/// A layer's manifest entry, and what it is unpacked.
pub(crate) type LayerRef = (Descriptor, DiffId);

/// Where files go that are handed out.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&Entry, &mut dyn Read) -> Result<(), Error>;

/// A stack of unpacked layers with the headers of the upper ones.
pub(crate) struct Flat<'s> {
    store: &'s Store,
    pub(crate) tree: LayeredTree,
    headers: Headers,
}

/// What the layers say about their files. The unpacked ones show which files there are and what is in
/// them, but may lack owners, modes and devices; see [`Ownership::Caller`](crate::Ownership).
struct Headers {
    /// The top one first, as in a [`LayeredTree`]. A link is told of as the file that it is.
    layers: Vec<HashMap<LayerPath, Entry>>,
    /// Where files went that have several names, by what the layer's directory knows them by.
    written: HashMap<(u64, u64), LayerPath>,
}

/// A file that the layers show.
pub(crate) struct Shown {
    /// The layers that it is in, by their numbers from the top.
    pub(crate) stack: Vec<usize>,
    pub(crate) node: Node,
}

impl<'s> Flat<'s> {
    /// Takes layers, the bottom one first, unpacked where they are not yet. The lowest `silent` are
    /// there to be looked through: nothing of theirs is handed out.
    pub(crate) fn new(store: &'s Store, layers: &[LayerRef], silent: usize) -> Result<Self, Error> {
        let own = layers.get(silent..).unwrap_or_default();
        let telling = unpacked(store, own)?;
        let headers = Headers::read(store, telling.into_iter().map(|(_, layer)| layer))?;
        Ok(Self {
            store,
            tree: open(store, layers)?,
            headers,
        })
    }

    /// How many layers tell what is in them.
    pub(crate) fn telling(&self) -> usize {
        self.headers.layers.len()
    }

    /// What is at a path.
    pub(crate) fn at(&self, path: &LayerPath) -> Result<Option<Shown>, Error> {
        let reading = |error| self.store.io(READ, path.as_path(), error);
        let stack = self.tree.stack(path).map_err(reading)?;
        let Some(&top) = stack.first() else {
            return Ok(None);
        };
        let node = self.tree.layer(top).node(path).map_err(reading)?;
        Ok(node.map(|node| Shown { stack, node }))
    }

    /// The names in a directory.
    pub(crate) fn list(&self, path: &LayerPath) -> Result<Vec<Vec<u8>>, Error> {
        let names = self.tree.list(path);
        names.map_err(|error| self.store.io(READ, path.as_path(), error))
    }

    /// Hands out a file, as its layer tells of it, or as a link to one that was handed out before.
    pub(crate) fn hand_out(
        &mut self,
        path: &LayerPath,
        shown: &Shown,
        sink: Sink<'_>,
    ) -> Result<(), Error> {
        let Some(entry) = self.headers.entry(path, shown) else {
            return Ok(());
        };
        let Some(&top) = shown.stack.first() else {
            return Ok(());
        };
        let (store, layer) = (self.store, self.tree.layer(top));
        let reading = |error| store.io(READ, path.as_path(), error);
        if let Some(file) = layer.several_names(path).map_err(reading)? {
            if let Some(target) = self.headers.written.get(&file).cloned() {
                let link = Entry {
                    kind: EntryKind::Hardlink { target },
                    xattrs: BTreeMap::new(),
                    ..entry
                };
                return sink(&link, &mut io::empty());
            }
            self.headers.written.insert(file, path.clone());
        }
        let EntryKind::File { .. } = &entry.kind else {
            return sink(&entry, &mut io::empty());
        };
        let file = layer.open_file(path).map_err(reading)?;
        let entry = Entry {
            kind: EntryKind::File { size: file.size() },
            ..entry
        };
        sink(&entry, &mut file.into_file())
    }
}

/// Layers as one view, the bottom one given first. It has nothing but what the layers hold: what they
/// only imply, the headers tell.
pub(crate) fn open(store: &Store, layers: &[LayerRef]) -> Result<LayeredTree, Error> {
    let unpacked = unpacked(store, layers)?.into_iter();
    let unpacked: Vec<_> = unpacked.map(|(path, _)| path).collect();
    LayeredTree::open(&unpacked).map_err(|error| store.io(READ, &store.path("layers"), error))
}

/// The directories of layers, the top one first, and which layers they are.
fn unpacked<'l>(
    store: &Store,
    layers: &'l [LayerRef],
) -> Result<Vec<(PathBuf, &'l Descriptor)>, Error> {
    let layers = layers.iter().map(|(layer, diff_id)| (layer, diff_id));
    store.unpacked_layers(layers, Ownership::of_caller(), &mut |_| {})
}

impl Headers {
    fn read<'l>(
        store: &Store,
        layers: impl Iterator<Item = &'l Descriptor>,
    ) -> Result<Self, Error> {
        let mut headers = Self {
            layers: Vec::new(),
            written: HashMap::new(),
        };
        for layer in layers {
            let mut entries: HashMap<LayerPath, Entry> = HashMap::new();
            let what = layer.digest.to_string();
            let mut held = 0;
            walk_layer(store.blob(layer)?, &layer.digest, &what, |entry, _| {
                let path = entry.path.clone();
                held += attribute::length(&entry.xattrs);
                if held > HELD {
                    return Err(Error::Entry {
                        layer: what.clone(),
                        entry: path.to_string(),
                        why: "the attributes of the layer's files take more than 64 MiB".to_owned(),
                    });
                }
                let told = match &entry.kind {
                    EntryKind::Hardlink { target } => entries.get(target).map(|file| Entry {
                        path: path.clone(),
                        ..file.clone()
                    }),
                    _ => Some(entry),
                };
                match told {
                    Some(told) => entries.insert(path, told),
                    // By a name that leads through links.
                    None => entries.remove(&path),
                };
                Ok(())
            })?;
            headers.layers.push(entries);
        }
        Ok(headers)
    }

    /// What to say about a path: the header of the layer that it is in; for a directory that this layer
    /// only implies, that of the next layer that tells. `None` if a layer that does not tell knows better.
    fn entry(&self, path: &LayerPath, shown: &Shown) -> Option<Entry> {
        let telling = self.layers.len();
        let mut stack = shown.stack.iter().take_while(|number| **number < telling);
        let known = stack.find_map(|number| self.layers[*number].get(path));
        let is_below = shown.stack.last() >= Some(&telling);
        match known {
            Some(known) => Some(known.clone()),
            None if is_below || path.is_root() => None,
            None => Some(implied(path, &shown.node)),
        }
    }
}

/// A file that no header tells of under its own name, as it is on the disk.
fn implied(path: &LayerPath, node: &Node) -> Entry {
    let kind = match &node.kind {
        NodeKind::Directory => return Entry::new(path.clone(), EntryKind::Directory),
        NodeKind::File { size } => EntryKind::File { size: *size },
        NodeKind::Symlink { target } => EntryKind::Symlink {
            target: target.clone(),
        },
        NodeKind::Other => EntryKind::Fifo,
    };
    let entry = Entry::new(path.clone(), kind);
    Entry {
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        ..entry
    }
}
