//! What the workspace's tests have in common: none of them waits without limit, and what takes too long is
//! explained and ended.
//!
//! The end-to-end tests live in `e2e/`, `dockerfiles/` and `conformance/`.

pub mod processes;

mod limit;

pub use limit::{InTime, Limit, PATIENCE, connect, incoming, until};
