//! The client: settings, connections, tokens.

use std::sync::Arc;

use smidge_image::Reference;

use crate::agent::Bundles;
use crate::retry::Policy;
use crate::wire::{Surroundings, Wire};
use crate::{Credentials, Repository, Result, Secret, Settings, listing, login};

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

impl Access {
    /// The rights as token servers know them.
    pub(crate) fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "pull,push,delete",
        }
    }
}

/// A client of any number of registries, for any number of threads. Holds connections and tokens.
pub struct Client {
    settings: Arc<Settings>,
    wire: Arc<Wire>,
}

/// How a login went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// A refresh token to keep in place of the password, if the registry gave one.
    pub identity_token: Option<Secret>,
}

impl Client {
    /// A client with these settings.
    pub fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let (proxies, credentials, hosts) = (
            Arc::clone(&settings),
            Arc::clone(&settings),
            Arc::clone(&settings),
        );
        let surroundings = Surroundings {
            bundles: Bundles {
                named: settings.sources().named_bundles.clone(),
                usual: settings.sources().ca_bundles.clone(),
            },
            proxy: Box::new(move |secure, host| proxies.proxy(secure, host)),
            tls: Box::new(move |host| hosts.tls(host)),
            credentials: Box::new(move |endpoint| {
                credentials.credentials(&endpoint.credentials, &endpoint.path)
            }),
        };
        let wire = Arc::new(Wire::new(surroundings, Policy::default()));
        Self { settings, wire }
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// A name's repository. Nothing is sent yet.
    ///
    /// # Errors
    /// When the settings block it or do not make sense.
    pub fn repository(&self, name: &Reference, access: Access) -> Result<Repository<'_>> {
        let endpoints = match access {
            Access::Pull => self.settings.endpoints(name)?,
            Access::Push | Access::Delete => {
                vec![self.settings.endpoint(name.domain(), name.path())?]
            }
        };
        Repository::new(&self.wire, endpoints, access)
    }

    /// Tries credentials at a registry.
    ///
    /// # Errors
    /// [`Error::Denied`](crate::Error::Denied) when they are not accepted; when it cannot be reached.
    pub fn log_in(&self, domain: &str, credentials: &Credentials) -> Result<Login> {
        let endpoint = self.settings.endpoint(domain, "")?;
        login::log_in(&self.wire, &endpoint, credentials)
    }

    /// The names of a registry's repositories, where it tells them.
    ///
    /// # Errors
    /// When the registry refuses or cannot be reached.
    pub fn catalog(&self, domain: &str) -> Result<Vec<String>> {
        let endpoint = self.settings.endpoint(domain, "")?;
        listing::catalog(&self.wire, &endpoint)
    }
}
