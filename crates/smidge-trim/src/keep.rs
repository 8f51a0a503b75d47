use std::fmt;

use smidge_image::LayerPath;
use thiserror::Error;

use crate::{Closure, Library, PROGRAM, Rule};

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
/// directory that the loader searches. All are to be stored as regular files. The program itself
/// will be at `destination`: if that is not where it is now, `$ORIGIN` leads elsewhere, and what was
/// found through it goes to a default directory.
///
/// # Errors
/// When something is missing, or two libraries would need the same place.
pub fn keep_closure(closure: &Closure, destination: &LayerPath) -> Result<Vec<Kept>, KeepError> {
    let program = || closure.program.to_string();
    let mut kept = Vec::new();
    if let Some(loader) = &closure.loader {
        let missing = || KeepError::NoLoader {
            program: program(),
            loader: loader.wanted.clone(),
        };
        let source = loader.found.clone().ok_or_else(missing)?;
        let path = place(&loader.wanted);
        kept.push(Kept {
            path,
            source,
            reason: Reason::Loader { of: program() },
        });
    }
    for library in &closure.libraries {
        if library.rule == Some(Rule::Loader) {
            continue;
        }
        let missing = || KeepError::NoLibrary {
            program: program(),
            name: library.name.clone(),
        };
        let source = library
            .file
            .clone()
            .filter(|_| library.is_usable())
            .ok_or_else(missing)?;
        let path = place(&wanted_path(
            closure,
            library,
            *destination == closure.program,
        ));
        let of = closure.path_of(library.needed_by.first().copied().unwrap_or(PROGRAM));
        let reason = Reason::Library {
            name: library.name.clone(),
            of,
        };
        add(
            &mut kept,
            Kept {
                path,
                source,
                reason,
            },
        )?;
    }
    Ok(kept)
}

/// Where a library must be: where it was found if the loader looks there in the image, or else in
/// the first directory that it searches by default.
fn wanted_path(closure: &Closure, library: &Library, in_place: bool) -> String {
    let stays = match library.rule {
        Some(Rule::Path) => true,
        Some(Rule::Rpath | Rule::Runpath) if in_place => true,
        _ => library.fixed || closure.elf.no_default_lib,
    };
    let found = library.path.clone().unwrap_or_default();
    match closure.default_directories.first() {
        Some(default) if !stays => format!("{default}/{}", library.name),
        _ => found,
    }
}

/// Turns a path into one of the image, which has none of the tree's symbolic links: `..` cancels
/// what stands before it.
fn place(path: &str) -> LayerPath {
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            name => components.push(name),
        }
    }
    LayerPath::parse(components.join("/").as_bytes()).unwrap_or_default()
}

fn add(kept: &mut Vec<Kept>, new: Kept) -> Result<(), KeepError> {
    let Some(old) = kept.iter().find(|old| old.path == new.path) else {
        kept.push(new);
        return Ok(());
    };
    if old.source == new.source {
        return Ok(());
    }
    let (path, first, second) = (new.path, old.source.clone(), new.source);
    Err(KeepError::Clash {
        path,
        first,
        second,
    })
}
