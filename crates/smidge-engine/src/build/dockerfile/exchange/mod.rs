//! The build cache goes from machine to machine: `--cache-from` and `--cache-to`.
//!
//! What travels is what `RUN` has made, by the keys of the steps: a layer, and cache mounts where that
//! was asked for. What `COPY` makes does not: it is read faster than fetched, and gives the same layer
//! wherever the files are the same, so that the `RUN` behind it is found.
//!
//! ```text
//! manifest   an OCI image manifest with `artifactType` application/vnd.smidge.buildcache.v1
//! ├─ config  {"rootfs":{"type":"layers","diff_ids":[…]},"smidge.build.cache.v1":{"records":[…],"mounts":[…]}}
//! └─ layers  in the order of the diff ids, compressed
//! ```
//!
//! An image with an inline cache has the same field in its own config, beside the diff ids of its own
//! layers: both are read alike. Changing any of this is a format break.

mod document;
mod export;
mod import;
mod option;
mod origin;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use smidge_dockerfile::plan::{MountKind, RunAction};
use smidge_image::{DiffId, Digest, Platform};
use smidge_store::Store;

use crate::build::request::BuildRequest;
use crate::build::scratch::Scratch;
use crate::registry::Connection;
use crate::{Engine, Error, Note, Progress, Result, StepName, StepTask};

pub(in crate::build) use document::{Record, embed};
use import::Import;
use option::{Place, Target};

/// What a build takes over from others, and what it leaves for them.
pub(in crate::build) struct Exchange<'e> {
    engine: &'e Engine,
    connection: &'e Connection,
    scratch: &'e Path,
    progress: &'e dyn Progress,
    imports: Vec<Import<'e>>,
    targets: Vec<Target>,
    state: Mutex<State>,
    /// Told when somebody has fetched a layer, or failed to.
    fetched: Condvar,
    /// Cache mounts that were looked after: who wants one waits until it is filled.
    filled: Mutex<HashMap<String, Arc<OnceLock<()>>>>,
    /// Holds what is needed only while this lasts.
    passing: OnceLock<Store>,
}

#[derive(Default)]
struct State {
    /// Layers that a thread is fetching at this moment.
    busy: HashSet<DiffId>,
    /// What all steps of the build have made.
    records: BTreeMap<Digest, Record>,
    /// The cache mounts that its steps use.
    mounts: BTreeSet<String>,
    notes: Vec<Note>,
}

impl<'e> Exchange<'e> {
    /// Reads what is to be imported, as far as that is there.
    ///
    /// # Errors
    /// When an option cannot be understood.
    pub(in crate::build) fn open(
        engine: &'e Engine,
        request: &'e BuildRequest,
        scratch: &'e Scratch,
        progress: &'e dyn Progress,
    ) -> Result<Self> {
        let options = &request.dockerfile;
        let sources = option::sources(&options.cache_from, &engine.host)?;
        let mut exchange = Self {
            engine,
            connection: &options.connection,
            scratch: scratch.path(),
            progress,
            imports: Vec::new(),
            targets: option::targets(&options.cache_to, &engine.host)?,
            state: Mutex::default(),
            fetched: Condvar::new(),
            filled: Mutex::default(),
            passing: OnceLock::new(),
        };
        if exchange.targets.iter().any(Target::asks_too_much) {
            let message =
                "an image carries the cache of its own stages alone: `mode=max` is for others";
            exchange.state().notes.push(Note::new(message));
        }
        if options.no_cache {
            return Ok(exchange);
        }
        let platforms = match &request.platforms[..] {
            [] => vec![Platform::linux(engine.host.architecture())],
            named => named.to_vec(),
        };
        for source in sources {
            let task = exchange.step(format!("importing cache manifest from {}", source.place));
            match Import::open(&exchange, &source, &platforms) {
                Ok(import) => {
                    exchange.imports.push(import);
                    task.finish();
                }
                Err(error) => {
                    task.fail(&error.to_string());
                    exchange.note(&error, "the build goes on without it");
                }
            }
        }
        Ok(exchange)
    }

    /// Whether the image is to carry its own records.
    pub(in crate::build) fn is_inline(&self) -> bool {
        let inline = |target: &Target| matches!(target.place, Place::Inline);
        self.targets.iter().any(inline)
    }

    /// Notes what a step has made, here or elsewhere.
    pub(in crate::build) fn learn(&self, record: &Record) {
        self.state().records.insert(record.key, record.clone());
    }

    /// Notes which cache mounts a step uses, whether it is carried out or not.
    pub(in crate::build) fn meet(&self, run: &RunAction) {
        let ids = run.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Cache { id, .. } => Some(id.clone()),
            _ => None,
        });
        self.state().mounts.extend(ids);
    }

    /// What is worth saying.
    pub(in crate::build) fn notes(&self) -> Vec<Note> {
        self.state().notes.clone()
    }

    /// Shows a piece of work as `BuildKit` does: beside the steps of the Dockerfile.
    fn step(&self, text: String) -> Box<dyn StepTask + 'e> {
        self.progress.step(&StepName {
            text,
            ..StepName::default()
        })
    }

    /// Makes a warning of what went wrong.
    fn note(&self, error: &Error, so: &str) {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            message.push_str(&format!(": {error}"));
            cause = error.source();
        }
        let note = Note::new(format!("{message}; {so}"));
        let notes = &mut self.state().notes;
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// A store that ends with the build.
    fn passing(&self) -> Result<&Store> {
        if let Some(store) = self.passing.get() {
            return Ok(store);
        }
        let store = Store::open_passing(&self.scratch.join("exchange"))?;
        Ok(self.passing.get_or_init(|| store))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
