//! Published ports: listeners outside, connections made inside, bytes spliced between them.
//!
//! No privilege and no helper program: sockets bound on the host stay the host's wherever their
//! process goes, so the proxy binds first and then enters the container's network namespace.

mod listener;

pub use listener::Listeners;
