//! The list of what steps have made: the config of a build cache, or a field of an image's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smidge_image::{DiffId, Digest, ImageConfig, LayerKind, Manifest, RootFs};

/// What kind of artifact a build cache is.
pub(super) const ARTIFACT: &str = "application/vnd.smidge.buildcache.v1";

/// The media type of its config.
pub(super) const CONFIG: &str = "application/vnd.smidge.buildcache.config.v1+json";

/// The field of a config that holds the list.
const FIELD: &str = "smidge.build.cache.v1";

/// What a `RUN` has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::build) struct Record {
    /// Names everything that it depends on.
    pub(in crate::build) key: Digest,
    /// Its layer.
    pub(in crate::build) layer: DiffId,
    /// Bytes of the layer's tar archive.
    pub(in crate::build) size: u64,
    /// What the step is called in lists.
    pub(in crate::build) description: String,
}

/// A cache mount as a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mount {
    pub(super) id: String,
    pub(super) layer: DiffId,
}

/// The list, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct List {
    #[serde(default)]
    pub(super) records: Vec<Record>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) mounts: Vec<Mount>,
}

/// The config of a build cache, and as much as matters of an image's that has one inline.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) rootfs: RootFs,
    #[serde(rename = "smidge.build.cache.v1")]
    pub(super) list: List,
}

impl Document {
    pub(super) fn new(diff_ids: Vec<DiffId>, list: List) -> Self {
        let kind = "layers".to_owned();
        let rootfs = RootFs { kind, diff_ids };
        Self { rootfs, list }
    }

    /// Reads the config of a manifest.
    ///
    /// # Errors
    /// Why there is no list in it.
    pub(super) fn read(manifest: &Manifest, config: &[u8]) -> Result<Self, String> {
        let kind = manifest.artifact_type();
        if kind.contains("buildkit") {
            return Err("it is a cache of BuildKit's, whose keys are others".to_owned());
        }
        let config: serde_json::Value = serde_json::from_slice(config)
            .map_err(|error| format!("its config is damaged: {error}"))?;
        if config.get(FIELD).is_none() {
            return Err(match manifest.is_image() {
                true => "the image has no build cache in it".to_owned(),
                false => format!("it is no build cache: its media type is `{kind}`"),
            });
        }
        let document: Self = serde_json::from_value(config)
            .map_err(|error| format!("its list cannot be understood: {error}"))?;
        let layers = manifest.layers.iter();
        let layers = layers.filter(|layer| LayerKind::of(&layer.media_type).is_some());
        match layers.count() == document.rootfs.diff_ids.len() {
            true => Ok(document),
            false => Err("it has not the layers that its list speaks of".to_owned()),
        }
    }
}

/// Puts what steps have made into the config of the image that has their layers; takes away what the
/// image's base said of its own.
pub(in crate::build) fn embed(config: &mut ImageConfig, records: Option<&[Record]>) {
    config.extra.remove(FIELD);
    let Some(records) = records else { return };
    let there = |record: &&Record| config.rootfs.diff_ids.contains(&record.layer);
    let records: BTreeMap<Digest, &Record> = records
        .iter()
        .filter(there)
        .map(|record| (record.key, record))
        .collect();
    let list = List {
        records: records.into_values().cloned().collect(),
        mounts: Vec::new(),
    };
    if let Ok(list) = serde_json::to_value(list) {
        config.extra.insert(FIELD.to_owned(), list);
    }
}

#[cfg(test)]
mod tests {
    use smidge_image::{Descriptor, Platform, media_type};

    use super::*;

    fn record(number: u8) -> Record {
        Record {
            key: Digest::of(&[number]),
            layer: DiffId(Digest::of(&[number, number])),
            size: 1,
            description: "RUN true".to_owned(),
        }
    }

    fn manifest(kind: &str, layers: usize) -> Manifest {
        let layer = Descriptor::of(media_type::LAYER_GZIP, b"");
        Manifest::new(Descriptor::of(kind, b""), vec![layer; layers])
    }

    #[test]
    fn images_and_caches_are_read_alike() {
        let records = [record(2), record(1), record(3)];
        let mut image = ImageConfig::new(&Platform::linux("amd64"));
        image.rootfs.diff_ids = vec![record(1).layer, record(2).layer];
        embed(&mut image, Some(&records));
        let read = Document::read(&manifest(media_type::CONFIG, 2), &image.to_bytes()).unwrap();
        // What is not in the image is not told.
        let mut expected = [record(1), record(2)];
        expected.sort_by_key(|record| record.key);
        assert_eq!(read.list.records, expected);
        let list = List {
            records: expected.to_vec(),
            mounts: Vec::new(),
        };
        let cache = Document::new(image.rootfs.diff_ids.clone(), list);
        assert_eq!(cache, read);
        // Whoever starts from the image has not got them.
        embed(&mut image, None);
        assert!(image.extra.is_empty());
    }

    #[test]
    fn what_is_no_cache_is_told() {
        let check = |kind: &str, layers: usize, config: &str, expected: &str| {
            let why = Document::read(&manifest(kind, layers), config.as_bytes()).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        let buildkit = "application/vnd.buildkit.cacheconfig.v0";
        check(buildkit, 1, "{}", "a cache of BuildKit's");
        check(media_type::CONFIG, 1, "{}", "the image has no build cache");
        check("application/vnd.cncf.helm.config.v1+json", 1, "{}", "helm");
        check(CONFIG, 1, "[", "damaged");
        let list = |field: &str| format!(r#"{{"rootfs":{{"type":"layers"}},"{FIELD}":{field}}}"#);
        check(CONFIG, 0, &list("1"), "cannot be understood");
        check(CONFIG, 1, &list("{}"), "not the layers");
    }
}
