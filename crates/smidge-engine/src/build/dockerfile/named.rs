//! `--build-context NAME=VALUE`: what a Dockerfile calls `NAME`.

use std::collections::BTreeMap;
use std::fmt;

use smidge_image::Digest;

use super::source::ContextSource;
use crate::{Error, Host, Kind, Result};

/// What a name of the Dockerfile stands for, in place of a stage or an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::build) enum NamedSource {
    /// Files: a directory, an archive or a repository.
    Files(ContextSource),
    /// `docker-image://NAME`: an image.
    Image(String),
    /// `oci-layout://PATH[:TAG][@DIGEST]`: an image in a layout on the disk.
    Layout {
        /// The layout's directory, as it was written.
        path: String,
        /// Which of its images: `TAG`, `@DIGEST` or nothing.
        image: String,
    },
}

impl NamedSource {
    /// Reads all values of the option; the last one of a name counts, as in Docker.
    ///
    /// # Errors
    /// As [`NamedSource::parse`].
    pub(in crate::build) fn all(texts: &[String], host: &Host) -> Result<BTreeMap<String, Self>> {
        texts.iter().map(|text| Self::parse(text, host)).collect()
    }

    /// Reads the value of the option: its name and what it stands for.
    ///
    /// # Errors
    /// When it is not `NAME=VALUE`, or the value makes no sense.
    pub(in crate::build) fn parse(text: &str, host: &Host) -> Result<(String, Self)> {
        let invalid = |why: &str| {
            let message = format!("`{text}` is not a build context: {why}");
            Err(Error::new(Kind::Input, message)
                .with_hint("write it as `--build-context NAME=PATH`, or with a URL for the path"))
        };
        let Some((name, value)) = text.split_once('=') else {
            return invalid("there is no `=`");
        };
        let name = name.trim();
        if name.is_empty() || value.is_empty() {
            return invalid("its name or its value is missing");
        }
        let source = if let Some(image) = value.strip_prefix("docker-image://") {
            Self::Image(image.to_owned())
        } else if let Some(layout) = value.strip_prefix("oci-layout://") {
            match layout_source(layout) {
                Some(source) => source,
                None => return invalid("it is `oci-layout://PATH[:TAG][@DIGEST]`"),
            }
        } else if let Some(stage) = value.strip_prefix("target:") {
            // What `docker buildx bake` says of the targets of its files.
            let message =
                format!("`{text}` is not a build context: `target:` is for bake files alone");
            return Err(Error::new(Kind::Input, message).with_hint(format!(
                "a stage of the Dockerfile needs no context: `FROM {stage}` or `COPY --from={stage}`"
            )));
        } else {
            let source = ContextSource::parse(value, host)?;
            if source.is_input() {
                return invalid("standard input can only be the main context");
            }
            Self::Files(source)
        };
        Ok((name.to_owned(), source))
    }
}

/// Takes a path, a tag and a digest apart: a `:` or `@` in a directory's name is not theirs.
fn layout_source(text: &str) -> Option<NamedSource> {
    let (rest, digest) = match text.rsplit_once('@') {
        Some((rest, digest)) if !digest.contains('/') && digest.contains(':') => {
            (rest, Some(digest.parse::<Digest>().ok()?))
        }
        _ => (text, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (rest, ""),
    };
    (!path.is_empty()).then(|| NamedSource::Layout {
        path: path.to_owned(),
        image: match digest {
            Some(digest) => format!("@{digest}"),
            None => tag.to_owned(),
        },
    })
}

impl fmt::Display for NamedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(_) => f.write_str("files"),
            Self::Image(name) => write!(f, "docker-image://{name}"),
            Self::Layout { path, image } if image.is_empty() => write!(f, "oci-layout://{path}"),
            Self::Layout { path, image } if image.starts_with('@') => {
                write!(f, "oci-layout://{path}{image}")
            }
            Self::Layout { path, image } => write!(f, "oci-layout://{path}:{image}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart() {
        let host = crate::host::test_host("/".as_ref());
        let parse = |text: &str| {
            NamedSource::parse(text, &host).map(|(name, source)| {
                assert_eq!(name, "n", "{text}");
                source
            })
        };
        let layout = |path: &str, image: &str| NamedSource::Layout {
            path: path.to_owned(),
            image: image.to_owned(),
        };
        let digest = Digest::of(b"");
        let digest_at = format!("@{digest}");
        for (text, expected) in [
            (
                "n=docker-image://alpine:3",
                NamedSource::Image("alpine:3".to_owned()),
            ),
            ("n=oci-layout://./dir", layout("./dir", "")),
            ("n=oci-layout://a:b/dir:v1", layout("a:b/dir", "v1")),
            ("n=oci-layout://a@b:c/dir", layout("a@b:c/dir", "")),
            (
                &format!("n=oci-layout:///dir@{digest}"),
                layout("/dir", &digest_at),
            ),
            (
                &format!("n=oci-layout:///dir:v1@{digest}"),
                layout("/dir", &digest_at),
            ),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in [
            "n=.",
            "n=https://h/x.tar",
            "n=https://h/r.git#v1",
            " n =a=b",
        ] {
            assert!(matches!(parse(text), Ok(NamedSource::Files(_))), "{text}");
        }
        for text in [
            "n",
            "=x",
            "n=",
            "n=-",
            "n=https://h/r.git#--x",
            "n=target:base",
            "n=oci-layout://",
            "n=oci-layout://:v1",
            "n=oci-layout:///dir@sha256:00",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
