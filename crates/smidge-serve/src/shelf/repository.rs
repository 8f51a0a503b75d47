//! Names of repositories and of what is in them.

use hyper::StatusCode;
use smidge_image::{Digest, DigestError, Reference};

use crate::http::{Code, Fault};

/// A repository: what is before the tag of a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repository {
    /// As it was asked for: `hello`.
    pub(crate) name: String,
    /// In full, without a tag: `docker.io/library/hello`.
    pub(crate) key: String,
}

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Tag(String),
    Digest(Digest),
}

impl Repository {
    /// Checks a name by the specification's rule and turns it into a reference as people's are.
    pub(crate) fn parse(name: &str) -> Result<Self, Fault> {
        let invalid = |why: &str| {
            let message = format!("`{name}` is not a repository's name: {why}");
            Fault::bad_request(Code::NameInvalid, message)
        };
        if name.len() > 255 {
            return Err(invalid("it is longer than 255 characters"));
        }
        if !name.split('/').all(is_component) {
            return Err(invalid(
                "components are of `a-z 0-9`, separated within by one `.`, one or two `_`, or `-`",
            ));
        }
        let reference: Reference = name
            .parse()
            .map_err(|fault: smidge_image::ReferenceError| invalid(&fault.to_string()))?;
        Ok(Self {
            name: name.to_owned(),
            key: key(&reference),
        })
    }

    /// The repository that a stored name is in, if the specification lets it be asked for.
    pub(crate) fn of(reference: &Reference) -> Option<Self> {
        Self::parse(&reference.familiar_name()).ok()
    }

    /// The repository as the store calls it.
    pub(crate) fn reference(&self) -> Result<Reference, Fault> {
        self.key
            .parse()
            .map_err(|fault: smidge_image::ReferenceError| {
                Fault::bad_request(Code::NameInvalid, fault.to_string())
            })
    }

    /// The name of something with a tag.
    pub(crate) fn tagged(&self, tag: &str) -> Result<Reference, Fault> {
        let text = format!("{}:{tag}", self.key);
        text.parse().map_err(|fault: smidge_image::ReferenceError| {
            Fault::bad_request(Code::ManifestInvalid, fault.to_string())
        })
    }
}

/// Domain and path of a reference.
pub(crate) fn key(reference: &Reference) -> String {
    format!("{}/{}", reference.domain(), reference.path())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |between: &str| {
        matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
    };
    text.starts_with(word) && text.ends_with(word) && text.split(word).all(separator)
}

impl Target {
    /// What the last part of a manifest's path means: with a `:`, a digest.
    ///
    /// # Errors
    /// For what is neither.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        if text.contains(':') {
            return Ok(Self::Digest(digest(text)?));
        }
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let sound = text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if sound {
            return Ok(Self::Tag(text.to_owned()));
        }
        let message = format!(
            "`{text}` is no tag: up to 128 of `A-Z a-z 0-9 _ . -`, starting with none of `.` `-`"
        );
        Err(Fault::bad_request(Code::ManifestInvalid, message))
    }

    /// As [`Target::parse`], of something that is only looked up: what cannot be is not there.
    pub(crate) fn find(text: &str) -> Result<Self, Fault> {
        Self::parse(text).map_err(|fault| match fault.code {
            Code::DigestInvalid => fault,
            _ => Fault::not_found(
                Code::ManifestUnknown,
                format!("there is no manifest `{text}`"),
            ),
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

/// A digest of a request.
///
/// # Errors
/// For what is none, or one of an algorithm other than sha256.
pub(crate) fn digest(text: &str) -> Result<Digest, Fault> {
    text.parse().map_err(|error: DigestError| {
        Fault::new(
            StatusCode::BAD_REQUEST,
            Code::DigestInvalid,
            error.to_string(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_specification_and_mean_what_people_mean() {
        for (name, expected) in [
            ("hello", Some("docker.io/library/hello")),
            ("library/hello", Some("docker.io/library/hello")),
            ("a/b", Some("docker.io/a/b")),
            ("a/b/c", Some("docker.io/a/b/c")),
            ("ghcr.io/a/b", Some("ghcr.io/a/b")),
            ("localhost/a", Some("localhost/a")),
            ("a-b_c__d---e/0.1", Some("docker.io/a-b_c__d---e/0.1")),
            ("a.b_c/0", None),
            ("", None),
            ("/", None),
            ("a//b", None),
            ("a/", None),
            ("/a", None),
            ("..", None),
            ("a/../b", None),
            ("Hello", None),
            ("a..b", None),
            ("a___b", None),
            ("a-.b", None),
            ("a-", None),
            ("_a", None),
            ("a:5000/b", None),
            ("a b", None),
            ("é", None),
            (&"a".repeat(256), None),
            (&"a".repeat(64), None),
        ] {
            let found = Repository::parse(name).ok().map(|found| found.key);
            assert_eq!(found.as_deref(), expected, "{name}");
        }
        assert!(Repository::parse(&"g/".repeat(118)).is_err());
        assert!(Repository::parse(&["g"; 118].join("/")).is_ok());
    }

    #[test]
    fn stored_names_are_found_again() {
        for (stored, name) in [
            ("hello:1", Some("hello")),
            ("ghcr.io/a/b:1", Some("ghcr.io/a/b")),
            ("localhost:5000/a:1", None),
        ] {
            let reference: Reference = stored.parse().unwrap();
            let found = Repository::of(&reference);
            assert_eq!(found.as_ref().map(|found| &*found.name), name);
            if let Some(found) = found {
                assert_eq!(found.key, key(&reference));
                assert_eq!(found.tagged("1").unwrap(), reference);
                assert!(found.tagged("..").is_err());
            }
        }
    }

    #[test]
    fn a_target_is_a_tag_or_a_digest() {
        assert_eq!(
            Target::parse("v1.0").unwrap(),
            Target::Tag("v1.0".to_owned())
        );
        let digest = Digest::of(b"");
        assert_eq!(
            Target::parse(&digest.to_string()).unwrap(),
            Target::Digest(digest)
        );
        for (text, code) in [
            ("sha256:0", Code::DigestInvalid),
            ("sha512:0", Code::DigestInvalid),
            (".v1", Code::ManifestInvalid),
            ("", Code::ManifestInvalid),
            ("a/b", Code::ManifestInvalid),
        ] {
            assert_eq!(Target::parse(text).unwrap_err().code, code, "{text}");
        }
        let missing = Target::find(".v1").unwrap_err();
        assert_eq!(missing.status, StatusCode::NOT_FOUND);
    }
}
