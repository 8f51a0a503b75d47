//! Rust programs: built by the user's own Cargo, static, small and the same every time.

mod build;
mod config;
mod flag;
mod link;
mod lock;
mod package;
mod toolchain;

pub(super) use build::{Build, compile};
