//! Real containers with their real supervisor, started by the `contain` example, whose process has
//! one thread as [`smidge_run::start`] wants it. The programs inside are busybox and the `ports`
//! example. A test that cannot run here says `skipped: reason`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on panics, and one that cannot run says so"
)]

#[path = "../arm64/mod.rs"]
mod arm64;
mod direct;
mod lead;
mod life;
mod port;
mod sandbox;
mod terminal;
