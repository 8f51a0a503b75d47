//! What `--cache-from` and `--cache-to` say, in the words of buildx.

use std::fmt;
use std::path::{Path, PathBuf};

use smidge_image::{Digest, Reference};
use smidge_store::Compression;

use crate::registry::parse_name;
use crate::{Error, Host, Kind, Result};

/// Where a build cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Under a name in a registry, which may speak plain HTTP.
    Registry { name: Reference, insecure: bool },
    /// In a directory that is an OCI layout.
    Layout {
        directory: PathBuf,
        name: LayoutName,
    },
    /// In the image itself.
    Inline,
}

/// What a layout calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LayoutName {
    Tag(String),
    Digest(Digest),
}

/// `--cache-from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) place: Place,
}

/// `--cache-to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) place: Place,
    /// `mode=max`: what all stages have made, and not the image's own alone.
    pub(super) all: bool,
    pub(super) compression: Compression,
    pub(super) ignore_error: bool,
    pub(super) mounts: Mounts,
}

impl Target {
    /// Whether it is to be in the image, and yet to hold what the image has not: Docker ignores that.
    pub(super) fn asks_too_much(&self) -> bool {
        self.place == Place::Inline && self.all
    }
}

/// Which cache mounts go along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mounts {
    None,
    All,
    Some(Vec<String>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { name, .. } => f.write_str(&name.familiar()),
            Self::Layout { directory, name } => {
                let separator = match name {
                    LayoutName::Tag(_) => ':',
                    LayoutName::Digest(_) => '@',
                };
                write!(f, "{}{separator}{name}", directory.display())
            }
            Self::Inline => f.write_str("the image"),
        }
    }
}

impl fmt::Display for LayoutName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// Reads every `--cache-from`.
pub(super) fn sources(texts: &[String], host: &Host) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for text in texts {
        for mut entry in entries("--cache-from", text)? {
            let place = match entry.kind.as_str() {
                "registry" => entry.registry()?,
                "local" => {
                    let directory = entry.directory(&["src"], host)?;
                    let tag = entry.take("tag").unwrap_or_else(|| "latest".to_owned());
                    let digest = entry.take("digest").map(|text| text.parse::<Digest>());
                    let name = match digest {
                        None => LayoutName::Tag(tag),
                        Some(Ok(digest)) => LayoutName::Digest(digest),
                        Some(Err(error)) => return Err(entry.refused(&error.to_string())),
                    };
                    Place::Layout { directory, name }
                }
                "inline" => {
                    let why = "an image with a cache in it is found in a registry";
                    return Err(entry
                        .refused(why)
                        .with_hint("name it: `--cache-from type=registry,ref=IMAGE`"));
                }
                _ => return Err(entry.unknown_type()),
            };
            entry.end(&["ref", "src", "tag", "digest"])?;
            sources.push(Source { place });
        }
    }
    Ok(sources)
}

/// Reads every `--cache-to`.
pub(super) fn targets(texts: &[String], host: &Host) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for text in texts {
        for entry in entries("--cache-to", text)? {
            targets.push(target(entry, host)?);
        }
    }
    Ok(targets)
}

fn target(mut entry: Entry<'_>, host: &Host) -> Result<Target> {
    let place = match entry.kind.as_str() {
        "registry" => entry.registry()?,
        "local" => Place::Layout {
            directory: entry.directory(&["dest"], host)?,
            name: LayoutName::Tag(entry.take("tag").unwrap_or_else(|| "latest".to_owned())),
        },
        "inline" => Place::Inline,
        _ => return Err(entry.unknown_type()),
    };
    let mode = entry.take("mode");
    let all = match mode.as_deref() {
        None | Some("min") => false,
        Some("max") => true,
        Some(_) => return Err(entry.refused("its mode is `min` or `max`")),
    };
    // Both forms that buildx has besides are none that this cache can have.
    for name in ["image-manifest", "oci-mediatypes"] {
        if entry.flag(name)? == Some(false) {
            let why = format!("a cache of smidge's is an OCI manifest: `{name}` is always true");
            return Err(entry.refused(&why));
        }
    }
    // There is nothing that was compressed before.
    entry.flag("force-compression")?;
    let compression = entry.compression()?;
    let ignore_error = entry.flag("ignore-error")?.unwrap_or_default();
    let mounts = entry.mounts()?;
    if place == Place::Inline && mounts != Mounts::None {
        let why = "an image does not carry cache mounts";
        return Err(entry
            .refused(why)
            .with_hint("for them: `--cache-to type=registry,ref=NAME,mounts=true`"));
    }
    entry.end(&[
        "ref",
        "dest",
        "tag",
        "mode",
        "compression",
        "ignore-error",
        "mounts",
    ])?;
    Ok(Target {
        place,
        all,
        compression,
        ignore_error,
        mounts,
    })
}

/// One `type=…,NAME=VALUE…`.
struct Entry<'t> {
    option: &'t str,
    text: &'t str,
    kind: String,
    pairs: Vec<(String, String)>,
}

/// Takes an option apart: names of images alone, or one entry.
fn entries<'t>(option: &'t str, text: &'t str) -> Result<Vec<Entry<'t>>> {
    let fields = fields(text);
    let entry = |kind: &str, pairs| Entry {
        option,
        text,
        kind: kind.to_owned(),
        pairs,
    };
    if fields.iter().all(|field| !field.contains('=')) {
        let named = |name: String| entry("registry", vec![("ref".to_owned(), name)]);
        return Ok(fields.into_iter().map(named).collect());
    }
    let mut whole = entry("", Vec::new());
    for field in &fields {
        let Some((name, value)) = field.split_once('=') else {
            return Err(whole.refused(&format!("`{field}` is not NAME=VALUE")));
        };
        match name.to_lowercase().as_str() {
            "type" => value.clone_into(&mut whole.kind),
            name => whole.pairs.push((name.to_owned(), value.to_owned())),
        }
    }
    match whole.kind.is_empty() {
        true => Err(whole
            .refused("it has no type")
            .with_hint(format!("write `{option} type=registry,{text}`"))),
        false => Ok(vec![whole]),
    }
}

/// Splits at commas, but for those in quotes, as CSV has it (RFC 4180).
fn fields(text: &str) -> Vec<String> {
    let mut quoted = false;
    let mut field = String::new();
    let mut fields = Vec::new();
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

impl Entry<'_> {
    fn refused(&self, why: &str) -> Error {
        let message = format!("invalid `{} {}`: {why}", self.option, self.text);
        Error::new(Kind::Input, message)
    }

    fn unknown_type(&self) -> Error {
        let kind = &self.kind;
        let error = match kind.as_str() {
            "gha" | "s3" | "azblob" => {
                self.refused(&format!("smidge cannot keep a cache in `type={kind}`"))
            }
            _ => self.refused(&format!("unknown type `{kind}`")),
        };
        let hint = match self.option {
            "--cache-to" => "there are `registry`, `local` and `inline`",
            _ => "there are `registry` and `local`",
        };
        error.with_hint(format!(
            "{hint}: any registry will do, as `{} type=registry,ref=REGISTRY/NAME:cache`",
            self.option
        ))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(known, _)| known == name)?;
        Some(self.pairs.remove(at).1)
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>> {
        // As Go reads them.
        match self.take(name).as_deref() {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(_) => Err(self.refused(&format!("`{name}` is `true` or `false`"))),
        }
    }

    fn registry(&mut self) -> Result<Place> {
        let insecure = self.flag("registry.insecure")?.unwrap_or_default();
        let name = self.take("ref").filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| {
            let hint = format!("write `{} type=registry,ref=NAME`", self.option);
            self.refused("it names no image").with_hint(hint)
        })?;
        let name = parse_name(&name).map_err(|error| self.refused(error.message()))?;
        if self.option == "--cache-to" && name.digest().is_some() {
            return Err(self.refused("a digest is no name: give a tag"));
        }
        Ok(Place::Registry { name, insecure })
    }

    fn directory(&mut self, names: &[&str], host: &Host) -> Result<PathBuf> {
        let directory = names.iter().find_map(|name| self.take(name));
        let directory = directory.filter(|path| !path.is_empty());
        let directory = directory.ok_or_else(|| {
            let hint = format!("write `{} type=local,{}=DIRECTORY`", self.option, names[0]);
            self.refused("it names no directory").with_hint(hint)
        })?;
        Ok(host.absolute(Path::new(&directory)))
    }

    fn compression(&mut self) -> Result<Compression> {
        if self.take("compression-level").is_some() {
            let why = "there are no levels: the same layer is always compressed to the same bytes";
            return Err(self
                .refused(why)
                .with_hint("leave `compression-level` away"));
        }
        match self.take("compression").as_deref() {
            None | Some("gzip") => Ok(Compression::Gzip),
            Some("zstd") => Ok(Compression::Zstd),
            Some("uncompressed" | "none") => Ok(Compression::None),
            Some(other) => Err(self
                .refused(&format!("unknown compression `{other}`"))
                .with_hint("there are `gzip`, `zstd` and `uncompressed`")),
        }
    }

    fn mounts(&mut self) -> Result<Mounts> {
        Ok(match self.take("mounts").as_deref() {
            None | Some("false" | "") => Mounts::None,
            Some("true") => Mounts::All,
            Some(ids) => Mounts::Some(ids.split(';').map(str::to_owned).collect()),
        })
    }

    /// Refuses what nobody has asked for.
    fn end(&self, known: &[&str]) -> Result<()> {
        let Some((name, _)) = self.pairs.first() else {
            return Ok(());
        };
        let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        let why = match known.contains(&format!("`{name}`")) {
            true => format!("`type={}` has no `{name}`", self.kind),
            false => format!("unknown `{name}`"),
        };
        Err(self
            .refused(&why)
            .with_hint(format!("there are {}", known.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::test_host;

    fn target(text: &str) -> Target {
        let host = test_host(Path::new("/here"));
        let mut targets = targets(&[text.to_owned()], &host).unwrap();
        assert_eq!(targets.len(), 1, "{text}");
        targets.remove(0)
    }

    fn named(name: &str) -> Place {
        let name = name.parse().unwrap();
        let insecure = false;
        Place::Registry { name, insecure }
    }

    #[test]
    fn targets_are_read_as_buildx_reads_them() {
        let plain = Target {
            place: named("user/app:cache"),
            all: false,
            compression: Compression::Gzip,
            ignore_error: false,
            mounts: Mounts::None,
        };
        assert_eq!(target("user/app:cache"), plain);
        assert_eq!(target("type=registry,ref=user/app:cache"), plain);
        let long = "\"type=registry\",Mode=max,oci-mediatypes=true,image-manifest=true,ref=user/app:cache,\
                    compression=zstd,force-compression=1,ignore-error=true,mounts=/a;b";
        let expected = Target {
            all: true,
            compression: Compression::Zstd,
            ignore_error: true,
            mounts: Mounts::Some(vec!["/a".to_owned(), "b".to_owned()]),
            ..plain.clone()
        };
        assert_eq!(target(long), expected);
        let directory = Target {
            place: Place::Layout {
                directory: "/here/x,y".into(),
                name: LayoutName::Tag("latest".to_owned()),
            },
            compression: Compression::None,
            mounts: Mounts::All,
            ..plain.clone()
        };
        let text = "type=local,\"dest=x,y\",compression=uncompressed,mounts=true";
        assert_eq!(target(text), directory);
        let inline = Target {
            place: Place::Inline,
            ..plain
        };
        assert_eq!(target("type=inline"), inline);
        assert!(target("type=inline,mode=max").asks_too_much());
    }

    #[test]
    fn sources_are_read_as_buildx_reads_them() {
        let host = test_host(Path::new("/here"));
        let read = |text: &str| sources(&[text.to_owned()], &host);
        let places = |text: &str| -> Vec<Place> {
            read(text)
                .unwrap()
                .into_iter()
                .map(|source| source.place)
                .collect()
        };
        assert_eq!(places("a,b:1"), [named("a"), named("b:1")]);
        let digest = Digest::of(b"");
        let name = LayoutName::Digest(digest);
        let directory = "/abs".into();
        assert_eq!(
            places(&format!("type=local,src=/abs,digest={digest}")),
            [Place::Layout { directory, name }]
        );
        let Place::Registry { insecure, .. } =
            &places("type=registry,ref=a,registry.insecure=true")[0]
        else {
            panic!("it is in a registry");
        };
        assert!(insecure);
        // A digest can be read, and not written.
        assert!(read(&format!("a@{digest}")).is_ok());
        assert!(targets(&[format!("a@{digest}")], &host).is_err());
        assert!(read("UPPER").is_err());
        assert!(read("type=registry,ref=a,mode=max").is_err());
    }
}
