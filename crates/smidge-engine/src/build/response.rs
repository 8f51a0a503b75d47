//! What a build did, or would do.

use std::fmt;

use serde::Serialize;
use smidge_image::{Descriptor, Digest, Reference};
use smidge_store::Image;

use crate::Note;

/// What a build would do: its steps, one sentence each, and the facts they rest on.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildPlan {
    /// What the path was found to be: `Cargo package`, `Dockerfile`, …
    pub source: String,
    /// The path.
    pub path: String,
    /// What would be done, in order.
    pub steps: Vec<String>,
    /// The names the image would get.
    pub tags: Vec<String>,
}

impl fmt::Display for BuildPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.path, self.source)?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:>3}. {step}", number + 1)?;
        }
        self.tags
            .iter()
            .try_for_each(|tag| writeln!(f, "tag: {tag}"))
    }
}

/// What a build made: an image, or one for each of several platforms and the index that joins them.
#[derive(Clone, Debug)]
pub struct Product {
    /// What to call it: the image's id, or the digest of the index.
    pub id: Digest,
    /// The images, in the order in which their platforms were asked for.
    pub images: Vec<Built>,
    /// The index, if there are several platforms. It is in the store unless the output went elsewhere.
    pub index: Option<Descriptor>,
}

/// An image that was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image. It is in the store unless the output went elsewhere.
    pub image: Image,
    /// The names it was given.
    pub tags: Vec<Reference>,
    /// What the source was found to be: `Cargo package`, `Dockerfile`, …
    pub source: String,
    /// How big it is, in three ways.
    pub sizes: Sizes,
    /// What is in it, and why.
    pub contents: Vec<Content>,
    /// What stripping did.
    pub stripped: Option<Stripped>,
    /// What is worth knowing beside that.
    pub notes: Vec<Note>,
}

/// An image's three sizes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sizes {
    /// Config, manifest and layers as the store holds them.
    pub disk: u64,
    /// Config, manifest and layers as they travel.
    pub transfer: Transfer,
    /// The program alone; `None` if the image starts none of its own files.
    pub program: Option<u64>,
}

/// How many bytes travel when an image is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Transfer {
    /// So many.
    Exact(u64),
    /// About so many, judged by samples.
    About(u64),
}

/// A file in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// Absolute path in the image.
    pub path: String,
    /// Bytes of its content.
    pub size: u64,
    /// Why it is there.
    pub reason: String,
}

/// What stripping a program did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stripped {
    /// Bytes before.
    pub before: u64,
    /// Bytes after.
    pub after: u64,
}

/// A stage of a Dockerfile, as `--target` may name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name, in lower case.
    pub name: Option<String>,
    /// What the comment above it says.
    pub description: Option<String>,
    /// Whether a build makes this one.
    pub is_default: bool,
}
