use smidge_image::Tree;

use super::{Closure, ClosureError};

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

impl Default for Search {
    fn default() -> Self {
        Self {
            library_path: Vec::new(),
            working_dir: "/".into(),
            assume_ldconfig: true,
        }
    }
}

/// Finds the libraries of any number of programs in one tree and reads no file twice.
pub struct Resolver<'t> {
    _tree: &'t dyn Tree,
}

impl<'t> Resolver<'t> {
    /// Looks for libraries in `tree`.
    pub fn new(tree: &'t dyn Tree, _search: &Search) -> Self {
        Self { _tree: tree }
    }

    /// Finds what the program at `path` loads. A relative path begins at the tree's root.
    ///
    /// # Errors
    /// When there is no such program, it is no sound ELF file, or the tree cannot be read. Missing
    /// libraries are no error: see [`Closure::missing`].
    pub fn closure(&mut self, _path: &[u8]) -> Result<Closure, ClosureError> {
        unimplemented!()
    }
}

/// Finds what one program loads: see [`Resolver::closure`].
///
/// # Errors
/// As [`Resolver::closure`].
pub fn closure(tree: &dyn Tree, program: &[u8], search: &Search) -> Result<Closure, ClosureError> {
    Resolver::new(tree, search).closure(program)
}
