//! `login` and `logout`.

use smidge_registry::Secret;

use super::Connection;
use crate::{Engine, Result};

/// A login, as it was asked for.
#[derive(Clone, Debug)]
pub struct LoginRequest {
    /// The registry; Docker Hub if `None`.
    pub registry: Option<String>,
    /// Who.
    pub username: String,
    /// The password, or a token in its place.
    pub password: Secret,
    /// How to talk to registries.
    pub connection: Connection,
}

/// A login that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The registry.
    pub registry: String,
    /// The file it is kept in, unencrypted; `None` if a credential helper keeps it.
    pub file: Option<std::path::PathBuf>,
}

impl Engine {
    /// Tries credentials at a registry, and keeps them.
    ///
    /// # Errors
    /// When they are not accepted, when the registry cannot be reached, when they cannot be kept.
    pub fn login(&self, _request: &LoginRequest) -> Result<LoggedIn> {
        unimplemented!("login")
    }

    /// The user name that is kept for a registry, if there is one.
    ///
    /// # Errors
    /// When a file cannot be read or understood, when a helper fails.
    pub fn known_user(
        &self,
        _registry: Option<&str>,
        _connection: &Connection,
    ) -> Result<Option<String>> {
        unimplemented!("login")
    }

    /// Forgets the credentials for a registry; tells its name, and whether there were any.
    ///
    /// # Errors
    /// When a file cannot be read or written, when a helper fails.
    pub fn logout(
        &self,
        _registry: Option<&str>,
        _connection: &Connection,
    ) -> Result<(String, bool)> {
        unimplemented!("login")
    }
}
