//! `smidge ldd`: which shared libraries a program needs, found without executing it.

use std::path::PathBuf;

use serde::Serialize;

use crate::{Engine, Error, Kind, Result};

/// What to look at.
#[derive(Clone, Debug, Default)]
pub struct LddRequest {
    /// The file, in the root file system's own terms when `root` is given.
    pub file: PathBuf,
    /// The root file system to look inside; the machine's own if `None`.
    pub root: Option<PathBuf>,
}

/// What a program needs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LddReport {
    /// The file as it was named.
    pub file: String,
    /// How it is linked.
    pub linkage: Linkage,
    /// The program interpreter it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loader: Option<Needed>,
    /// The libraries, in the order in which the loader loads them.
    pub libraries: Vec<Needed>,
    /// Indices into `libraries` of what the program itself asks for.
    pub direct: Vec<usize>,
    /// Symbol versions that no library provides.
    pub missing_versions: Vec<String>,
    /// What was not taken into account.
    pub notes: Vec<String>,
}

/// How a file is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Linkage {
    /// Not an ELF file, or one without a dynamic section: `not a dynamic executable`.
    NotDynamic,
    /// A dynamic section that asks for nothing: `statically linked`.
    Static,
    /// Needs a loader or libraries.
    Dynamic,
}

/// A loader or library that is asked for.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Needed {
    /// The name it is asked for by.
    pub name: String,
    /// Where it is, as the loader would say it; `None` if it is not found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Indices into the report's `libraries` of what it asks for in turn.
    pub needs: Vec<usize>,
}

impl Engine {
    /// Finds what a program needs.
    ///
    /// # Errors
    /// When the file cannot be read, or is a damaged ELF file.
    pub fn ldd(&self, request: &LddRequest) -> Result<LddReport> {
        Err(Error::new(
            Kind::Bug,
            format!("cannot look at `{}` yet", request.file.display()),
        ))
    }
}
