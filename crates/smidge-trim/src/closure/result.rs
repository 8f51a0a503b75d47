use std::fmt;
use std::io;

use smidge_image::LayerPath;
use thiserror::Error;

use crate::{Elf, ElfError};

/// Stands for the program itself in [`Library::needed_by`].
pub const PROGRAM: usize = usize::MAX;

/// A program and all that its loader would load with it.
#[derive(Debug, Clone)]
pub struct Closure {
    /// The program's own path: no part of it is a symbolic link.
    pub program: LayerPath,
    /// The program's facts.
    pub elf: Elf,
    /// The loader that it names; none if it names none.
    pub loader: Option<Loader>,
    /// What the loader loads, in that order, missing libraries included; the loader itself is
    /// among them where something needs it, as `ldd` prints it.
    pub libraries: Vec<Library>,
    /// Symbol versions that a library should define, but does not.
    pub missing_versions: Vec<MissingVersion>,
    /// The directories that the loader searches with nothing but itself in the image.
    pub default_directories: Vec<String>,
    /// What was left out of account, as sentences without a full stop.
    pub notes: Vec<String>,
}

/// The loader of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loader {
    /// The path that the program names.
    pub wanted: String,
    /// The file behind that path, symbolic links followed.
    pub found: Option<LayerPath>,
}

/// One object that the loader loads, or fails to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The name under which it was asked for first.
    pub name: String,
    /// Its path as the loader would print it; `None` if it is missing.
    pub path: Option<String>,
    /// The file behind that path, symbolic links followed.
    pub file: Option<LayerPath>,
    /// Who needs it: positions in [`Closure::libraries`], or [`PROGRAM`].
    pub needed_by: Vec<usize>,
    /// By which rule it was found.
    pub rule: Option<Rule>,
    /// Whether the loader finds it at `path` in an image that holds no cache and no configuration,
    /// wherever the program lies there.
    pub fixed: bool,
    /// Why the file cannot be loaded, where one was found and the loader gives up on it.
    pub unusable: Option<String>,
}

/// The rules by which a loader finds a library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The name has a `/` and is a path already.
    Path,
    /// `DT_RPATH` of what needs it, or of what loaded that.
    Rpath,
    /// `LD_LIBRARY_PATH`.
    LibraryPath,
    /// `DT_RUNPATH` of what needs it.
    Runpath,
    /// `/etc/ld.so.cache`.
    Cache,
    /// A directory of `/etc/ld.so.conf`, as after `ldconfig`.
    Config,
    /// A directory that the loader searches by default; for musl, also one of its path file.
    Default,
    /// It is the loader.
    Loader,
}

/// A symbol version that a program needs and a library lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingVersion {
    /// Name of the version: `GLIBC_2.38`.
    pub version: String,
    /// Path of the library that should define it, as the loader would print it.
    pub library: String,
    /// Path of the file that needs it.
    pub required_by: String,
}

/// Why the libraries of a program cannot be determined.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClosureError {
    /// There is no such file.
    #[error("`{path}` does not exist")]
    NotFound {
        /// The path asked for.
        path: String,
    },
    /// It is a directory, a device or the like.
    #[error("`{path}` is not a regular file")]
    NotAFile {
        /// The path asked for.
        path: String,
    },
    /// It is no ELF file, or a damaged one.
    #[error("`{path}` cannot be loaded")]
    Elf {
        /// Path of the file.
        path: String,
        /// What is wrong with it.
        source: ElfError,
    },
    /// The tree could not be read.
    #[error("cannot read `{path}`")]
    Io {
        /// Path of what was read.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It needs more than any program does.
    #[error("too many {what} for `{path}`: at most {limit} are accepted")]
    TooMany {
        /// Path of the program.
        path: String,
        /// What there are too many of.
        what: &'static str,
        /// The largest number accepted.
        limit: usize,
    },
}

impl Closure {
    /// What is missing or cannot be loaded.
    pub fn missing(&self) -> impl Iterator<Item = &Library> {
        self.libraries.iter().filter(|library| !library.is_usable())
    }

    /// Path of the program or library with that position, as the loader would print it.
    pub fn path_of(&self, position: usize) -> String {
        match self.libraries.get(position) {
            Some(library) => library.path.clone().unwrap_or_else(|| library.name.clone()),
            None => self.program.to_string(),
        }
    }
}

impl Library {
    /// Whether it was found and can be loaded.
    pub fn is_usable(&self) -> bool {
        self.file.is_some() && self.unusable.is_none()
    }
}

impl fmt::Display for MissingVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            library,
            required_by,
        } = self;
        write!(
            f,
            "`{library}`: version `{version}` not found (required by `{required_by}`)"
        )
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "path",
            Self::Rpath => "RPATH",
            Self::LibraryPath => "LD_LIBRARY_PATH",
            Self::Runpath => "RUNPATH",
            Self::Cache => "ld.so.cache",
            Self::Config => "ld.so.conf",
            Self::Default => "default directory",
            Self::Loader => "loader",
        })
    }
}
