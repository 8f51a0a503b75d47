//! The one renderer: errors, tables, templates, progress, and Docker's words for sizes and times.

pub(crate) mod control;
pub(crate) mod error;
pub(crate) mod listing;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod words;
