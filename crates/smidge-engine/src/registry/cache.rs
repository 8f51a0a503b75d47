//! Build caches in registries, read piece by piece.

use std::io::{self, Read};

use smidge_image::{Descriptor, Index, Manifest, Platform, Reference};
use smidge_registry::{Client, Document, Error as RegistryError};

use super::Connection;
use super::attempt::Verb;
use super::parallel::Alone;
use super::remote::Remote;
use crate::{Engine, Error, Kind, Result};

/// A name in a registry that a build cache, or an image with one, is under.
pub(crate) struct RemoteCache<'e> {
    engine: &'e Engine,
    client: Client,
    name: Reference,
}

impl<'e> RemoteCache<'e> {
    /// One that is asked for nothing yet.
    pub(crate) fn new(
        engine: &'e Engine,
        name: &Reference,
        connection: &Connection,
    ) -> Result<Self> {
        Ok(Self {
            engine,
            client: engine.client(connection)?,
            name: name.clone(),
        })
    }

    fn remote(&self) -> Result<Remote<'_>> {
        Remote::new(self.engine, &self.client, (&self.name, Verb::ImportCache))
    }

    /// What the name stands for: manifests and their configs. Of an index those for the platforms.
    pub(crate) fn documents(&self, platforms: &[Platform]) -> Result<Vec<(Manifest, Vec<u8>)>> {
        let _alone = Alone::from_here();
        let remote = self.remote()?;
        let top = remote.document()?;
        let documents = match top.descriptor.is_index() {
            false => vec![top],
            true => {
                let index: Index = remote.read("index", &top.bytes)?;
                let chosen = for_platforms(&index, platforms);
                let fetch = |entry: &Descriptor| remote.document_of(&entry.digest.to_string());
                chosen.into_iter().map(fetch).collect::<Result<_>>()?
            }
        };
        let read = |document: Document| {
            let manifest: Manifest = remote.read("manifest", &document.bytes)?;
            let config = remote.config(&manifest)?;
            Ok((manifest, config))
        };
        documents.into_iter().map(read).collect()
    }

    /// A layer's bytes as they come, which nobody has verified.
    pub(crate) fn layer(&self, layer: &Descriptor) -> Result<Box<dyn Read + Send>> {
        let remote = self.remote()?;
        let reader = remote.repository.blob(layer, 0);
        Ok(Box::new(
            reader.map_err(|fault| remote.attempt.failed(fault))?,
        ))
    }

    /// What went wrong while a layer came.
    pub(crate) fn broken(&self, source: io::Error) -> Error {
        let remote = match self.remote() {
            Ok(remote) => remote,
            Err(error) => return error,
        };
        match source.downcast::<RegistryError>() {
            Ok(fault) => remote.attempt.failed(fault),
            Err(source) => remote
                .attempt
                .fault(Kind::Host, "it broke off")
                .caused_by(source),
        }
    }
}

/// The entries of an index that suit platforms, each once.
pub(crate) fn for_platforms<'i>(index: &'i Index, platforms: &[Platform]) -> Vec<&'i Descriptor> {
    let mut chosen: Vec<&Descriptor> = Vec::new();
    for platform in platforms {
        let manifests = index.manifests.iter().filter(|entry| entry.is_manifest());
        let best = platform.best(manifests);
        chosen.extend(best.filter(|best| !chosen.contains(best)));
    }
    chosen
}
