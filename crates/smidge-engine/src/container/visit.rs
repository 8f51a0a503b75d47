//! Work that is done among a container's files, by a process that sees them: see [`smidge_run::look`].

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smidge_run::{Changes, IdMap, Onlooker, Spec, View};
use smidge_store::Container;
use smidge_store::copy::Owners;

use super::record::{Known, Record};
use crate::{Error, Kind, Result};

/// An error on its way from one process to another.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    kind: Kind,
    message: String,
    /// The causes, each the next one's effect.
    causes: Vec<String>,
    /// The system's number of the last cause, if it is one of the system's: somebody who no longer reads is no fault.
    number: Option<i32>,
    hints: Vec<String>,
}

/// A cause that was told by another process.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Cause {
    text: String,
    source: Option<AnyError>,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// A visit whose outcome is still to be heard.
pub(crate) struct Visit<T> {
    visitor: Onlooker,
    outcome: std::marker::PhantomData<T>,
}

impl From<&Error> for Told {
    fn from(error: &Error) -> Self {
        let (mut causes, mut number) = (Vec::new(), None);
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            causes.push(cause.to_string());
            let system = cause.downcast_ref::<std::io::Error>();
            number = system.and_then(std::io::Error::raw_os_error);
            source = cause.source();
        }
        Self {
            kind: error.kind(),
            message: error.message().to_owned(),
            causes,
            number,
            hints: error.hints().to_vec(),
        }
    }
}

impl From<Told> for Error {
    fn from(mut told: Told) -> Self {
        let system = told.number.map(std::io::Error::from_raw_os_error);
        if system.is_some() {
            told.causes.pop();
        }
        let last = system.map(AnyError::from);
        let chain = told
            .causes
            .into_iter()
            .rev()
            .fold(last, |source, text| Some(Cause { text, source }.into()));
        let error = Self::new(told.kind, told.message);
        let error = match chain {
            Some(cause) => error.caused_by(cause),
            None => error,
        };
        told.hints.into_iter().fold(error, Self::with_hint)
    }
}

/// Sets somebody to work among a container's files. Only the standard streams and `keep` are open there.
pub(crate) fn visit<T: Serialize>(
    known: &Known,
    view: View,
    keep: &[BorrowedFd<'_>],
    act: impl FnOnce() -> Result<T>,
) -> Result<Visit<T>> {
    visit_as(&known.record.spec, view, keep, act)
}

/// As [`visit`], for a container that is not there yet.
pub(super) fn visit_as<T: Serialize>(
    spec: &Spec,
    view: View,
    keep: &[BorrowedFd<'_>],
    act: impl FnOnce() -> Result<T>,
) -> Result<Visit<T>> {
    let visitor = smidge_run::look(spec, view, keep, || {
        let outcome = act().map_err(|error| Told::from(&error));
        // Writing to memory does not fail.
        serde_json::to_vec(&outcome).unwrap_or_default()
    })?;
    Ok(Visit {
        visitor,
        outcome: std::marker::PhantomData,
    })
}

impl<T: DeserializeOwned> Visit<T> {
    /// Waits for the work's outcome.
    pub(crate) fn finish(self) -> Result<T> {
        let answer = self.visitor.finish()?;
        let outcome: std::result::Result<T, Told> =
            serde_json::from_slice(&answer).map_err(|source| {
                Error::new(Kind::Bug, "cannot understand what was found").caused_by(source)
            })?;
        Ok(outcome?)
    }
}

/// What a container has changed of its image's files.
pub(super) enum Changed {
    /// It is there.
    Upper(PathBuf),
    /// It has to be looked for in a copy of all files, in the container's directory: where no overlay can be.
    Copy { name: String, dir: PathBuf },
}

impl Changed {
    /// That of a container; none if it was never started.
    pub(super) fn of(known: &Known) -> Option<Self> {
        let Container { name, dir, .. } = &known.container;
        if smidge_run::copied_root(dir).is_some() {
            let (name, dir) = (name.clone(), dir.clone());
            return Some(Self::Copy { name, dir });
        }
        let upper = dir.join("upper");
        upper.exists().then_some(Self::Upper(upper))
    }

    /// What `act` makes of the directory that holds it. To be called by a [visitor](visit) who sees the host's files.
    ///
    /// # Errors
    /// Those of `act`; when it cannot be told.
    pub(super) fn look<T>(&self, act: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let (name, dir) = match self {
            Self::Upper(upper) => return act(upper),
            Self::Copy { name, dir } => (name, dir),
        };
        let fault =
            || format!("cannot tell what container `{name}` has changed of its image's files");
        match Changes::find(dir).map_err(|source| Error::io(fault(), source))? {
            Some(changes) => act(changes.path()),
            None => Err(Error::new(Kind::Host, fault())
                .with_fact("overlayfs is refused here: the container has a copy of them all, and nobody knows how that was before")
                .with_hint(format!(
                    "take all of its files: `smidge export -o {name}.tar {name}`"
                ))),
        }
    }
}

/// How the files of a container say whose they are.
pub(crate) fn owners(record: &Record) -> Owners {
    match record.spec.disk_map() {
        IdMap::None => Owners::Disk,
        _ => Owners::Claims,
    }
}
