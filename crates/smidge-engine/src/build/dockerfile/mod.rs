//! Dockerfiles: the plan of `smidge-dockerfile`, executed.
//!
//! A stage is a stack of layers. Files that `COPY` and `ADD` bring stay where they are until a `RUN`
//! wants to see them or the image is written; then they become a layer of the store. A `RUN` sees the
//! stage's layers through overlayfs, and what it has written becomes the next layer.

mod archive;
mod base;
mod builder;
mod cache;
mod chmod;
mod choice;
mod context;
mod copy;
mod exchange;
mod file;
mod git;
mod git_url;
mod glob;
mod mount;
mod named;
mod option;
mod remote;
mod report;
mod run;
mod setting;
mod source;
mod stage;

pub(super) use builder::{Place, draft};
pub(super) use cache::Cached;
pub(super) use context::matching;
pub(super) use exchange::{Exchange, Record, embed};
pub(super) use file::{instructions, notes, targets};
pub(super) use remote::Fetcher;
pub(super) use source::{ContextSource, bring};
