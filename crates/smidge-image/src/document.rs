//! Descriptors, manifests and indexes (image-spec: descriptor.md, manifest.md, image-index.md).
//!
//! Maps are `BTreeMap`, so a document of ours has one byte form. Documents that were fetched are
//! identified by the bytes that came; re-serialising them is never needed to name them. Fields
//! that this version does not know are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::null_as_default;
use crate::{Digest, Platform, validate_manifest};

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
    /// The config of an artifact that has none: `{}`.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
}

/// Annotation keys that smidge sets or reads.
pub mod annotation {
    /// The name of a manifest in an OCI layout's `index.json` (image-spec, annotations.md).
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// The full reference, as containerd writes it beside a bare tag in `ref.name`.
    pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
    /// What compressed a layer: a name that stands for the exact bytes that it makes of them.
    pub const ENCODER: &str = "dev.smidge.encoder";
    /// What an entry of an index is to another one: BuildKit's mark of attestations.
    pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
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

    /// Whether it points to a manifest: of an image, or of an artifact.
    pub fn is_manifest(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            media_type::MANIFEST | media_type::DOCKER_MANIFEST
        )
    }

    /// Whether it points to an index (Docker: a manifest list).
    pub fn is_index(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            media_type::INDEX | media_type::DOCKER_MANIFEST_LIST
        )
    }

    /// Whether it points to statements about another entry of the index, rather than to an image:
    /// BuildKit gives those the platform `unknown/unknown`.
    pub fn is_attestation(&self) -> bool {
        let unknown =
            |platform: &Platform| platform.os == "unknown" || platform.architecture == "unknown";
        self.annotations.contains_key(annotation::REFERENCE_TYPE)
            || self.platform.as_ref().is_some_and(unknown)
    }

    /// What kind of artifact it points to, if it says.
    pub fn artifact_type(&self) -> Option<&str> {
        text(&self.extra, "artifactType")
    }

    /// Where else the blob can be fetched.
    pub fn urls(&self) -> Vec<&str> {
        let urls = self.extra.get("urls").and_then(Value::as_array);
        urls.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    /// The blob itself in base64, if it was embedded.
    pub fn data(&self) -> Option<&str> {
        text(&self.extra, "data")
    }
}

/// A field that is a text, and not an empty one.
fn text<'f>(fields: &'f BTreeMap<String, Value>, name: &str) -> Option<&'f str> {
    fields.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// The field `subject`: the manifest that a manifest or index is about.
fn subject(fields: &BTreeMap<String, Value>) -> Option<Descriptor> {
    Descriptor::deserialize(fields.get("subject")?).ok()
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
    #[serde(default, deserialize_with = "null_as_default")]
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

    /// What kind of artifact it is: what it says itself, else what its config is.
    pub fn artifact_type(&self) -> &str {
        text(&self.extra, "artifactType").unwrap_or(&self.config.media_type)
    }

    /// The manifest that this one is about.
    pub fn subject(&self) -> Option<Descriptor> {
        subject(&self.extra)
    }

    /// Whether it claims to be an image: an image config, nothing but layers, and no word of another
    /// kind of artifact. [`validate`](crate::validate) tells whether it is.
    pub fn is_image(&self) -> bool {
        validate_manifest(self).is_ok()
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
    #[serde(deserialize_with = "null_as_default")]
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

    /// What kind of artifact it is, if it says.
    pub fn artifact_type(&self) -> Option<&str> {
        text(&self.extra, "artifactType")
    }

    /// The manifest that this index is about.
    pub fn subject(&self) -> Option<Descriptor> {
        subject(&self.extra)
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
        assert_eq!(index.manifests[0].urls(), ["a"]);
        assert_eq!((index.subject(), index.artifact_type()), (None, None));
    }

    #[test]
    fn artifacts_say_what_they_are() {
        let config = Descriptor::of(media_type::CONFIG, b"{}");
        let layer = Descriptor::of(media_type::LAYER_GZIP, b"");
        let image = Manifest::new(config.clone(), vec![layer.clone()]);
        assert!(image.is_image());
        assert_eq!(image.artifact_type(), media_type::CONFIG);

        let mut signature = image.clone();
        signature
            .extra
            .insert("artifactType".to_owned(), "text/x-sign".into());
        let about = serde_json::to_value(&layer).unwrap();
        signature.extra.insert("subject".to_owned(), about);
        let read: Manifest = serde_json::from_slice(&signature.to_bytes()).unwrap();
        assert!(!read.is_image());
        assert_eq!(read.artifact_type(), "text/x-sign");
        assert_eq!(read.subject(), Some(layer.clone()));

        for change in [
            |m: &mut Manifest| m.config.media_type = media_type::EMPTY.to_owned(),
            |m: &mut Manifest| m.layers[0].media_type = "text/plain".to_owned(),
        ] {
            let mut artifact = image.clone();
            change(&mut artifact);
            assert!(!artifact.is_image());
        }
        let text = br#"{"mediaType":"a/b","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"data":"","artifactType":"x/y"}"#;
        let descriptor: Descriptor = serde_json::from_slice(text).unwrap();
        assert_eq!(descriptor.artifact_type(), Some("x/y"));
        assert_eq!((descriptor.data(), descriptor.urls()), (None, vec![]));
    }

    #[test]
    fn null_is_an_empty_list_and_nothing_is_none() {
        let index = |text: &str| serde_json::from_str::<Index>(text);
        assert!(index(r#"{"schemaVersion":2,"manifests":null}"#).is_ok());
        assert!(index(r#"{"schemaVersion":2}"#).is_err());
    }
}
