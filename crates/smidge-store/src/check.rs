//! Whether a store is whole.

use crate::{Error, Store};

/// Something that is not as it should be.
#[derive(Debug)]
pub struct Problem {
    /// Where: an image's name or id, a container's name.
    pub subject: String,
    /// What.
    pub error: Error,
}

impl Store {
    /// Reads everything and verifies it: every entry of the index, every blob that it leads to, every
    /// container's record.
    ///
    /// # Errors
    /// When the index cannot be read; anything else is a [`Problem`].
    pub fn check(&self) -> Result<Vec<Problem>, Error> {
        unimplemented!()
    }
}
