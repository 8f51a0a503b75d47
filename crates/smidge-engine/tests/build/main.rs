//! Building images, through the engine's own interface, into real stores.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod compile;
mod copy;
mod dockerfile;
mod platform;
mod program;
mod promise;
mod remote;
mod support;
