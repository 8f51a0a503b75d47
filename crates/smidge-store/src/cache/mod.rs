//! What builds leave for builds to come: outcomes of steps, and directories of
//! `RUN --mount=type=cache`. All of it can be made again.
//!
//! ```text
//! cache/build/steps/<hex>           what a step made: JSON, then a newline for every use
//! cache/mounts/<hex>/id             what a cache mount is called
//! cache/mounts/<hex>/<n>/           its directories: only `private` ones need more than 0
//! cache/mounts/<hex>/<n>.lock       flock(2)ed by who uses one
//! ```

mod carry;
mod mount;
mod record;
mod step;

pub use mount::{CacheMount, Sharing};
pub use record::{CacheKind, CacheRecord};
pub use step::CachedStep;
