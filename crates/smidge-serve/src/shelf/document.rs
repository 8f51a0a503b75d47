//! Manifests and indexes, as far as a registry has to understand them.

use hyper::StatusCode;
use serde_json::{Value, json};
use smidge_image::{Descriptor, Digest, Index, LayerKind, Manifest, media_type};

use crate::http::{Code, Fault};

/// The largest document that is taken, in bytes: what the specification asks for.
pub(crate) const DOCUMENT_LIMIT: usize = 4 << 20;

/// What a document says of others.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Config and layers.
    pub(crate) blobs: Vec<Part>,
    /// An index's manifests.
    pub(crate) children: Vec<Part>,
    /// The manifest that it is about.
    pub(crate) subject: Option<Digest>,
    /// Whether layers are stored as bare archives, and leave compressed.
    pub(crate) bare: bool,
}

/// A descriptor, without what weighs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
    /// Whether it may be missing: it lies elsewhere.
    pub(crate) foreign: bool,
}

/// A document that was understood.
#[derive(Debug)]
pub(crate) struct Understood {
    pub(crate) facts: Facts,
    pub(crate) media_type: String,
    /// What the index of referrers says of it.
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: Value,
}

impl Part {
    /// As a descriptor, for the store.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.size)
    }
}

impl From<&Descriptor> for Part {
    fn from(descriptor: &Descriptor) -> Self {
        let urls = descriptor.extra.get("urls").and_then(Value::as_array);
        Self {
            digest: descriptor.digest,
            size: descriptor.size,
            media_type: descriptor.media_type.clone(),
            foreign: urls.is_some_and(|urls| !urls.is_empty()),
        }
    }
}

/// Understands a manifest or an index. `stated` is the media type that came with it.
///
/// # Errors
/// `MANIFEST_INVALID` for anything else, and where the two media types differ.
pub(crate) fn understand(bytes: &[u8], stated: Option<&str>) -> Result<Understood, Fault> {
    let invalid = |why: String| Fault::bad_request(Code::ManifestInvalid, why);
    let no_json = |error: serde_json::Error| invalid(format!("this is no manifest: {error}"));
    let value: Value = serde_json::from_slice(bytes).map_err(no_json)?;
    let own = value.get("mediaType").and_then(Value::as_str);
    if let (Some(own), Some(stated)) = (own, stated)
        && own != stated
    {
        let why = format!("the manifest is `{own}`, but `Content-Type` says `{stated}`");
        return Err(invalid(why));
    }
    let by_shape = match value.get("manifests") {
        Some(_) => media_type::INDEX,
        None => media_type::MANIFEST,
    };
    let media_type = own.or(stated).unwrap_or(by_shape).to_owned();
    let subject = subject(&value).map_err(invalid)?;
    let stated_type = value.get("artifactType").and_then(Value::as_str);
    let stated_type = stated_type.filter(|text| !text.is_empty());
    let mut artifact_type = stated_type.map(str::to_owned);
    let annotations = value.get("annotations").cloned().unwrap_or(Value::Null);
    let facts = match &*media_type {
        media_type::MANIFEST | media_type::DOCKER_MANIFEST => {
            let manifest: Manifest = serde_json::from_value(value).map_err(no_json)?;
            version(manifest.schema_version).map_err(invalid)?;
            artifact_type.get_or_insert_with(|| manifest.config.media_type.clone());
            of_manifest(&manifest, subject)
        }
        media_type::INDEX | media_type::DOCKER_MANIFEST_LIST => {
            let index: Index = serde_json::from_value(value).map_err(no_json)?;
            version(index.schema_version).map_err(invalid)?;
            Facts {
                blobs: Vec::new(),
                children: index.manifests.iter().map(Part::from).collect(),
                subject,
                bare: false,
            }
        }
        other => {
            let why = format!(
                "`{other}` is not supported: only manifests and indexes of OCI's and Docker's schema 2 are"
            );
            return Err(invalid(why));
        }
    };
    Ok(Understood {
        facts,
        media_type,
        artifact_type,
        annotations,
    })
}

fn version(found: u32) -> Result<(), String> {
    match found {
        2 => Ok(()),
        other => Err(format!("`schemaVersion` is {other}: only 2 is supported")),
    }
}

fn subject(value: &Value) -> Result<Option<Digest>, String> {
    let Some(subject) = value.get("subject").filter(|subject| !subject.is_null()) else {
        return Ok(None);
    };
    let descriptor: Descriptor = serde_json::from_value(subject.clone())
        .map_err(|error| format!("`subject` is no descriptor: {error}"))?;
    Ok(Some(descriptor.digest))
}

fn of_manifest(manifest: &Manifest, subject: Option<Digest>) -> Facts {
    let layers = manifest.layers.iter();
    let bare = layers
        .clone()
        .any(|layer| LayerKind::of(&layer.media_type) == Some(LayerKind::Tar));
    Facts {
        blobs: std::iter::once(&manifest.config)
            .chain(layers)
            .map(Part::from)
            .collect(),
        children: Vec::new(),
        subject,
        bare,
    }
}

/// The fault of a document that refers to what is not there.
pub(crate) fn missing(parts: &[Part]) -> Fault {
    let errors = parts.iter().map(|part| {
        let message = format!(
            "the repository lacks `{}`, {} bytes of `{}`",
            part.digest, part.size, part.media_type
        );
        (message, json!({ "digest": part.digest.to_string() }))
    });
    Fault::each(StatusCode::NOT_FOUND, Code::ManifestBlobUnknown, errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str, stated: Option<&str>) -> Fault {
        understand(text.as_bytes(), stated).unwrap_err()
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let config = r#""config":{"mediaType":"a","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;
        for text in [
            "",
            "{",
            "[]",
            "null",
            "{}",
            "\"text\"",
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":2,"layers":[]}"#,
            &format!(r#"{{"schemaVersion":1,{config},"layers":[]}}"#),
            &format!(r#"{{"schemaVersion":2,{config},"layers":[{{}}]}}"#),
            &format!(r#"{{"schemaVersion":2,{config},"layers":[],"subject":7}}"#),
            &format!(r#"{{"schemaVersion":2,{config},"layers":[],"mediaType":"text/plain"}}"#),
            &format!(
                r#"{{"schemaVersion":2,{},"layers":[]}}"#,
                config.replace("sha256", "sha512")
            ),
            &format!(
                r#"{{"schemaVersion":2,{},"layers":[]}}"#,
                config.replace(":0}", ":-1}")
            ),
        ] {
            assert_eq!(fault(text, None).code, Code::ManifestInvalid, "{text}");
        }
        let manifest = format!(r#"{{"schemaVersion":2,{config},"layers":[]}}"#);
        assert!(understand(manifest.as_bytes(), None).is_ok());
        assert!(understand(manifest.as_bytes(), Some(media_type::MANIFEST)).is_ok());
        fault(&manifest, Some(media_type::INDEX));
        fault(
            &manifest,
            Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
        );
        let typed = manifest.replace(
            "{\"schema",
            "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"schema",
        );
        fault(&typed, Some(media_type::DOCKER_MANIFEST));
    }

    #[test]
    fn referrers_have_a_type() {
        let config = Descriptor::of("application/x.sbom", b"{}");
        let mut manifest = Manifest::new(config, Vec::new());
        let of = |manifest: &Manifest| understand(&manifest.to_bytes(), None).unwrap();
        assert_eq!(of(&manifest).artifact_type.unwrap(), "application/x.sbom");
        manifest.extra.insert("artifactType".to_owned(), "".into());
        assert_eq!(of(&manifest).artifact_type.unwrap(), "application/x.sbom");
        manifest
            .extra
            .insert("artifactType".to_owned(), "a/b".into());
        assert_eq!(of(&manifest).artifact_type.unwrap(), "a/b");
        let index = Index::new(Vec::new());
        let understood = understand(&index.to_bytes(), None).unwrap();
        assert_eq!(understood.artifact_type, None);
    }
}
