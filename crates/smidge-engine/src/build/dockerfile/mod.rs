//! Dockerfiles: the plan of `smidge-dockerfile`, executed without running anything.
//!
//! Every stage starts from `scratch` or from another stage, and is made of files that are copied
//! and of settings. `RUN` and base images are not there yet, and are refused at their place.

mod archive;
mod context;
mod copy;
mod glob;
mod report;
mod stage;

pub(super) use stage::{draft, instructions};
