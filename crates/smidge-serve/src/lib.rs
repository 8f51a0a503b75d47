//! A store's front doors for other programs: a registry, over HTTP.
//!
//! **Does**: answer the OCI distribution API from a store, and take in what is pushed.
//!
//! **Does not** (invariants): keep state outside the store; hold more of a blob in memory than a
//! buffer; start anything.
//!
//! Specification: [OCI distribution](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md).

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
}

/// Serves a store as a registry until SIGINT or SIGTERM. `ready` gets the address.
///
/// # Errors
/// When the address cannot be listened at.
pub fn registry(
    _store: Store,
    _options: &RegistryOptions,
    _ready: &mut dyn FnMut(SocketAddr),
) -> Result<(), Error> {
    unimplemented!("registry")
}
