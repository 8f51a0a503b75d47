//! Keeping logins, and forgetting them.

use super::{Credentials, Settings, Stored};
use crate::Result;

impl Settings {
    /// Keeps a login for a registry.
    ///
    /// # Errors
    /// As [`Settings::credentials`], and when it cannot be written.
    pub fn keep_login(&self, _domain: &str, _credentials: &Credentials) -> Result<Stored> {
        unimplemented!("settings")
    }

    /// Forgets the login for a registry, wherever it is kept; empty if there was none.
    ///
    /// # Errors
    /// As [`Settings::keep_login`].
    pub fn forget_login(&self, _domain: &str) -> Result<Vec<Stored>> {
        unimplemented!("settings")
    }
}
