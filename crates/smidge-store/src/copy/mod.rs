//! Files on their way from one directory to another, as a tar archive between two processes.
//!
//! Either side may be a container that exchanges files for links while they are looked at. Everything is
//! done step by step on open directories, and what was looked at is what is read or written:
//! no link is followed that was not meant to be (CVE-2018-15664).

mod pack;
mod place;
mod room;

pub use pack::{Owners, pack, pack_changes};
pub use place::{Keep, place, place_all};
pub use room::{Place, Room};

use std::io;
use std::path::Path;

use crate::Error;

/// The system refused something at a path.
pub(crate) fn refused(action: &'static str, path: &Path, error: impl Into<io::Error>) -> Error {
    Error::Io {
        action,
        path: path.to_owned(),
        source: error.into(),
    }
}
