//! Images become root file systems.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use smidge_image::{
    Descriptor, Entry, EntryKind, LayerPath, LayerWriter, Node, NodeKind, ReadAt as _, Tree,
};

use crate::checkout::walk_layer;
use crate::error::READ;
use crate::extract::{Extractor, Whiteouts};
use crate::{Error, Image, LayeredTree, Ownership, Store};

/// What the layers say about their files. The unpacked ones show which files there are and what is in
/// them, but may lack owners, modes and devices; see [`Ownership::Caller`].
struct Headers {
    /// The top one first, as in a [`LayeredTree`].
    layers: Vec<HashMap<LayerPath, Entry>>,
    /// Files that hard links lead to.
    linked: HashSet<(usize, LayerPath)>,
    /// What became of them.
    written: HashMap<(usize, LayerPath), LayerPath>,
}

type Sink<'a> = &'a mut dyn FnMut(&Entry, &mut dyn Read) -> Result<(), Error>;

impl Store {
    /// Writes the image's files as one tar archive.
    ///
    /// # Errors
    /// As [`Store::checkout`], and when `output` cannot be written.
    pub fn save_rootfs(&self, image: &Image, output: &mut dyn Write) -> Result<(), Error> {
        let mut tar = LayerWriter::new(output);
        self.flatten(image, &mut |entry, content| {
            if entry.path.is_root() {
                return Ok(());
            }
            tar.append(entry, content)
                .map_err(|error| Error::carried(error, Error::Output))
        })?;
        let output = tar.finish().map_err(Error::Output)?;
        output.flush().map_err(Error::Output)
    }

    /// Writes the image's files to a directory, which is made if it is missing. An ordinary user owns
    /// them all.
    ///
    /// # Errors
    /// As [`Store::checkout`], and when the directory cannot be written.
    pub fn save_rootfs_directory(&self, image: &Image, directory: &Path) -> Result<(), Error> {
        let io = |source| Error::Io {
            action: "write",
            path: directory.to_owned(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(io)?;
        let root = std::fs::File::open(directory).map_err(io)?;
        let what = directory.display().to_string();
        let ownership = Ownership::of_caller();
        let mut ignore = |_| {};
        let mut extractor = Extractor::new(root.as_fd(), ownership, Whiteouts::None, &mut ignore);
        self.flatten(image, &mut |entry, content| {
            extractor
                .extract(entry, content)
                .map_err(|fault| self.fault(&what, &entry.path, fault))
        })?;
        extractor
            .finish()
            .map_err(|(path, fault)| self.fault(&what, &path, fault))
    }

    /// Hands out every file of the image, directories before what they hold.
    fn flatten(&self, image: &Image, sink: Sink<'_>) -> Result<(), Error> {
        let diff_ids = &image.config.rootfs.diff_ids;
        let layers = image.manifest.layers.iter().zip(diff_ids);
        // Without what others would need on top of them: the headers tell all of it.
        let layers = self.unpacked_layers(layers, Ownership::of_caller(), &mut |_| {})?;
        let (paths, layers): (Vec<_>, Vec<_>) = layers.into_iter().unzip();
        let tree = LayeredTree::open(&paths)
            .map_err(|error| self.io(READ, &self.path("layers"), error))?;
        let mut headers = self.headers(&layers)?;
        let mut pending = vec![LayerPath::root()];
        while let Some(path) = pending.pop() {
            let reading = |error| self.io(READ, path.as_path(), error);
            let stack = tree.stack(&path).map_err(reading)?;
            let Some(&top) = stack.first() else { continue };
            let node = tree.layer(top).node(&path).map_err(reading)?;
            let Some(node) = node else { continue };
            if node.kind == NodeKind::Directory {
                let names = tree.list(&path).map_err(reading)?;
                pending.extend(names.iter().rev().filter_map(|name| path.join(name).ok()));
            }
            if let Some(entry) = headers.entry(&path, &stack, &node) {
                self.hand_out(&tree, top, &entry, sink)?;
            }
        }
        Ok(())
    }

    fn hand_out(
        &self,
        tree: &LayeredTree,
        layer: usize,
        entry: &Entry,
        sink: Sink<'_>,
    ) -> Result<(), Error> {
        let EntryKind::File { .. } = entry.kind else {
            return sink(entry, &mut io::empty());
        };
        let file = tree.layer(layer).open_file(&entry.path);
        let file = file.map_err(|error| self.io(READ, entry.path.as_path(), error))?;
        let entry = Entry {
            kind: EntryKind::File { size: file.size() },
            ..entry.clone()
        };
        sink(&entry, &mut file.into_file())
    }

    fn headers(&self, layers: &[&Descriptor]) -> Result<Headers, Error> {
        let mut headers = Headers {
            layers: Vec::new(),
            linked: HashSet::new(),
            written: HashMap::new(),
        };
        for (number, layer) in layers.iter().enumerate() {
            let mut entries = HashMap::new();
            let what = layer.digest.to_string();
            walk_layer(self.blob(layer)?, &layer.digest, &what, |entry, _| {
                entries.insert(entry.path.clone(), entry);
                Ok(())
            })?;
            let targets = entries
                .values()
                .filter(|e| matches!(e.kind, EntryKind::Hardlink { .. }));
            let targets = targets.map(|entry| (number, origin(&entries, &entry.path)));
            headers.linked.extend(targets);
            headers.layers.push(entries);
        }
        Ok(headers)
    }
}

/// The file that a name is a hard link to, in the end.
fn origin(entries: &HashMap<LayerPath, Entry>, path: &LayerPath) -> LayerPath {
    let mut here = path;
    // A chain longer than the layer is a circle.
    for _ in 0..entries.len() {
        match entries.get(here).map(|entry| &entry.kind) {
            Some(EntryKind::Hardlink { target }) if target != here => here = target,
            _ => break,
        }
    }
    here.clone()
}

impl Headers {
    /// What to say about a path: the header of the layer that it is in; for a directory that this layer
    /// only implies, that of the next layer that tells.
    fn entry(&mut self, path: &LayerPath, stack: &[usize], node: &Node) -> Option<Entry> {
        let known = stack
            .iter()
            .find_map(|number| self.layers[*number].get(path));
        let Some(known) = known else {
            return (!path.is_root()).then(|| implied(path, node));
        };
        let mut entry = known.clone();
        let top = *stack.first()?;
        let origin = origin(&self.layers[top], path);
        if self.linked.contains(&(top, origin.clone())) {
            if let Some(target) = self.written.get(&(top, origin.clone())) {
                entry.kind = EntryKind::Hardlink {
                    target: target.clone(),
                };
                return Some(entry);
            }
            self.written.insert((top, origin.clone()), path.clone());
            let content = self.layers[top].get(&origin)?;
            entry = Entry {
                path: path.clone(),
                ..content.clone()
            };
        }
        Some(entry)
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
