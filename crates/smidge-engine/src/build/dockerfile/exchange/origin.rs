//! Where a build cache is read: a registry, or a directory.

use std::fs::File;
use std::io::{self, Read};

use smidge_image::{Descriptor, Digest, Index, LayerPath, Manifest, Platform, annotation};
use smidge_store::DirTree;

use super::option::{LayoutName, Place};
use crate::registry::{Connection, RemoteCache, for_platforms};
use crate::{Engine, Error, Kind, Result};

/// The largest document that is read, as in registries.
const LONGEST: u64 = 4 << 20;

/// A place that is open.
pub(super) enum Origin<'e> {
    Registry(RemoteCache<'e>),
    Layout(Layout),
}

/// A directory that is an OCI layout.
pub(super) struct Layout {
    shown: String,
    tree: DirTree,
    name: LayoutName,
}

impl<'e> Origin<'e> {
    pub(super) fn open(engine: &'e Engine, place: &Place, connection: &Connection) -> Result<Self> {
        match place {
            Place::Registry { name, insecure } => {
                let connection = for_name(connection, *insecure);
                RemoteCache::new(engine, name, &connection).map(Self::Registry)
            }
            Place::Layout { directory, name } => {
                let shown = place.to_string();
                let tree = DirTree::open(directory).map_err(|error| unreadable(&shown, error))?;
                let name = name.clone();
                Ok(Self::Layout(Layout { shown, tree, name }))
            }
            Place::Inline => Err(Error::new(
                Kind::Bug,
                "nothing is read from the image itself",
            )),
        }
    }

    /// The manifests that it holds for the platforms, and their configs.
    pub(super) fn documents(&self, platforms: &[Platform]) -> Result<Vec<(Manifest, Vec<u8>)>> {
        match self {
            Self::Registry(remote) => remote.documents(platforms),
            Self::Layout(layout) => layout.documents(platforms),
        }
    }

    /// A layer's bytes as they come, which nobody has verified.
    pub(super) fn layer(&self, layer: &Descriptor) -> Result<Box<dyn Read + Send>> {
        match self {
            Self::Registry(remote) => remote.layer(layer),
            Self::Layout(layout) => Ok(Box::new(layout.blob(&layer.digest)?)),
        }
    }

    /// What went wrong while a layer came.
    pub(super) fn broken(&self, source: io::Error) -> Error {
        match self {
            Self::Registry(remote) => remote.broken(source),
            Self::Layout(layout) => unreadable(&layout.shown, source),
        }
    }
}

impl Layout {
    fn documents(&self, platforms: &[Platform]) -> Result<Vec<(Manifest, Vec<u8>)>> {
        let top = match &self.name {
            LayoutName::Digest(digest) => Descriptor::new("", *digest, 0),
            LayoutName::Tag(tag) => {
                let index: Index = self.parse("index.json", &self.read("index.json")?)?;
                let named =
                    |entry: &&Descriptor| entry.annotations.get(annotation::REF_NAME) == Some(tag);
                let found = index.manifests.iter().find(named).cloned();
                found.ok_or_else(|| {
                    let message = self.message(&format!("it has no tag `{tag}`"));
                    Error::new(Kind::NotFound, message)
                })?
            }
        };
        let bytes = self.document(&top.digest)?;
        let value: serde_json::Value = self.parse(&top.digest.to_string(), &bytes)?;
        if value.get("manifests").is_none() {
            return Ok(vec![self.with_config(&top.digest, &bytes)?]);
        }
        let index: Index = self.parse(&top.digest.to_string(), &bytes)?;
        let entries = for_platforms(&index, platforms);
        let read =
            |entry: &Descriptor| self.with_config(&entry.digest, &self.document(&entry.digest)?);
        entries.into_iter().map(read).collect()
    }

    fn with_config(&self, digest: &Digest, bytes: &[u8]) -> Result<(Manifest, Vec<u8>)> {
        let manifest: Manifest = self.parse(&digest.to_string(), bytes)?;
        let config = self.document(&manifest.config.digest)?;
        Ok((manifest, config))
    }

    /// A document by its digest.
    fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let bytes = self.read(&blob_path(digest))?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(self.damaged(&digest.to_string())),
        }
    }

    fn blob(&self, digest: &Digest) -> Result<File> {
        self.open(&blob_path(digest))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.open(name)?.take(LONGEST + 1).read_to_end(&mut bytes);
        read.map_err(|error| unreadable(&self.shown, error))?;
        match bytes.len() as u64 > LONGEST {
            true => Err(self.damaged(name)),
            false => Ok(bytes),
        }
    }

    fn open(&self, name: &str) -> Result<File> {
        let path = LayerPath::try_from(name);
        let path = path.map_err(|error| unreadable(&self.shown, io::Error::other(error)))?;
        let file = self.tree.open_file(&path);
        let file = file.map_err(|error| unreadable(&format!("{}: {name}", self.shown), error))?;
        Ok(file.into_file())
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|error| self.damaged(name).caused_by(error))
    }

    fn damaged(&self, name: &str) -> Error {
        Error::new(Kind::Host, self.message(&format!("`{name}` is damaged")))
    }

    fn message(&self, why: &str) -> String {
        format!("cannot import the build cache `{}`: {why}", self.shown)
    }
}

/// How to talk to one registry of those that are named.
pub(super) fn for_name(connection: &Connection, insecure: bool) -> Connection {
    let mut connection = connection.clone();
    if insecure {
        connection.tls_verify = Some(false);
    }
    connection
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn unreadable(shown: &str, source: io::Error) -> Error {
    Error::io(format!("cannot import the build cache `{shown}`"), source)
}
