//! The documents of a docker-archive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `manifest.json`: the images of the archive.
pub(super) const DOCKER_MANIFEST: &str = "manifest.json";

/// `repositories`: the names, as Docker before 1.10 looks for them.
pub(super) const REPOSITORIES: &str = "repositories";

/// `index.json` of an OCI layout.
pub(super) const INDEX: &str = "index.json";

/// `oci-layout`: the version of an OCI layout.
pub(super) const LAYOUT: &str = "oci-layout";

/// One image of `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    /// The config's member.
    pub(super) config: String,
    /// The names; Docker writes `null` for none.
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    /// The layers' members, bottom first; `null` for none.
    #[serde(default)]
    pub(super) layers: Option<Vec<String>>,
}

/// `repositories`: repository → tag → top layer.
pub(super) type Repositories = BTreeMap<String, BTreeMap<String, String>>;

/// The member that holds a blob.
pub(super) fn blob_member(hex: &str) -> String {
    format!("blobs/sha256/{hex}")
}
