//! The verbs that talk to registries, and those that move images between places.

mod attempt;
mod cache;
mod copy;
mod login;
mod manifest;
mod parallel;
mod pull;
mod push;
mod remote;
mod sources;

use std::path::PathBuf;

pub use copy::{Copied, CopyRequest, Location, LocationError};
pub use login::{LoggedIn, LoginRequest};
pub use manifest::{Annotation, Inspected, ManifestCreate, ManifestPushed};
pub use pull::{Missing, PullRequest, Pulled};
pub use push::{PushRequest, Pushed};
pub use smidge_registry::Secret;
pub use smidge_store::Compression;

pub(crate) use attempt::credentials;
pub(crate) use cache::{RemoteCache, for_platforms};
pub(crate) use copy::check_layout;

use smidge_image::{Reference, ReferenceError};
use smidge_registry::{Client, Settings};

use crate::{Engine, Error, Kind, Result};

/// How to talk to registries, as options say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// `--tls-verify`: whether certificates are checked; `None` leaves it to the settings.
    pub tls_verify: Option<bool>,
    /// `--authfile`: where credentials are read and kept, in place of the usual places.
    pub auth_file: Option<PathBuf>,
}

impl Engine {
    /// A client of registries in these surroundings.
    ///
    /// # Errors
    /// When a settings file cannot be read or understood, when a file that was named is not there.
    pub(crate) fn client(&self, connection: &Connection) -> Result<Client> {
        if let Some(file) = sources::named_auth_file(&self.host, connection) {
            // A name that is mistyped would look like a login that is not accepted.
            file.metadata().map_err(|source| {
                let message = format!("cannot read the credentials in `{}`", file.display());
                Error::io(message, source)
            })?;
        }
        self.client_to_log_in(connection)
    }

    /// As [`Engine::client`]; the file for credentials need not be there yet.
    fn client_to_log_in(&self, connection: &Connection) -> Result<Client> {
        let settings = Settings::load(sources::sources(&self.host, connection))?;
        Ok(Client::new(settings))
    }
}

/// Reads the name of an image in a registry.
pub(crate) fn parse_name(text: &str) -> Result<Reference> {
    text.parse()
        .map_err(|fault: ReferenceError| Error::new(Kind::Input, fault.to_string()))
}

/// Whether a name stands for a repository: it has neither tag nor digest.
pub(crate) fn is_bare(text: &str) -> bool {
    let last = text.rsplit('/').next().unwrap_or(text);
    !last.contains([':', '@'])
}

#[cfg(test)]
mod tests;
