//! Dockerfiles: the plan of `smidge-dockerfile`, executed.
//!
//! A stage is a stack of layers. Files that `COPY` and `ADD` bring stay where they are until a `RUN`
//! wants to see them or the image is written; then they become a layer of the store. A `RUN` sees the
//! stage's layers through overlayfs, and what it has written becomes the next layer.

mod archive;
mod base;
mod builder;
mod cache;
#[allow(dead_code, reason = "not all of it is asked for yet")]
mod chmod;
#[allow(dead_code, reason = "not all of it is asked for yet")]
mod choice;
#[allow(dead_code, reason = "not all of it is asked for yet")]
mod context;
#[allow(dead_code, reason = "not all of it is asked for yet")]
mod copy;
mod file;
#[allow(dead_code, reason = "not all of it is asked for yet")]
mod git;
#[allow(dead_code, reason = "not all of it is asked for yet")]
mod git_url;
mod glob;
mod mount;
#[allow(dead_code, reason = "not all of it is asked for yet")]
mod named;
mod option;
#[allow(dead_code, reason = "not all of it is asked for yet")]
mod packing;
#[allow(dead_code, reason = "not all of it is asked for yet")]
mod remote;
mod report;
mod run;
mod setting;
#[allow(dead_code, reason = "not all of it is asked for yet")]
mod source;
mod stage;

pub(super) use builder::draft;
pub(super) use cache::Cached;
pub(super) use file::{instructions, notes};
