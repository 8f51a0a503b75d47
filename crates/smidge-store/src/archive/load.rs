//! Archives become images.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use smidge_image::{
    Descriptor, Digest, ImageConfig, Index, Manifest, Reference, annotation, media_type, sniff,
    validate,
};

use super::bundle::{Archive, Bundle, Directory};
use super::document::{DOCKER_MANIFEST, DockerImage, INDEX, REPOSITORIES, blob_member};
use crate::blob::Spooled;
use crate::checkout::{Budget, check_diff_id, walk_layer};
use crate::error::{MemberFault, READ};
use crate::image::parse;
use crate::platform::host_platform;
use crate::{Error, Image, Store};

/// As deep as indexes may hold indexes.
const DEPTH: usize = 4;

impl Store {
    /// Stores every image of a docker-archive or an OCI archive, compressed or not, or none of them.
    /// `input` is read once, to its end.
    ///
    /// Blobs are kept as they come, so an OCI image keeps its manifest's digest. Of an index for
    /// several platforms, this machine's image is stored.
    ///
    /// # Errors
    /// When the archive is neither, is incomplete, corrupt or hostile; when the store cannot be
    /// written. Nothing is stored then.
    pub fn load(&self, input: &mut dyn Read) -> Result<Vec<Image>, Error> {
        let mut archive = Archive::read(self, input)?;
        let mut staging = Staging::new(self);
        if let Some(bytes) = archive.document(DOCKER_MANIFEST)? {
            staging.docker_archive(&mut archive, &bytes)?;
        } else if let Some(bytes) = archive.document(INDEX)? {
            staging.oci_layout(&mut archive, &bytes)?;
        } else if archive.member(REPOSITORIES)?.is_some() {
            return Err(Error::member(REPOSITORIES, MemberFault::Legacy));
        } else {
            return Err(Error::NotArchive {
                found: archive.first(),
            });
        }
        drop(archive);
        staging.commit()
    }

    /// Stores every image of an OCI layout, or none of them.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn load_oci_layout(&self, directory: &Path) -> Result<Vec<Image>, Error> {
        let mut layout = Directory::open(self, directory)?;
        let mut staging = Staging::new(self);
        let index = layout.need(INDEX)?.document(INDEX)?;
        staging.oci_layout(&mut layout, &index)?;
        drop(layout);
        staging.commit()
    }
}

/// Images that were verified and are not stored yet.
struct Staging<'s> {
    store: &'s Store,
    /// Blobs, and the diff ids of those that are layers.
    blobs: BTreeMap<Digest, Rc<Spooled>>,
    diff_ids: BTreeMap<Digest, smidge_image::DiffId>,
    images: Vec<(Vec<u8>, Vec<Reference>)>,
}

impl<'s> Staging<'s> {
    fn new(store: &'s Store) -> Self {
        Self {
            store,
            blobs: BTreeMap::new(),
            diff_ids: BTreeMap::new(),
            images: Vec::new(),
        }
    }

    fn docker_archive(&mut self, bundle: &mut dyn Bundle, manifest: &[u8]) -> Result<(), Error> {
        let images: Vec<DockerImage> = parse(DOCKER_MANIFEST, "docker-archive manifest", manifest)?;
        for image in images {
            self.docker_image(bundle, image)?;
        }
        Ok(())
    }

    fn docker_image(&mut self, bundle: &mut dyn Bundle, image: DockerImage) -> Result<(), Error> {
        let names = image.repo_tags.iter().flatten().map(|name| {
            let fault = || Error::member(DOCKER_MANIFEST, MemberFault::Name(name.clone()));
            name.parse().map_err(|_| fault())
        });
        let names: Vec<Reference> = names.collect::<Result<_, _>>()?;
        let config = bundle.need(&image.config)?;
        check_name(&image.config, &config)?;
        let mut layers = Vec::new();
        let mut members = Vec::new();
        for member in image.layers.into_iter().flatten() {
            let spooled = bundle.need(&member)?;
            let mut first = [0; 4];
            let read = spooled
                .reopen()
                .and_then(|file| file.take(4).read(&mut first));
            let read = read.map_err(|error| self.store.io(READ, Path::new(&member), error))?;
            let kind = sniff(&first[..read]);
            layers.push(Descriptor::new(
                kind.media_type(),
                spooled.digest,
                spooled.size,
            ));
            members.push((member, spooled));
        }
        let described = Descriptor::new(media_type::CONFIG, config.digest, config.size);
        let manifest = match oci_manifest(bundle, &config.digest, &layers)? {
            Some(bytes) => bytes,
            None => Manifest::new(described, layers).to_bytes(),
        };
        self.stage(manifest, names, (image.config, config), members)
    }

    fn oci_layout(&mut self, bundle: &mut dyn Bundle, index: &[u8]) -> Result<(), Error> {
        let index: Index = parse(INDEX, "image index", index)?;
        for entry in &index.manifests {
            let names = [annotation::CONTAINERD_NAME, annotation::REF_NAME];
            let name = names.iter().find_map(|key| entry.annotations.get(*key));
            let names: Vec<_> = name
                .and_then(|name| name.parse().ok())
                .into_iter()
                .collect();
            let entry = for_this_machine(bundle, entry, DEPTH)?;
            self.oci_image(bundle, &entry, names)?;
        }
        Ok(())
    }

    fn oci_image(
        &mut self,
        bundle: &mut dyn Bundle,
        entry: &Descriptor,
        names: Vec<Reference>,
    ) -> Result<(), Error> {
        let bytes = described(bundle, entry)?
            .1
            .document(&blob_member(&entry.digest.hex()))?;
        let manifest: Manifest = parse(&entry.digest.to_string(), "image manifest", &bytes)?;
        let config = described(bundle, &manifest.config)?;
        let layers = manifest.layers.iter().map(|layer| described(bundle, layer));
        let layers = layers.collect::<Result<_, _>>()?;
        self.stage(bytes, names, config, layers)
    }

    /// Takes an image in, once it proves to be one.
    fn stage(
        &mut self,
        bytes: Vec<u8>,
        names: Vec<Reference>,
        (config_member, config): (String, Rc<Spooled>),
        layers: Vec<(String, Rc<Spooled>)>,
    ) -> Result<(), Error> {
        let manifest: Manifest = parse(&config_member, "image manifest", &bytes)?;
        let document = config.document(&config_member)?;
        let parsed: ImageConfig = parse(&config_member, "image config", &document)?;
        validate(&manifest, &parsed).map_err(|source| Error::Invalid {
            what: config_member,
            source,
        })?;
        for ((member, layer), diff_id) in layers.into_iter().zip(&parsed.rootfs.diff_ids) {
            let received = match self.diff_ids.get(&layer.digest) {
                Some(known) => *known,
                None => self.verify(&member, &layer)?,
            };
            check_diff_id(&member, diff_id, &received)?;
            self.diff_ids.insert(layer.digest, received);
            self.blobs.insert(layer.digest, layer);
        }
        self.blobs.insert(config.digest, config);
        self.images.push((bytes, names));
        Ok(())
    }

    /// Reads a layer to its end, so that nothing is stored that cannot be unpacked.
    fn verify(&self, member: &str, layer: &Spooled) -> Result<smidge_image::DiffId, Error> {
        let mut budget = Budget::new(self.store)?;
        let file = layer
            .reopen()
            .map_err(|error| self.store.io(READ, Path::new(member), error))?;
        walk_layer(file, &layer.digest, member, |entry, _| {
            budget.spend(entry.size(), member)
        })
    }

    fn commit(self) -> Result<Vec<Image>, Error> {
        if self.images.is_empty() {
            return Err(Error::Empty);
        }
        for spooled in self.blobs.into_values().filter_map(Rc::into_inner) {
            self.store.adopt(spooled)?;
        }
        self.store.add_images(&self.images)
    }
}

/// The manifest that a docker-archive holds for an image, where it is an OCI archive, too.
fn oci_manifest(
    bundle: &mut dyn Bundle,
    config: &Digest,
    layers: &[Descriptor],
) -> Result<Option<Vec<u8>>, Error> {
    let Some(index) = bundle.document(INDEX)? else {
        return Ok(None);
    };
    let index: Index = parse(INDEX, "image index", &index)?;
    for entry in index.manifests.iter().filter(|entry| entry.is_manifest()) {
        let (member, spooled) = described(bundle, entry)?;
        let bytes = spooled.document(&member)?;
        let manifest: Manifest = parse(&member, "image manifest", &bytes)?;
        let same_layers = manifest
            .layers
            .iter()
            .map(|layer| layer.digest)
            .eq(layers.iter().map(|layer| layer.digest));
        if manifest.config.digest == *config && same_layers {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// The blob that a descriptor describes, with its member's name.
fn described(
    bundle: &mut dyn Bundle,
    descriptor: &Descriptor,
) -> Result<(String, Rc<Spooled>), Error> {
    let member = blob_member(&descriptor.digest.hex());
    let spooled = bundle.need(&member)?;
    if (spooled.digest, spooled.size) == (descriptor.digest, descriptor.size) {
        return Ok((member, spooled));
    }
    Err(Error::Corrupt {
        what: member,
        expected: descriptor.digest,
        expected_size: descriptor.size,
        received: spooled.digest,
        received_size: spooled.size,
    })
}

/// Follows indexes to the manifest of this machine's image.
fn for_this_machine(
    bundle: &mut dyn Bundle,
    entry: &Descriptor,
    depth: usize,
) -> Result<Descriptor, Error> {
    let member = blob_member(&entry.digest.hex());
    if entry.is_manifest() {
        return Ok(entry.clone());
    }
    if !entry.is_index() || depth == 0 {
        return Err(Error::member(
            member,
            MemberFault::MediaType(entry.media_type.clone()),
        ));
    }
    let index: Index = parse(
        &member,
        "image index",
        &described(bundle, entry)?.1.document(&member)?,
    )?;
    let host = host_platform();
    let suits = |entry: &&Descriptor| {
        entry.platform.as_ref().is_none_or(|platform| {
            (&platform.os, &platform.architecture) == (&host.os, &host.architecture)
        })
    };
    match index.manifests.iter().find(suits) {
        Some(entry) => for_this_machine(bundle, entry, depth - 1),
        None => Err(Error::member(
            member,
            MemberFault::Platform(host.to_string()),
        )),
    }
}

/// A member that is called by a digest must have it: `<hex>.json`, `blobs/sha256/<hex>`.
fn check_name(member: &str, spooled: &Spooled) -> Result<(), Error> {
    let file = member.rsplit('/').next().unwrap_or(member);
    match Digest::from_hex(file.trim_end_matches(".json")) {
        Ok(expected) if expected != spooled.digest => Err(Error::Corrupt {
            what: member.to_owned(),
            expected,
            expected_size: spooled.size,
            received: spooled.digest,
            received_size: spooled.size,
        }),
        _ => Ok(()),
    }
}
