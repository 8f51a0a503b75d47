//! Registries, over HTTP: manifests and blobs in both directions, tags, referrers, logins.
//!
//! **Does**: find the endpoints of a name (mirrors, insecure registries, certificates), log in, ask
//! again where asking again helps, follow redirects without taking credentials along, tell exactly
//! what a registry refused.
//!
//! **Does not** (invariants): start threads, write to the store, read the environment, print, show a secret.
//!
//! ```no_run
//! use smidge_registry::{Access, Client, Settings, Sources};
//!
//! let client = Client::new(Settings::load(Sources::default())?);
//! let name = "alpine:3".parse().unwrap();
//! let repository = client.repository(&name, Access::Pull)?;
//! let document = repository.document("3")?;
//! println!("{} is a {}", document.descriptor.digest, document.descriptor.media_type);
//! # Ok::<(), smidge_registry::Error>(())
//! ```
//!
//! Specifications: [OCI distribution](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md),
//! [token authentication](https://distribution.github.io/distribution/spec/auth/token/).

mod agent;
mod blob;
mod challenge;
mod client;
mod containerd;
mod daemon;
mod download;
mod error;
mod fault;
mod foreign;
mod forward;
mod listing;
mod login;
mod pace;
mod referrers;
mod repository;
mod retry;
mod secret;
mod settings;
#[cfg(test)]
mod testing;
mod token;
mod transport;
mod trouble;
mod upload;
mod url;
mod wire;

pub use blob::BlobReader;
pub use client::{Access, Client, Login};
pub use containerd::Containerd;
pub use daemon::{Daemon, Wants};
pub use download::Download;
pub use error::{Error, Fault};
pub use repository::{Document, Head, Put, Repository, Upload, Uploaded};
pub use secret::Secret;
pub use settings::{Credentials, Endpoint, Found, Scheme, Settings, Sources, Stored, Tls};

/// The result of asking a registry.
pub type Result<T, E = Error> = std::result::Result<T, E>;
