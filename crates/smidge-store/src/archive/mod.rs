//! Images in and out: docker-archive, OCI archive, OCI layout, plain root file systems.
//!
//! Coming in, everything is spooled to temporary files, verified, and only then stored. Going out,
//! every byte follows from the image: sorted members, owner 0, mode 0644, the year 1970.

mod bundle;
mod document;
mod import;
mod layout;
mod load;
mod rootfs;
mod save;
mod selection;

pub use selection::{Choice, Selection};
