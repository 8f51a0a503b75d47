//! Removal of images and other documents by name, id or digest.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use smidge_image::{Descriptor, Digest, Reference, annotation};

use crate::catalog::{Catalog, Held, Item, Names, Target};
use crate::index::{IMAGE_ID, MISSING, REPO_DIGEST, bare, note, tell_stored, tidy, version};
use crate::{Error, Store};

/// A container that was made from an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// How to call the container in messages.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
}

/// Tells whether a container was made from the image with an id; a running one goes first.
///
/// Called while the index is locked: it may read the store, but must not write it.
pub type InUse<'a> = &'a dyn Fn(&Digest) -> Option<Use>;

/// What [`Store::remove`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// Ids of images that are gone.
    pub deleted: Vec<Digest>,
}

/// What is to leave the index.
#[derive(Default)]
struct Doomed {
    /// Entries, by their positions.
    entries: HashSet<usize>,
    /// Documents that leave indexes which stay, by the indexes' positions.
    documents: HashMap<usize, Vec<Digest>>,
    /// What was meant, if it was not one name: an image's id, or a document's digest.
    digest: Option<Digest>,
}

impl Store {
    /// Removes a name, and the image with its last name; by id, the image with all its names. The
    /// name of an index stands for all its images; an id for one, which leaves the index.
    ///
    /// As with Docker, `force` is needed for an image with several names that is given by id, and for
    /// one that a stopped container was made from. That image's files stay, nameless, until the
    /// container is gone.
    ///
    /// # Errors
    /// [`Error::ManyNames`], [`Error::ImageInUse`], as [`Store::image`], and when the store cannot be
    /// written.
    pub fn remove(&self, name: &str, force: bool, in_use: InUse<'_>) -> Result<Removed, Error> {
        let outcome = self.remove_all(&[name], force, in_use)?.0.pop();
        outcome.unwrap_or_else(|| Err(Error::NoSuchImage(name.to_owned())))
    }

    /// Does [`Store::remove`] for each of several names, and writes the index once. Gives, too, what it
    /// cannot remove: directories whose files belong to ids of a user namespace. Who can enter that
    /// namespace may remove them.
    ///
    /// # Errors
    /// When the store cannot be read or written. Anything else is told for each name.
    #[allow(clippy::type_complexity, reason = "one outcome for each name")]
    pub fn remove_all(
        &self,
        names: &[&str],
        force: bool,
        in_use: InUse<'_>,
    ) -> Result<(Vec<Result<Removed, Error>>, Vec<PathBuf>), Error> {
        let mut gone = Vec::new();
        let outcomes = self.update_index(|index| {
            let mut catalog = self.catalog(std::mem::take(&mut index.manifests));
            let outcomes = names.iter().map(|name| {
                let doomed = doomed(&catalog, name)?;
                self.remove_from(&mut catalog, &doomed, (force, in_use), &mut gone)
            });
            let outcomes: Vec<_> = outcomes.collect();
            index.manifests = catalog.0.into_iter().map(|item| item.entry).collect();
            tidy(index);
            Ok(outcomes)
        })?;
        let left = self.collect_documents(&gone)?;
        Ok((outcomes, left))
    }

    /// Removes a document from one repository, as registries do: all its names there, and the
    /// document from indexes there. Tells whether there was any. Where a container needs it, the image
    /// stays, nameless.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove_document(
        &self,
        repository: &Reference,
        digest: &Digest,
        in_use: InUse<'_>,
    ) -> Result<bool, Error> {
        let mut gone = Vec::new();
        let found = self.update_index(|index| {
            let mut catalog = self.catalog(std::mem::take(&mut index.manifests));
            let mut doomed = Doomed::default();
            for (position, item) in catalog.0.iter().enumerate() {
                if !item.is_in(repository) {
                    continue;
                }
                if item.is_known_by(digest) {
                    doomed.entries.insert(position);
                } else if item.entry.is_index()
                    && let documents = self.documents_of(&item.entry).unwrap_or_default()
                    && documents.iter().any(|document| document.digest == *digest)
                {
                    doomed.documents.insert(position, vec![*digest]);
                }
            }
            let found = !(doomed.entries.is_empty() && doomed.documents.is_empty());
            self.take_out(&mut catalog, &doomed, in_use, &mut gone);
            index.manifests = catalog.0.into_iter().map(|item| item.entry).collect();
            tidy(index);
            Ok(found)
        })?;
        self.collect_documents(&gone)?;
        Ok(found)
    }

    /// Takes a tag away, as registries do: the document stays in its repository under its digest.
    /// Tells whether there was such a tag.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove_name_entry(&self, name: &Reference) -> Result<bool, Error> {
        self.update_index(|index| {
            let mut found = false;
            for entry in &mut index.manifests {
                if name.tag().is_none() || crate::index::name_of(entry).as_ref() != Some(name) {
                    continue;
                }
                found = true;
                entry.annotations.remove(REPO_DIGEST);
                let left = name.with_digest(entry.digest).to_string();
                entry
                    .annotations
                    .insert(annotation::REF_NAME.to_owned(), left);
            }
            tidy(index);
            Ok(found)
        })
    }

    fn remove_from(
        &self,
        catalog: &mut Catalog,
        doomed: &Doomed,
        (force, in_use): (bool, InUse<'_>),
        gone: &mut Vec<Descriptor>,
    ) -> Result<Removed, Error> {
        let leaving = || doomed.entries.iter().map(|position| &catalog.0[*position]);
        let names: BTreeSet<Reference> = leaving().filter_map(Item::tagged).cloned().collect();
        if let Some(id) = doomed.digest
            && !force
            && names.len() > 1
        {
            let names = names.into_iter().collect();
            return Err(Error::ManyNames { id, names });
        }
        let nameless = leaving().all(|item| item.name.is_none());
        for id in lost(catalog, doomed) {
            if let Some(Use { container, running }) = in_use(&id)
                && (running || !force || nameless)
            {
                return Err(Error::ImageInUse {
                    id,
                    container,
                    running,
                });
            }
        }
        let mut digests = leaving().fold(Names::default(), Names::with).digests;
        let deleted = self.take_out(catalog, doomed, in_use, gone);
        if !digests.is_empty() {
            let left = catalog.0.iter().fold(Names::default(), Names::with).digests;
            digests = digests.difference(&left).cloned().collect();
        }
        Ok(Removed {
            untagged: names.into_iter().chain(digests).collect(),
            deleted,
        })
    }

    /// Takes out what is doomed. Images that containers need stay, nameless. Returns the ids of those
    /// that are gone (of other documents their digests), and adds everything that may be garbage now
    /// to `gone`.
    fn take_out(
        &self,
        catalog: &mut Catalog,
        doomed: &Doomed,
        in_use: InUse<'_>,
        gone: &mut Vec<Descriptor>,
    ) -> Vec<Digest> {
        let mut deleted = Vec::new();
        let mut kept: Vec<Item> = Vec::new();
        for id in lost(catalog, doomed) {
            let mut images = catalog.0.iter().flat_map(|item| item.images.iter());
            match images.find(|held| held.id == id) {
                Some(held) if in_use(&id).is_some() => kept.push(item_of(held)),
                _ => deleted.push(id),
            }
        }
        for (position, documents) in &doomed.documents {
            self.shrink(&mut catalog.0[*position], documents, gone);
        }
        let mut positions = 0..;
        let leaves = |_: &mut Item| {
            positions
                .next()
                .is_some_and(|at| doomed.entries.contains(&at))
        };
        let leaving: Vec<Item> = catalog.0.extract_if(.., leaves).collect();
        catalog.0.extend(kept);
        for Item { entry, images, .. } in leaving {
            let version = version(&entry);
            if catalog.0.iter().any(|item| item.is_version(&version)) {
                continue;
            }
            if images.is_empty() && !deleted.contains(&entry.digest) {
                deleted.push(entry.digest);
            }
            gone.push(entry);
        }
        deleted
    }

    /// Makes an index lack documents that it had.
    fn shrink(&self, item: &mut Item, documents: &[Digest], gone: &mut Vec<Descriptor>) {
        let missing = item.entry.annotations.get(MISSING);
        let missing: usize = missing.and_then(|text| text.parse().ok()).unwrap_or(0);
        let stored = self.documents_of(&item.entry).unwrap_or_default();
        let (dropped, stored): (Vec<_>, Vec<_>) = stored
            .into_iter()
            .partition(|document| documents.contains(&document.digest));
        tell_stored(&mut item.entry, &stored, missing + dropped.len());
        gone.extend(dropped);
        let rest = item.images.iter();
        let rest = rest.filter(|held| !documents.contains(&held.manifest.digest));
        item.images = rest.cloned().collect();
    }
}

/// What a text means to have removed.
fn doomed(catalog: &Catalog, text: &str) -> Result<Doomed, Error> {
    let target = catalog.find(text)?;
    if let Target::Entry(item) = target
        && let Some(name) = item
            .tagged()
            .filter(|name| text.parse().as_ref() == Ok(*name))
    {
        return Ok(one_name(catalog, item.entry.digest, name));
    }
    let (Target::Entry(item) | Target::Image(item, _)) = target;
    let Some(id) = target.id() else {
        let digest = item.entry.digest;
        return Ok(Doomed {
            entries: positions(catalog, |item| item.entry.digest == digest),
            digest: Some(digest),
            ..Doomed::default()
        });
    };
    let mut doomed = Doomed {
        digest: Some(id),
        ..Doomed::default()
    };
    for (position, item) in catalog.0.iter().enumerate() {
        let manifests: Vec<Digest> = item.manifests_of(&id).collect();
        if manifests.is_empty() {
            continue;
        }
        if manifests.len() == item.images.len() {
            doomed.entries.insert(position);
        } else {
            doomed.documents.insert(position, manifests);
        }
    }
    Ok(doomed)
}

/// One name of a document; with a repository's last tag its digests there go, too.
fn one_name(catalog: &Catalog, digest: Digest, name: &Reference) -> Doomed {
    let here = |item: &Item| item.entry.digest == digest && item.is_in(name);
    let mut tags = catalog
        .0
        .iter()
        .filter(|item| here(item))
        .filter_map(Item::tagged);
    let last = tags.all(|tag| tag == name);
    Doomed {
        entries: positions(catalog, |item| {
            here(item) && item.tagged().map_or(last, |tag| tag == name)
        }),
        ..Doomed::default()
    }
}

fn positions(catalog: &Catalog, suits: impl Fn(&Item) -> bool) -> HashSet<usize> {
    let items = catalog.0.iter().enumerate();
    items
        .filter(|(_, item)| suits(item))
        .map(|(position, _)| position)
        .collect()
}

/// The ids of images that would have no entry any more.
fn lost(catalog: &Catalog, doomed: &Doomed) -> BTreeSet<Digest> {
    let goes = |position: usize, held: &Held| {
        let documents = doomed.documents.get(&position);
        doomed.entries.contains(&position)
            || documents.is_some_and(|all| all.contains(&held.manifest.digest))
    };
    let held = || {
        let items = catalog.0.iter().enumerate();
        items.flat_map(|(at, item)| item.images.iter().map(move |held| (at, held)))
    };
    let touched = doomed.entries.iter().chain(doomed.documents.keys());
    let mut lost: BTreeSet<Digest> = touched
        .flat_map(|at| catalog.0[*at].images.iter().map(move |held| (*at, held)))
        .filter(|(at, held)| goes(*at, held))
        .map(|(_, held)| held.id)
        .collect();
    for (at, held) in held() {
        if lost.is_empty() {
            break;
        }
        if lost.contains(&held.id) && !goes(at, held) {
            lost.remove(&held.id);
        }
    }
    lost
}

/// An entry of its own for an image.
fn item_of(held: &Held) -> Item {
    let mut entry = bare(&held.manifest);
    note(&mut entry, IMAGE_ID, Some(held.id.to_string()));
    Item {
        entry,
        name: None,
        images: [held.clone()].into(),
    }
}
