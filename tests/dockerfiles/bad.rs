//! Dockerfiles that are broken.
use crate::Report;
pub(crate) fn run(_report: &mut Report) {}
