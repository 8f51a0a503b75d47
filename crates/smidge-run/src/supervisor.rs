//! The process that watches over one container.

use crate::error::RunError;
use crate::session::{Attach, Started};
use crate::spec::Spec;

/// Starts the container of `spec`, new or stopped before, and returns when its program has been executed.
///
/// The caller must have one thread only.
///
/// # Errors
/// Everything that keeps the program from starting; ports first.
pub fn start(spec: &Spec, attach: Option<Attach>) -> Result<Started, RunError> {
    let _ = (spec, attach);
    unimplemented!()
}
