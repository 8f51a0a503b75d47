//! `index.json`: which manifests there are, and what they are called.
//!
//! One descriptor for each pair of manifest and name; a nameless image has one descriptor without a
//! name. Writers hold the store's lock; readers need none, since the file is replaced whole.

use std::io;

use smidge_image::{Descriptor, Digest, Index, Reference, annotation, media_type};

use crate::error::READ;
use crate::image::parse;
use crate::{Error, Store, regular};

/// The annotation that saves a reader of `index.json` from reading the manifest too.
pub(crate) const IMAGE_ID: &str = "dev.smidge.image.id";

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

/// Whether an entry is one image (and not, say, an index of several).
pub(crate) fn is_manifest(entry: &Descriptor) -> bool {
    matches!(
        entry.media_type.as_str(),
        media_type::MANIFEST | media_type::DOCKER_MANIFEST
    )
}

/// Whether an entry is an index of several images.
pub(crate) fn is_index(entry: &Descriptor) -> bool {
    matches!(
        entry.media_type.as_str(),
        media_type::INDEX | media_type::DOCKER_MANIFEST_LIST
    )
}

/// The name that an entry gives to its manifest, if it gives one that is valid.
pub(crate) fn name_of(entry: &Descriptor) -> Option<Reference> {
    entry.annotations.get(annotation::REF_NAME)?.parse().ok()
}

/// All names of a manifest, sorted.
pub(crate) fn names_of(index: &Index, manifest: &Digest) -> Vec<Reference> {
    let entries = index
        .manifests
        .iter()
        .filter(|entry| entry.digest == *manifest);
    let mut names: Vec<_> = entries.filter_map(name_of).collect();
    names.sort();
    names.dedup();
    names
}

/// Gives `names` to a manifest and to no other. Who loses its last name stays, nameless.
pub(crate) fn set_names(
    index: &mut Index,
    manifest: &Descriptor,
    id: &Digest,
    names: &[Reference],
) {
    for name in names {
        remove_name(index, name, |entry| entry.digest != manifest.digest);
    }
    let entry = |name: Option<&Reference>| {
        let mut entry = manifest.clone();
        entry
            .annotations
            .insert(IMAGE_ID.to_owned(), id.to_string());
        if let Some(name) = name {
            entry
                .annotations
                .insert(annotation::REF_NAME.to_owned(), name.to_string());
        }
        entry
    };
    let known = names_of(index, &manifest.digest);
    for name in names.iter().filter(|name| !known.contains(name)) {
        index.manifests.push(entry(Some(name)));
    }
    if !names.is_empty() || !known.is_empty() {
        let nameless = |e: &Descriptor| e.digest == manifest.digest && name_of(e).is_none();
        index.manifests.retain(|e| !nameless(e));
    } else if !index.manifests.iter().any(|e| e.digest == manifest.digest) {
        index.manifests.push(entry(None));
    }
}

/// Takes a name from the entries that `which` picks; the last entry of a manifest stays without it.
pub(crate) fn remove_name(
    index: &mut Index,
    name: &Reference,
    which: impl Fn(&Descriptor) -> bool,
) {
    let named = |entry: &Descriptor| which(entry) && name_of(entry).as_ref() == Some(name);
    while let Some(at) = index.manifests.iter().position(named) {
        let digest = index.manifests[at].digest;
        let entries = index
            .manifests
            .iter()
            .filter(|entry| entry.digest == digest);
        if entries.count() > 1 {
            index.manifests.remove(at);
        } else {
            index.manifests[at].annotations.remove(annotation::REF_NAME);
        }
    }
}

/// The entry that a name, an id, the beginning of an id or a manifest digest means.
pub(crate) fn find<'i>(
    index: &'i Index,
    name: &str,
    id_of: &dyn Fn(&Descriptor) -> Result<Digest, Error>,
) -> Result<&'i Descriptor, Error> {
    let entries = || index.manifests.iter().filter(|entry| is_manifest(entry));
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    let digest = Digest::from_hex(hex).ok();
    let reference = match digest {
        Some(_) => None,
        None => Some(name.parse::<Reference>()),
    };
    if let Some(Ok(reference)) = &reference
        && let Some(entry) = entries().find(|entry| is_called(entry, reference))
    {
        return Ok(entry);
    }
    let mut matches: Vec<(Digest, &Descriptor)> = Vec::new();
    if is_prefix(hex) {
        for entry in entries() {
            let id = id_of(entry)?;
            if id.hex().starts_with(hex) && !matches.iter().any(|(known, _)| *known == id) {
                matches.push((id, entry));
            }
        }
    }
    match (&matches[..], reference) {
        ([(_, entry)], _) => Ok(entry),
        ([], Some(Err(source))) if !is_prefix(hex) => Err(Error::Reference {
            text: name.to_owned(),
            source,
        }),
        ([], _) => entries()
            .find(|entry| Some(entry.digest) == digest)
            .ok_or_else(|| Error::NoSuchImage(name.to_owned())),
        _ => Err(Error::AmbiguousImage {
            prefix: name.to_owned(),
            ids: matches.into_iter().map(|(id, _)| id).collect(),
        }),
    }
}

/// Whether an entry goes by a name. A name with a digest means that manifest of that repository.
fn is_called(entry: &Descriptor, wanted: &Reference) -> bool {
    let Some(name) = name_of(entry) else {
        return false;
    };
    match wanted.digest() {
        None => name == *wanted,
        Some(digest) => {
            entry.digest == digest
                && name.domain() == wanted.domain()
                && name.path() == wanted.path()
        }
    }
}

fn is_prefix(hex: &str) -> bool {
    (1..=64).contains(&hex.len()) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
