use std::collections::HashMap;
use std::rc::Rc;

use smidge_image::{LayerPath, Node, NodeKind, Tree};

use super::walk::Walk;
use super::{Closure, ClosureError};
use crate::loader::{CACHE, Cache, Defaults, MAX_CACHE, config_directories};
use crate::{Elf, ElfError};

/// Paths remembered; when there are more, all are forgotten.
const MAX_PROBES: usize = 250_000;

/// What bears on the search for libraries beside the files themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// The directories of `LD_LIBRARY_PATH`; an empty one is the working directory.
    pub library_path: Vec<String>,
    /// Where relative paths begin.
    pub working_dir: String,
    /// Whether a tree without `/etc/ld.so.cache` is searched as if `ldconfig` had just made one.
    /// A loader would not do so: it never reads `/etc/ld.so.conf`.
    pub assume_ldconfig: bool,
}

impl Search {
    /// What a loader itself would do with a value of `LD_LIBRARY_PATH`.
    pub fn of_loader(library_path: Option<&str>, working_dir: &str) -> Self {
        let list = library_path.filter(|list| !list.is_empty());
        Self {
            library_path: list
                .map(|list| list.split([':', ';']).map(str::to_owned).collect())
                .unwrap_or_default(),
            working_dir: working_dir.to_owned(),
            assume_ldconfig: false,
        }
    }
}

impl Default for Search {
    fn default() -> Self {
        Self {
            assume_ldconfig: true,
            ..Self::of_loader(None, "/")
        }
    }
}

/// Finds the libraries of any number of programs in one tree and reads no file twice.
pub struct Resolver<'t> {
    tree: &'t dyn Tree,
    search: Search,
    probes: HashMap<String, Probe>,
    objects: HashMap<LayerPath, Probe>,
    cache: Option<Rc<Option<Cache>>>,
    config: Option<Rc<Vec<String>>>,
    defaults: HashMap<LayerPath, Option<Defaults>>,
}

/// A sound ELF file of the tree.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) file: LayerPath,
    pub(super) elf: Elf,
}

/// What a loader meets when it opens a path.
#[derive(Debug, Clone)]
pub(super) enum Probe {
    /// Nothing, or nothing that may be read.
    Absent,
    /// A file that it cannot load, and why.
    Unusable(LayerPath, Rc<str>),
    /// A file that it may load, if the machine is right.
    Object(Rc<Object>),
}

impl<'t> Resolver<'t> {
    /// Looks for libraries in `tree`.
    pub fn new(tree: &'t dyn Tree, search: &Search) -> Self {
        Self {
            tree,
            search: search.clone(),
            probes: HashMap::new(),
            objects: HashMap::new(),
            cache: None,
            config: None,
            defaults: HashMap::new(),
        }
    }

    /// Finds what the program at `path` loads. A relative path begins at the tree's root.
    ///
    /// # Errors
    /// When there is no such program, it is no sound ELF file, or the tree cannot be read. Missing
    /// libraries are no error: see [`Closure::missing`].
    pub fn closure(&mut self, path: &[u8]) -> Result<Closure, ClosureError> {
        let name = || String::from_utf8_lossy(path).into_owned();
        let found = self.tree.resolve(path);
        let found = found.map_err(|source| ClosureError::Io {
            path: name(),
            source,
        })?;
        let (file, node) = found.ok_or_else(|| ClosureError::NotFound { path: name() })?;
        let NodeKind::File { .. } = node.kind else {
            return Err(ClosureError::NotAFile { path: name() });
        };
        let opened = self.tree.open(&file);
        let opened = opened.map_err(|source| ClosureError::Io {
            path: name(),
            source,
        })?;
        let elf = Elf::parse(&*opened).map_err(|source| ClosureError::Elf {
            path: name(),
            source,
        })?;
        Walk::new(self, Object { file, elf }).run(&node)
    }

    pub(super) fn tree(&self) -> &'t dyn Tree {
        self.tree
    }

    pub(super) fn search(&self) -> &Search {
        &self.search
    }

    /// Makes a path absolute, as the loader's process would.
    pub(super) fn absolute(&self, path: &str) -> String {
        match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{}/{path}", self.search.working_dir.trim_end_matches('/')),
        }
    }

    /// What is at a path. As for the loader, a path that cannot be opened leads to nothing,
    /// whatever the reason.
    pub(super) fn probe(&mut self, path: &str) -> Probe {
        let path = self.absolute(path);
        if let Some(probe) = self.probes.get(&path) {
            return probe.clone();
        }
        let probe = match self.tree.resolve(path.as_bytes()) {
            Ok(Some((file, node))) => self.load(file, &node),
            Ok(None) | Err(_) => Probe::Absent,
        };
        if self.probes.len() >= MAX_PROBES {
            self.probes.clear();
        }
        self.probes.insert(path, probe.clone());
        probe
    }

    fn load(&mut self, file: LayerPath, node: &Node) -> Probe {
        if let Some(known) = self.objects.get(&file) {
            return known.clone();
        }
        let probe = match node.kind {
            NodeKind::File { .. } => match self.tree.open(&file) {
                Ok(opened) => match Elf::parse(&*opened) {
                    Ok(elf) => Probe::Object(Rc::new(Object {
                        file: file.clone(),
                        elf,
                    })),
                    Err(error) => Probe::Unusable(file.clone(), explain(&error).into()),
                },
                Err(_) => Probe::Absent,
            },
            _ => Probe::Unusable(file.clone(), "not a regular file".into()),
        };
        self.objects.insert(file, probe.clone());
        probe
    }

    /// The tree's `/etc/ld.so.cache`, if it has a sound one.
    pub(super) fn cache(&mut self) -> Rc<Option<Cache>> {
        let tree = self.tree;
        let read = || {
            let (file, _) = tree.resolve(CACHE.as_bytes()).ok()??;
            Cache::parse(&tree.read(&file, MAX_CACHE).ok()?)
        };
        self.cache.get_or_insert_with(|| Rc::new(read())).clone()
    }

    /// The directories of the tree's `/etc/ld.so.conf`.
    pub(super) fn config(&mut self) -> Rc<Vec<String>> {
        let tree = self.tree;
        self.config
            .get_or_insert_with(|| Rc::new(config_directories(tree)))
            .clone()
    }

    /// The directories that are built into a loader of glibc's kind.
    pub(super) fn built_in(&mut self, loader: &LayerPath) -> Option<Defaults> {
        if let Some(known) = self.defaults.get(loader) {
            return known.clone();
        }
        let defaults = self
            .tree
            .open(loader)
            .ok()
            .and_then(|file| Defaults::built_into(&*file));
        self.defaults.insert(loader.clone(), defaults.clone());
        defaults
    }
}

fn explain(error: &ElfError) -> String {
    match error {
        ElfError::Io(source) => format!("{error}: {source}"),
        other => other.to_string(),
    }
}

/// Finds what one program loads: see [`Resolver::closure`].
///
/// # Errors
/// As [`Resolver::closure`].
pub fn closure(tree: &dyn Tree, program: &[u8], search: &Search) -> Result<Closure, ClosureError> {
    Resolver::new(tree, search).closure(program)
}
