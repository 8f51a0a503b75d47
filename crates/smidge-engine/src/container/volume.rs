//! `--volume [SRC:]DST[:MODE]`, and the volumes that an image asks for.

use std::path::{Path, PathBuf};

use smidge_run::Propagation;

use super::mount_option::propagation;
use crate::{Error, Host, Kind, Result};

/// A place in a container that is kept outside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What is there.
    pub source: VolumeSource,
    /// Absolute path inside.
    pub destination: String,
    /// Whether the container may only read it.
    pub read_only: bool,
    /// Whether it starts with the image's files, if it is new.
    pub seeded: bool,
    /// Whether mounts that are made later appear on the other side.
    pub propagation: Propagation,
}

/// What a volume shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A file or directory of the host.
    Bind(PathBuf),
    /// A volume that the store keeps under a name.
    Named(String),
    /// A volume of this container alone.
    Anonymous,
}

/// Modes that concern SELinux or other systems' file sharing: accepted, without effect.
const WITHOUT_EFFECT: [&str; 5] = ["z", "Z", "cached", "delegated", "consistent"];

/// Reads a `--volume` option.
///
/// # Errors
/// [`Kind::Input`], saying which part is at fault.
pub fn parse_volume(text: &str, host: &Host) -> Result<Volume> {
    let invalid = |why: String| Error::new(Kind::Input, format!("invalid volume `{text}`: {why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, mode) = match parts[..] {
        [destination] => ("", destination, ""),
        [source, destination] => (source, destination, ""),
        [source, destination, mode] => (source, destination, mode),
        _ => return Err(invalid("expected SRC:DST or SRC:DST:MODE".to_owned())),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(invalid("the source is empty".to_owned()));
    }
    let destination = clean_destination(destination).map_err(invalid)?;
    let Modes {
        read_only,
        seeded,
        propagated,
    } = Modes::new(mode).map_err(invalid)?;
    let source = match source {
        "" => VolumeSource::Anonymous,
        _ if source.starts_with('/') => VolumeSource::Bind(PathBuf::from(source)),
        _ if source.starts_with('.') => VolumeSource::Bind(host.absolute(Path::new(source))),
        _ if is_volume_name(source) => VolumeSource::Named(source.to_owned()),
        _ => {
            let absolute = host.absolute(Path::new(source));
            let fault = invalid(format!(
                "`{source}` is not a volume name: a name is made of `A-Z a-z 0-9 _ . -`"
            ));
            return Err(fault.with_hint(format!(
                "for a directory of the host, use its absolute path: `-v {}:{destination}`",
                absolute.display()
            )));
        }
    };
    let is_bind = matches!(source, VolumeSource::Bind(_));
    if is_bind && !seeded {
        let why = "invalid mode: nocopy: only a new volume starts with a copy of the image's files";
        return Err(invalid(why.to_owned()));
    }
    if !is_bind && propagated.is_some() {
        let why =
            format!("invalid mode: {mode}: mounts pass to and from directories of the host alone");
        return Err(invalid(why));
    }
    Ok(Volume {
        source,
        destination,
        read_only,
        seeded,
        propagation: propagated.unwrap_or(Propagation::Private),
    })
}

/// What stands behind the second colon.
struct Modes {
    read_only: bool,
    seeded: bool,
    propagated: Option<Propagation>,
}

impl Modes {
    fn new(text: &str) -> std::result::Result<Self, String> {
        let (mut read_only, mut writable, mut seeded) = (false, false, true);
        let mut propagated = None;
        for mode in text.split(',').filter(|mode| !mode.is_empty()) {
            match mode {
                "ro" | "readonly" => read_only = true,
                "rw" => writable = true,
                "nocopy" => seeded = false,
                _ if WITHOUT_EFFECT.contains(&mode) => {}
                _ => {
                    let invalid = || format!("invalid mode: {mode}: expected ro or rw");
                    propagated = Some(propagation(mode).ok_or_else(invalid)?);
                }
            }
        }
        match read_only && writable {
            true => Err(format!("invalid mode: {text}: it is both ro and rw")),
            false => Ok(Self {
                read_only,
                seeded,
                propagated,
            }),
        }
    }
}

/// An absolute path inside a container, without `.`, `..` and doubled slashes.
pub(crate) fn clean_destination(path: &str) -> std::result::Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!(
            "the path in the container, `{path}`, must be absolute"
        ));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err("the container's root cannot be a volume".to_owned());
    }
    Ok(format!("/{}", parts.join("/")))
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, as Docker has it.
pub(crate) fn is_volume_name(name: &str) -> bool {
    name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::test_host;

    fn shown(text: &str) -> String {
        match parse_volume(text, &test_host(Path::new("/work"))) {
            Ok(volume) => {
                let source = match volume.source {
                    VolumeSource::Bind(path) => path.display().to_string(),
                    VolumeSource::Named(name) => format!("volume {name}"),
                    VolumeSource::Anonymous => "anonymous".to_owned(),
                };
                let mode = if volume.read_only { " ro" } else { "" };
                format!("{source} -> {}{mode}", volume.destination)
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn volumes_are_read_as_docker_writes_them() {
        for (text, expected) in [
            ("/a:/b", "/a -> /b"),
            ("/a:/b:ro", "/a -> /b ro"),
            ("/a:/b:ro,z", "/a -> /b ro"),
            ("/a:/b/../c//d/", "/a -> /c/d"),
            ("./a:/b", "/work/./a -> /b"),
            ("data:/b:rw", "volume data -> /b"),
            ("/b", "anonymous -> /b"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_their_fault() {
        for (text, expected) in [
            ("", "must be absolute"),
            ("/a:b", "must be absolute"),
            ("/a:/", "root cannot be a volume"),
            ("/a:/..", "root cannot be a volume"),
            ("a/b:/c", "is not a volume name"),
            ("a:/c", "is not a volume name"),
            (":/c", "the source is empty"),
            ("/a:/b:fast", "invalid mode: fast"),
            ("/a:/b:ro:rw", "expected SRC:DST"),
        ] {
            let shown = shown(text);
            assert!(shown.contains(expected), "{text}: {shown}");
        }
    }
}
