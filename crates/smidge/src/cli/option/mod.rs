//! The options of `run` and `create`: a file a group, each under a heading of its own.

pub(super) mod container;
mod health;
mod isolation;
mod lifetime;
mod mount;
mod names;
mod network;
mod refused;
pub(super) mod resource;
