//! Archives become images.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use smidge_image::{
    Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, media_type, sniff,
    validate,
};

use super::bundle::{Archive, Bundle, Directory, Spooled};
use super::document::{DOCKER_MANIFEST, DockerImage, INDEX, REPOSITORIES, blob_member};
use super::selection::{NAMES, Selection};
use crate::checkout::{Budget, check_diff_id, walk_layer};
use crate::document::{New, Terms};
use crate::error::{MemberFault, READ};
use crate::image::parse;
use crate::platform::host_platform;
use crate::{Error, Image, Store};

/// As deep as indexes may hold indexes.
const DEPTH: usize = 4;

/// Bytes of manifests and indexes that one archive may have: those of thousands of images.
const HELD_LIMIT: u64 = 32 << 20;

impl Store {
    /// Stores every image of a docker-archive or an OCI archive, compressed or not, or none of them.
    /// `input` is read once, to its end.
    ///
    /// Blobs are kept as they come, so an OCI image keeps its manifest's digest, and an index its own,
    /// with the images for all platforms that are there. Of these, this machine's image is returned.
    ///
    /// # Errors
    /// When the archive is neither, is incomplete, corrupt or hostile; when the store cannot be
    /// written. Nothing is stored then.
    pub fn load(&self, input: &mut dyn Read) -> Result<Vec<Image>, Error> {
        self.load_for(input, None)
    }

    /// As [`Store::load`], of images for one platform alone.
    ///
    /// # Errors
    /// As [`Store::load`]; when an image is not there for that platform.
    pub fn load_for(
        &self,
        input: &mut dyn Read,
        platform: Option<&Platform>,
    ) -> Result<Vec<Image>, Error> {
        self.load_selected(input, &Selection::all(platform))
    }

    /// As [`Store::load`], of what is selected alone.
    ///
    /// # Errors
    /// As [`Store::load_for`]; [`Error::NotHeld`], [`Error::ManyHeld`].
    pub fn load_selected(
        &self,
        input: &mut dyn Read,
        selection: &Selection<'_>,
    ) -> Result<Vec<Image>, Error> {
        let mut archive = Archive::read(self, input)?;
        let mut staging = Staging::new(self, selection);
        let manifest = archive.document(DOCKER_MANIFEST)?;
        let index = archive.document(INDEX)?;
        // What Docker saves of several platforms is in the OCI layout alone.
        let layout = index.filter(|bytes| manifest.is_none() || holds_index(bytes));
        if let Some(bytes) = layout {
            staging.oci_layout(&mut archive, &bytes)?;
        } else if let Some(bytes) = manifest {
            staging.docker_archive(&mut archive, &bytes)?;
        } else if archive.member(REPOSITORIES)?.is_some() {
            return Err(Error::member(REPOSITORIES, MemberFault::Legacy));
        } else {
            return Err(Error::NotArchive {
                found: archive.first(),
            });
        }
        staging.commit()
    }

    /// Stores every image of an OCI layout, or none of them.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn load_oci_layout(&self, directory: &Path) -> Result<Vec<Image>, Error> {
        self.load_oci_layout_for(directory, None)
    }

    /// As [`Store::load_oci_layout`], of images for one platform alone.
    ///
    /// # Errors
    /// As [`Store::load_for`].
    pub fn load_oci_layout_for(
        &self,
        directory: &Path,
        platform: Option<&Platform>,
    ) -> Result<Vec<Image>, Error> {
        self.load_oci_layout_selected(directory, &Selection::all(platform))
    }

    /// As [`Store::load_oci_layout`], of what is selected alone.
    ///
    /// # Errors
    /// As [`Store::load_selected`].
    pub fn load_oci_layout_selected(
        &self,
        directory: &Path,
        selection: &Selection<'_>,
    ) -> Result<Vec<Image>, Error> {
        self.staged_layout(directory, selection)?.commit()
    }

    /// Takes the image of an OCI layout that is selected, without making it one of the store's: it has
    /// no entry, and its blobs stay at least until the store is closed. Of an index it is the image for
    /// the selection's platform, or for this machine. A digest may also be that of a document that an
    /// index of the layout lists.
    ///
    /// # Errors
    /// As [`Store::load_selected`].
    pub fn borrow_from_oci_layout(
        &self,
        directory: &Path,
        selection: &Selection<'_>,
    ) -> Result<Image, Error> {
        self.staged_layout(directory, selection)?.borrow()
    }

    fn staged_layout<'s>(
        &'s self,
        directory: &'s Path,
        selection: &'s Selection<'s>,
    ) -> Result<Staging<'s>, Error> {
        let mut layout = Directory::open(self, directory)?;
        let mut staging = Staging::new(self, selection);
        let index = layout.need(INDEX)?.document(INDEX)?;
        staging.oci_layout(&mut layout, &index)?;
        Ok(staging)
    }
}

/// Images that were verified and are not stored yet.
struct Staging<'s> {
    store: &'s Store,
    /// Blobs, and the diff ids of those that are layers.
    blobs: BTreeMap<Digest, Rc<Spooled>>,
    diff_ids: BTreeMap<Digest, smidge_image::DiffId>,
    documents: Vec<Staged>,
    selection: &'s Selection<'s>,
    /// Manifests of images, and indexes that hold any.
    images: HashSet<Digest>,
    /// The manifests among them, with their platforms and bytes.
    manifests: Vec<(Descriptor, Vec<u8>)>,
    /// How many bytes of documents are kept.
    held: u64,
}

/// A document that is to be known by names.
struct Staged {
    bytes: Vec<u8>,
    media_type: Option<String>,
    names: Vec<Reference>,
    terms: Terms,
}

impl<'s> Staging<'s> {
    fn new(store: &'s Store, selection: &'s Selection<'s>) -> Self {
        Self {
            store,
            blobs: BTreeMap::new(),
            diff_ids: BTreeMap::new(),
            documents: Vec::new(),
            selection,
            images: HashSet::new(),
            manifests: Vec::new(),
            held: 0,
        }
    }

    /// Takes account of a document that is kept until all is known to be right.
    fn hold(&mut self, what: &str, bytes: &[u8]) -> Result<(), Error> {
        self.held += bytes.len() as u64;
        match self.held > HELD_LIMIT {
            true => Err(Error::TooLarge {
                what: what.to_owned(),
                size: self.held,
                limit: HELD_LIMIT,
            }),
            false => Ok(()),
        }
    }

    fn docker_archive(&mut self, bundle: &mut dyn Bundle, manifest: &[u8]) -> Result<(), Error> {
        let images: Vec<DockerImage> = parse(DOCKER_MANIFEST, "docker-archive manifest", manifest)?;
        for image in self.selection.of_docker(images)? {
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
                .open()
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
        let manifest = match manifest_of(bundle, &config.digest, &layers)? {
            Some(bytes) => bytes,
            None => Manifest::new(described, layers).to_bytes(),
        };
        self.verify_image(&manifest, (image.config, config), members)?;
        self.documents.push(Staged {
            bytes: manifest,
            media_type: None,
            names,
            terms: Terms::Image,
        });
        Ok(())
    }

    fn oci_layout(&mut self, bundle: &mut dyn Bundle, index: &[u8]) -> Result<(), Error> {
        let index: Index = parse(INDEX, "image index", index)?;
        let entries = match self.selection.of_layout(index.manifests) {
            Err(Error::NotHeld { name, held }) => match below(bundle, &name)? {
                Some(entry) => vec![entry],
                None => return Err(Error::NotHeld { name, held }),
            },
            entries => entries?,
        };
        for entry in entries {
            let name = NAMES.iter().find_map(|key| entry.annotations.get(*key));
            let names: Vec<_> = name
                .and_then(|name| name.parse().ok())
                .into_iter()
                .collect();
            self.oci_entry(bundle, &entry, names)?;
        }
        Ok(())
    }

    /// A manifest or an index that the layout names.
    fn oci_entry(
        &mut self,
        bundle: &mut dyn Bundle,
        entry: &Descriptor,
        names: Vec<Reference>,
    ) -> Result<(), Error> {
        let member = blob_member(&entry.digest.hex());
        let unknown = || MemberFault::MediaType(entry.media_type.clone());
        if !entry.is_manifest() && !entry.is_index() {
            return Err(Error::member(member, unknown()));
        }
        let bytes = described(bundle, entry)?.1.document(&member)?;
        self.hold(&member, &bytes)?;
        let terms = match entry.is_index() {
            true => {
                self.oci_index(bundle, entry, (&bytes, DEPTH))?;
                if !self.images.contains(&entry.digest) {
                    return Err(self.no_platform(member));
                }
                Terms::Some
            }
            false => self.oci_manifest(bundle, entry, &bytes)?,
        };
        self.documents.push(Staged {
            bytes,
            media_type: Some(entry.media_type.clone()),
            names,
            terms,
        });
        Ok(())
    }

    /// Takes in what is there of an index: it may lack images, but none may lack a part.
    fn oci_index(
        &mut self,
        bundle: &mut dyn Bundle,
        list: &Descriptor,
        (bytes, depth): (&[u8], usize),
    ) -> Result<(), Error> {
        let what = blob_member(&list.digest.hex());
        let index: Index = parse(&what, "image index", bytes)?;
        for entry in &index.manifests {
            let member = blob_member(&entry.digest.hex());
            if !self.wants(entry.platform.as_ref()) || bundle.member(&member)?.is_none() {
                continue;
            }
            if self.blobs.contains_key(&entry.digest) {
                self.note_image(entry, list);
                continue;
            }
            let (_, spooled) = described(bundle, entry)?;
            let bytes = spooled.document(&member)?;
            if entry.is_index() {
                if depth == 0 {
                    let fault = MemberFault::MediaType(entry.media_type.clone());
                    return Err(Error::member(member, fault));
                }
                self.oci_index(bundle, entry, (&bytes, depth - 1))?;
            } else if entry.is_manifest() {
                match self.oci_manifest(bundle, entry, &bytes) {
                    // Its manifest came along, as Docker saves what it has of an index.
                    Err(Error::Member {
                        fault: MemberFault::Missing | MemberFault::Platform(_),
                        ..
                    }) => continue,
                    taken => taken?,
                };
            }
            self.blobs.insert(entry.digest, spooled);
            self.note_image(entry, list);
        }
        Ok(())
    }

    /// Whether an image is to be loaded that is for a platform, or does not say.
    fn wants(&self, platform: Option<&Platform>) -> bool {
        match (self.selection.platform, platform) {
            (Some(wanted), Some(offered)) => wanted.matches(offered),
            _ => true,
        }
    }

    fn no_platform(&self, member: String) -> Error {
        let wanted = self.selection.platform.cloned();
        let wanted = wanted.unwrap_or_else(host_platform);
        Error::member(member, MemberFault::Platform(wanted.to_string()))
    }

    /// An index holds an image, if what it lists is one, or holds one.
    fn note_image(&mut self, entry: &Descriptor, list: &Descriptor) {
        if self.images.contains(&entry.digest) {
            self.images.insert(list.digest);
        }
    }

    /// Takes in the blobs of a manifest: of an image, or of an artifact.
    fn oci_manifest(
        &mut self,
        bundle: &mut dyn Bundle,
        entry: &Descriptor,
        bytes: &[u8],
    ) -> Result<Terms, Error> {
        let manifest: Manifest = parse(&entry.digest.to_string(), "image manifest", bytes)?;
        let config = described(bundle, &manifest.config)?;
        let layers = manifest.layers.iter().map(|layer| described(bundle, layer));
        let layers: Vec<_> = layers.collect::<Result<_, _>>()?;
        if manifest.is_image() && !entry.is_attestation() {
            self.verify_image(bytes, config, layers)?;
            return Ok(Terms::Image);
        }
        for (_, blob) in layers.into_iter().chain([config]) {
            self.blobs.insert(blob.digest, blob);
        }
        Ok(Terms::Whole)
    }

    /// Takes an image's blobs in, once it proves to be one.
    fn verify_image(
        &mut self,
        bytes: &[u8],
        (config_member, config): (String, Rc<Spooled>),
        layers: Vec<(String, Rc<Spooled>)>,
    ) -> Result<(), Error> {
        self.hold(&config_member, bytes)?;
        let manifest: Manifest = parse(&config_member, "image manifest", bytes)?;
        let document = config.document(&config_member)?;
        let parsed: ImageConfig = parse(&config_member, "image config", &document)?;
        if !self.wants(Some(&parsed.platform()).filter(|p| !p.architecture.is_empty())) {
            return Err(self.no_platform(config_member));
        }
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
        self.images.insert(Digest::of(bytes));
        let kind = manifest.media_type.as_deref();
        let descriptor = Descriptor {
            platform: Some(parsed.platform()).filter(|own| !own.architecture.is_empty()),
            ..Descriptor::of(kind.unwrap_or(media_type::MANIFEST), bytes)
        };
        self.manifests.push((descriptor, bytes.to_vec()));
        Ok(())
    }

    /// Reads a layer to its end, so that nothing is stored that cannot be unpacked.
    fn verify(&self, member: &str, layer: &Spooled) -> Result<smidge_image::DiffId, Error> {
        let mut budget = Budget::new(self.store)?;
        let file = layer
            .open()
            .map_err(|error| self.store.io(READ, Path::new(member), error))?;
        walk_layer(file, &layer.digest, member, |entry, _| {
            budget.spend(entry.size(), member)
        })
    }

    /// Moves the blobs into the store.
    fn adopt(&self) -> Result<(), Error> {
        if self.images.is_empty() {
            return Err(Error::Empty);
        }
        let mut blobs = self.blobs.values();
        blobs.try_for_each(|spooled| spooled.adopt(self.store))
    }

    /// Takes the one image in, without an entry.
    fn borrow(self) -> Result<Image, Error> {
        self.adopt()?;
        let wanted = self.selection.platform.cloned();
        let wanted = wanted.unwrap_or_else(host_platform);
        let offered = self.manifests.iter().map(|(descriptor, _)| descriptor);
        let chosen = wanted.best(offered).map(|chosen| chosen.digest);
        let mut manifests = self.manifests.iter();
        let chosen = manifests.find(|(known, _)| Some(known.digest) == chosen);
        let Some((descriptor, bytes)) = chosen else {
            return Err(self.no_platform(INDEX.to_owned()));
        };
        self.store.put(bytes)?;
        self.store.read_manifest(descriptor)
    }

    fn commit(self) -> Result<Vec<Image>, Error> {
        self.adopt()?;
        let new = self.documents.iter().map(|staged| New {
            bytes: &staged.bytes,
            media_type: staged.media_type.as_deref(),
            names: &staged.names,
            terms: staged.terms,
        });
        let entries = self.store.enter(&new.collect::<Vec<_>>())?;
        let mut images = self.store.images_entered(&entries, false)?;
        // Other names of the same images were there before.
        for image in &mut images {
            let brought = |name: &Reference| self.documents.iter().any(|d| d.names.contains(name));
            image.names.retain(brought);
        }
        Ok(images)
    }
}

/// A document of a layout that is asked for by its digest, whatever lists it.
fn below(bundle: &mut dyn Bundle, name: &str) -> Result<Option<Descriptor>, Error> {
    let Ok(digest) = name.trim_start_matches('@').parse::<Digest>() else {
        return Ok(None);
    };
    let Some(bytes) = bundle.document(&blob_member(&digest.hex()))? else {
        return Ok(None);
    };
    let document = New {
        bytes: &bytes,
        media_type: None,
        names: &[],
        terms: Terms::Some,
    };
    crate::document::described(&document).map(Some)
}

/// Whether a layout's table of contents lists an index.
fn holds_index(bytes: &[u8]) -> bool {
    let index = serde_json::from_slice::<Index>(bytes);
    index.is_ok_and(|index| index.manifests.iter().any(Descriptor::is_index))
}

/// The manifest that a docker-archive holds for an image, where it is an OCI archive, too.
fn manifest_of(
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
