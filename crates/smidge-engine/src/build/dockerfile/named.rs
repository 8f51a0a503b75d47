//! `--build-context NAME=VALUE`: what a Dockerfile calls `NAME`.

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
    /// `target:STAGE`: a stage of the same Dockerfile.
    Target(String),
}

impl NamedSource {
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
            layout_source(layout)
        } else if let Some(stage) = value.strip_prefix("target:") {
            Self::Target(stage.to_owned())
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

/// A `:` in a directory's name is not a tag's.
fn layout_source(text: &str) -> NamedSource {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, format!("@{digest}")),
        None => (text, String::new()),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (rest, ""),
    };
    NamedSource::Layout {
        path: path.to_owned(),
        image: if digest.is_empty() {
            tag.to_owned()
        } else {
            digest
        },
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
        for (text, expected) in [
            (
                "n=docker-image://alpine:3",
                NamedSource::Image("alpine:3".to_owned()),
            ),
            ("n=target:base", NamedSource::Target("base".to_owned())),
            ("n=oci-layout://./dir", layout("./dir", "")),
            ("n=oci-layout://a:b/dir:v1", layout("a:b/dir", "v1")),
            (
                "n=oci-layout:///dir@sha256:00",
                layout("/dir", "@sha256:00"),
            ),
            (
                "n=oci-layout:///dir:v1@sha256:00",
                layout("/dir", "@sha256:00"),
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
        for text in ["n", "=x", "n=", "n=-", "n=https://h/r.git#--x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
