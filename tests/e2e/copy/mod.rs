//! `copy`: every place to every other, and what goes wrong on the way.

mod containerd;
mod docker;
mod fault;
mod layout;
mod place;
mod registry;

use std::path::Path;

use serde_json::json;

use crate::context::Context;
use crate::craft::{self, Blob, Crafted, Family, OCI};
use crate::fixture;
use crate::registry::Registry;

/// An image for two platforms: both have a layer in common.
struct Two {
    amd64: Crafted,
    arm64: Crafted,
    index: Blob,
}

impl Two {
    fn new() -> Self {
        Self::of(&OCI)
    }

    fn of(family: &Family) -> Self {
        let program = std::fs::read(fixture::hello()).unwrap();
        let hello = craft::archive(&[("hello", 0o755, &program)]);
        let noise = |seed| craft::archive(&[("noise", 0o644, &craft::noise(seed, 200_000))]);
        let amd64 = craft::image(family, &[hello.clone(), noise(1)]);
        let arm64 = for_arm(family, &craft::image(family, &[hello, noise(2)]));
        let platforms = [
            (&amd64, ["linux", "amd64", ""]),
            (&arm64, ["linux", "arm64", ""]),
        ];
        let index = craft::index(family, &platforms);
        Self {
            amd64,
            arm64,
            index,
        }
    }

    fn images(&self) -> [&Crafted; 2] {
        [&self.amd64, &self.arm64]
    }

    /// Stores it in a registry, without smidge's help.
    fn put(&self, registry: &Registry, repository: &str, tag: &str) {
        for image in self.images() {
            registry.put(repository, &image.manifest.digest, image);
        }
        registry.put_manifest(repository, tag, &self.index);
    }

    /// Lays it out in a directory of a context, without smidge's help.
    fn lay(&self, context: &Context, directory: &str, name: Option<&str>) {
        let blobs = self.images().into_iter().flat_map(|image| {
            let blobs = image.blobs();
            blobs.chain([&image.manifest])
        });
        for blob in blobs.chain([&self.index]) {
            write_blob(context, directory, blob);
        }
        let mut entry = self.index.descriptor();
        if let Some(name) = name {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        write_index(context, directory, &[entry]);
    }
}

fn write_blob(context: &Context, directory: &str, blob: &Blob) {
    let path = format!("{directory}/blobs/sha256/{}", &blob.digest[7..]);
    context.write(&path, &blob.bytes);
}

fn write_index(context: &Context, directory: &str, entries: &[serde_json::Value]) {
    let version = r#"{"imageLayoutVersion":"1.0.0"}"#;
    context.write(&format!("{directory}/oci-layout"), version);
    let index = json!({"schemaVersion": 2, "manifests": entries});
    context.write(&format!("{directory}/index.json"), index.to_string());
}

/// The same image, said to be for another processor.
fn for_arm(family: &Family, image: &Crafted) -> Crafted {
    let mut config: serde_json::Value = serde_json::from_slice(&image.config.bytes).unwrap();
    config["architecture"] = "arm64".into();
    let config = Blob::document(family.config, &config);
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    manifest["config"] = config.descriptor();
    Crafted {
        manifest: Blob::document(family.manifest, &manifest),
        config,
        layers: image.layers.clone(),
    }
}

/// What a layout has under a name, as skopeo reads it: the document's digest.
fn laid(directory: &Path, name: &str) -> String {
    let index = std::fs::read(directory.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let is_named = |entry: &&serde_json::Value| {
        entry["annotations"]["org.opencontainers.image.ref.name"] == name
    };
    let entries = index["manifests"].as_array().unwrap();
    let entry = entries.iter().find(is_named);
    let entry = entry.unwrap_or_else(|| panic!("no `{name}` in {index}"));
    let digest = entry["digest"].as_str().unwrap();
    let blob = directory.join("blobs/sha256").join(&digest[7..]);
    assert_eq!(craft::digest(&std::fs::read(blob).unwrap()), digest);
    digest.to_owned()
}

/// Names of what is in a directory, hidden or not; none if it is not there.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Nothing is left in the store of what was under way.
#[track_caller]
fn is_tidy(context: &Context) {
    assert_eq!(names(&context.store().join("tmp")), [""; 0]);
}

/// Copies, and gives the digest that was printed.
#[track_caller]
fn copy(context: &Context, line: &str) -> String {
    let copied = context.line(&format!("copy -q {line}")).ok();
    is_tidy(context);
    copied
}
