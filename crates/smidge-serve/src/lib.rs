//! A store's front doors for other programs: a registry, over HTTP.
//!
//! **Does**: answer the OCI distribution API from a store, and take in what is pushed.
//!
//! **Does not** (invariants): keep state outside the store; hold more of a blob in memory than a
//! buffer; start anything.
//!
//! Specification: [OCI distribution](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md).

mod http;
mod registry;
mod shelf;

use std::net::SocketAddr;

use smidge_store::Store;

/// Why a server ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened at.
    #[error("cannot listen at `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's word.
        source: std::io::Error,
    },
    /// The machine failed.
    #[error("cannot serve")]
    Serve(#[source] std::io::Error),
}

/// How a registry is served.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Where to listen; port 0 takes any.
    pub address: SocketAddr,
    /// Whether nothing can be pushed or removed.
    pub read_only: bool,
    /// Gets a line for every request that was answered.
    pub log: Option<fn(&str)>,
}

/// Serves a store as a registry until SIGINT or SIGTERM. `ready` gets the address.
///
/// The store stays open until the process ends, and what was pushed to it without a manifest is kept
/// from being removed as long.
///
/// # Errors
/// When the address cannot be listened at.
pub fn registry(
    store: Store,
    options: &RegistryOptions,
    ready: &mut dyn FnMut(SocketAddr),
) -> Result<(), Error> {
    let registry = registry::Registry::new(Box::leak(Box::new(store)), options);
    let registry = registry.map_err(Error::Serve)?;
    http::serve(registry, options.address, ready)
}
