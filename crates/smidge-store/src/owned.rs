//! Whose files are, for a user whose containers have many ids. An unpacked layer belongs to whoever has
//! unpacked it, and claims beside its files say whose they should be. Where the ids can be given away, as
//! in a user namespace, a stack of layers gets another one on top: what is not as it should be is there
//! once more, with its owner and mode.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use smidge_image::{Digest, Entry, EntryKind, LayerPath, Node, NodeKind, Tree as _};

use crate::error::READ;
use crate::extract::{Extractor, Whiteouts};
use crate::{Error, LayeredTree, Ownership, Store};

/// Digits of a digest in the name of a layer of owners.
const DIGITS: usize = 16;

/// A layer that shows files with their owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    /// All files are the caller's, as they should be.
    Needless,
    /// It is there.
    Layer(PathBuf),
    /// It is still to be made: [`Store::make_owned_layer`].
    Missing(PathBuf),
}

impl Store {
    /// The layer to put on top of `layers` (the top one first) so that files have their owners. It
    /// depends on `map`, which names the ids that the caller gives away.
    pub fn owned_layer(&self, layers: &[PathBuf], map: &str) -> Owned {
        let Some(top) = layers.first() else {
            return Owned::Needless;
        };
        let names = layers.iter().filter_map(|path| path.file_name());
        let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
        let key = Digest::of(format!("{map} {}", names.join(" ")).as_bytes()).hex();
        // Beside the top layer, with which it goes.
        let path = top.with_extension(&key[..DIGITS]);
        match path.symlink_metadata() {
            Ok(found) if found.is_dir() => Owned::Layer(path),
            Ok(_) => Owned::Needless,
            Err(_) => Owned::Missing(path),
        }
    }

    /// Makes the layer that [`Store::owned_layer`] misses: to be called as the root of a user namespace
    /// that maps the ids. Whose ids it does not map stays the caller's.
    ///
    /// # Errors
    /// When the layers cannot be read, or the store cannot be written.
    pub fn make_owned_layer(&self, layers: &[PathBuf], path: &Path) -> Result<(), Error> {
        let reading = |error| self.io(READ, &self.path("layers"), error);
        let mut stack = Stack::open(layers).map_err(reading)?;
        stack.find().map_err(reading)?;
        if stack.wrong.is_empty() {
            // A file says that there is nothing to be shown.
            return self.write_atomically(path, b"");
        }
        let temp = self.temp_dir()?;
        let root = temp.directory().as_fd();
        let mut note = |_| {};
        let mut extractor = Extractor::new(root, Ownership::Layer, Whiteouts::Overlay, &mut note);
        let fault = |path: &LayerPath, fault| self.fault("files with their owners", path, fault);
        // Hard links can only name what came before them.
        let is_link = |entry: &Entry| matches!(entry.kind, EntryKind::Hardlink { .. });
        let files = stack.wrong.iter().filter(|(_, entry)| !is_link(entry));
        let links = stack.wrong.iter().filter(|(_, entry)| is_link(entry));
        for (path, entry) in files.chain(links) {
            let made = match &entry.kind {
                EntryKind::File { .. } => {
                    let file = stack.content(path).map_err(reading)?;
                    extractor.extract(entry, &mut file.into_file())
                }
                _ => extractor.extract(entry, &mut io::empty()),
            };
            made.map_err(|error| fault(path, error))?;
        }
        extractor
            .finish()
            .map_err(|(path, error)| fault(&path, error))?;
        temp.persist(self, path).map(drop)
    }
}

/// Layers, and what of them is not as it should be.
struct Stack {
    tree: LayeredTree,
    /// With the directories above them.
    wrong: BTreeMap<LayerPath, Entry>,
    /// Names of files that have several, by what the file system knows them by.
    first: HashMap<(u64, u64), LayerPath>,
}

impl Stack {
    fn open(layers: &[PathBuf]) -> io::Result<Self> {
        Ok(Self {
            tree: LayeredTree::open(layers)?,
            wrong: BTreeMap::new(),
            first: HashMap::new(),
        })
    }

    fn find(&mut self) -> io::Result<()> {
        let mut directories = vec![LayerPath::root()];
        while let Some(directory) = directories.pop() {
            for name in self.tree.list(&directory)? {
                let path = directory.join(&name).map_err(io::Error::other)?;
                if self.look_at(&path)? {
                    directories.push(path);
                }
            }
        }
        Ok(())
    }

    /// Takes note of a file, if it is wrong; tells whether it is a directory.
    fn look_at(&mut self, path: &LayerPath) -> io::Result<bool> {
        let Some((layer, stat)) = self.tree.find(path)? else {
            return Ok(false);
        };
        let Some(node) = layer.node(path)? else {
            return Ok(false);
        };
        let is_directory = node.kind == NodeKind::Directory;
        let is_link = matches!(node.kind, NodeKind::Symlink { .. });
        let same_mode = is_link || node.mode == stat.st_mode & 0o7777;
        let is_right = (node.uid, node.gid) == (stat.st_uid, stat.st_gid) && same_mode;
        // What an ordinary user cannot make stays what stands for it.
        if is_right || node.kind == NodeKind::Other {
            return Ok(is_directory);
        }
        let mut next = path.parent();
        while let Some(above) =
            next.filter(|above| !above.is_root() && !self.wrong.contains_key(above))
        {
            if let Some(node) = self.tree.node(&above)? {
                let entry = self.entry(&above, node)?;
                self.wrong.insert(above.clone(), entry);
            }
            next = above.parent();
        }
        let entry = self.entry(path, node)?;
        self.wrong.insert(path.clone(), entry);
        Ok(is_directory)
    }

    fn entry(&mut self, path: &LayerPath, node: Node) -> io::Result<Entry> {
        let several = self.tree.links(path)?;
        if let Some(target) = several.and_then(|file| self.first.get(&file)) {
            let target = target.clone();
            return Ok(Entry::new(path.clone(), EntryKind::Hardlink { target }));
        }
        self.first.extend(several.map(|file| (file, path.clone())));
        let kind = match node.kind {
            NodeKind::Directory => EntryKind::Directory,
            NodeKind::Symlink { target } => EntryKind::Symlink { target },
            NodeKind::File { size } => EntryKind::File { size },
            NodeKind::Other => EntryKind::Fifo,
        };
        let mut entry = Entry::new(path.clone(), kind);
        (entry.mode, entry.uid, entry.gid) = (node.mode, node.uid, node.gid);
        entry.mtime = self.tree.find(path)?.map_or(0, |(_, stat)| stat.st_mtime);
        if !matches!(entry.kind, EntryKind::Symlink { .. }) {
            entry.xattrs = self.tree.attributes(path)?;
        }
        Ok(entry)
    }

    fn content(&self, path: &LayerPath) -> io::Result<crate::FileAt> {
        let found = self.tree.find(path)?;
        let (layer, _) = found.ok_or(io::ErrorKind::NotFound)?;
        layer.open_file(path)
    }
}
