//! What can go wrong in a verb of the runtime's command line. The words that Podman, containerd and Docker
//! look for are runc's.

use std::path::PathBuf;

use crate::error::RunError;

/// Why a verb of the runtime's command line failed.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// No name for a container.
    #[error(
        "invalid container id `{id}`: letters, digits and `_+-.` are allowed, and no `.` or `..` alone"
    )]
    Id {
        /// What was given.
        id: String,
    },
    /// There is one of that name.
    #[error("container with given ID already exists: `{id}`")]
    Exists {
        /// The container.
        id: String,
    },
    /// There is none of that name.
    #[error("container `{id}` does not exist")]
    Missing {
        /// The container.
        id: String,
    },
    /// It is in another state than the verb needs.
    #[error("{wanted}: container `{id}` is {status}")]
    State {
        /// The container.
        id: String,
        /// What keeps the verb from it: `container not running`.
        wanted: &'static str,
        /// How it is.
        status: &'static str,
    },
    /// A bundle that cannot be read, or makes no sense.
    #[error("cannot use `{path}`: {detail}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Something that smidge does not do, and so does not pretend to.
    #[error("`{what}` is not supported{why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// A clause that says why, or nothing.
        why: String,
    },
    /// A limit of memory that its processes are above already.
    #[error("{used} bytes of memory are in use, more than the limit of {limit}")]
    InUse {
        /// Bytes.
        used: u64,
        /// Bytes.
        limit: u64,
    },
    /// A hook failed.
    #[error("{kind} hook `{path}` failed: {detail}")]
    Hook {
        /// Which of the kinds it is.
        kind: &'static str,
        /// The program.
        path: PathBuf,
        /// How it ended.
        detail: String,
    },
    /// A program is in none of the directories of `PATH`.
    #[error("exec: \"{program}\": executable file not found in $PATH (`{path}`)")]
    NotInPath {
        /// Its name.
        program: String,
        /// The directories.
        path: String,
    },
    /// The sandbox could not do what it was asked for.
    #[error(transparent)]
    Run(RunError),
}

impl OciError {
    pub(super) fn unsupported(what: &str) -> Self {
        Self::Unsupported {
            what: what.to_owned(),
            why: String::new(),
        }
    }
}

impl From<RunError> for OciError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::NotInPath { program, path } => Self::NotInPath { program, path },
            error => Self::Run(error),
        }
    }
}
