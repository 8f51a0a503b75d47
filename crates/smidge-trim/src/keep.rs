use std::fmt;

use smidge_image::{LayerPath, Tree};
use thiserror::Error;

use crate::Closure;

/// A file that an image needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where it must be in the image.
    pub path: LayerPath,
    /// The file in the tree that it is, symbolic links followed.
    pub source: LayerPath,
    /// Why it is needed.
    pub reason: Reason,
}

/// Why an image needs a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is the program that is started.
    Program,
    /// It is a symbolic link on the way to another file.
    Link {
        /// The path that leads through it.
        to: String,
    },
    /// It is the interpreter that a script names.
    Interpreter {
        /// Path of the script.
        of: String,
    },
    /// It is the loader that a program names.
    Loader {
        /// Path of the program.
        of: String,
    },
    /// It is a library.
    Library {
        /// The name under which it is needed.
        name: String,
        /// Path of the program or of the library that needs it first.
        of: String,
    },
}

/// Why the files of a closure cannot be put into an image.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The loader is not there.
    #[error("`{program}` needs the loader `{loader}`, which does not exist")]
    NoLoader {
        /// Path of the program.
        program: String,
        /// Path of the loader.
        loader: String,
    },
    /// A library is not there, or cannot be loaded.
    #[error("`{program}` needs the library `{name}`, which was not found")]
    NoLibrary {
        /// Path of the program.
        program: String,
        /// Name of the library.
        name: String,
    },
    /// Two files would need the same place.
    #[error("`{path}` in the image would have to be both `{first}` and `{second}`")]
    Clash {
        /// The place.
        path: LayerPath,
        /// One file.
        first: LayerPath,
        /// The other.
        second: LayerPath,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => write!(f, "the program"),
            Self::Link { to } => write!(f, "leads to `{to}`"),
            Self::Interpreter { of } => write!(f, "interpreter of `{of}`"),
            Self::Loader { of } => write!(f, "loader of `{of}`"),
            Self::Library { name, of } => write!(f, "`{name}`, needed by `{of}`"),
        }
    }
}

/// Says which files an image must hold beside a program, and where, so that its loader finds them
/// there without a cache: the loader at the path that the program names, each library in a
/// directory that the loader searches. All are to be stored as regular files.
///
/// # Errors
/// When something is missing, or two libraries would need the same place.
pub fn keep_closure(_tree: &dyn Tree, _closure: &Closure) -> Result<Vec<Kept>, KeepError> {
    unimplemented!()
}
