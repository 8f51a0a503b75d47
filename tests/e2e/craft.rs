//! Images made by hand, byte by byte: what a test pulls does not depend on what smidge pushes.

use std::io::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Bytes, and how a descriptor speaks of them.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) media_type: &'static str,
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(media_type: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self {
            media_type,
            digest: digest(&bytes),
            bytes,
        }
    }

    pub(crate) fn document(media_type: &'static str, value: &Value) -> Self {
        Self::new(media_type, serde_json::to_vec(value).unwrap())
    }

    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// `sha256:…` of bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| {
        text + &format!("{byte:02x}")
    })
}

/// An image: config, layers and manifest.
#[derive(Clone, Debug)]
pub(crate) struct Crafted {
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
    pub(crate) manifest: Blob,
}

impl Crafted {
    /// Everything that the manifest speaks of.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().chain([&self.config])
    }

    /// The image's id.
    pub(crate) fn id(&self) -> &str {
        &self.config.digest
    }
}

/// The words of one family of media types.
pub(crate) struct Family {
    pub(crate) index: &'static str,
    pub(crate) manifest: &'static str,
    pub(crate) config: &'static str,
    pub(crate) gzip: &'static str,
}

pub(crate) const OCI: Family = Family {
    index: "application/vnd.oci.image.index.v1+json",
    manifest: "application/vnd.oci.image.manifest.v1+json",
    config: "application/vnd.oci.image.config.v1+json",
    gzip: "application/vnd.oci.image.layer.v1.tar+gzip",
};

pub(crate) const DOCKER: Family = Family {
    index: "application/vnd.docker.distribution.manifest.list.v2+json",
    manifest: "application/vnd.docker.distribution.manifest.v2+json",
    config: "application/vnd.docker.container.image.v1+json",
    gzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
};

pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A layer's archive: files with their modes and contents.
pub(crate) fn archive(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(0);
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image of gzip layers that runs `/hello`.
pub(crate) fn image(family: &Family, archives: &[Vec<u8>]) -> Crafted {
    let layers = archives
        .iter()
        .map(|archive| Blob::new(family.gzip, gzip(archive)))
        .collect();
    assemble(family, archives, layers)
}

/// An image of gzip layers that starts with a program and its first arguments.
pub(crate) fn image_of(family: &Family, archives: &[Vec<u8>], entrypoint: &[&str]) -> Crafted {
    let layers = image(family, archives).layers;
    assemble_with(family, archives, layers, &json!({"Entrypoint": entrypoint}))
}

/// An image of layers that are compressed already, which runs `/hello`.
pub(crate) fn assemble(family: &Family, archives: &[Vec<u8>], layers: Vec<Blob>) -> Crafted {
    let config = json!({"Entrypoint": ["/hello"], "Cmd": ["crafted"]});
    assemble_with(family, archives, layers, &config)
}

fn assemble_with(
    family: &Family,
    archives: &[Vec<u8>],
    layers: Vec<Blob>,
    config: &Value,
) -> Crafted {
    let diff_ids: Vec<String> = archives.iter().map(|archive| digest(archive)).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = Blob::document(family.config, &config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": family.manifest,
        "config": config.descriptor(),
        "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
    });
    Crafted {
        manifest: Blob::document(family.manifest, &manifest),
        config,
        layers,
    }
}

/// An index of images, each for a platform: os, architecture, variant.
pub(crate) fn index(family: &Family, images: &[(&Crafted, [&str; 3])]) -> Blob {
    let manifests: Vec<Value> = images
        .iter()
        .map(|(image, [os, architecture, variant])| {
            let mut descriptor = image.manifest.descriptor();
            descriptor["platform"] = json!({"os": os, "architecture": architecture});
            if !variant.is_empty() {
                descriptor["platform"]["variant"] = (*variant).into();
            }
            descriptor
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": family.index, "manifests": manifests});
    Blob::document(family.index, &index)
}

/// Bytes that look random, and are the same every time.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let next = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    });
    next.take(length).collect()
}

/// The image that most tests pull: a program that says `hello crafted`, and a layer of noise that
/// takes a while.
pub(crate) fn hello() -> Crafted {
    let program = std::fs::read(crate::fixture::hello()).unwrap();
    let first = archive(&[("hello", 0o755, &program)]);
    let second = archive(&[
        ("data/", 0o755, b""),
        ("data/noise", 0o644, &noise(1, 1 << 20)),
    ]);
    image(&OCI, &[first, second])
}
