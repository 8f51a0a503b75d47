//! `push`: from the store to a registry.

use std::collections::{HashMap, HashSet};
use std::io::{self, Cursor, Read};

use smidge_image::{Descriptor, Digest, ImageConfig, Manifest, Platform, Reference};
use smidge_registry::{Upload, Uploaded};
use smidge_store::{Compression, Error as StoreError, Transfer, TransferLayer};

use super::attempt::Verb;
use super::parallel::{Alone, Teller, Work, unless_quick};
use super::pull::tag_with_all_tags;
use super::remote::Remote;
use super::{Connection, is_bare, parse_name};
use crate::image::similar_names;
use crate::progress::{Action, Progress, Settled};
use crate::{Engine, Error, Kind, Result};

/// What to send.
#[derive(Clone, Debug, Default)]
pub struct PushRequest {
    /// The image's name as the user wrote it.
    pub name: String,
    /// What the store calls it, if that is something else.
    pub stored_as: Option<String>,
    /// `-a`: every tag of the repository.
    pub all_tags: bool,
    /// The one platform to send; everything that the name stands for if `None`.
    pub platform: Option<Platform>,
    /// How to compress layers that are not compressed yet.
    pub compression: Compression,
    /// How to talk to registries.
    pub connection: Connection,
}

/// An image that was sent.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// Its name, complete.
    pub name: Reference,
    /// The digest of what the registry has now.
    pub digest: Digest,
    /// Bytes of that manifest or index.
    pub size: u64,
    /// Whether the registry had it already, as it is.
    pub up_to_date: bool,
    /// What is worth knowing: platforms that were not sent.
    pub notes: Vec<String>,
}

impl Engine {
    /// Sends an image. What the registry has already is not sent.
    ///
    /// # Errors
    /// When the registry refuses or cannot be reached, when the image is not there or damaged.
    pub fn push(&self, request: &PushRequest, progress: &dyn Progress) -> Result<Vec<Pushed>> {
        let _alone = Alone::from_here();
        let name = parse_name(&request.name)?;
        if name.digest().is_some() {
            let fault = format!("cannot push `{}`: a digest is no name", name.familiar());
            return Err(Error::new(Kind::Input, fault).with_hint(format!(
                "give it a tag: `smidge tag {} {}:TAG`",
                name.familiar(),
                name.familiar_name()
            )));
        }
        if request.all_tags && !is_bare(&request.name) {
            return Err(tag_with_all_tags(&name, "push"));
        }
        let names = match request.all_tags {
            false => vec![name],
            true => self.names_in(&name)?,
        };
        let client = self.client(&request.connection)?;
        let verb = match request.stored_as {
            Some(_) => Verb::CopyTo,
            None => Verb::Push,
        };
        let push = |name: &Reference| {
            let push = Push {
                engine: self,
                remote: Remote::new(self, &client, (name, verb))?,
                request,
                progress,
            };
            let pushed = push.run()?;
            self.note_image("push", &name.familiar(), &name.familiar());
            Ok(pushed)
        };
        names.iter().map(push).collect()
    }

    /// Sends what is under no name in the store: a build cache. Tells whether the registry had it
    /// already, as it is.
    pub(crate) fn push_cache(
        &self,
        name: &Reference,
        cache: &Transfer,
        connection: &Connection,
        progress: &dyn Progress,
    ) -> Result<bool> {
        let _alone = Alone::from_here();
        let client = self.client(connection)?;
        let push = Push {
            engine: self,
            remote: Remote::new(self, &client, (name, Verb::ExportCache))?,
            request: &PushRequest::default(),
            progress,
        };
        if push.remote.head()? == Some(cache.digest()) {
            return Ok(true);
        }
        push.send(&Outgoing {
            top: cache.descriptor.clone(),
            bytes: cache.manifest.clone(),
            is_index: false,
            images: vec![cache.clone()],
            notes: Vec::new(),
        })?;
        Ok(false)
    }

    /// Every name that the store has in a repository.
    fn names_in(&self, repository: &Reference) -> Result<Vec<Reference>> {
        let same = |name: &Reference| {
            (name.domain(), name.path()) == (repository.domain(), repository.path())
                && name.tag().is_some()
        };
        let images = self.store.images()?;
        let mut names: Vec<Reference> = images
            .into_iter()
            .flat_map(|image| image.names)
            .filter(same)
            .collect();
        names.sort();
        names.dedup();
        match names.is_empty() {
            true => Err(self.not_here(repository, &repository.familiar_name())),
            false => Ok(names),
        }
    }

    /// There is no image of that name to send.
    fn not_here(&self, name: &Reference, text: &str) -> Error {
        let fault = format!("cannot push `{text}`: there is no image of that name");
        let mut error = Error::new(Kind::NotFound, fault);
        let similar = similar_names(self, text);
        if !similar.is_empty() {
            error = error.with_hint(format!("there is {}", similar.join(", ")));
        }
        error.with_hint(format!(
            "give an image this name: `smidge tag IMAGE {}`",
            name.familiar()
        ))
    }
}

/// One name on its way to a registry.
struct Push<'p> {
    engine: &'p Engine,
    remote: Remote<'p>,
    request: &'p PushRequest,
    progress: &'p dyn Progress,
}

/// What is to be sent for a name.
struct Outgoing {
    /// What the tag is to stand for: a manifest, or an index.
    top: Descriptor,
    bytes: Vec<u8>,
    /// Whether that is an index of the images.
    is_index: bool,
    images: Vec<Transfer>,
    notes: Vec<String>,
}

/// A blob to send.
struct Blob {
    descriptor: Descriptor,
    source: Source,
    /// Repositories of the same registry that may have it.
    elsewhere: Vec<String>,
}

/// Where a blob's bytes are.
enum Source {
    Layer(Box<TransferLayer>),
    Config(Vec<u8>),
}

impl Push<'_> {
    fn run(&self) -> Result<Pushed> {
        self.check()?;
        // Before anything is compressed: who may not even look need not wait for that.
        let there = self.remote.head()?;
        let outgoing = unless_quick(self.progress, "Compressing layers", || self.outgoing(there))?;
        let digest = outgoing.top.digest;
        let up_to_date = there == Some(digest);
        if !up_to_date {
            self.send(&outgoing)?;
        }
        self.remember(digest)?;
        Ok(Pushed {
            name: self.remote.name.clone(),
            digest,
            size: outgoing.top.size,
            up_to_date,
            notes: outgoing.notes,
        })
    }

    /// What the store calls it: by default the name in full, as an id or the beginning of one is not
    /// meant.
    fn name(&self) -> String {
        let stored_as = self.request.stored_as.clone();
        stored_as.unwrap_or_else(|| self.remote.name.to_string())
    }

    fn check(&self) -> Result<()> {
        match self.engine.store.document(&self.name()) {
            Err(StoreError::NoSuchImage(_)) => {
                let name = &self.remote.name;
                Err(self.engine.not_here(name, &name.familiar()))
            }
            found => Ok(found.map(drop)?),
        }
    }

    /// Compresses what is not compressed yet. `there` is what the registry has under the name.
    fn outgoing(&self, there: Option<Digest>) -> Result<Outgoing> {
        let (store, compression) = (&self.engine.store, self.request.compression);
        let name = self.name();
        let platform = self.request.platform.as_ref();
        let index = match platform {
            Some(_) => None,
            None => store.transfer_index(&name, compression)?,
        };
        let mut notes = Vec::new();
        if let Some(index) = index {
            let missing = &index.missing;
            if there == Some(index.descriptor.digest) || self.are_there(missing)? {
                return Ok(Outgoing {
                    top: index.descriptor,
                    bytes: index.index,
                    is_index: true,
                    images: index.images,
                    notes,
                });
            }
            notes.push(incomplete(&self.remote.name, missing.len()));
        }
        let image = match store.image_for(&name, platform) {
            Err(StoreError::Invalid { .. }) => {
                let why = "it is no container image";
                return Err(self.remote.attempt.fault(Kind::Input, why));
            }
            found => found?,
        };
        let transfer = store.transfer(&image, compression)?;
        Ok(Outgoing {
            top: transfer.descriptor.clone(),
            bytes: transfer.manifest.clone(),
            is_index: false,
            images: vec![transfer],
            notes,
        })
    }

    /// Whether the registry has what the store lacks of an index: it may have come from there.
    fn are_there(&self, missing: &[Descriptor]) -> Result<bool> {
        for entry in missing {
            let head = self.remote.repository.head(&entry.digest.to_string());
            let head = head.map_err(|fault| self.remote.attempt.failed(fault))?;
            if head.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends blobs, then what refers to them, then what refers to that.
    fn send(&self, outgoing: &Outgoing) -> Result<()> {
        let blobs = self.blobs(&outgoing.images)?;
        let bytes = blobs.iter().map(|blob| blob.descriptor.size).sum();
        self.progress.expect(blobs.len(), bytes);
        let work = Work {
            action: Action::Push,
            blob: |blob: &Blob| &blob.descriptor,
            act: &|blob, teller| self.send_one(blob, teller),
        };
        work.run(&blobs, self.progress)?;
        if outgoing.is_index {
            for image in &outgoing.images {
                let digest = image.digest().to_string();
                self.put(&digest, &image.descriptor, &image.manifest)?;
            }
        }
        self.put(&self.remote.target(), &outgoing.top, &outgoing.bytes)
    }

    fn put(&self, target: &str, document: &Descriptor, bytes: &[u8]) -> Result<()> {
        let put = self
            .remote
            .repository
            .put(target, &document.media_type, bytes);
        let put = put.map_err(|fault| self.remote.attempt.failed(fault))?;
        if put.digest == document.digest {
            return Ok(());
        }
        Err(self
            .remote
            .attempt
            .fault(Kind::Host, "the registry changed it")
            .with_fact(format!("sent: {}", document.digest))
            .with_fact(format!("stored: {}", put.digest)))
    }

    /// Every blob once, the largest first.
    fn blobs(&self, images: &[Transfer]) -> Result<Vec<Blob>> {
        let elsewhere = self.elsewhere()?;
        let mut blobs = Vec::new();
        for image in images {
            let manifest: Manifest = self.remote.read("manifest", &image.manifest)?;
            // What is no image, as an attestation, has no diff ids.
            let config = serde_json::from_slice::<ImageConfig>(&image.config);
            let diff_ids = config.map(|config| config.rootfs.diff_ids);
            let diff_ids = diff_ids.unwrap_or_default().into_iter().map(Some);
            let diff_ids = diff_ids.chain(std::iter::repeat(None));
            let layers = image.layers.iter().zip(diff_ids);
            // What may not be handed on is not: others know where to fetch it.
            let layers = layers.filter(|(layer, _)| layer.descriptor.urls().is_empty());
            blobs.extend(layers.map(|(layer, diff_id)| {
                let known = diff_id.and_then(|diff_id| elsewhere.get(&diff_id.0));
                Blob {
                    descriptor: layer.descriptor.clone(),
                    source: Source::Layer(Box::new(layer.clone())),
                    elsewhere: known.cloned().unwrap_or_default(),
                }
            }));
            blobs.push(Blob {
                descriptor: manifest.config,
                source: Source::Config(image.config.clone()),
                elsewhere: Vec::new(),
            });
        }
        let mut seen = HashSet::new();
        blobs.retain(|blob| seen.insert(blob.descriptor.digest));
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.descriptor.size));
        Ok(blobs)
    }

    /// Which other repositories of this registry have a layer, by diff id: those that an image with
    /// it was pulled from or pushed to.
    fn elsewhere(&self) -> Result<HashMap<Digest, Vec<String>>> {
        /// More than the first few are not worth asking.
        const ENOUGH: usize = 3;
        let own = &self.remote.name;
        let mut found: HashMap<Digest, Vec<String>> = HashMap::new();
        for image in self.engine.store.images()? {
            let others = image
                .repo_digests
                .iter()
                .filter(|name| name.domain() == own.domain() && name.path() != own.path());
            for other in others {
                for diff_id in &image.config.rootfs.diff_ids {
                    let known = found.entry(diff_id.0).or_default();
                    if known.len() < ENOUGH && !known.iter().any(|path| path == other.path()) {
                        known.push(other.path().to_owned());
                    }
                }
            }
        }
        Ok(found)
    }

    fn send_one(&self, blob: &Blob, teller: &Teller) -> Result<()> {
        let open = |offset| -> io::Result<Box<dyn Read + Send>> {
            teller.moves(offset);
            Ok(teller.reader(blob.source.open(offset)?))
        };
        let upload = Upload {
            descriptor: &blob.descriptor,
            mount_from: &blob.elsewhere,
            open: &open,
            // Counted as they are read.
            sent: &|_| {},
        };
        let uploaded = self.remote.repository.upload(&upload);
        match uploaded.map_err(|fault| self.remote.attempt.failed(fault))? {
            Uploaded::Existed => teller.settled(Settled::Exists),
            Uploaded::Mounted(from) => teller.settled(Settled::Mounted(from)),
            Uploaded::Sent => {}
        }
        Ok(())
    }

    /// Records under which digest the registry has it now, unless that is known.
    fn remember(&self, digest: Digest) -> Result<()> {
        if self.request.stored_as.is_some() {
            return Ok(());
        }
        let store = &self.engine.store;
        let known = store.repo_digest(&self.remote.name)? == Some(digest);
        match known {
            true => Ok(()),
            false => Ok(store.set_repo_digest(&self.remote.name, digest)?),
        }
    }
}

impl Source {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::Config(bytes) => {
                let mut reader = Cursor::new(bytes.clone());
                reader.set_position(offset);
                Ok(Box::new(reader))
            }
            Self::Layer(layer) => {
                let reader = layer.open_from(offset).map_err(io::Error::other)?;
                Ok(Box::new(reader))
            }
        }
    }
}

/// What is told when an index cannot be sent.
fn incomplete(name: &Reference, missing: usize) -> String {
    let name = name.familiar();
    let entries = match missing {
        1 => "1 entry of its index is".to_owned(),
        more => format!("{more} entries of its index are"),
    };
    format!(
        "`{name}` is for several platforms, but {entries} not stored: the image for this machine was \
         sent alone; what is pulled with `--all-platforms` can be sent whole"
    )
}
