//! What a plan depends on beside the Dockerfile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The circumstances of a build.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// `--build-arg`; one without a value has been looked up already.
    pub build_args: BTreeMap<String, String>,
    /// `--target`: a stage's name or number; the last stage by default.
    pub target: Option<String>,
    /// Platform of the machine that builds.
    pub build_platform: Platform,
    /// Platform of the image.
    pub platform: Platform,
    /// Configs of base images by the name that [`base_images`](super::base_images) gave. A base
    /// that is missing here counts as an image with an empty config.
    pub bases: BTreeMap<String, BaseConfig>,
    /// Names given with `--build-context`: they come before stages and images.
    pub contexts: BTreeSet<String>,
    /// Plan every stage, not only what the target needs (for checking a file).
    pub all_stages: bool,
}

/// Operating system and architecture, in OCI's words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, …
    pub variant: Option<String>,
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: None,
        }
    }
}

impl Platform {
    /// Reads `os`, `architecture`, `os/architecture` or `os/architecture/variant`, taking the
    /// other names of architectures too (`x86_64`, `aarch64`, `armhf`, …). What is not named is
    /// taken from `host`.
    pub fn parse(text: &str, host: &Self) -> Option<Self> {
        const SYSTEMS: &[&str] = &["linux", "windows", "darwin", "freebsd"];
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        let named = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        if !parts.iter().all(named) {
            return None;
        }
        let (os, architecture, variant) = match parts.as_slice() {
            [os] if SYSTEMS.contains(os) => {
                return Some(Self {
                    os: (*os).to_owned(),
                    ..host.clone()
                });
            }
            [architecture] => ("linux", *architecture, None),
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some(*variant)),
            _ => return None,
        };
        let (architecture, variant) = normalise(architecture, variant);
        if parts.len() == 1 && !KNOWN.contains(&architecture) {
            return None;
        }
        Some(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }
}

/// Architectures in OCI's (that is, Go's) words.
const KNOWN: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
];

fn normalise<'p>(architecture: &'p str, variant: Option<&'p str>) -> (&'p str, Option<&'p str>) {
    match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", Some("v1")) => ("amd64", None),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("i386", _) => ("386", None),
        ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", Some("v7")),
        ("armel", _) => ("arm", Some("v6")),
        ("arm", None | Some("7")) => ("arm", Some("v7")),
        ("arm", Some("6")) => ("arm", Some("v6")),
        ("arm", Some("5")) => ("arm", Some("v5")),
        other => other,
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// The part of a base image's config that bears on the steps above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseConfig {
    /// `Env`, split at the first `=`.
    pub env: Vec<(String, String)>,
    /// `WorkingDir`.
    pub working_dir: String,
    /// `User`.
    pub user: String,
    /// `Shell`.
    pub shell: Vec<String>,
    /// `OnBuild`.
    pub on_build: Vec<String>,
}
