//! Places that images are in, or go to.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use smidge_image::Reference;

/// A place that images are in, or go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `docker://NAME`, or a bare NAME: a registry.
    Registry(Reference),
    /// `store:NAME`: the store.
    Store(String),
    /// `oci:DIR[:NAME]`: an OCI image layout.
    Oci(PathBuf, Option<String>),
    /// `oci-archive:FILE[:NAME]`: a layout in a tar archive.
    OciArchive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:NAME]`: what `docker save` writes.
    DockerArchive(PathBuf, Option<String>),
    /// `docker-daemon:NAME`, `docker:NAME`: Docker's own store, through its socket.
    DockerDaemon(Reference),
    /// `containerd:NAME`: containerd's store, through its socket.
    Containerd(Reference),
}

/// Why a text is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a place for images: {why}")]
pub struct LocationError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl FromStr for Location {
    type Err = LocationError;

    /// What begins with none of the known words is a name in a registry.
    fn from_str(text: &str) -> Result<Self, LocationError> {
        let fault = |why: String| LocationError {
            text: text.to_owned(),
            why,
        };
        let named = |name: &str| name.parse::<Reference>().map_err(|e| fault(e.to_string()));
        let file = |rest: &str| match rest.split_once(':') {
            _ if rest.is_empty() => Err(fault("it lacks a path".to_owned())),
            Some((path, name)) if !name.is_empty() => {
                Ok((PathBuf::from(path), Some(name.to_owned())))
            }
            Some((path, _)) => Ok((PathBuf::from(path), None)),
            None => Ok((PathBuf::from(rest), None)),
        };
        if let Some(name) = text.strip_prefix("docker://") {
            return named(name).map(Self::Registry);
        }
        let Some((kind, rest)) = text.split_once(':') else {
            return named(text).map(Self::Registry);
        };
        Ok(match kind {
            "store" if rest.is_empty() => return Err(fault("it lacks a name".to_owned())),
            "store" => Self::Store(rest.to_owned()),
            "oci" => file(rest).map(|(path, name)| Self::Oci(path, name))?,
            "oci-archive" => file(rest).map(|(path, name)| Self::OciArchive(path, name))?,
            "docker-archive" => file(rest).map(|(path, name)| Self::DockerArchive(path, name))?,
            "docker-daemon" | "docker" => Self::DockerDaemon(named(rest)?),
            "containerd" => Self::Containerd(named(rest)?),
            _ => Self::Registry(named(text)?),
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = |f: &mut fmt::Formatter<'_>, kind: &str, path: &PathBuf, name: &Option<_>| {
            write!(f, "{kind}:{}", path.display())?;
            match name {
                Some::<String>(name) => write!(f, ":{name}"),
                None => Ok(()),
            }
        };
        match self {
            Self::Registry(name) => f.write_str(&name.familiar()),
            Self::Store(name) => write!(f, "store:{name}"),
            Self::Oci(path, name) => file(f, "oci", path, name),
            Self::OciArchive(path, name) => file(f, "oci-archive", path, name),
            Self::DockerArchive(path, name) => file(f, "docker-archive", path, name),
            Self::DockerDaemon(name) => write!(f, "docker-daemon:{}", name.familiar()),
            Self::Containerd(name) => write!(f, "containerd:{}", name.familiar()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_by_their_first_word() {
        let parsed = |text: &str| text.parse::<Location>().unwrap();
        let name = |text: &str| text.parse::<Reference>().unwrap();
        let named = |text: &str| Some(text.to_owned());
        for (text, expected) in [
            ("alpine", Location::Registry(name("alpine"))),
            ("alpine:3", Location::Registry(name("alpine:3"))),
            (
                "localhost:5000/a",
                Location::Registry(name("localhost:5000/a")),
            ),
            ("docker://docker:24", Location::Registry(name("docker:24"))),
            ("store:a:1", Location::Store("a:1".to_owned())),
            ("oci:dir", Location::Oci("dir".into(), None)),
            ("oci:dir:", Location::Oci("dir".into(), None)),
            (
                "oci:d:localhost/a:1",
                Location::Oci("d".into(), named("localhost/a:1")),
            ),
            (
                "oci-archive:a.tar",
                Location::OciArchive("a.tar".into(), None),
            ),
            (
                "docker-archive:/a.tar:b",
                Location::DockerArchive("/a.tar".into(), named("b")),
            ),
            ("docker:a:1", Location::DockerDaemon(name("a:1"))),
            ("docker-daemon:a", Location::DockerDaemon(name("a"))),
            (
                "containerd:ghcr.io/a/b",
                Location::Containerd(name("ghcr.io/a/b")),
            ),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
        for bad in [
            "",
            "store:",
            "oci:",
            "docker-archive:",
            "docker:",
            "UPPER",
            "containerd:A",
        ] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
    }
}
