//! Looking at what a registry has, without fetching layers.

use smidge_image::{Digest, Platform};
use smidge_registry::Document;

use super::Connection;
use crate::{Engine, Result};

impl Engine {
    /// The tags of a repository.
    ///
    /// # Errors
    /// When the registry refuses or cannot be reached.
    pub fn remote_tags(&self, _repository: &str, _connection: &Connection) -> Result<Vec<String>> {
        unimplemented!("remote")
    }

    /// The digest of what a name stands for: of the index, unless a platform is given.
    ///
    /// # Errors
    /// When the registry refuses or cannot be reached, when there is no such platform.
    pub fn remote_digest(
        &self,
        _name: &str,
        _platform: Option<&Platform>,
        _connection: &Connection,
    ) -> Result<Digest> {
        unimplemented!("remote")
    }

    /// The manifest or index that a name stands for; a platform picks one manifest of an index.
    ///
    /// # Errors
    /// As [`Engine::remote_digest`].
    pub fn remote_manifest(
        &self,
        _name: &str,
        _platform: Option<&Platform>,
        _connection: &Connection,
    ) -> Result<Document> {
        unimplemented!("remote")
    }

    /// The config of an image, for this machine's platform unless one is given.
    ///
    /// # Errors
    /// As [`Engine::remote_digest`].
    pub fn remote_config(
        &self,
        _name: &str,
        _platform: Option<&Platform>,
        _connection: &Connection,
    ) -> Result<Vec<u8>> {
        unimplemented!("remote")
    }
}
