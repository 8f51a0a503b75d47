//! Looking at what a registry has, without fetching layers.

use smidge_image::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference};
use smidge_registry::{Access, Client, Document, Repository};

use super::attempt::{Attempt, Verb};
use super::parallel::Alone;
use super::{Connection, is_bare, parse_name};
use crate::{Engine, Error, Kind, Result};

/// An image in a registry.
pub(super) struct Remote<'c> {
    pub(super) name: Reference,
    pub(super) attempt: Attempt,
    pub(super) repository: Repository<'c>,
    /// This machine's platform.
    pub(super) host: Platform,
}

impl<'c> Remote<'c> {
    pub(super) fn new(
        engine: &Engine,
        client: &'c Client,
        (name, verb): (&Reference, Verb),
    ) -> Result<Self> {
        let attempt = Attempt::new(verb, name);
        let access = match verb {
            Verb::Push | Verb::CopyTo | Verb::ExportCache => Access::Push,
            Verb::Pull
            | Verb::CopyFrom
            | Verb::ImportCache
            | Verb::Look
            | Verb::List
            | Verb::LogIn => Access::Pull,
        };
        let repository = client
            .repository(name, access)
            .map_err(|fault| attempt.failed(fault))?;
        Ok(Self {
            name: name.clone(),
            attempt,
            repository,
            host: Platform::linux(engine.host.architecture()),
        })
    }

    /// What the registry is asked for: the digest if there is one, else the tag.
    pub(super) fn target(&self) -> String {
        match (self.name.digest(), self.name.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        }
    }

    /// The digest of what the name stands for, if the registry tells it without sending it.
    pub(super) fn head(&self) -> Result<Option<Digest>> {
        let head = self.repository.head(&self.target());
        let head = head.map_err(|fault| self.attempt.failed(fault))?;
        Ok(head.and_then(|head| head.digest))
    }

    /// The manifest or index that the name stands for.
    pub(super) fn document(&self) -> Result<Document> {
        self.document_of(&self.target())
    }

    pub(super) fn document_of(&self, target: &str) -> Result<Document> {
        let document = self.repository.document(target);
        document.map_err(|fault| self.attempt.failed(fault))
    }

    /// The config of a manifest.
    pub(super) fn config(&self, manifest: &Manifest) -> Result<Vec<u8>> {
        let config = self.repository.small_blob(&manifest.config);
        config.map_err(|fault| self.attempt.failed(fault))
    }

    /// Reads a document of a kind.
    pub(super) fn read<T: serde::de::DeserializeOwned>(
        &self,
        kind: &str,
        bytes: &[u8],
    ) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|source| {
            self.attempt
                .fault(Kind::Host, &format!("its {kind} cannot be understood"))
                .caused_by(source)
        })
    }

    /// The entry of an index for a platform: this machine's unless one is given.
    pub(super) fn select<'i>(
        &self,
        index: &'i Index,
        wanted: Option<&Platform>,
    ) -> Result<&'i Descriptor> {
        let wanted = wanted.unwrap_or(&self.host);
        let entries = &index.manifests;
        let images = || entries.iter().filter(|entry| !entry.is_attestation());
        let chosen = wanted.best(images().filter(|entry| entry.is_manifest()));
        let there = || {
            images()
                .filter_map(|entry| entry.platform.clone())
                .collect()
        };
        chosen.ok_or_else(|| self.other_platforms(wanted, there()))
    }

    /// A document itself; of an index, the manifest for a platform.
    fn chosen(&self, document: Document, wanted: Option<&Platform>) -> Result<Document> {
        if !document.descriptor.is_index() {
            return Ok(document);
        }
        let index = self.read("index", &document.bytes)?;
        let chosen = self.select(&index, wanted)?;
        self.document_of(&chosen.digest.to_string())
    }

    /// Whether a config is for the platform that was asked for; if none was, whether it is for
    /// Linux: what is for another processor may run emulated.
    pub(super) fn check_platform(
        &self,
        config: &ImageConfig,
        wanted: Option<&Platform>,
    ) -> Result<()> {
        let platform = config.platform();
        // Files imported long ago do not say what they are for.
        let fits = platform.os.is_empty()
            || match wanted {
                Some(wanted) => wanted.matches(&platform),
                None => platform.os == self.host.os,
            };
        if fits {
            return Ok(());
        }
        Err(self.other_platforms(wanted.unwrap_or(&self.host), vec![platform]))
    }

    fn other_platforms(&self, wanted: &Platform, there: Vec<Platform>) -> Error {
        let why = format!("there is no image for `{wanted}`");
        let error = self.attempt.fault(Kind::NotFound, &why);
        let list: Vec<String> = there.iter().map(Platform::to_string).collect();
        let Some(first) = list.first() else {
            return error.with_fact("there is: none for any platform");
        };
        let hint = match self.attempt.verb() {
            Verb::Pull => format!(
                "choose one that there is: `smidge pull --platform {first} {}`",
                self.name.familiar()
            ),
            _ => format!("choose one that there is: `--platform {first}`"),
        };
        error
            .with_fact(format!("there is: {}", list.join(", ")))
            .with_hint(hint)
    }
}

impl Engine {
    /// Does something with one name in a registry.
    fn with_remote<T>(
        &self,
        (name, verb): (&Reference, Verb),
        connection: &Connection,
        act: impl FnOnce(&Remote<'_>) -> Result<T>,
    ) -> Result<T> {
        let _alone = Alone::from_here();
        let client = self.client(connection)?;
        act(&Remote::new(self, &client, (name, verb))?)
    }

    /// The tags of a repository.
    ///
    /// # Errors
    /// When the registry refuses or cannot be reached.
    pub fn remote_tags(&self, repository: &str, connection: &Connection) -> Result<Vec<String>> {
        let name = parse_name(repository)?;
        if !is_bare(repository) {
            let fault = format!("`{repository}` names one image, not a repository");
            return Err(Error::new(Kind::Input, fault).with_hint(format!(
                "leave its tag out: `smidge ls {}`",
                name.familiar_name()
            )));
        }
        self.with_remote((&name, Verb::List), connection, |remote| {
            let tags = remote.repository.tags();
            tags.map_err(|fault| remote.attempt.failed(fault))
        })
    }

    /// The digest of what a name stands for: of the index, unless a platform is given.
    ///
    /// # Errors
    /// When the registry refuses or cannot be reached, when there is no such platform.
    pub fn remote_digest(
        &self,
        name: &str,
        platform: Option<&Platform>,
        connection: &Connection,
    ) -> Result<Digest> {
        let name = parse_name(name)?;
        self.with_remote((&name, Verb::Look), connection, |remote| {
            if platform.is_none()
                && let Some(digest) = remote.head()?
            {
                return Ok(digest);
            }
            // What is not there, or a registry that does not tell.
            let document = remote.document()?;
            match platform {
                Some(_) if document.descriptor.is_index() => {
                    let index = remote.read("index", &document.bytes)?;
                    Ok(remote.select(&index, platform)?.digest)
                }
                _ => Ok(document.descriptor.digest),
            }
        })
    }

    /// The manifest or index that a name stands for; a platform picks one manifest of an index.
    ///
    /// # Errors
    /// As [`Engine::remote_digest`].
    pub fn remote_manifest(
        &self,
        name: &str,
        platform: Option<&Platform>,
        connection: &Connection,
    ) -> Result<Document> {
        let name = parse_name(name)?;
        self.with_remote((&name, Verb::Look), connection, |remote| {
            let document = remote.document()?;
            match platform {
                Some(_) => remote.chosen(document, platform),
                None => Ok(document),
            }
        })
    }

    /// The config of an image, for this machine's platform unless one is given.
    ///
    /// # Errors
    /// As [`Engine::remote_digest`].
    pub fn remote_config(
        &self,
        name: &str,
        platform: Option<&Platform>,
        connection: &Connection,
    ) -> Result<Vec<u8>> {
        let name = parse_name(name)?;
        self.with_remote((&name, Verb::Look), connection, |remote| {
            let document = remote.document()?;
            let of_index = document.descriptor.is_index();
            let document = remote.chosen(document, platform)?;
            let manifest: Manifest = remote.read("manifest", &document.bytes)?;
            let bytes = remote.config(&manifest)?;
            if !of_index && platform.is_some() {
                let config = remote.read("config", &bytes)?;
                remote.check_platform(&config, platform)?;
            }
            Ok(bytes)
        })
    }
}
