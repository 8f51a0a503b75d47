//! The verbs that talk to registries, and those that move images between places.

mod copy;
mod login;
mod manifest;
mod pull;
mod push;
mod remote;

use std::path::PathBuf;

pub use copy::{Copied, CopyRequest, Location, LocationError};
pub use login::{LoggedIn, LoginRequest};
pub use manifest::{Annotation, ManifestCreate};
pub use pull::{PullRequest, Pulled};
pub use push::{PushRequest, Pushed};

use smidge_registry::Client;

use crate::{Engine, Result};

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
    /// When a settings file cannot be read or understood.
    pub(crate) fn client(&self, _connection: &Connection) -> Result<Client> {
        unimplemented!("registry")
    }
}
