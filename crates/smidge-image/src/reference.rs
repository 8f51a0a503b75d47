//! Names of images, in Docker's grammar.
//!
//! Grammar and normalisation: <https://pkg.go.dev/github.com/distribution/reference>.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, DigestError};

/// A complete image name: `docker.io/library/alpine:latest`, `localhost:5000/a/b@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was given.
    #[error("an image name must not be empty")]
    Empty,
    /// The grammar is broken.
    #[error("invalid reference format: `{text}`: {why}")]
    Format {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Repository names are lower case.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// The name is longer than 255 characters.
    #[error("invalid reference format: a repository name must not be longer than 255 characters")]
    TooLong,
    /// 64 hexadecimal digits are an id, not a name.
    #[error("invalid repository name `{0}`: 64 hexadecimal digits are an image id")]
    IsId(String),
    /// The part after `@` is no digest.
    #[error("invalid reference format: `{text}`")]
    Digest {
        /// What was given.
        text: String,
        /// What is wrong with the digest.
        source: DigestError,
    },
}

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";

impl Reference {
    /// The registry: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/alpine`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if there is one. A parsed reference without digest always has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest's digest, if the reference pins it.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same repository under another tag.
    ///
    /// # Errors
    /// [`ReferenceError::Format`] when `tag` is not `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        check_tag(tag, tag)?;
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository, pinned to a manifest.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The repository without tag or digest, as people write it: `alpine`, `ghcr.io/a/b`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return format!("{}/{}", self.domain, self.path);
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The reference as people write it: `alpine:latest`.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}/{}", self.domain, self.path);
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// Parses and normalises as Docker does: `docker.io` and `library/` are filled in, and so is
    /// `:latest` where there is neither tag nor digest.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if is_id(text) {
            return Err(ReferenceError::IsId(text.to_owned()));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            // Whoever pastes a URL may paste a password.
            let shown = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
            return Err(ReferenceError::Format {
                text: format!("{scheme}://{shown}"),
                why: "a name begins with the registry, not with a scheme",
            });
        }
        let (rest, digest) = split_digest(text)?;
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag, text)?;
        }
        let (domain, path) = split_domain(name);
        if domain != DEFAULT_DOMAIN {
            check_domain(&domain, text)?;
        }
        check_path(&path, text)?;
        if domain.len() + 1 + path.len() > 255 {
            return Err(ReferenceError::TooLong);
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self {
            domain,
            path,
            tag,
            digest,
        })
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), ReferenceError> {
    match text.split_once('@') {
        None => Ok((text, None)),
        Some((rest, digest)) => match digest.parse() {
            Ok(digest) => Ok((rest, Some(digest))),
            Err(source) => Err(ReferenceError::Digest {
                text: text.to_owned(),
                source,
            }),
        },
    }
}

/// Splits off the registry: the first component is one if it has a `.` or `:`, is `localhost`,
/// or has an upper-case letter.
fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain.to_owned(), format!("{OFFICIAL}{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn check_tag(tag: &str, text: &str) -> Result<(), ReferenceError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let sound = tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    format_rule(
        sound,
        text,
        "a tag is up to 128 of `A-Z a-z 0-9 _ . -` and starts with none of `.` `-`",
    )
}

fn check_domain(domain: &str, text: &str) -> Result<(), ReferenceError> {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let port_sound = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let host_sound = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(label),
    };
    format_rule(
        port_sound && host_sound,
        text,
        "the registry must be HOST or HOST:PORT",
    )
}

fn check_path(path: &str, text: &str) -> Result<(), ReferenceError> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase(text.to_owned()));
    }
    let sound = path.split('/').all(is_component);
    format_rule(
        sound,
        text,
        "a repository name is made of `a-z 0-9`, separated by `/` `.` `_` `__` or `-`",
    )
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_sound =
        bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    ends_sound
        && bytes.split(alphanumeric).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

fn format_rule(sound: bool, text: &str, why: &'static str) -> Result<(), ReferenceError> {
    if sound {
        return Ok(());
    }
    Err(ReferenceError::Format {
        text: text.to_owned(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        text.parse::<Reference>()
            .ok()
            .map(|r| format!("{r} {}", r.familiar()))
    }

    #[test]
    fn a_url_is_refused_without_its_password() {
        let refused = "https://me:secret@host.example/a:1".parse::<Reference>();
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("`https://host.example/a:1`"), "{text}");
    }

    #[test]
    fn names_are_normalised_as_docker_does() {
        let hex = "a".repeat(64);
        for (text, full, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            (
                "adejonge/helloworld",
                "docker.io/adejonge/helloworld:latest",
                "adejonge/helloworld:latest",
            ),
            (
                "index.docker.io/a",
                "docker.io/library/a:latest",
                "a:latest",
            ),
            ("localhost/a:b", "localhost/a:b", "localhost/a:b"),
            (
                "localhost:5000/a",
                "localhost:5000/a:latest",
                "localhost:5000/a:latest",
            ),
            (
                "ghcr.io/acme/api:1.4",
                "ghcr.io/acme/api:1.4",
                "ghcr.io/acme/api:1.4",
            ),
            (
                "[fc00::1]:5000/a",
                "[fc00::1]:5000/a:latest",
                "[fc00::1]:5000/a:latest",
            ),
            (
                "a__b/c--d/e.f",
                "docker.io/a__b/c--d/e.f:latest",
                "a__b/c--d/e.f:latest",
            ),
            (
                "docker.io/library/a/b",
                "docker.io/library/a/b:latest",
                "library/a/b:latest",
            ),
        ] {
            assert_eq!(shown(text), Some(format!("{full} {familiar}")), "{text}");
        }
        let pinned = format!("a@sha256:{hex}");
        assert_eq!(
            shown(&pinned),
            Some(format!("docker.io/library/{pinned} {pinned}"))
        );
    }

    #[test]
    fn broken_names_are_refused() {
        let long = "a".repeat(256);
        let id = "f".repeat(64);
        let tag = format!("a:{}", "t".repeat(129));
        for text in [
            "",
            ":",
            "a:",
            "a:-x",
            "A",
            "a/B",
            "a//b",
            "/a",
            "a/",
            "a_",
            "a___b",
            "a..b",
            "-a",
            "a b",
            "a@",
            "a@sha256:12",
            "a@md5:12",
            "é",
            "host:port/a",
            "-h.x/a",
            "a:b:c",
            "aa/asdf$$^/aa",
            &long,
            &id,
            &tag,
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }
}
