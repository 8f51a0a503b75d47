//! Rust programs: built by the user's own Cargo, static, small and the same every time.

mod build;
mod flag;
mod lock;
mod package;

pub(super) use build::{Build, compile};
