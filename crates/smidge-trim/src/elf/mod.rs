//! What an ELF file says about itself: its machine, its loader, the libraries and versions it needs.
//!
//! Only the headers, the dynamic section, its strings and its version tables are read, found as the
//! kernel and the loader find them: through the program headers. Section headers are never needed,
//! so files that went through [`crate::strip()`] parse like any other.
//!
//! Format: [gABI](https://gabi.xinuos.com/), symbol versions:
//! [LSB](https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/symversion.html).

mod dynamic;
mod error;
mod file;
mod layout;
mod level;
mod machine;
mod source;

pub use error::ElfError;
pub use file::{Class, Elf, ElfKind, Linkage, VersionNeed};
pub use level::needed_level;

pub(crate) use layout::{Header, Layout, Record, Segment};
pub(crate) use machine::Machine;
pub(crate) use source::Source;
