//! What programs see that have a single id and believe in all, and what is left of it on disk. A test
//! that cannot run here says `skipped: reason`.

#![cfg(test)]

mod belief;
mod claim;
mod room;
