//! Where registries are, and how to talk to them.
//!
//! What people write about registries is in files of three kinds, each read as its own tools read
//! it: rules (`registries.toml`, `registries.conf`), directories of certificates, and logins.

mod auth_file;
mod certs;
mod credentials;
mod document;
mod endpoint;
mod file;
#[cfg(test)]
mod fixture;
mod load;
mod login;
mod process;
mod proxy;
mod registries_conf;
mod registries_toml;
mod replace;
mod rule;
mod source;

pub use credentials::{Credentials, Found, Stored};
pub(crate) use endpoint::is_loopback;
pub use endpoint::{Endpoint, Scheme, Tls};
pub use load::Settings;
pub use source::Sources;
