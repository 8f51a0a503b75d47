//! Documents on their way into `index.json`: what each of them is, and what it needs.

use std::collections::{HashMap, HashSet};

use smidge_image::{
    Descriptor, Digest, ImageConfig, Index, Manifest, Reference, media_type, validate,
    validate_manifest,
};

use crate::catalog::{Held, Item};
use crate::image::parse;
use crate::index::{
    ARTIFACT, IMAGE_ID, MISSING, SUBJECT, bare, nameless, note, renew_all, set_names, stored_in,
    tell_stored,
};
use crate::{Error, Image, Store};

/// What must be there of what a document leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// All of it, and it must be an image.
    Image,
    /// All of a manifest; of an index at least one document.
    Some,
    /// All of it.
    Whole,
    /// All of a manifest; of an index any number of documents, even none.
    Partial,
}

/// A document that is to be known by names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct New<'n> {
    pub(crate) bytes: &'n [u8],
    /// What it is; `None` leaves that to the document.
    pub(crate) media_type: Option<&'n str>,
    pub(crate) names: &'n [Reference],
    pub(crate) terms: Terms,
}

/// A manifest that was looked at.
#[derive(Debug)]
pub(crate) struct Examined {
    /// The descriptor with what is to be known of it.
    pub(crate) entry: Descriptor,
    /// The image, or why it is none.
    pub(crate) image: Result<Image, Error>,
    /// Config and layers.
    pub(crate) blobs: Vec<Descriptor>,
}

/// A document that may become an entry.
struct Admitted {
    entry: Descriptor,
    /// What it leads to, all the way down.
    blobs: Vec<Digest>,
}

/// What an index leads to.
#[derive(Debug, Default)]
struct Below {
    /// Documents that are stored with everything they need.
    stored: Vec<Descriptor>,
    missing: Vec<Digest>,
    blobs: Vec<Digest>,
}

type Present<'p> = &'p dyn Fn(&Descriptor) -> bool;

impl Store {
    /// Makes entries of documents, all or none. Returns the entries, without names.
    pub(crate) fn enter(&self, new: &[New<'_>]) -> Result<Vec<Descriptor>, Error> {
        let mut entries: Vec<(Descriptor, Vec<Reference>)> = Vec::with_capacity(new.len());
        let mut needed = HashSet::new();
        let mut known: HashMap<Digest, Descriptor> = HashMap::new();
        for document in new {
            let digest = Digest::of(document.bytes);
            let entry = match known.get(&digest) {
                Some(entry) => entry.clone(),
                None => {
                    let admitted = self.admit(document)?;
                    needed.insert(self.put(document.bytes)?);
                    needed.extend(admitted.blobs);
                    admitted.entry
                }
            };
            known.insert(digest, entry.clone());
            entries.push((entry, document.names.to_vec()));
        }
        let facts: Vec<Descriptor> = entries.iter().map(|(entry, _)| entry.clone()).collect();
        self.update_index(|index| {
            set_names(index, &entries);
            let completed = self.completed(index, &facts);
            renew_all(index, &[&facts[..], &completed].concat());
            Ok(())
        })?;
        self.unpin(&needed);
        Ok(facts)
    }

    /// The images of entries: of an index all that are stored, or the one that stands for it.
    pub(crate) fn images_entered(
        &self,
        entries: &[Descriptor],
        all: bool,
    ) -> Result<Vec<Image>, Error> {
        let catalog = self.current()?;
        let names = catalog.names();
        let items: HashMap<Digest, &Item> = catalog
            .0
            .iter()
            .map(|item| (item.entry.digest, item))
            .collect();
        let mut images = Vec::new();
        for entry in entries {
            let Some(item) = items.get(&entry.digest) else {
                // An index that has it makes an entry of its own needless.
                if entry.annotations.contains_key(IMAGE_ID) {
                    let mut image = self.read_manifest(entry)?;
                    image.take_names(names.get(&entry.digest).cloned());
                    images.push(image);
                }
                continue;
            };
            let shown: Vec<&Held> = match all {
                true => item.images.iter().collect(),
                false => item.representative().into_iter().collect(),
            };
            for held in shown {
                let mut image = self.read_manifest(&held.manifest)?;
                image.take_names(names.get(&held.manifest.digest).cloned());
                image.index = item.entry.is_index().then(|| bare(&item.entry));
                images.push(image);
            }
        }
        Ok(images)
    }

    /// Makes entries of stored documents, all or none, whose blobs are all there; of an index at
    /// least one document. Returns every image that they lead to.
    pub(crate) fn add_stored(
        &self,
        documents: &[(Descriptor, Vec<Reference>)],
    ) -> Result<Vec<Image>, Error> {
        let bytes = documents.iter().map(|(document, _)| self.bytes(document));
        let bytes: Vec<_> = bytes.collect::<Result<_, _>>()?;
        let new = documents
            .iter()
            .zip(&bytes)
            .map(|((document, names), bytes)| New {
                bytes,
                media_type: Some(&document.media_type),
                names,
                terms: Terms::Some,
            });
        let entries = self.enter(&new.collect::<Vec<_>>())?;
        self.images_entered(&entries, true)
    }

    fn admit(&self, new: &New<'_>) -> Result<Admitted, Error> {
        let descriptor = described(new)?;
        if descriptor.is_index() {
            return self.admit_index(descriptor, new);
        }
        let mut examined = self.examine_bytes(&descriptor, new.bytes)?;
        if new.terms == Terms::Image {
            examined.image?;
        }
        let missing = examined.blobs.iter().find(|blob| !self.has(blob));
        // Some layers need not be anywhere but where their makers offer them.
        match missing {
            Some(blob) if new.terms == Terms::Image || !is_foreign(blob) => {
                return Err(self.missing(blob.digest));
            }
            Some(_) => no_image(&mut examined.entry),
            None => {}
        }
        Ok(Admitted {
            entry: examined.entry,
            blobs: examined.blobs.iter().map(|blob| blob.digest).collect(),
        })
    }

    fn admit_index(&self, mut entry: Descriptor, new: &New<'_>) -> Result<Admitted, Error> {
        let index: Index = parse(&entry.digest.to_string(), "image index", new.bytes)?;
        let below = self.below(&index, &|blob| self.has(blob));
        let lacking = match new.terms {
            Terms::Partial => None,
            Terms::Some if !below.stored.is_empty() => None,
            Terms::Some | Terms::Whole | Terms::Image => below.missing.first(),
        };
        if let Some(digest) = lacking {
            return Err(self.missing(*digest));
        }
        if new.terms == Terms::Some && below.stored.is_empty() {
            return Err(Error::NoImages(entry.digest));
        }
        note(
            &mut entry,
            SUBJECT,
            index.subject().map(|subject| subject.digest.to_string()),
        );
        below.tell(&mut entry);
        Ok(Admitted {
            entry,
            blobs: below.blobs,
        })
    }

    /// Looks at a stored manifest.
    pub(crate) fn examine(&self, descriptor: &Descriptor) -> Result<Examined, Error> {
        self.examine_bytes(descriptor, &self.bytes(descriptor)?)
    }

    fn examine_bytes(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<Examined, Error> {
        let what = descriptor.digest.to_string();
        let manifest: Manifest = parse(&what, "image manifest", bytes)?;
        let blobs = std::iter::once(&manifest.config).chain(&manifest.layers);
        let blobs = blobs.cloned().collect();
        let mut entry = bare(descriptor);
        let subject = manifest.subject().map(|subject| subject.digest.to_string());
        note(&mut entry, SUBJECT, subject);
        let kind = manifest.artifact_type().to_owned();
        let image = self.as_image(descriptor, manifest);
        match &image {
            Ok(image) => note(&mut entry, IMAGE_ID, Some(image.id.to_string())),
            Err(_) => note(&mut entry, ARTIFACT, Some(kind)),
        }
        Ok(Examined {
            entry,
            image,
            blobs,
        })
    }

    fn as_image(&self, descriptor: &Descriptor, manifest: Manifest) -> Result<Image, Error> {
        let invalid = |source| Error::Invalid {
            what: descriptor.digest.to_string(),
            source,
        };
        validate_manifest(&manifest).map_err(invalid)?;
        let config = self.bytes(&manifest.config)?;
        let what = manifest.config.digest.to_string();
        let config: ImageConfig = parse(&what, "image config", &config)?;
        validate(&manifest, &config).map_err(invalid)?;
        Ok(Image::new(descriptor, manifest, config))
    }

    /// The documents below an index that are stored with all they need; images say which they are.
    pub(crate) fn documents_below(&self, index: &Descriptor) -> Result<Vec<Descriptor>, Error> {
        let document = self.index_document(index)?;
        Ok(self.below(&document, &|blob| self.is_stored(blob)).stored)
    }

    pub(crate) fn index_document(&self, index: &Descriptor) -> Result<Index, Error> {
        parse(
            &index.digest.to_string(),
            "image index",
            &self.bytes(index)?,
        )
    }

    /// Follows an index down, however deep: every document is looked at once. What cannot be
    /// understood, or is not what its descriptor says, counts as missing.
    fn below(&self, index: &Index, present: Present<'_>) -> Below {
        let mut below = Below::default();
        let mut seen = HashSet::new();
        let mut pending: Vec<Descriptor> = index.manifests.iter().rev().cloned().collect();
        while let Some(document) = pending.pop() {
            if !seen.insert(document.digest) {
                continue;
            }
            let found = match present(&document) {
                true if document.is_index() => self.index_document(&document).map(|index| {
                    pending.extend(index.manifests.into_iter().rev());
                    (bare(&document), Vec::new())
                }),
                true if document.is_manifest() => self.child(&document, present),
                true => Ok((bare(&document), Vec::new())),
                false => Err(self.missing(document.digest)),
            };
            match found {
                Ok((entry, blobs)) => {
                    below.blobs.push(entry.digest);
                    below.blobs.extend(blobs);
                    below.stored.push(entry);
                }
                Err(_) => below.missing.push(document.digest),
            }
        }
        below
    }

    /// A manifest of an index, with the blobs it needs.
    fn child(
        &self,
        document: &Descriptor,
        present: Present<'_>,
    ) -> Result<(Descriptor, Vec<Digest>), Error> {
        let mut examined = self.examine(document)?;
        if let Some(blob) = examined.blobs.iter().find(|blob| !present(blob)) {
            if !is_foreign(blob) {
                return Err(self.missing(blob.digest));
            }
            no_image(&mut examined.entry);
        }
        match &examined.image {
            Ok(_) if document.is_attestation() => no_image(&mut examined.entry),
            Ok(image) => {
                let own = Some(image.config.platform());
                let stated = document.platform.clone().or(own);
                examined.entry.platform = stated.filter(|p| !p.architecture.is_empty());
            }
            Err(_) => {}
        }
        let blobs = examined.blobs.iter().map(|blob| blob.digest).collect();
        Ok((examined.entry, blobs))
    }

    /// Looks again at indexes that lacked what has come now.
    fn completed(&self, index: &Index, new: &[Descriptor]) -> Vec<Descriptor> {
        let digests: Vec<String> = new.iter().map(|entry| entry.digest.hex()).collect();
        let mut looked_at: HashSet<Digest> = new.iter().map(|entry| entry.digest).collect();
        let mut completed = Vec::new();
        for entry in &index.manifests {
            if !entry.annotations.contains_key(MISSING) || !looked_at.insert(entry.digest) {
                continue;
            }
            let nested = stored_in(entry).unwrap_or_default();
            let nested = nested.iter().filter(|document| document.is_index());
            let mut lists = std::iter::once(entry).chain(nested);
            let lacked = lists.any(|list| {
                let text = self.bytes(list).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                digests.iter().any(|digest| text.contains(digest))
            });
            if lacked && let Ok(document) = self.index_document(entry) {
                let mut facts = nameless(entry);
                let below = self.below(&document, &|blob| self.is_stored(blob));
                below.tell(&mut facts);
                completed.push(facts);
            }
        }
        completed
    }

    pub(crate) fn missing(&self, digest: Digest) -> Error {
        Error::MissingBlob {
            root: self.root().to_owned(),
            digest,
        }
    }

    /// Whether a blob is there, in its right size. Nothing keeps it there.
    pub(crate) fn is_stored(&self, descriptor: &Descriptor) -> bool {
        std::fs::symlink_metadata(self.blob_path(&descriptor.digest))
            .is_ok_and(|m| m.is_file() && m.len() == descriptor.size)
    }
}

impl Below {
    fn tell(&self, entry: &mut Descriptor) {
        tell_stored(entry, &self.stored, self.missing.len());
    }
}

/// What a new document is: what its bringer says and what it says itself must agree.
pub(crate) fn described(new: &New<'_>) -> Result<Descriptor, Error> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        #[serde(default)]
        media_type: Option<String>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
    }
    let digest = Digest::of(new.bytes);
    let what = digest.to_string();
    let head: Head = parse(&what, "image manifest", new.bytes)?;
    let implied = match head.manifests {
        Some(_) => media_type::INDEX,
        None => media_type::MANIFEST,
    };
    let stated = head.media_type.filter(|text| !text.is_empty());
    let media_type = match (new.media_type, stated) {
        (Some(expected), Some(stated)) if expected != stated => {
            return Err(Error::OtherType {
                what,
                expected: expected.to_owned(),
                stated,
            });
        }
        (Some(expected), _) => expected.to_owned(),
        (None, stated) => stated.unwrap_or_else(|| implied.to_owned()),
    };
    let descriptor = Descriptor::new(media_type, digest, new.bytes.len() as u64);
    if descriptor.is_manifest() || descriptor.is_index() {
        return Ok(descriptor);
    }
    Err(Error::UnknownType {
        what,
        media_type: descriptor.media_type,
    })
}

/// Layers that only their makers may give away (image-spec, layer.md, "Non-Distributable Layers").
fn is_foreign(layer: &Descriptor) -> bool {
    layer.media_type.contains("nondistributable") || layer.media_type.contains("foreign.diff")
}

/// Makes an image an artifact: it is kept, and not shown.
fn no_image(entry: &mut Descriptor) {
    if entry.annotations.remove(IMAGE_ID).is_some() {
        note(entry, ARTIFACT, Some(media_type::CONFIG.to_owned()));
    }
}
