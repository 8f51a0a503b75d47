//! The client: settings, connections, tokens.

use smidge_image::Reference;

use crate::{Credentials, Repository, Result, Settings};

/// What is to be done with a repository: decides where to ask, and for which rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Fetch; mirrors are asked first.
    Pull,
    /// Fetch and send.
    Push,
    /// Remove.
    Delete,
}

/// A client of any number of registries, for any number of threads. Holds connections and tokens.
pub struct Client {
    _settings: Settings,
}

/// How a login went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// A refresh token to keep in place of the password, if the registry gave one.
    pub identity_token: Option<crate::Secret>,
}

impl Client {
    /// A client with these settings.
    pub fn new(settings: Settings) -> Self {
        Self {
            _settings: settings,
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self._settings
    }

    /// A name's repository. Nothing is sent yet.
    ///
    /// # Errors
    /// When the settings block it or do not make sense.
    pub fn repository(&self, _name: &Reference, _access: Access) -> Result<Repository<'_>> {
        unimplemented!("client")
    }

    /// Tries credentials at a registry.
    ///
    /// # Errors
    /// [`Error::Denied`](crate::Error::Denied) when they are not accepted; when it cannot be reached.
    pub fn log_in(&self, _domain: &str, _credentials: &Credentials) -> Result<Login> {
        unimplemented!("client")
    }

    /// The names of a registry's repositories, where it tells them.
    ///
    /// # Errors
    /// When the registry refuses or cannot be reached.
    pub fn catalog(&self, _domain: &str) -> Result<Vec<String>> {
        unimplemented!("client")
    }
}
