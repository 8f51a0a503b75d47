//! The verbs on images.

mod build_cache;
mod change;
mod expression;
mod filter;
mod history;
mod info;
mod inspect;
mod list;
mod removal;
mod transfer;

pub use build_cache::CachePruneRequest;
pub use filter::{Filter, Filters};
pub use history::Step;
pub use info::{Disk, Info};
pub use inspect::ImageInspect;
pub use list::{ImageQuery, Listed};
pub use removal::{PruneReport, PruneRequest};
pub use transfer::{ArchiveFormat, ImportRequest, Loaded};

pub use smidge_store::{CacheKind, CacheRecord, Removed};

pub(crate) use change::apply as apply_changes;
pub(crate) use expression::is_found;
pub(crate) use list::similar_names;
pub(crate) use removal::reference;

#[cfg(test)]
pub(crate) mod tests;
