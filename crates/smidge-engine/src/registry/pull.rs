//! `pull`: from a registry into the store.

use std::collections::HashSet;
use std::io;

use smidge_image::{
    Descriptor, DiffId, Digest, ImageConfig, Index, Manifest, Platform, Reference, validate,
};
use smidge_registry::{Client, Document};
use smidge_store::{Error as StoreError, Image, Intake, Store, Variant};

use super::attempt::Verb;
use super::parallel::{Alone, Teller, Work};
use super::remote::Remote;
use super::{Connection, is_bare, parse_name};
use crate::container::PullPolicy;
use crate::image::similar_names;
use crate::progress::{Action, Progress, Settled};
use crate::{Engine, Error, Kind, Result};

/// What to fetch.
#[derive(Clone, Debug, Default)]
pub struct PullRequest {
    /// The image's name as the user wrote it.
    pub name: String,
    /// `-a`: every tag of the repository.
    pub all_tags: bool,
    /// The platform, if not this machine's.
    pub platform: Option<Platform>,
    /// Every platform of an index.
    pub all_platforms: bool,
    /// Leave layers packed: no container is to be made of them.
    pub packed: bool,
    /// How to talk to registries.
    pub connection: Connection,
}

/// That an image has to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing;

/// An image that was fetched.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Its name, complete.
    pub name: Reference,
    /// The digest that the registry knows it by: the index's, if there is one.
    pub digest: Digest,
    /// The image.
    pub image: Image,
    /// Whether it was there already, as it is.
    pub up_to_date: bool,
}

impl Engine {
    /// Fetches an image. What is there already is not fetched.
    ///
    /// # Errors
    /// When the registry refuses or cannot be reached, when the image is none for the platform, is
    /// corrupt, or does not fit on the disk. The store is then as it was.
    pub fn pull(&self, request: &PullRequest, progress: &dyn Progress) -> Result<Vec<Pulled>> {
        let _alone = Alone::from_here();
        let name = parse_name(&request.name)?;
        if request.all_tags && !is_bare(&request.name) {
            return Err(tag_with_all_tags(&name, "pull"));
        }
        let client = self.client(&request.connection)?;
        let names = match request.all_tags {
            false => vec![name],
            true => self.tags_of(&client, &name)?,
        };
        let pull = |name: &Reference| {
            let remote = Remote::new(self, &client, (name, Verb::Pull))?;
            let pull = Pull {
                store: &self.store,
                remote,
                request,
                progress,
            };
            let pulled = pull.run().map_err(|error| self.with_similar(error, name))?;
            self.note_image("pull", &name.familiar(), &name.familiar());
            Ok(pulled)
        };
        names.iter().map(pull).collect()
    }

    /// Whether an image has to be fetched before a container can be made of it. What can be no name
    /// of an image is left to whoever looks for it.
    pub fn needs_pull(&self, image: &str, policy: PullPolicy, platform: Option<&Platform>) -> bool {
        self.look_for(image, policy, platform).is_err()
    }

    /// Looks for an image that a container is to be made of: the image, so that nobody needs to look again,
    /// or nothing where that is left to whoever makes it.
    ///
    /// # Errors
    /// When it has to be fetched.
    pub fn look_for(
        &self,
        image: &str,
        policy: PullPolicy,
        platform: Option<&Platform>,
    ) -> std::result::Result<Option<Image>, Missing> {
        let built_in = image == "scratch" && self.store.image(image).is_ok();
        if built_in || image.parse::<Reference>().is_err() {
            return Ok(None);
        }
        match policy {
            PullPolicy::Never => Ok(None),
            PullPolicy::Always => Err(Missing),
            PullPolicy::Missing => match self.store.image_for(image, platform) {
                Err(StoreError::NoSuchImage(_) | StoreError::NoSuchPlatform { .. }) => Err(Missing),
                found => Ok(found.ok()),
            },
        }
    }

    fn tags_of(&self, client: &Client, name: &Reference) -> Result<Vec<Reference>> {
        let remote = Remote::new(self, client, (name, Verb::List))?;
        let tags = remote.repository.tags();
        let tags = tags.map_err(|fault| remote.attempt.failed(fault))?;
        let names: Vec<Reference> = tags
            .iter()
            .map(|tag| name.with_tag(tag))
            .collect::<std::result::Result<_, _>>()
            .map_err(|fault| remote.attempt.fault(Kind::Host, &fault.to_string()))?;
        match names.is_empty() {
            true => Err(remote
                .attempt
                .fault(Kind::NotFound, "the repository has no tags")),
            false => Ok(names),
        }
    }

    /// Who asked for an image that is nowhere may have meant one that is here.
    fn with_similar(&self, error: Error, name: &Reference) -> Error {
        if !matches!(error.kind(), Kind::NotFound | Kind::Denied) {
            return error;
        }
        let mut similar = similar_names(self, &name.familiar());
        similar.retain(|text| *text != format!("`{}`", name.familiar()));
        match similar.is_empty() {
            true => error,
            false => error.with_hint(format!("in the store, there is {}", similar.join(", "))),
        }
    }
}

/// `-a` and a tag contradict each other.
pub(super) fn tag_with_all_tags(name: &Reference, verb: &str) -> Error {
    let fault = format!("`{}` names one image, but `-a` means all", name.familiar());
    let repository = name.familiar_name();
    Error::new(Kind::Input, fault).with_hint(format!(
        "leave the tag out: `smidge {verb} -a {repository}`"
    ))
}

/// Whether an entry of an index is one image: neither an attestation nor an index itself.
fn is_of_image(entry: &Descriptor) -> bool {
    entry.is_manifest() && !entry.is_attestation()
}

/// One image on its way into the store.
struct Pull<'p> {
    store: &'p Store,
    remote: Remote<'p>,
    request: &'p PullRequest,
    progress: &'p dyn Progress,
}

/// What the store has under a name.
struct Known {
    image: Image,
    /// The digests that the registry may know it by.
    digests: Vec<Digest>,
}

/// A blob to fetch.
struct Blob {
    descriptor: Descriptor,
    /// What it is in words.
    part: String,
    /// The layer that it unpacks to, if it is to be unpacked.
    diff_id: Option<DiffId>,
}

impl Pull<'_> {
    fn run(&self) -> Result<Pulled> {
        let known = self.known();
        if let Some(known) = &known {
            let digest = match self.remote.name.digest() {
                Some(digest) => Some(digest),
                None => self.remote.head()?,
            };
            if let Some(pulled) = self.if_unchanged(known, digest) {
                return Ok(pulled);
            }
        }
        let document = self.remote.document()?;
        let digest = document.descriptor.digest;
        if let Some(pulled) = known.and_then(|known| self.if_unchanged(&known, Some(digest))) {
            return Ok(pulled);
        }
        let mut taken = self.take(&document)?;
        let name = self.remote.name.to_string();
        let platform = self.request.platform.as_ref();
        let image = match self.store.image_for(&name, platform) {
            // All platforms were fetched, but this machine's is not among them.
            Err(StoreError::NoSuchPlatform { .. }) if !taken.is_empty() => taken.swap_remove(0),
            found => found?,
        };
        Ok(Pulled {
            name: self.remote.name.clone(),
            digest,
            image,
            up_to_date: false,
        })
    }

    /// What the store has under the name, if nothing of it is missing.
    fn known(&self) -> Option<Known> {
        let name = self.remote.name.to_string();
        let (document, _) = self.store.document(&name).ok()?;
        let mut platform = self.request.platform.as_ref();
        if document.is_index() && !self.request.all_platforms {
            // Not just any that happens to be here alone.
            platform = platform.or(Some(&self.remote.host));
        }
        // What is damaged is fetched anew.
        let image = self.store.image_for(&name, platform).ok()?;
        let complete = |image: &Image| {
            let mut layers = image.manifest.layers.iter();
            layers.all(|layer| self.store.has(layer))
        };
        let all = || {
            let variants = self.store.variants(&name).ok()?;
            let there = |variant: &Variant| match &variant.image {
                Some(image) => complete(image),
                None => !is_of_image(&variant.descriptor) && self.store.has(&variant.descriptor),
            };
            variants.iter().all(there).then_some(())
        };
        if !complete(&image) || (self.request.all_platforms && all().is_none()) {
            return None;
        }
        let recorded = self.store.repo_digest(&self.remote.name).ok()?;
        let digests = recorded.into_iter().chain([document.digest]).collect();
        Some(Known { image, digests })
    }

    fn if_unchanged(&self, known: &Known, digest: Option<Digest>) -> Option<Pulled> {
        let digest = digest.filter(|digest| known.digests.contains(digest))?;
        Some(Pulled {
            name: self.remote.name.clone(),
            digest,
            image: known.image.clone(),
            up_to_date: true,
        })
    }

    /// Brings what a document stands for into the store; tells which images that were.
    fn take(&self, document: &Document) -> Result<Vec<Image>> {
        let intake = self.store.intake()?;
        let mut blobs = Vec::new();
        intake.put(&document.bytes)?;
        if document.descriptor.is_index() {
            let index: Index = self.remote.read("index", &document.bytes)?;
            let wanted = self.request.platform.as_ref();
            let chosen = match self.request.all_platforms {
                false => Some(self.remote.select(&index, wanted)?),
                // One that is not for this machine alone need not have anything for it.
                true => self.remote.select(&index, wanted).ok(),
            };
            for entry in &index.manifests {
                let is_chosen = chosen.is_some_and(|chosen| chosen.digest == entry.digest);
                if is_chosen || self.request.all_platforms {
                    self.entry(&intake, entry, is_chosen, &mut blobs)?;
                }
            }
        } else {
            let (_, config) = self.image(&intake, &document.bytes, &mut blobs)?;
            let wanted = self.request.platform.as_ref();
            self.remote.check_platform(&config, wanted)?;
        }
        self.fetch(&intake, blobs)?;
        let names = vec![self.remote.name.clone()];
        let images = intake
            .commit(&[(document.descriptor.clone(), names)])
            .map_err(|fault| self.remote.attempt.not_stored("the manifest", fault))?;
        let digest = document.descriptor.digest;
        self.store.set_repo_digest(&self.remote.name, digest)?;
        Ok(images)
    }

    /// Takes in the manifest of an index's entry, and notes its blobs. What is no image, as an
    /// attestation, is taken as it is, and so is what is not for this machine.
    fn entry(
        &self,
        intake: &Intake<'_>,
        entry: &Descriptor,
        is_chosen: bool,
        blobs: &mut Vec<Blob>,
    ) -> Result<()> {
        let bytes = self.document_of(entry)?;
        intake.put(&bytes)?;
        if is_chosen {
            return self.image(intake, &bytes, blobs).map(drop);
        }
        if entry.is_index() {
            let index: Index = self.remote.read("index", &bytes)?;
            for entry in &index.manifests {
                self.entry(intake, entry, false, blobs)?;
            }
            return Ok(());
        }
        let manifest: Manifest = self.remote.read("manifest", &bytes)?;
        let parts = manifest.layers.iter().chain([&manifest.config]);
        blobs.extend(parts.map(|descriptor| Blob {
            part: format!("blob {}", descriptor.digest.short()),
            descriptor: descriptor.clone(),
            diff_id: None,
        }));
        Ok(())
    }

    /// A document by its digest, from the store if it is there.
    fn document_of(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if self.store.has(descriptor)
            && let Ok(bytes) = self.store.bytes(descriptor)
        {
            return Ok(bytes);
        }
        let document = self.remote.document_of(&descriptor.digest.to_string())?;
        Ok(document.bytes)
    }

    /// Checks that a manifest is an image's, takes in its config, and notes its layers.
    fn image(
        &self,
        intake: &Intake<'_>,
        bytes: &[u8],
        blobs: &mut Vec<Blob>,
    ) -> Result<(Manifest, ImageConfig)> {
        let manifest: Manifest = self.remote.read("manifest", bytes)?;
        if !manifest.is_image() {
            return Err(self.no_image(&manifest));
        }
        let known = self.store.has(&manifest.config);
        let config = match known.then(|| self.store.bytes(&manifest.config)) {
            Some(Ok(bytes)) => bytes,
            _ => self.remote.config(&manifest)?,
        };
        intake.put(&config)?;
        let config: ImageConfig = self.remote.read("config", &config)?;
        validate(&manifest, &config).map_err(|fault| {
            let attempt = &self.remote.attempt;
            attempt
                .fault(Kind::Input, "it is not an image that can be stored")
                .caused_by(fault)
        })?;
        let layers = manifest.layers.iter().zip(&config.rootfs.diff_ids);
        let mut layers: Vec<Blob> = layers
            .enumerate()
            .map(|(index, (descriptor, diff_id))| Blob {
                descriptor: descriptor.clone(),
                part: format!("layer {}", index + 1),
                diff_id: (!self.request.packed).then_some(*diff_id),
            })
            .collect();
        blobs.append(&mut layers);
        Ok((manifest, config))
    }

    /// What a registry holds may be anything: a chart, a signature, a program.
    fn no_image(&self, manifest: &Manifest) -> Error {
        let kind = manifest.artifact_type();
        let why = format!("it is no container image: its media type is `{kind}`");
        let name = self.remote.name.familiar();
        let error = self.remote.attempt.fault(Kind::Input, &why);
        error.with_hint(format!("see what it is: `smidge manifest inspect {name}`"))
    }

    /// Fetches blobs side by side, the largest first, each once.
    fn fetch(&self, intake: &Intake<'_>, mut blobs: Vec<Blob>) -> Result<()> {
        // What is to be unpacked comes first among equals, and stays.
        blobs.sort_by_key(|blob| {
            (
                blob.diff_id.is_none(),
                std::cmp::Reverse(blob.descriptor.size),
            )
        });
        let mut seen = HashSet::new();
        blobs.retain(|blob| seen.insert(blob.descriptor.digest));
        let missing = || blobs.iter().filter(|blob| !intake.has(&blob.descriptor));
        let bytes = missing().map(|blob| blob.descriptor.size).sum();
        self.progress.expect(missing().count(), bytes);
        let work = Work {
            action: Action::Pull,
            blob: |blob: &Blob| &blob.descriptor,
            act: &|blob, teller| self.fetch_one(intake, blob, teller),
        };
        work.run(&blobs, self.progress)
    }

    fn fetch_one(&self, intake: &Intake<'_>, blob: &Blob, teller: &Teller) -> Result<()> {
        let descriptor = &blob.descriptor;
        if intake.has(descriptor) {
            teller.settled(Settled::Exists);
        }
        let mut fetch = |offset| -> io::Result<Box<dyn io::Read + Send>> {
            teller.moves(offset);
            let reader = self.remote.repository.blob(descriptor, offset);
            Ok(teller.reader(reader.map_err(io::Error::other)?))
        };
        let taken = match &blob.diff_id {
            Some(diff_id) => intake.layer(descriptor, diff_id, &mut fetch),
            None => intake.blob(descriptor, &mut fetch),
        };
        taken.map_err(|fault| self.remote.attempt.not_stored(&blob.part, fault))
    }
}
