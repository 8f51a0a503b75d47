//! Which images of an archive or a layout are wanted.

use smidge_image::{Descriptor, Digest, Platform, Reference, annotation};

use super::document::DockerImage;
use crate::Error;

/// The annotations that name an entry of a layout, the one that says more first.
pub(super) const NAMES: [&str; 2] = [annotation::CONTAINERD_NAME, annotation::REF_NAME];

/// Which images of an archive or a layout are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection<'a> {
    /// By their names.
    pub choice: Choice<'a>,
    /// The only platform that is wanted.
    pub platform: Option<&'a Platform>,
}

/// Images of an archive or a layout, by their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice<'a> {
    /// All of them.
    #[default]
    All,
    /// The only one.
    Only,
    /// The one with a name, which need not be a reference, or with a digest.
    Named(&'a str),
}

impl<'a> Selection<'a> {
    pub(super) fn all(platform: Option<&'a Platform>) -> Self {
        Self {
            choice: Choice::All,
            platform,
        }
    }

    /// The entries of a layout that are wanted.
    pub(super) fn of_layout(&self, entries: Vec<Descriptor>) -> Result<Vec<Descriptor>, Error> {
        let key = |entry: &Descriptor| entry.digest;
        let names = |entry: &Descriptor| {
            let names = NAMES.iter().filter_map(|name| entry.annotations.get(*name));
            names.cloned().collect()
        };
        self.choice.of(entries, key, names)
    }

    /// The images of a docker-archive that are wanted.
    pub(super) fn of_docker(&self, images: Vec<DockerImage>) -> Result<Vec<DockerImage>, Error> {
        let key = |image: &DockerImage| {
            let file = image.config.rsplit('/').next().unwrap_or_default();
            let digest = Digest::from_hex(file.trim_end_matches(".json"));
            digest.unwrap_or_else(|_| Digest::of(image.config.as_bytes()))
        };
        let names = |image: &DockerImage| image.repo_tags.clone().unwrap_or_default();
        self.choice.of(images, key, names)
    }
}

impl Choice<'_> {
    fn of<T>(
        self,
        items: Vec<T>,
        key: impl Fn(&T) -> Digest,
        names: impl Fn(&T) -> Vec<String>,
    ) -> Result<Vec<T>, Error> {
        let held = |items: &[T]| {
            let mut held: Vec<String> = items
                .iter()
                .map(|item| match names(item).first() {
                    Some(name) => shown(name),
                    None => key(item).to_string(),
                })
                .collect();
            held.dedup();
            held
        };
        match self {
            Self::All => Ok(items),
            Self::Only => {
                let first = items.first().map(&key);
                match items.iter().all(|item| Some(key(item)) == first) {
                    true => Ok(items),
                    false => Err(Error::ManyHeld { held: held(&items) }),
                }
            }
            Self::Named(name) => {
                let digest = name.trim_start_matches('@').parse::<Digest>().ok();
                let is_meant = |item: &T| {
                    digest == Some(key(item))
                        || names(item).iter().any(|known| is_same(known, name))
                };
                if !items.iter().any(is_meant) {
                    let (name, held) = (name.to_owned(), held(&items));
                    return Err(Error::NotHeld { name, held });
                }
                Ok(items.into_iter().filter(is_meant).collect())
            }
        }
    }
}

/// A name as people write it, if it is one.
fn shown(name: &str) -> String {
    let reference = name.parse::<Reference>();
    reference.map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// Whether two texts are one name: `alpine` is `docker.io/library/alpine:latest`.
fn is_same(known: &str, wanted: &str) -> bool {
    let complete = |text: &str| text.parse::<Reference>().ok();
    known == wanted || complete(known).is_some_and(|known| complete(wanted) == Some(known))
}
