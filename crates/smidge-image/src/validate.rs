//! Whether the documents of an image agree.

use crate::{ImageConfig, LayerKind, Manifest, media_type};

/// Why a manifest and a config do not make an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    /// Version 1 manifests are a different format altogether.
    #[error("manifest has schema version {0}: only version 2 is supported")]
    SchemaVersion(u32),
    /// A manifest of something that is no image, such as an index.
    #[error("manifest has the media type `{0}`, which is not an image's")]
    ManifestType(String),
    /// A manifest that says it is something else than an image.
    #[error("manifest is an artifact of the type `{0}`")]
    Artifact(String),
    /// A config of something that is no image, such as a Helm chart.
    #[error("config has the media type `{0}`, which is not an image config's")]
    ConfigType(String),
    /// A layer that cannot be unpacked.
    #[error("layer {number} has the media type `{media_type}`, which is not a layer's")]
    LayerType {
        /// The layer's number, from 1 at the bottom.
        number: usize,
        /// What the manifest says.
        media_type: String,
    },
    /// The config's root file system is not made of layers.
    #[error("config has the root file system type `{0}`: only `layers` is known")]
    RootFsType(String),
    /// The manifest and the config tell of different numbers of layers.
    #[error("manifest has {manifest} layers, but config has {config}")]
    LayerCount {
        /// The number of the manifest's layers.
        manifest: usize,
        /// The number of the config's diff ids.
        config: usize,
    },
}

/// Checks that a manifest and its config describe one image, and one that smidge can unpack.
///
/// # Errors
/// The first disagreement.
pub fn validate(manifest: &Manifest, config: &ImageConfig) -> Result<(), ValidateError> {
    validate_manifest(manifest)?;
    if config.rootfs.kind != "layers" {
        return Err(ValidateError::RootFsType(config.rootfs.kind.clone()));
    }
    let (in_manifest, in_config) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if in_manifest != in_config {
        return Err(ValidateError::LayerCount {
            manifest: in_manifest,
            config: in_config,
        });
    }
    Ok(())
}

/// Checks that a manifest is an image's, as far as that can be told without its config.
///
/// # Errors
/// The first thing that no image has.
pub fn validate_manifest(manifest: &Manifest) -> Result<(), ValidateError> {
    if manifest.schema_version != 2 {
        return Err(ValidateError::SchemaVersion(manifest.schema_version));
    }
    if let Some(kind) = &manifest.media_type
        && !matches!(
            kind.as_str(),
            media_type::MANIFEST | media_type::DOCKER_MANIFEST
        )
    {
        return Err(ValidateError::ManifestType(kind.clone()));
    }
    if manifest.artifact_type() != manifest.config.media_type {
        return Err(ValidateError::Artifact(manifest.artifact_type().to_owned()));
    }
    if !matches!(
        manifest.config.media_type.as_str(),
        media_type::CONFIG | media_type::DOCKER_CONFIG
    ) {
        return Err(ValidateError::ConfigType(
            manifest.config.media_type.clone(),
        ));
    }
    for (index, layer) in manifest.layers.iter().enumerate() {
        if LayerKind::of(&layer.media_type).is_none() {
            let media_type = layer.media_type.clone();
            return Err(ValidateError::LayerType {
                number: index + 1,
                media_type,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Descriptor, DiffId, Digest, Platform};

    fn image() -> (Manifest, ImageConfig) {
        let mut config = ImageConfig::new(&Platform::linux("amd64"));
        config.rootfs.diff_ids.push(DiffId(Digest::of(b"layer")));
        let layer = Descriptor::of(media_type::LAYER, b"layer");
        let document = Descriptor::of(media_type::CONFIG, &config.to_bytes());
        (Manifest::new(document, vec![layer]), config)
    }

    #[test]
    fn disagreements_are_named() {
        type Change = fn(&mut Manifest, &mut ImageConfig);
        let cases: [(Change, &str); 7] = [
            (
                |m, _| {
                    m.extra
                        .insert("artifactType".to_owned(), "text/x-chart".into());
                },
                "manifest is an artifact of the type `text/x-chart`",
            ),
            (|m, _| m.schema_version = 1, "schema version 1"),
            (
                |m, _| m.media_type = Some(media_type::INDEX.into()),
                "which is not an image's",
            ),
            (
                |m, _| m.config.media_type = "text/plain".into(),
                "not an image config's",
            ),
            (
                |m, _| m.layers[0].media_type = "text/plain".into(),
                "layer 1 has the media type",
            ),
            (
                |_, c| c.rootfs.kind = "windows".into(),
                "root file system type `windows`",
            ),
            (
                |_, c| c.rootfs.diff_ids.clear(),
                "manifest has 1 layers, but config has 0",
            ),
        ];
        for (change, expected) in cases {
            let (mut manifest, mut config) = image();
            assert_eq!(validate(&manifest, &config), Ok(()));
            change(&mut manifest, &mut config);
            let message = validate(&manifest, &config).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn dockers_own_types_are_an_image_too() {
        let (mut manifest, config) = image();
        manifest.media_type = None;
        manifest.config.media_type = media_type::DOCKER_CONFIG.into();
        manifest.layers[0].media_type = media_type::DOCKER_LAYER_GZIP.into();
        assert_eq!(validate(&manifest, &config), Ok(()));
    }
}
