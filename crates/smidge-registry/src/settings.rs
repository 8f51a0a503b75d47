//! Where registries are, and how to talk to them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use smidge_image::Reference;

use crate::{Result, Secret};

/// The files that settings come from, as the caller's surroundings have them.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// smidge's own `registries.toml`; what a later file says of a registry replaces what an earlier one does.
    pub registries_toml: Vec<PathBuf>,
    /// containers-registries.conf(5), version 2: files and `.d` directories, the same way.
    pub registries_conf: Vec<PathBuf>,
    /// Directories with `HOST[:PORT]/{ca.crt,client.cert,client.key}`.
    pub certs_dirs: Vec<PathBuf>,
    /// Bundles of authorities; all that exist are trusted.
    pub ca_bundles: Vec<PathBuf>,
    /// Docker's `config.json` and Podman's `auth.json`, in the order in which they are asked.
    pub auth_files: Vec<PathBuf>,
    /// Where a login is written.
    pub login_file: Option<PathBuf>,
    /// `$PATH`, for credential helpers.
    pub path: OsString,
    /// The environment: proxies are read from it, and credential helpers get it.
    pub env: BTreeMap<String, String>,
    /// `--tls-verify`: overrides what files say about every registry.
    pub tls_verify: Option<bool>,
}

/// What is set about registries.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    sources: Sources,
}

/// How to start talking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// TLS alone.
    Https,
    /// TLS if the registry speaks it, plain HTTP if not: insecure registries, and this machine's own.
    Either,
}

/// TLS settings of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates are not checked.
    pub insecure: bool,
    /// Further authorities, PEM.
    pub authorities: Vec<PathBuf>,
    /// Our certificate and key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// One place to ask for a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host, and port if there is one: `registry-1.docker.io`, `localhost:5000`.
    pub host: String,
    /// The repository there: a mirror may have it elsewhere.
    pub path: String,
    /// The name that credentials are kept under.
    pub credentials: String,
    /// How to start talking.
    pub scheme: Scheme,
    /// TLS.
    pub tls: Tls,
    /// Whether it is asked by digest alone (a mirror that may have old tags).
    pub digests_only: bool,
}

/// What proves who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password.
    Basic {
        /// Who.
        username: String,
        /// The password, or a token in its place.
        password: Secret,
    },
    /// A refresh token that a registry's token server gave.
    IdentityToken(Secret),
}

/// Credentials, and where they are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The credentials.
    pub credentials: Credentials,
    /// In words: "user `me` from `~/.docker/config.json`".
    pub origin: String,
}

/// Where a login was kept, or removed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In a file, which anybody who can read it can use.
    File(PathBuf),
    /// By a credential helper.
    Helper(String),
}

impl Settings {
    /// Reads all files.
    ///
    /// # Errors
    /// [`Error::Settings`](crate::Error::Settings) with file and line.
    pub fn load(sources: Sources) -> Result<Self> {
        Ok(Self { sources })
    }

    /// Where to pull a name from: mirrors first, the registry itself last.
    ///
    /// # Errors
    /// [`Error::Blocked`](crate::Error::Blocked).
    pub fn endpoints(&self, _name: &Reference) -> Result<Vec<Endpoint>> {
        unimplemented!("settings")
    }

    /// The registry itself: where to push, log in, list. `path` may be empty.
    ///
    /// # Errors
    /// [`Error::Blocked`](crate::Error::Blocked).
    pub fn endpoint(&self, _domain: &str, _path: &str) -> Result<Endpoint> {
        unimplemented!("settings")
    }

    /// The proxy for a URL's host, from the environment: `http://[user:password@]host:port`.
    pub fn proxy(&self, _https: bool, _host: &str) -> Option<String> {
        unimplemented!("settings")
    }

    /// Looks for credentials for a registry, the longest matching entry (`domain/path…`) first.
    ///
    /// # Errors
    /// When a file cannot be read or understood, when a helper fails.
    pub fn credentials(&self, _domain: &str, _path: &str) -> Result<Option<Found>> {
        unimplemented!("settings")
    }

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

    /// The files that the settings came from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }
}
