//! What is pushed: blobs and manifests that no other case has.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::client::{Request, Response};
use crate::server::Server;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A digest that nothing has.
pub(crate) const NOTHING: &str =
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Accepts every kind of manifest.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// An image that was pushed.
pub(crate) struct Image {
    pub(crate) layer: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) digest: String,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// A manifest as clients write it.
pub(crate) fn manifest(config: Value, layers: Vec<Value>) -> Value {
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})
}

pub(crate) fn config(seed: &str) -> Vec<u8> {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "author": seed,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(seed.as_bytes())]},
    })
    .to_string()
    .into_bytes()
}

/// So many bytes that repeat nothing.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

impl Server {
    pub(crate) fn request<'b>(&self, method: &'static str, target: &str) -> Request<'b> {
        Request::new(self.address, method, target)
    }

    pub(crate) fn get(&self, target: &str) -> Result<Response, String> {
        self.request("GET", target).header("Accept", ACCEPT).send()
    }

    pub(crate) fn head(&self, target: &str) -> Result<Response, String> {
        self.request("HEAD", target).header("Accept", ACCEPT).send()
    }

    pub(crate) fn delete(&self, target: &str) -> Result<Response, String> {
        self.request("DELETE", target).send()
    }

    /// Starts an upload, and gives its location.
    pub(crate) fn start(&self, repository: &str) -> Result<String, String> {
        let target = format!("/v2/{repository}/blobs/uploads/");
        let response = self.request("POST", &target).send()?.is(202)?;
        response.must("Location")
    }

    /// Pushes a blob in two requests.
    pub(crate) fn push_blob(&self, repository: &str, bytes: &[u8]) -> Result<String, String> {
        let (location, digest) = (self.start(repository)?, digest(bytes));
        self.request("PUT", &location)
            .query("digest", &digest)
            .header("Content-Type", "application/octet-stream")
            .body(bytes)
            .send()?
            .is(201)?;
        Ok(digest)
    }

    /// Pushes a manifest under a tag or a digest.
    pub(crate) fn put(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        manifest: &[u8],
    ) -> Result<Response, String> {
        self.request("PUT", &format!("/v2/{repository}/manifests/{reference}"))
            .header("Content-Type", media_type)
            .body(manifest)
            .send()
    }

    /// Pushes an image of one layer.
    pub(crate) fn push_image(
        &self,
        repository: &str,
        tag: &str,
        seed: &str,
    ) -> Result<Image, String> {
        let (config, layer) = (config(seed), seed.as_bytes().to_vec());
        self.push_blob(repository, &config)?;
        self.push_blob(repository, &layer)?;
        let layers = vec![descriptor(LAYER, &layer)];
        let manifest = manifest(descriptor(CONFIG, &config), layers).to_string();
        self.put(repository, tag, MANIFEST, manifest.as_bytes())?
            .is(201)?;
        Ok(Image {
            digest: digest(manifest.as_bytes()),
            layer,
            manifest: manifest.into_bytes(),
        })
    }

    /// The tags of a repository.
    pub(crate) fn tags(&self, target: &str) -> Result<Vec<String>, String> {
        let document = self.get(target)?.is(200)?.json()?;
        let tags = document["tags"].as_array().cloned().unwrap_or_default();
        Ok(tags
            .iter()
            .filter_map(|tag| tag.as_str().map(str::to_owned))
            .collect())
    }
}
