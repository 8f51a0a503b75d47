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
