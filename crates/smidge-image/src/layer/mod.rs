//! Layers: tar archives (POSIX.1-2024, pax, "ustar Interchange Format"), written in one exact way
//! and read in all the ways that Docker reads.

mod entry;
mod error;
mod header;
mod pax;
mod read;
mod source;
mod sparse;
mod write;

pub use entry::{Entry, EntryKind};
pub use error::LayerError;
pub use read::read_layer;
pub use write::LayerWriter;
