//! What a `prune` has removed.

use crate::{Error, Result};

/// What was removed, and what has kept other things from being removed.
#[derive(Debug, Default)]
pub struct Swept {
    /// Names or ids of what is gone.
    pub names: Vec<String>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
    /// Why the rest is still there.
    pub faults: Vec<Error>,
}

impl Swept {
    /// Notes what became of one: removed with so many bytes, needed after all, or not to be removed.
    pub(crate) fn note(&mut self, name: String, removed: Result<Option<u64>>) {
        match removed {
            Ok(Some(bytes)) => {
                self.names.push(name);
                self.bytes += bytes;
            }
            Ok(None) => (),
            Err(fault) => self.faults.push(fault),
        }
    }
}
