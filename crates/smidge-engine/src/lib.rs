//! smidge's verbs as functions: plain requests in, plain responses out.
//!
//! **Does**: build, run, list, inspect, save, load, … on top of the crates that know images,
//! Dockerfiles, programs, the store and the sandbox; drives the user's own compilers.
//!
//! **Does not** (invariants): print, parse flags, read `$HOME` or the environment, exit. What a
//! verb needs to know of its surroundings comes in as a [`Host`]; what it wants to show while it
//! works goes out through [`Progress`]; what went wrong is an [`Error`] that says by its [`Kind`]
//! who can mend it.

use std::collections::HashMap;
use std::sync::Mutex;

use smidge_store::Store;

mod confinement;
mod conversion;
mod error;
mod host;
mod packing;
mod progress;
mod swept;
mod url;

pub mod build;
pub mod container;
pub mod event;
pub mod image;
pub mod ldd;
pub mod network;
pub mod registry;
pub mod system;
pub mod volume;

pub use error::{Error, Kind, Note, Snippet};
pub use host::Host;
pub use progress::{Action, Progress, Settled, Silent, StepName, StepTask, Task};
pub use smidge_run::{fail_at_file_size_limit, oci};
pub use swept::Swept;
pub use url::is_http;

/// The result of a verb.
pub type Result<T> = std::result::Result<T, Error>;

/// What every verb works with: one store, one machine.
#[derive(Debug)]
pub struct Engine {
    /// Where images and containers are kept.
    pub store: Store,
    /// The surroundings, as `main` found them.
    pub host: Host,
    /// Which volumes containers have, by their ids, as far as somebody has asked.
    volumes_of: Mutex<HashMap<String, Vec<String>>>,
}

impl Engine {
    /// Opens the store in `root`, which is made if it is missing.
    ///
    /// # Errors
    /// When the directory holds something else, cannot be read, or cannot be made.
    pub fn open(root: &std::path::Path, host: Host) -> Result<Self> {
        Ok(Self::new(Store::open(root)?, host))
    }

    /// Works with a store that is open.
    pub fn new(store: Store, host: Host) -> Self {
        Self {
            store,
            host,
            volumes_of: Mutex::default(),
        }
    }
}
