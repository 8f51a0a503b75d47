//! Descriptors, manifests and indexes (image-spec: descriptor.md, manifest.md, image-index.md).
//!
//! Maps are `BTreeMap`, so a document of ours has one byte form. Documents that were fetched are
//! identified by the bytes that came; re-serialising them is never needed to name them. Fields
//! that this version does not know are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, Platform};

/// The media types that smidge reads and writes.
pub mod media_type {
    /// OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image config.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Uncompressed layer.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Layer compressed with gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// Layer compressed with zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker image manifest, version 2 schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_MANIFEST_LIST: &str =
        "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, uncompressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer compressed with gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
}

/// Annotation keys that smidge sets or reads.
pub mod annotation {
    /// The name of a manifest in an OCI layout's `index.json` (image-spec, annotations.md).
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// The full reference, as containerd writes it beside a bare tag in `ref.name`.
    pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
}

/// A media type as a document states it.
pub type MediaType = String;

/// How a layer's bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// A bare tar archive.
    Tar,
    /// A tar archive compressed with gzip (RFC 1952), any number of members.
    Gzip,
    /// A tar archive compressed with zstd (RFC 8878).
    Zstd,
}

impl LayerKind {
    /// The OCI media type of such a layer.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Tar => media_type::LAYER,
            Self::Gzip => media_type::LAYER_GZIP,
            Self::Zstd => media_type::LAYER_ZSTD,
        }
    }

    /// What a layer's media type promises; `None` for one that is no layer smidge can unpack.
    /// Non-distributable ("foreign") types count as what they hold.
    pub fn of(media_type: &str) -> Option<Self> {
        let (base, kind) = match media_type {
            t if t == media_type::DOCKER_LAYER => return Some(Self::Tar),
            t if t == media_type::DOCKER_LAYER_GZIP
                || t == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" =>
            {
                return Some(Self::Gzip);
            }
            t => match t.split_once('+') {
                None => (t, Self::Tar),
                Some((base, "gzip")) => (base, Self::Gzip),
                Some((base, "zstd")) => (base, Self::Zstd),
                Some(_) => return None,
            },
        };
        let oci = base == media_type::LAYER
            || base == "application/vnd.oci.image.layer.nondistributable.v1.tar";
        oci.then_some(kind)
    }
}

/// A typed, sized, digested pointer to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: MediaType,
    /// The digest of the blob's bytes.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// What machine the blob is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free-form facts about the blob.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields this version does not know (`urls`, `data`, `artifactType`, …), kept as they came.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Descriptor {
    /// A descriptor with nothing but the three required fields.
    pub fn new(media_type: impl Into<MediaType>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// The descriptor of bytes in memory.
    pub fn of(media_type: impl Into<MediaType>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }
}

/// One image for one platform: a config and its layers, bottom first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own media type. Docker requires it, OCI recommends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Free-form facts about the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields this version does not know (`subject`, `artifactType`, …), kept as they came.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Manifest {
    /// An OCI manifest for a config and its layers.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.to_owned()),
            config,
            layers,
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// The one byte form of this manifest.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// Sizes in bytes of the config and all layers as this manifest refers to them.
    pub fn blobs_size(&self) -> u64 {
        self.layers.iter().fold(self.config.size, |sum, layer| {
            sum.saturating_add(layer.size)
        })
    }
}

/// Several manifests under one name, or an OCI layout's table of contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The manifests, in order of preference.
    pub manifests: Vec<Descriptor>,
    /// Free-form facts about the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields this version does not know, kept as they came.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Index {
    /// An OCI index of the given manifests.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::INDEX.to_owned()),
            manifests,
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// The one byte form of this index.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }
}

/// Serialises a document of ours. Their maps have string keys and their numbers are integers,
/// so this cannot fail.
pub(crate) fn to_bytes(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_kept() {
        let digest = Digest::of(b"");
        let text = [
            r#"{"schemaVersion":2,"manifests":[{"mediaType":"text/plain","digest":""#,
            &digest.to_string(),
            r#"","size":0,"urls":["a"]}],"ratio":1.1111111111e+97,"subject":null}"#,
        ]
        .concat();
        let index: Index = serde_json::from_str(&text).unwrap();
        assert_eq!(String::from_utf8(index.to_bytes()).unwrap(), text);
    }
}
