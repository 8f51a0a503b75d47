//! Images on their way to and from a registry that others wrote: Debian's docker-registry.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of this is tests: they fail by panicking, and say why they skip"
)]

mod debian;
mod fault;
mod login;
mod platform;
mod support;
mod travel;
