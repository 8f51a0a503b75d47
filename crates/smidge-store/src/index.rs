//! `index.json`: which documents there are, and what they are called.
//!
//! One descriptor for each pair of document and name; a nameless document has one descriptor without
//! a name. A document is an image's manifest, an index of images for several platforms, or an
//! artifact that is kept for registries. What readers would otherwise have to look up in the
//! documents stands in annotations; entries that other programs made have none of these.
//!
//! Writers hold the store's lock; readers need none, since the file is replaced whole.

use std::collections::{HashMap, HashSet};
use std::io;

use smidge_image::{Descriptor, Digest, Index, Reference, annotation};

use crate::error::READ;
use crate::image::parse;
use crate::{Error, Store, regular};

/// Of a manifest that is an image's: the image's id.
pub(crate) const IMAGE_ID: &str = "dev.smidge.image.id";
/// Of an index: the documents below it that are stored, as a JSON list of descriptors. Images among
/// them have their id and their platform there.
pub(crate) const STORED: &str = "dev.smidge.index.stored";
/// Of an index that is not stored whole: how many of its documents are missing.
pub(crate) const MISSING: &str = "dev.smidge.index.missing";
/// Of a document that is no image: what kind of artifact it is.
pub(crate) const ARTIFACT: &str = "dev.smidge.artifact.type";
/// The digest of the manifest that a document is about.
pub(crate) const SUBJECT: &str = "dev.smidge.subject";
/// The digest under which a registry has what goes by the entry's name.
pub(crate) const REPO_DIGEST: &str = "dev.smidge.registry.digest";

/// What follows from the document, and from what else is stored: not the name, nor what is known of it.
const FACTS: [&str; 5] = [IMAGE_ID, STORED, MISSING, ARTIFACT, SUBJECT];

impl Store {
    pub(crate) fn read_index(&self) -> Result<Index, Error> {
        let path = self.path("index.json");
        match regular::read(&path) {
            Ok(bytes) => parse(&path.display().to_string(), "image index", &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::new(Vec::new())),
            Err(error) => Err(self.io(READ, &path, error)),
        }
    }

    pub(crate) fn write_index(&self, index: &Index) -> Result<(), Error> {
        self.write_atomically(&self.path("index.json"), &index.to_bytes())
    }

    /// Changes the index. If `change` fails, or changes nothing, nothing is written.
    pub(crate) fn update_index<T>(
        &self,
        change: impl FnOnce(&mut Index) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _lock = self.lock()?;
        let before = self.read_index()?;
        let mut index = before.clone();
        let outcome = change(&mut index)?;
        if index != before {
            self.write_index(&index)?;
        }
        Ok(outcome)
    }
}

/// A descriptor without what entries add to it: the document's alone.
pub(crate) fn bare(entry: &Descriptor) -> Descriptor {
    Descriptor::new(entry.media_type.clone(), entry.digest, entry.size)
}

/// An entry without its name, and without what is known of that.
pub(crate) fn nameless(entry: &Descriptor) -> Descriptor {
    let mut facts = bare(entry);
    renew(&mut facts, entry);
    facts
}

/// Copies what follows from a document into another of its entries.
fn renew(entry: &mut Descriptor, facts: &Descriptor) {
    for key in FACTS {
        note(entry, key, facts.annotations.get(key).cloned());
    }
}

/// Writes down what was found out about documents, in all their entries.
pub(crate) fn renew_all(index: &mut Index, facts: &[Descriptor]) {
    let facts: HashMap<Digest, &Descriptor> =
        facts.iter().map(|fact| (fact.digest, fact)).collect();
    for entry in &mut index.manifests {
        if let Some(facts) = facts.get(&entry.digest) {
            renew(entry, facts);
        }
    }
    tidy(index);
}

/// What entries share that lead to the same: of one index, registries may have removed different
/// documents from different repositories.
pub(crate) fn version(entry: &Descriptor) -> (Digest, Option<String>) {
    (entry.digest, entry.annotations.get(STORED).cloned())
}

/// Whether an entry was made by this program, which looked at its document.
pub(crate) fn is_known(entry: &Descriptor) -> bool {
    [IMAGE_ID, STORED, ARTIFACT]
        .iter()
        .any(|key| entry.annotations.contains_key(*key))
}

/// The name that an entry gives to its document, if it gives one that is valid.
pub(crate) fn name_of(entry: &Descriptor) -> Option<Reference> {
    entry.annotations.get(annotation::REF_NAME)?.parse().ok()
}

/// The digest that an annotation holds.
pub(crate) fn digest_in(entry: &Descriptor, key: &str) -> Option<Digest> {
    entry.annotations.get(key)?.parse().ok()
}

/// The documents below an index that its entry says are stored; `None` if it says nothing.
pub(crate) fn stored_in(entry: &Descriptor) -> Option<Vec<Descriptor>> {
    serde_json::from_str(entry.annotations.get(STORED)?).ok()
}

/// Writes down which documents below an index are stored, and how many are not.
pub(crate) fn tell_stored(entry: &mut Descriptor, stored: &[Descriptor], missing: usize) {
    note(entry, STORED, serde_json::to_string(stored).ok());
    note(entry, MISSING, (missing > 0).then(|| missing.to_string()));
}

/// Sets a fact, or removes it.
pub(crate) fn note(entry: &mut Descriptor, key: &str, fact: Option<String>) {
    match fact {
        Some(fact) => entry.annotations.insert(key.to_owned(), fact),
        None => entry.annotations.remove(key),
    };
}

/// How a registry knows the document by the entry's name, if one does.
pub(crate) fn repo_digest_of(entry: &Descriptor, name: &Reference) -> Option<Reference> {
    match name.digest() {
        Some(_) => Some(name.clone()),
        None => digest_in(entry, REPO_DIGEST).map(|digest| name.with_digest(digest)),
    }
}

/// The form in which a name is kept: a digest makes the tag meaningless.
fn kept(name: &Reference) -> Reference {
    match name.digest() {
        Some(digest) => name.with_digest(digest),
        None => name.clone(),
    }
}

/// Gives names to documents, and takes those names from all others. `new` has entries without names.
///
/// Who loses its last name stays, nameless, or under the digest by which a registry knows it.
pub(crate) fn set_names(index: &mut Index, new: &[(Descriptor, Vec<Reference>)]) {
    let mut owners: HashMap<Reference, Digest> = HashMap::new();
    for (entry, names) in new {
        let usable = names.iter().map(kept);
        let usable = usable.filter(|name| name.digest().is_none_or(|d| d == entry.digest));
        owners.extend(usable.map(|name| (name, entry.digest)));
    }
    let mut known: HashSet<Reference> = HashSet::new();
    for entry in &mut index.manifests {
        let Some(name) = name_of(entry) else { continue };
        match owners.get(&name) {
            Some(owner) if *owner == entry.digest => {
                known.insert(name);
            }
            Some(_) => lose_name(entry, &name),
            None => {}
        }
    }
    for (entry, names) in new {
        for name in names.iter().map(kept) {
            if owners.get(&name) == Some(&entry.digest) && known.insert(name.clone()) {
                index.manifests.push(named(entry, &name));
            }
        }
        index.manifests.push(entry.clone());
    }
    tidy(index);
}

/// An entry under a name.
pub(crate) fn named(entry: &Descriptor, name: &Reference) -> Descriptor {
    let mut named = entry.clone();
    let text = name.to_string();
    named
        .annotations
        .insert(annotation::REF_NAME.to_owned(), text);
    named
}

/// Takes an entry's name away; the digest by which a registry knows it stays.
fn lose_name(entry: &mut Descriptor, name: &Reference) {
    let left = repo_digest_of(entry, name);
    entry.annotations.remove(annotation::REF_NAME);
    entry.annotations.remove(REPO_DIGEST);
    if let Some(left) = left {
        *entry = named(entry, &left);
    }
}

/// Takes names from whatever has them; the last entry of a document stays without.
pub(crate) fn drop_names(index: &mut Index, names: &[Reference]) {
    let names: HashSet<&Reference> = names.iter().collect();
    for entry in &mut index.manifests {
        if name_of(entry).is_some_and(|name| names.contains(&name)) {
            entry.annotations.remove(annotation::REF_NAME);
        }
    }
    tidy(index);
}

/// Removes entries that say nothing new: the same name twice, no name beside a name, no name of its
/// own (or a digest alone) for what an index of the same repository holds.
pub(crate) fn tidy(index: &mut Index) {
    let names: Vec<Option<Reference>> = index.manifests.iter().map(name_of).collect();
    let mut called: HashSet<Digest> = HashSet::new();
    let mut below: HashMap<Digest, HashSet<String>> = HashMap::new();
    for (entry, name) in index.manifests.iter().zip(&names) {
        if name.is_some() {
            called.insert(entry.digest);
        }
        if !entry.is_index() {
            continue;
        }
        for child in stored_in(entry).unwrap_or_default() {
            let repositories = below.entry(child.digest).or_default();
            repositories.extend(name.as_ref().map(Reference::familiar_name));
        }
    }
    let mut seen: HashSet<(Digest, Option<Reference>)> = HashSet::new();
    let mut names = names.into_iter();
    index.manifests.retain(|entry| {
        let name = names.next().flatten();
        let needless = match &name {
            None => called.contains(&entry.digest) || below.contains_key(&entry.digest),
            Some(name) => {
                name.tag().is_none()
                    && name.digest() == Some(entry.digest)
                    && below
                        .get(&entry.digest)
                        .is_some_and(|repositories| repositories.contains(&name.familiar_name()))
            }
        };
        seen.insert((entry.digest, name)) && !needless
    });
}
