//! `smidge runtime`: the cases of the OCI runtime specification, the same for runc where it is there, so that
//! it is the tests which are right.
//!
//! The cases are named after those of the specification's own suite (opencontainers/runtime-tools,
//! `validation/`), and written from the specification's text.

mod bundle;
mod cgroup;
mod config;
mod hook;
mod hostile;
mod life;
mod linux;
mod namespace;
mod process;
mod schedule;
mod validation;
mod verb;
