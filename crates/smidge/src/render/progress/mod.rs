//! Progress of long work on standard error: bars on a terminal, lines elsewhere, JSON for programs, or
//! nothing.
//!
//! Whoever works reports from threads of its own; nothing ticks by itself, so that no thread of ours is
//! left when a container is started. What is shown is drawn by whichever thread reports next.

mod board;
mod json;
mod line;
mod plain;
mod rate;
mod step;
mod style;

pub(crate) use style::{Style, sink, took};
