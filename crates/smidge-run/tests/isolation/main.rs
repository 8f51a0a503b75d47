//! What a program sees and may do once it is shut in: the sandbox without its supervisor, started by
//! the `minirun` example. The programs inside are busybox and one that makes system calls by number.
//! A test that cannot run here says `skipped: reason`.

#![cfg(test)]

#[path = "../arm64/mod.rs"]
mod arm64;
mod breakout;
mod cell;
mod filesystem;
mod filter;
mod foreign;
mod identity;
mod namespace;
mod network;
