//! What users name by a URL: build contexts, Dockerfiles, archives to import.

use smidge_registry::Error as HttpError;

use crate::{Error, Kind};

/// Whether it is a URL of `http` or `https`.
pub fn is_http(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// A URL without the user's name and password.
pub(crate) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) if scheme != "ssh" => format!("{scheme}://{}", &rest[at + 1..]),
        _ => url.to_owned(),
    }
}

/// As an error of the engine, without advice about logins to registries.
pub(crate) fn unfetched(url: &str, error: HttpError) -> Error {
    let kind = match &error {
        HttpError::NotFound { .. } => Kind::NotFound,
        HttpError::Denied { .. } => Kind::Denied,
        HttpError::Protocol { .. } => Kind::Input,
        _ => Kind::Host,
    };
    Error::new(kind, format!("cannot fetch `{}`", redacted(url))).caused_by(error)
}
