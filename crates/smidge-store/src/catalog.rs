//! What the entries of `index.json` lead to.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use smidge_image::{Descriptor, Digest, Reference};

use crate::index::{
    IMAGE_ID, REPO_DIGEST, STORED, bare, digest_in, name_of, repo_digest_of, stored_in, version,
};
use crate::{Error, Image, Store};

/// An image that an entry leads to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) id: Digest,
    /// The manifest; in an index with its platform.
    pub(crate) manifest: Descriptor,
}

/// An entry.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) entry: Descriptor,
    pub(crate) name: Option<Reference>,
    /// The images that are stored: of an index any number, of an artifact none.
    pub(crate) images: Rc<[Held]>,
}

/// All entries, looked at.
#[derive(Debug)]
pub(crate) struct Catalog(pub(crate) Vec<Item>);

/// What a text means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'c> {
    /// An entry, by its name or its digest.
    Entry(&'c Item),
    /// One image, by its id or its manifest's digest.
    Image(&'c Item, &'c Held),
}

/// What an image goes by.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Names {
    /// With a tag.
    pub(crate) tags: BTreeSet<Reference>,
    /// With a digest.
    pub(crate) digests: BTreeSet<Reference>,
}

impl Store {
    /// Looks at all entries. Documents are read only for entries that another program made; where
    /// they cannot be, such an entry leads to no image.
    pub(crate) fn catalog(&self, entries: Vec<Descriptor>) -> Catalog {
        let mut known: HashMap<_, Rc<[Held]>> = HashMap::new();
        let items = entries.into_iter().map(|entry| {
            let images = known.entry(version(&entry));
            let images = images.or_insert_with(|| self.images_of(&entry).into());
            Item {
                name: name_of(&entry),
                images: Rc::clone(images),
                entry,
            }
        });
        Catalog(items.collect())
    }

    /// All entries as they are now.
    pub(crate) fn current(&self) -> Result<Catalog, Error> {
        Ok(self.catalog(self.read_index()?.manifests))
    }

    /// Whether an image is one of the index still.
    pub(crate) fn has_entry(&self, image: &Image) -> Result<bool, Error> {
        let index = self.read_index()?.manifests;
        let plain = |entry: &Descriptor| {
            entry.digest == image.digest || digest_in(entry, IMAGE_ID) == Some(image.id)
        };
        if image.digest == Image::scratch().digest || index.iter().any(plain) {
            return Ok(true);
        }
        let held = |item: &Item| item.images.iter().any(|held| held.id == image.id);
        Ok(self.catalog(index).0.iter().any(held))
    }

    fn images_of(&self, entry: &Descriptor) -> Vec<Held> {
        if entry.is_index() {
            let stored = stored_in(entry)
                .or_else(|| self.documents_below(entry).ok())
                .unwrap_or_default();
            return stored.into_iter().filter_map(held).collect();
        }
        if crate::index::is_known(entry) {
            return held(entry.clone()).into_iter().collect();
        }
        let examined = self.examine(entry).ok();
        let image = examined.and_then(|examined| examined.image.ok());
        let held = image.map(|image| Held {
            id: image.id,
            manifest: bare(entry),
        });
        held.into_iter().collect()
    }
}

/// The image of a descriptor that says which one it is.
fn held(descriptor: Descriptor) -> Option<Held> {
    let id = digest_in(&descriptor, IMAGE_ID)?;
    let mut manifest = bare(&descriptor);
    manifest.platform = descriptor.platform;
    Some(Held { id, manifest })
}

impl Catalog {
    /// What every manifest goes by; those of an index go by the index's names.
    pub(crate) fn names(&self) -> HashMap<Digest, Names> {
        let mut names: HashMap<Digest, Names> = HashMap::new();
        for item in &self.0 {
            let own = std::iter::once(item.entry.digest);
            let held = item.images.iter().map(|held| held.manifest.digest);
            let manifests: BTreeSet<Digest> = own.chain(held).collect();
            for digest in manifests {
                names.entry(digest).or_default().add(item);
            }
        }
        names
    }

    /// What one manifest goes by.
    pub(crate) fn names_of(&self, manifest: &Digest) -> Names {
        let mut names = Names::default();
        for item in self.0.iter().filter(|item| item.leads_to(manifest)) {
            names.add(item);
        }
        names
    }

    /// What a name, an id, the beginning of an id or a document's digest means.
    pub(crate) fn find(&self, text: &str) -> Result<Target<'_>, Error> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let digest = Digest::from_hex(hex).ok();
        let reference = match digest {
            Some(_) => None,
            None => Some(text.parse::<Reference>()),
        };
        if let Some(Ok(reference)) = &reference
            && let Some(target) = self.by_reference(reference)
        {
            return Ok(target);
        }
        let matches = if is_prefix(hex) {
            self.by_id(hex)
        } else {
            Vec::new()
        };
        match (&matches[..], reference) {
            ([target], _) => Ok(*target),
            ([], Some(Err(source))) if !is_prefix(hex) => Err(Error::Reference {
                text: text.to_owned(),
                source,
            }),
            ([], _) => digest
                .and_then(|digest| self.by_digest(&digest))
                .ok_or_else(|| Error::NoSuchImage(text.to_owned())),
            _ => Err(Error::AmbiguousImage {
                prefix: text.to_owned(),
                ids: matches.into_iter().filter_map(Target::id).collect(),
            }),
        }
    }

    fn by_reference(&self, wanted: &Reference) -> Option<Target<'_>> {
        let Some(digest) = wanted.digest() else {
            let called = |item: &&Item| item.name.as_ref() == Some(wanted);
            return self.0.iter().find(called).map(Target::Entry);
        };
        let of_repository = || self.0.iter().filter(|item| item.is_in(wanted));
        of_repository()
            .find(|item| item.is_known_by(&digest))
            .map(Target::Entry)
            .or_else(|| of_repository().find_map(|item| item.image_by_digest(&digest)))
    }

    /// Each image once whose id starts so. A manifest with an entry of its own goes first.
    fn by_id(&self, hex: &str) -> Vec<Target<'_>> {
        let mut found: Vec<(Digest, Target<'_>)> = Vec::new();
        for item in &self.0 {
            for held in item.images.iter().filter(|h| h.id.hex().starts_with(hex)) {
                let target = Target::Image(item, held);
                match found.iter_mut().find(|(id, _)| *id == held.id) {
                    None => found.push((held.id, target)),
                    Some((_, known)) if known.is_in_index() && !item.entry.is_index() => {
                        *known = target;
                    }
                    Some(_) => {}
                }
            }
        }
        found.into_iter().map(|(_, target)| target).collect()
    }

    fn by_digest(&self, digest: &Digest) -> Option<Target<'_>> {
        let entry = self.0.iter().find(|item| item.entry.digest == *digest);
        entry
            .map(Target::Entry)
            .or_else(|| self.0.iter().find_map(|item| item.image_by_digest(digest)))
    }
}

impl Item {
    /// Whether it is a manifest, or an index that holds it.
    pub(crate) fn leads_to(&self, manifest: &Digest) -> bool {
        let held = || {
            self.images
                .iter()
                .any(|held| held.manifest.digest == *manifest)
        };
        self.entry.digest == *manifest || held()
    }

    /// The manifests of an image that it holds.
    pub(crate) fn manifests_of(&self, id: &Digest) -> impl Iterator<Item = Digest> {
        let images = self.images.iter().filter(move |held| held.id == *id);
        images.map(|held| held.manifest.digest)
    }

    /// Whether it leads to the same as another entry.
    pub(crate) fn is_version(&self, (digest, stored): &(Digest, Option<String>)) -> bool {
        self.entry.digest == *digest && self.entry.annotations.get(STORED) == stored.as_ref()
    }

    /// Whether its name is of the same repository.
    pub(crate) fn is_in(&self, repository: &Reference) -> bool {
        self.name.as_ref().is_some_and(|name| {
            (name.domain(), name.path()) == (repository.domain(), repository.path())
        })
    }

    /// Whether the document has this digest, here or in a registry.
    pub(crate) fn is_known_by(&self, digest: &Digest) -> bool {
        let named = self.name.as_ref().and_then(Reference::digest);
        self.entry.digest == *digest
            || named == Some(*digest)
            || digest_in(&self.entry, REPO_DIGEST) == Some(*digest)
    }

    /// The name, if it has a tag.
    pub(crate) fn tagged(&self) -> Option<&Reference> {
        self.name.as_ref().filter(|name| name.tag().is_some())
    }

    fn image_by_digest(&self, digest: &Digest) -> Option<Target<'_>> {
        let mut images = self.images.iter();
        let held = images.find(|held| held.manifest.digest == *digest)?;
        Some(Target::Image(self, held))
    }
}

impl Target<'_> {
    /// The id, of one image.
    pub(crate) fn id(self) -> Option<Digest> {
        match self {
            Self::Entry(item) if item.entry.is_index() => None,
            Self::Entry(item) => item.images.first().map(|held| held.id),
            Self::Image(_, held) => Some(held.id),
        }
    }

    fn is_in_index(&self) -> bool {
        matches!(self, Self::Image(item, _) if item.entry.is_index())
    }
}

impl Names {
    /// As [`Names::add`], to fold with.
    pub(crate) fn with(mut self, item: &Item) -> Self {
        self.add(item);
        self
    }

    pub(crate) fn add(&mut self, item: &Item) {
        let Some(name) = &item.name else { return };
        self.digests.extend(repo_digest_of(&item.entry, name));
        self.tags.extend(item.tagged().cloned());
    }
}

fn is_prefix(hex: &str) -> bool {
    (1..=64).contains(&hex.len()) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
