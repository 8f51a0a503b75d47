//! Networks.

mod mode;

use crate::{Error, Kind};

pub use mode::{Endpoint, NetworkMode};

/// That there is no network of a name or id.
pub(crate) fn unknown(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("network {name} not found"))
}
