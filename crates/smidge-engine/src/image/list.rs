//! `images`: what is in the store.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use smidge_image::{Digest, Platform, Reference};
use smidge_store::Image;

use super::filter::{Filter, Filters, matches_pattern};
use crate::container::is_before;
use crate::{Engine, Result};

/// Which images to list.
#[derive(Clone, Debug, Default)]
pub struct ImageQuery {
    /// A name, or a pattern of names.
    pub reference: Option<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// `-a`: of a name for several platforms every image, not this machine's alone.
    pub all: bool,
}

/// A line of the list: an image under one of its names.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The repository, with a tag or with the digest by which a registry knows it; `None` for a
    /// nameless image.
    pub name: Option<Reference>,
    /// The image's id.
    pub id: Digest,
    /// The digest by which the repository's registry knows it, if it was pulled or pushed.
    pub digest: Option<Digest>,
    /// What machine it is for.
    pub platform: Platform,
    /// When it was made, RFC 3339, if it says.
    pub created: Option<String>,
    /// Bytes on disk.
    pub size: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How many containers were made from it.
    pub containers: usize,
}

/// The filters of `images`.
const FILTERS: [&str; 6] = ["dangling", "label", "reference", "before", "since", "until"];

impl Engine {
    /// Lists images, the newest first, one line for each name.
    ///
    /// # Errors
    /// When a filter cannot be understood or names an image that is not there, when the store cannot
    /// be read.
    pub fn images(&self, query: &ImageQuery) -> Result<Vec<Listed>> {
        self.images_used(&self.uses_by_image(), query)
    }

    /// The same; `uses` is how many containers were made from which.
    pub(crate) fn images_used(
        &self,
        uses: &BTreeMap<Digest, usize>,
        query: &ImageQuery,
    ) -> Result<Vec<Listed>> {
        let filters = Filters::new(&query.filters, &FILTERS)?;
        let dangling = filters.truth("dangling")?;
        let bound = |key: &str| -> Result<Option<String>> {
            filters
                .values(key)
                .last()
                .map(|name| Ok(made(&self.store.image(name)?)))
                .transpose()
        };
        let (before, since) = (bound("before")?, bound("since")?);
        let until = self.until(&filters)?;
        let mut images = match query.all {
            true => self.store.all_images()?,
            false => self.store.images()?,
        };
        images.sort_by(|a, b| made(b).cmp(&made(a)).then_with(|| a.names.cmp(&b.names)));
        images.retain(|image| {
            dangling.is_none_or(|wanted| image.names.is_empty() == wanted)
                && before.as_ref().is_none_or(|bound| made(image) < *bound)
                && is_before(&made(image), until)
                && since.as_ref().is_none_or(|bound| made(image) > *bound)
                && filters.labels(&image.config.config.labels)
        });
        let named = |name: &Reference| {
            query
                .reference
                .as_ref()
                .is_none_or(|wanted| suits(wanted, name))
                && filters.any("reference", |pattern| suits(pattern, name))
        };
        let by_name = query.reference.is_some() || !filters.values("reference").is_empty();
        let mut list = Vec::new();
        for image in &images {
            let containers = uses.get(&image.id).copied().unwrap_or(0);
            let shown = shown_names(image);
            list.extend(
                shown
                    .iter()
                    .filter(|name| named(name))
                    .map(|name| line(image, Some(name), containers)),
            );
            if shown.is_empty() && !by_name {
                list.push(line(image, None, containers));
            }
        }
        Ok(list)
    }

    fn uses_by_image(&self) -> BTreeMap<Digest, usize> {
        /// All that is wanted of a record.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Use {
            image_id: Digest,
        }
        let mut uses = BTreeMap::new();
        for container in self.store.containers().unwrap_or_default() {
            if let Ok(Use { image_id }) = container.record() {
                *uses.entry(image_id).or_default() += 1;
            }
        }
        uses
    }
}

/// An image's names; of repositories that have no tag for it, the digest.
fn shown_names(image: &Image) -> Vec<&Reference> {
    let repository = |name: &Reference| (name.domain().to_owned(), name.path().to_owned());
    let tagged: BTreeSet<_> = image.names.iter().map(repository).collect();
    let digests = image.repo_digests.iter();
    let untagged = digests.filter(|name| !tagged.contains(&repository(name)));
    image.names.iter().chain(untagged).collect()
}

fn line(image: &Image, name: Option<&Reference>, containers: usize) -> Listed {
    let own = |name: &Reference| {
        let same =
            |known: &&Reference| (known.domain(), known.path()) == (name.domain(), name.path());
        image.repo_digests.iter().find(same)?.digest()
    };
    Listed {
        name: name.cloned(),
        id: image.id,
        digest: name.and_then(|name| name.digest().or_else(|| own(name))),
        platform: image.config.platform(),
        created: image.config.created.clone(),
        size: image.size(),
        labels: image.config.config.labels.clone(),
        containers,
    }
}

/// When an image was made; RFC 3339 in UTC sorts as text.
fn made(image: &Image) -> String {
    image.config.created.clone().unwrap_or_default()
}

/// Whether a name or a pattern of names means a name: without a tag, it means all tags.
fn suits(wanted: &str, name: &Reference) -> bool {
    let (repository, full) = (name.familiar_name(), name.familiar());
    let complete = name.to_string();
    let long = complete
        .strip_suffix(full.trim_start_matches(&repository))
        .unwrap_or(&complete);
    [repository.as_str(), &full, &complete, long]
        .into_iter()
        .any(|text| matches_pattern(wanted, text))
}

/// Names in the store that somebody may have meant.
pub(crate) fn similar_names(engine: &Engine, wanted: &str) -> Vec<String> {
    let entries = engine.store.entries().unwrap_or_default();
    let names = entries.iter().filter_map(|entry| entry.name.as_ref());
    let names = names.filter(|name| name.tag().is_some());
    let repository = |text: &str| {
        let last = text.rsplit('/').next().unwrap_or(text);
        last.split([':', '@'])
            .next()
            .unwrap_or(last)
            .to_ascii_lowercase()
    };
    let meant = repository(wanted);
    let mut similar: Vec<(usize, String)> = names
        .map(|name| (distance(&repository(&name.familiar()), &meant), name))
        .filter(|(distance, _)| *distance <= meant.chars().count().min(6) / 3)
        .map(|(distance, name)| (distance, format!("`{}`", name.familiar())))
        .collect();
    similar.sort();
    similar.into_iter().take(3).map(|(_, name)| name).collect()
}

/// How many characters have to be put in, taken out or exchanged (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns_mean_names() {
        let name: Reference = "ghcr.io/acme/api:1.4".parse().unwrap();
        let official: Reference = "alpine".parse().unwrap();
        for (wanted, name, expected) in [
            ("ghcr.io/acme/api", &name, true),
            ("ghcr.io/acme/api:1.4", &name, true),
            ("ghcr.io/acme/api:1.5", &name, false),
            ("ghcr.io/*/api", &name, true),
            ("*api", &name, false),
            ("alpine", &official, true),
            ("alp*:latest", &official, true),
            ("docker.io/library/alpine", &official, true),
            ("docker.io/library/alpine:latest", &official, true),
            ("alpin", &official, false),
        ] {
            assert_eq!(suits(wanted, name), expected, "{wanted}");
        }
    }

    #[test]
    fn distances_count_changes() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("kitten", "sitting", 3),
            ("alpnie", "alpine", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
