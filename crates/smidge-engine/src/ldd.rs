//! `smidge ldd`: which shared libraries a program needs, found without executing it.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use smidge_image::{NodeKind, Tree};
use smidge_store::DirTree;
use smidge_trim::{Closure, ClosureError, Elf, PROGRAM, Rule, Search, closure};

use crate::{Engine, Error, Kind, Result};

/// What to look at.
#[derive(Clone, Debug, Default)]
pub struct LddRequest {
    /// The file, in the root file system's own terms when `root` is given.
    pub file: PathBuf,
    /// The root file system to look inside; the machine's own if `None`.
    pub root: Option<PathBuf>,
}

/// What a program needs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LddReport {
    /// The file as it was named.
    pub file: String,
    /// How it is linked.
    pub linkage: Linkage,
    /// The loader that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
    /// That loader again, unless it is among the libraries because one of them needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loader: Option<Needed>,
    /// The libraries, in the order in which the loader loads them. The loader itself goes by its
    /// path, as `ldd` prints it.
    pub libraries: Vec<Needed>,
    /// Indices into `libraries` of what the program itself asks for.
    pub direct: Vec<usize>,
    /// Symbol versions that no library provides.
    pub missing_versions: Vec<String>,
    /// What was not taken into account.
    pub notes: Vec<String>,
}

/// How a file is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Linkage {
    /// Not an ELF file, or one without a dynamic section: `not a dynamic executable`.
    NotDynamic,
    /// A dynamic section that asks for nothing: `statically linked`.
    Static,
    /// Needs a loader or libraries.
    Dynamic,
}

/// A loader or library that is asked for.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Needed {
    /// The name it is asked for by.
    pub name: String,
    /// Where it is, as the loader would say it; `None` if it is not found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Indices into the report's `libraries` of what it asks for in turn.
    pub needs: Vec<usize>,
}

impl Engine {
    /// Finds what a program needs.
    ///
    /// # Errors
    /// When the file cannot be read, or is a damaged ELF file.
    pub fn ldd(&self, request: &LddRequest) -> Result<LddReport> {
        let shown = request.file.display().to_string();
        let root = request.root.as_ref().map(|root| self.host.absolute(root));
        let root = root.as_deref().unwrap_or(Path::new("/"));
        let tree = DirTree::open(root).map_err(|source| {
            Error::io(format!("cannot look inside `{}`", root.display()), source)
        })?;
        // Inside another root there is no working directory, and no environment.
        let (file, search) = match request.root {
            Some(_) => (request.file.clone(), Search::default()),
            None => {
                let paths = self.host.env.get("LD_LIBRARY_PATH").map(String::as_str);
                let search = Search::of_loader(paths, &self.host.cwd.to_string_lossy());
                (
                    self.host.absolute(&request.file),
                    Search {
                        assume_ldconfig: true,
                        ..search
                    },
                )
            }
        };
        let path = file.as_os_str().as_bytes();
        if !is_elf(&tree, path, &shown)? {
            return Ok(LddReport::of_no_program(shown));
        }
        let closure = closure(&tree, path, &search).map_err(|error| failure(error, &shown))?;
        Ok(LddReport::new(shown, &closure))
    }
}

/// Whether the file is an ELF file; errors are about the file itself.
fn is_elf(tree: &DirTree, path: &[u8], shown: &str) -> Result<bool> {
    let failed = |source| Error::io(format!("cannot read `{shown}`"), source);
    let found = tree.resolve(path).map_err(failed)?;
    let Some((path, node)) = found else {
        return Err(failed(io::ErrorKind::NotFound.into()));
    };
    match node.kind {
        NodeKind::File { .. } => Ok(Elf::is_elf(&*tree.open(&path).map_err(failed)?)),
        _ => Err(Error::new(
            Kind::Input,
            format!("`{shown}` is not a regular file"),
        )),
    }
}

fn failure(error: ClosureError, shown: &str) -> Error {
    let kind = match &error {
        ClosureError::NotFound { .. } => Kind::NotFound,
        ClosureError::Io { source, .. } => Kind::of_io(source),
        _ => Kind::Input,
    };
    Error::new(kind, format!("cannot tell what `{shown}` needs")).caused_by(error)
}

impl LddReport {
    fn of_no_program(file: String) -> Self {
        Self {
            file,
            linkage: Linkage::NotDynamic,
            interpreter: None,
            loader: None,
            libraries: Vec::new(),
            direct: Vec::new(),
            missing_versions: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn new(file: String, closure: &Closure) -> Self {
        let needs_of = |who: usize| -> Vec<usize> {
            let needed = closure.libraries.iter().enumerate();
            needed
                .filter(|(_, library)| library.needed_by.contains(&who))
                .map(|(i, _)| i)
                .collect()
        };
        let mut notes = closure.notes.clone();
        let mut listed = false;
        let mut libraries = Vec::new();
        for (index, library) in closure.libraries.iter().enumerate() {
            let path = library.path.clone().filter(|_| library.is_usable());
            let is_loader = library.rule == Some(Rule::Loader);
            listed |= is_loader;
            let name = match &path {
                Some(path) if is_loader => path.clone(),
                _ => library.name.clone(),
            };
            if let Some(why) = &library.unusable {
                notes.push(format!("`{}` cannot be loaded: {why}", library.name));
            }
            libraries.push(Needed {
                name,
                path,
                needs: needs_of(index),
            });
        }
        let loader = closure
            .loader
            .as_ref()
            .filter(|_| !listed)
            .map(|loader| Needed {
                name: loader.wanted.clone(),
                path: loader.found.as_ref().map(|_| loader.wanted.clone()),
                needs: Vec::new(),
            });
        Self {
            file,
            linkage: closure.elf.linkage().into(),
            interpreter: closure.loader.as_ref().map(|loader| loader.wanted.clone()),
            loader,
            libraries,
            direct: needs_of(PROGRAM),
            missing_versions: closure
                .missing_versions
                .iter()
                .map(ToString::to_string)
                .collect(),
            notes,
        }
    }
}

impl From<smidge_trim::Linkage> for Linkage {
    fn from(linkage: smidge_trim::Linkage) -> Self {
        match linkage {
            smidge_trim::Linkage::Dynamic => Self::Dynamic,
            smidge_trim::Linkage::Static => Self::Static,
            smidge_trim::Linkage::NotDynamic => Self::NotDynamic,
        }
    }
}
