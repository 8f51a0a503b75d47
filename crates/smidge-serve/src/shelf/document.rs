//! Manifests and indexes, as far as a registry has to understand them.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use smidge_image::{Descriptor, Digest, LayerKind, media_type};

use crate::http::{Code, Fault};

/// The largest document that is taken, in bytes: what the specification asks for.
pub(crate) const DOCUMENT_LIMIT: usize = 4 << 20;

/// The most missing blobs that an answer names.
const NAMED: usize = 100;

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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Part {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
    /// Whether it may be missing: it lies elsewhere.
    #[serde(rename = "urls", default, deserialize_with = "any")]
    pub(crate) foreign: bool,
}

/// A document that was understood.
#[derive(Debug)]
pub(crate) struct Understood {
    pub(crate) facts: Facts,
    pub(crate) media_type: String,
    /// What the index of referrers says of it.
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A document, as it is written. What is not needed here is not kept: documents can be large.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Part>,
    layers: Option<Vec<Part>>,
    manifests: Option<Vec<Part>>,
    subject: Option<Part>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// Whether a list has anything in it.
fn any<'d, D: Deserializer<'d>>(deserializer: D) -> Result<bool, D::Error> {
    let list = Option::<Vec<IgnoredAny>>::deserialize(deserializer)?;
    Ok(list.is_some_and(|list| !list.is_empty()))
}

impl Part {
    /// As a descriptor, for the store.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.size)
    }
}

impl From<&Descriptor> for Part {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            digest: descriptor.digest,
            size: descriptor.size,
            media_type: descriptor.media_type.clone(),
            foreign: false,
        }
    }
}

/// Understands a manifest or an index. `stated` is the media type that came with it.
///
/// # Errors
/// `MANIFEST_INVALID` for anything else, and where the two media types differ.
pub(crate) fn understand(bytes: &[u8], stated: Option<&str>) -> Result<Understood, Fault> {
    let invalid = |why: String| Fault::bad_request(Code::ManifestInvalid, why);
    let mut outline: Outline = serde_json::from_slice(bytes)
        .map_err(|error| invalid(format!("this is no manifest: {error}")))?;
    if outline.schema_version != 2 {
        let found = outline.schema_version;
        let why = format!("`schemaVersion` is {found}: only 2 is supported");
        return Err(invalid(why));
    }
    let own = outline.media_type.take().filter(|own| !own.is_empty());
    if let (Some(own), Some(stated)) = (&own, stated)
        && own != stated
    {
        let why = format!("the manifest is `{own}`, but `Content-Type` says `{stated}`");
        return Err(invalid(why));
    }
    let by_shape = match outline.manifests {
        Some(_) => media_type::INDEX,
        None => media_type::MANIFEST,
    };
    let stated = own.or_else(|| stated.map(str::to_owned));
    let media_type = stated.unwrap_or_else(|| by_shape.to_owned());
    let annotations = outline.annotations.take().unwrap_or_default();
    let mut artifact_type = outline.artifact_type.take();
    artifact_type.take_if(|text| text.is_empty());
    let config_type = outline.config.as_ref();
    let config_type = config_type.map(|config| config.media_type.clone());
    let facts = facts(outline, &media_type).map_err(invalid)?;
    Ok(Understood {
        artifact_type: artifact_type.or(config_type),
        facts,
        media_type,
        annotations,
    })
}

/// What follows from a document of a media type. One that could be of another, too, is refused: it
/// would mean different things to different readers.
fn facts(outline: Outline, media_type: &str) -> Result<Facts, String> {
    let subject = outline.subject.map(|subject| subject.digest);
    match (
        media_type,
        outline.config,
        outline.layers,
        outline.manifests,
    ) {
        (media_type::MANIFEST | media_type::DOCKER_MANIFEST, Some(config), Some(layers), None) => {
            let is_bare = |layer: &Part| LayerKind::of(&layer.media_type) == Some(LayerKind::Tar);
            Ok(Facts {
                bare: layers.iter().any(is_bare),
                blobs: std::iter::once(config).chain(layers).collect(),
                children: Vec::new(),
                subject,
            })
        }
        (media_type::INDEX | media_type::DOCKER_MANIFEST_LIST, None, None, Some(children)) => {
            Ok(Facts {
                blobs: Vec::new(),
                children,
                subject,
                bare: false,
            })
        }
        (media_type::MANIFEST | media_type::DOCKER_MANIFEST, ..) => {
            Err("a manifest has `config` and `layers`, and no `manifests`".to_owned())
        }
        (media_type::INDEX | media_type::DOCKER_MANIFEST_LIST, ..) => {
            Err("an index has `manifests`, and neither `config` nor `layers`".to_owned())
        }
        (other, ..) => Err(format!(
            "`{other}` is not supported: only manifests and indexes of OCI's and Docker's schema 2 are"
        )),
    }
}

/// The fault of a document that refers to what is not there.
pub(crate) fn missing(parts: &[Part]) -> Fault {
    let errors = parts.iter().take(NAMED).map(|part| {
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
        let both = manifest.replace("\"layers\"", "\"manifests\":[],\"layers\"");
        fault(&both, None);
        fault(&both, Some(media_type::MANIFEST));
        fault(&both, Some(media_type::INDEX));
        let typed = manifest.replace(
            "{\"schema",
            "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"schema",
        );
        fault(&typed, Some(media_type::DOCKER_MANIFEST));
    }

    #[test]
    fn referrers_have_a_type() {
        let config = Descriptor::of("application/x.sbom", b"{}");
        let mut manifest = smidge_image::Manifest::new(config, Vec::new());
        let of =
            |manifest: &smidge_image::Manifest| understand(&manifest.to_bytes(), None).unwrap();
        assert_eq!(of(&manifest).artifact_type.unwrap(), "application/x.sbom");
        manifest.extra.insert("artifactType".to_owned(), "".into());
        assert_eq!(of(&manifest).artifact_type.unwrap(), "application/x.sbom");
        manifest
            .extra
            .insert("artifactType".to_owned(), "a/b".into());
        assert_eq!(of(&manifest).artifact_type.unwrap(), "a/b");
        let index = smidge_image::Index::new(Vec::new());
        let understood = understand(&index.to_bytes(), None).unwrap();
        assert_eq!(understood.artifact_type, None);
    }
}
