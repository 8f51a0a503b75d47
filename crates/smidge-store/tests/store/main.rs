//! The store as its callers see it: real directories, real archives, the real programs of others.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::too_many_lines,
    reason = "all of this is tests: they fail by panicking, say why they skip, and have long tables"
)]

mod artifact;
mod blob;
mod build_cache;
mod checkout;
mod container;
mod copy;
mod crash;
mod disk;
mod fixture;
mod hostile;
mod image;
mod intake;
mod interop;
mod parallel;
mod passing;
mod platform;
mod removal;
mod rootfs;
mod save;
mod snapshot;
mod transfer;
