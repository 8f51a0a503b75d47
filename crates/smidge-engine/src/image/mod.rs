//! The verbs on images.

mod change;
mod filter;
mod history;
mod info;
mod inspect;
mod list;
mod removal;
mod transfer;

pub use filter::{Filter, Filters};
pub use history::Step;
pub use info::{Disk, Info};
pub use inspect::ImageInspect;
pub use list::{ImageQuery, Listed};
pub use removal::{PruneReport, PruneRequest};
pub use transfer::{ArchiveFormat, ImportRequest, Loaded};

pub(crate) use list::similar_names;

use crate::{Error, Kind};

/// The error of everything that would need a registry.
pub fn registries_not_supported(image: &str) -> Error {
    Error::new(
        Kind::NotFound,
        format!("cannot pull `{image}`: registries are not supported yet"),
    )
    .with_hint("load an archive that another engine saved: `smidge load -i FILE`")
    .with_hint("or make the image from a program: `smidge build -t NAME PATH`")
}

#[cfg(test)]
pub(crate) mod tests;
