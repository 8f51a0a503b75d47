//! Work that is done among a container's files, by a process that sees them: see [`smidge_run::look`].

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smidge_run::{IdMap, Onlooker, Spec, View};
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

/// Where a container keeps what it has changed; none if it was never started.
///
/// # Errors
/// When that lies among its image's files: where no overlay can be, they are copied.
pub(super) fn changed(known: &Known) -> Result<Option<PathBuf>> {
    let Container { name, dir, .. } = &known.container;
    if smidge_run::copied_root(dir).is_none() {
        return Ok(Some(dir.join("upper")).filter(|upper| upper.exists()));
    }
    let fault = format!("cannot tell what container `{name}` has changed of its image's files");
    Err(Error::new(Kind::Host, fault)
        .with_fact("overlayfs is refused here: the container has a copy of them all")
        .with_hint(format!(
            "take all of its files: `smidge export -o {name}.tar {name}`"
        ))
        .with_hint("keep the store on a file system that is no overlay, a volume for example"))
}

/// How the files of a container say whose they are.
pub(crate) fn owners(record: &Record) -> Owners {
    match record.spec.disk_map() {
        IdMap::None => Owners::Disk,
        _ => Owners::Claims,
    }
}
