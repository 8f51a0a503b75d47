//! Everything that has an entry, as a registry sees it: documents by name and by digest.

use smidge_image::{Descriptor, Digest, Reference};

use crate::catalog::{Item, Target};
use crate::document::{New, Terms};
use crate::index::{ARTIFACT, IMAGE_ID, SUBJECT, bare, digest_in, version};
use crate::{Error, Image, Store};

/// An entry of the store: a document under one of its names.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The name, with a tag or a digest; none if the document is nameless.
    pub name: Option<Reference>,
    /// The document, a manifest or an index.
    pub descriptor: Descriptor,
    /// Whether it is an image's manifest.
    pub is_image: bool,
    /// Of a manifest that is no image's: what kind of artifact it is.
    pub artifact_type: Option<String>,
    /// The manifest that it is about.
    pub subject: Option<Digest>,
}

/// Whether an index may lack some of its manifests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completeness {
    /// Everything it lists must be stored.
    #[default]
    Whole,
    /// Any number may be missing, even all.
    Partial,
}

impl Store {
    /// Keeps a manifest or an index under names, whatever it is of: an image, or an artifact that
    /// only registries have a use for. All blobs of a manifest must be there.
    ///
    /// # Errors
    /// When it cannot be understood, or is not of that media type; [`Error::MissingBlob`]; when the
    /// store cannot be written.
    pub fn add_document(
        &self,
        bytes: &[u8],
        media_type: &str,
        names: &[Reference],
        completeness: Completeness,
    ) -> Result<Descriptor, Error> {
        let new = New {
            bytes,
            media_type: Some(media_type),
            names,
            terms: match completeness {
                Completeness::Whole => Terms::Whole,
                Completeness::Partial => Terms::Partial,
            },
        };
        let entry = self.enter(&[new])?.pop();
        let entry = entry.map(|entry| bare(&entry));
        entry.ok_or_else(|| Error::NoSuchImage(Digest::of(bytes).to_string()))
    }

    /// All entries, in the order in which they came. Documents below an index have none of their own.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let items = self.current()?.0;
        Ok(items.into_iter().map(|item| self.shown(item)).collect())
    }

    fn shown(&self, item: Item) -> Entry {
        let mut facts = item.entry;
        if !crate::index::is_known(&facts)
            && facts.is_manifest()
            && let Ok(examined) = self.examine(&facts)
        {
            facts = examined.entry;
        }
        Entry {
            name: item.name,
            descriptor: bare(&facts),
            is_image: facts.annotations.contains_key(IMAGE_ID),
            artifact_type: facts.annotations.get(ARTIFACT).cloned(),
            subject: digest_in(&facts, SUBJECT),
        }
    }

    /// The document that a name leads to, manifest or index, as it came. A name with a digest may
    /// also mean a document below an index of that name.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn document(&self, name: &str) -> Result<(Descriptor, Vec<u8>), Error> {
        let catalog = self.current()?;
        let descriptor = match catalog.find(name) {
            Ok(Target::Entry(item)) => bare(&item.entry),
            Ok(Target::Image(_, held)) => bare(&held.manifest),
            Err(Error::NoSuchImage(_)) if name == crate::image::SCRATCH => {
                let image = Image::scratch();
                return Ok((image.descriptor(), image.manifest.to_bytes()));
            }
            Err(Error::NoSuchImage(_)) => {
                let below = match name.parse::<Reference>() {
                    Ok(name) => name.digest().and_then(|digest| {
                        let items = catalog.0.iter().filter(|item| item.is_in(&name));
                        self.below_any(items, &digest)
                    }),
                    Err(_) => name
                        .parse()
                        .ok()
                        .and_then(|digest| self.below_any(catalog.0.iter(), &digest)),
                };
                below.ok_or_else(|| Error::NoSuchImage(name.to_owned()))?
            }
            Err(error) => return Err(error),
        };
        let bytes = self.bytes(&descriptor)?;
        Ok((descriptor, bytes))
    }

    /// A document that has an entry, or is below an index that has one.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`]; when it is damaged or the store cannot be read.
    pub fn document_by_digest(&self, digest: &Digest) -> Result<(Descriptor, Vec<u8>), Error> {
        let catalog = self.current()?;
        let mut entries = catalog.0.iter().map(|item| &item.entry);
        let descriptor = entries
            .find(|entry| entry.digest == *digest)
            .map(bare)
            .or_else(|| self.below_any(catalog.0.iter(), digest))
            .ok_or_else(|| Error::NoSuchImage(digest.to_string()))?;
        let bytes = self.bytes(&descriptor)?;
        Ok((descriptor, bytes))
    }

    /// A stored document below any of some entries.
    fn below_any<'i>(
        &self,
        items: impl Iterator<Item = &'i Item>,
        digest: &Digest,
    ) -> Option<Descriptor> {
        let mut looked_at = std::collections::HashSet::new();
        items
            .filter(|item| item.entry.is_index() && looked_at.insert(version(&item.entry)))
            .filter_map(|item| self.documents_of(&item.entry).ok())
            .flatten()
            .find(|document| document.digest == *digest)
            .map(|document| bare(&document))
    }

    /// Lets go of a blob that was added, or found, for a document that never came. A process that
    /// lives long must, or what nobody refers to is kept as long as it lives.
    pub fn release(&self, digest: &Digest) {
        self.unpin([digest]);
    }
}
