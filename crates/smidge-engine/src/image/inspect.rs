//! `inspect` of an image, in the shape of Docker's API.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use smidge_image::{DiffId, Platform, Reference, RunConfig};
use smidge_store::Image;

use crate::{Engine, Result};

/// Docker's `ImageInspect`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageInspect {
    /// The image's id.
    pub id: String,
    /// Its names.
    pub repo_tags: Vec<String>,
    /// How registries know it that it was pulled from, or pushed to.
    pub repo_digests: Vec<String>,
    /// The image that it was made from, which no engine knows any more.
    pub parent: &'static str,
    /// What whoever made it had to say.
    pub comment: String,
    /// When it was made, RFC 3339; empty if it does not say.
    pub created: String,
    /// Who made it.
    pub author: String,
    /// How to run it. What is not set is there, and `null`.
    pub config: Value,
    /// CPU architecture.
    pub architecture: String,
    /// CPU variant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Operating system.
    pub os: String,
    /// Bytes on disk.
    pub size: u64,
    /// Where its files are.
    pub graph_driver: GraphDriver,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: Layers,
    /// The manifest; of a name for several platforms the index.
    pub descriptor: smidge_image::Descriptor,
}

/// Where an image's files are.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    /// How layers are joined.
    pub name: &'static str,
    /// Nothing: the directories are made when the image is first run.
    pub data: BTreeMap<String, String>,
}

/// An image's layers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Layers {
    /// Always `layers`.
    #[serde(rename = "Type")]
    pub kind: &'static str,
    /// Digests of the uncompressed layers, bottom first.
    pub layers: Vec<DiffId>,
}

impl Engine {
    /// Everything about an image.
    ///
    /// # Errors
    /// When there is no such image, or the store cannot be read.
    pub fn inspect_image(&self, name: &str) -> Result<ImageInspect> {
        self.inspect_image_for(name, None)
    }

    /// Everything about the image that a name has for one platform.
    ///
    /// # Errors
    /// As [`Engine::inspect_image`], and when there is none for the platform.
    pub fn inspect_image_for(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<ImageInspect> {
        Ok(inspected(self.store.image_for(name, platform)?))
    }
}

fn inspected(image: Image) -> ImageInspect {
    let size = image.size();
    let descriptor = image.index.clone().unwrap_or_else(|| image.descriptor());
    let familiar = |names: &[Reference]| names.iter().map(Reference::familiar).collect();
    let last_comment = image
        .config
        .history
        .last()
        .and_then(|step| step.comment.clone());
    ImageInspect {
        id: image.id.to_string(),
        repo_tags: familiar(&image.names),
        repo_digests: familiar(&image.repo_digests),
        parent: "",
        comment: last_comment.unwrap_or_default(),
        created: image.config.created.unwrap_or_default(),
        author: image.config.author.unwrap_or_default(),
        config: config(&image.config.config),
        architecture: image.config.architecture,
        variant: image.config.variant,
        os: image.config.os,
        size,
        graph_driver: GraphDriver {
            name: "overlay",
            data: BTreeMap::new(),
        },
        root_fs: Layers {
            kind: "layers",
            layers: image.config.rootfs.diff_ids,
        },
        descriptor,
    }
}

fn config(config: &RunConfig) -> Value {
    // Docker's `null`: templates may ask for what an image does not set.
    let set = |value: Value, is_empty: bool| if is_empty { Value::Null } else { value };
    json!({
        "User": config.user,
        "ExposedPorts": set(json!(config.exposed_ports), config.exposed_ports.is_empty()),
        "Env": set(json!(config.env), config.env.is_empty()),
        "Cmd": config.cmd,
        "Healthcheck": config.healthcheck,
        "Volumes": set(json!(config.volumes), config.volumes.is_empty()),
        "WorkingDir": config.working_dir,
        "Entrypoint": config.entrypoint,
        "OnBuild": config.on_build,
        "Labels": set(json!(config.labels), config.labels.is_empty()),
        "StopSignal": config.stop_signal,
        "Shell": config.shell,
    })
}
