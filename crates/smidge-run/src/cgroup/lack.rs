//! Why a controller cannot be had.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why a controller cannot be had: clauses that follow its name and a comma.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Lack {
    /// No hierarchy has it.
    #[error("which this kernel does not have, or which is mounted nowhere")]
    Missing,
    /// Its hierarchy cannot be written by anybody.
    #[error("whose hierarchy is mounted read-only at `{at}`")]
    ReadOnly {
        /// Where it is mounted.
        at: PathBuf,
    },
    /// The caller may not make groups.
    #[error("of which nothing is delegated to this user: `{group}` cannot be written")]
    NotDelegated {
        /// The caller's own group.
        group: PathBuf,
    },
    /// A group that the caller may change has not got it from the one above (version 2).
    #[error("which is not handed on to `{group}` from above")]
    NotGiven {
        /// The group.
        group: PathBuf,
    },
    /// A group on the way has processes of its own (version 2).
    #[error("which `{group}` cannot hand on while there are processes in it")]
    Occupied {
        /// The group.
        group: PathBuf,
    },
    /// Version 2 has no such setting.
    #[error("whose version 2, as this machine has it, knows no such thing")]
    Unknown,
    /// The kernel was built without the setting.
    #[error("which has no `{file}` here")]
    NoFile {
        /// The file.
        file: String,
    },
    /// The named parent leads out of the hierarchy.
    #[error("and `{parent}` leads out of its hierarchy")]
    Outside {
        /// `--cgroup-parent`.
        parent: String,
    },
}
