//! A case of the corpus: a folder with a Dockerfile, and perhaps a context and what to know of it.
//!
//! The file `case` has lines `KEY: VALUE`:
//!
//! ```text
//! about     what it shows, for the table
//! args      arguments for both builders          smidge, buildah   for one of them
//! after     the case whose image this one is built from
//! base      `scratch`, or the case, that a listing starts from; else the busybox base
//! needs     `root`, or a program that must be on PATH
//! alone     why buildah is not asked: the file `expected` says what Docker does
//! epoch     SOURCE_DATE_EPOCH
//! env       NAME=VALUE in the builder's environment
//! serve     `http` or `git`: how the context's `served` is to be fetched, from the build argument URL
//! varies    why two builds may make two images
//! ```

use std::path::{Path, PathBuf};

/// A folder of the corpus.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    keys: Vec<(String, String)>,
    /// The listing, when there is one.
    pub(crate) expected: Option<String>,
}

/// What to build.
#[derive(Clone, Copy)]
pub(crate) struct Build<'a> {
    pub(crate) case: &'a Case,
    /// Where its context is.
    pub(crate) context: &'a Path,
    /// Where it fetches from.
    pub(crate) url: Option<&'a str>,
}

const KEYS: [&str; 12] = [
    "about", "args", "smidge", "buildah", "after", "base", "needs", "alone", "epoch", "env",
    "serve", "varies",
];

impl Case {
    fn load(folder: PathBuf) -> Self {
        let text = std::fs::read_to_string(folder.join("case")).unwrap_or_default();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let keys = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let pair = line.split_once(": ");
                let (key, value) = pair.unwrap_or_else(|| panic!("{name}/case: `{line}`"));
                assert!(KEYS.contains(&key), "{name}/case: `{key}` is no key");
                (key.to_owned(), value.to_owned())
            })
            .collect();
        let case = Self {
            expected: std::fs::read_to_string(folder.join("expected")).ok(),
            name,
            folder,
            keys,
        };
        assert!(
            case.key("alone").is_none() || case.expected.is_some(),
            "{}: no listing",
            case.name
        );
        case
    }

    /// The value of a key.
    pub(crate) fn key(&self, key: &str) -> Option<&str> {
        let pair = self.keys.iter().find(|(name, _)| name == key);
        pair.map(|(_, value)| value.as_str())
    }

    /// The words of a key's value.
    pub(crate) fn words(&self, key: &str) -> impl Iterator<Item = &str> {
        self.key(key).unwrap_or_default().split_whitespace()
    }

    /// The name of its image, in every store.
    pub(crate) fn image(&self) -> String {
        image(&self.name)
    }
}

/// The name of a case's image.
pub(crate) fn image(case: &str) -> String {
    format!("localhost/case-{case}")
}

/// All cases, those first that others are built from.
pub(crate) fn load(corpus: &Path) -> Vec<Case> {
    let folders = std::fs::read_dir(corpus).unwrap();
    let mut all: Vec<_> = folders
        .map(|entry| Case::load(entry.unwrap().path()))
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let needed: Vec<String> = all
        .iter()
        .filter_map(|c| c.key("after"))
        .map(str::to_owned)
        .collect();
    all.sort_by_key(|case| !needed.contains(&case.name));
    all
}

/// Whether others are built from a case.
pub(crate) fn is_base(case: &Case, all: &[Case]) -> bool {
    all.iter()
        .any(|other| other.key("after") == Some(&case.name))
}
