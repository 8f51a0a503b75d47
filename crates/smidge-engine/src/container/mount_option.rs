//! The texts of `--mount KEY=VALUE,…` and `--tmpfs DIR[:OPTIONS]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use smidge_run::{Manner, Propagation};

use super::mount::ALLOWANCES;
use super::resource::parse_bytes;
use super::volume::{clean_destination, is_volume_name};
use crate::{Error, Host, Kind, Result};

/// What `--mount` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MountOption {
    /// What is mounted.
    pub(super) kind: MountType,
    /// Where: an absolute path inside.
    pub(super) destination: String,
    /// Whether the container may only read it.
    pub(super) read_only: bool,
    /// Whether a new volume starts with the image's files.
    pub(super) seeded: bool,
    /// How it is mounted.
    pub(super) manner: Manner,
    /// The labels of a new volume.
    pub(super) labels: BTreeMap<String, String>,
}

/// `type=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MountType {
    /// A file or directory of the host; `create` says whether a missing one is made.
    Bind {
        /// It.
        source: PathBuf,
        /// Whether it is made.
        create: bool,
    },
    /// A volume by its name, or one of the container's own.
    Volume(Option<String>),
    /// Memory: bytes at most, and permission bits.
    Tmpfs {
        /// Bytes at most.
        size: Option<u64>,
        /// Permission bits.
        mode: u32,
    },
    /// An image's files.
    Image(String),
}

/// What `--tmpfs` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tmpfs {
    pub(super) destination: String,
    pub(super) size: Option<u64>,
    pub(super) mode: u32,
    pub(super) read_only: bool,
    pub(super) manner: Manner,
}

/// The mode of a temporary directory.
const STICKY: u32 = 0o1777;

/// The keys of `--mount` while they are read.
#[derive(Default)]
struct Keys {
    kind: Option<String>,
    source: Option<String>,
    destination: Option<String>,
    read_only: bool,
    /// `bind-recursive`.
    recursive: Option<String>,
    create: bool,
    nocopy: bool,
    size: Option<u64>,
    mode: Option<u32>,
    labels: BTreeMap<String, String>,
    manner: Manner,
    /// Keys that only one type has, for the fault that they are with another.
    particular: Vec<String>,
}

/// Reads a `--mount` option.
///
/// # Errors
/// [`Kind::Input`], saying which part is at fault.
pub(super) fn parse_mount(text: &str, host: &Host) -> Result<MountOption> {
    let invalid = |why: String| {
        Error::new(Kind::Input, format!("invalid `--mount {text}`: {why}"))
            .with_hint("as in `--mount type=bind,src=/data,dst=/data,readonly`")
    };
    let mut keys = Keys::default();
    for field in fields(text).map_err(invalid)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        keys.take(&key.to_ascii_lowercase(), value)
            .map_err(invalid)?;
    }
    keys.finish(host).map_err(invalid)
}

impl Keys {
    fn take(&mut self, key: &str, value: Option<&str>) -> std::result::Result<(), String> {
        if let Some((kind, _)) = key.split_once('-') {
            self.particular.push(kind.to_owned());
        }
        match key {
            "readonly" | "ro" => self.read_only = flag(key, value)?,
            "volume-nocopy" => self.nocopy = flag(key, value)?,
            "bind-create-src" => self.create = flag(key, value)?,
            "bind-nonrecursive" => {
                if flag(key, value)? {
                    self.recursive = Some("disabled".to_owned());
                }
            }
            key => {
                let value = value
                    .ok_or_else(|| format!("invalid field `{key}` must be a key=value pair"))?;
                self.set(key, value)?;
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> std::result::Result<(), String> {
        match key {
            "type" => self.kind = Some(value.to_ascii_lowercase()),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.destination = Some(value.to_owned()),
            // Of other systems' file sharing.
            "consistency" => {}
            "bind-propagation" => {
                self.manner.propagation =
                    propagation(value).ok_or_else(|| format!("invalid propagation `{value}`"))?;
            }
            "bind-recursive" => self.recursive = Some(value.to_owned()),
            "volume-subpath" | "image-subpath" => {
                if value.is_empty() || value.starts_with('/') || value.split('/').any(|p| p == "..")
                {
                    return Err(format!("`{key}` must be a relative path within: `{value}`"));
                }
                value.clone_into(&mut self.manner.subpath);
            }
            "volume-label" => {
                let (key, value) = value.split_once('=').unwrap_or((value, ""));
                self.labels.insert(key.to_owned(), value.to_owned());
            }
            "volume-driver" if matches!(value, "" | "local") => {}
            "volume-driver" => {
                return Err(format!("there is no volume driver `{value}`, only `local`"));
            }
            "volume-opt" => {
                return Err("smidge mounts no devices and shares as volumes: mount it, and use a bind mount".to_owned());
            }
            "tmpfs-size" => self.size = Some(parse_bytes(value)?),
            "tmpfs-mode" => self.mode = Some(octal(value)?),
            other => return Err(format!("unexpected key `{other}`")),
        }
        Ok(())
    }

    /// What `bind-recursive` says.
    fn recursion(&mut self) -> std::result::Result<(), String> {
        match self.recursive.as_deref() {
            None | Some("enabled") => {}
            Some("disabled") => self.manner.flat = true,
            Some("writable") if self.read_only => self.manner.writable_below = true,
            // What is read-only is so all the way down.
            Some("readonly") if self.read_only => {}
            Some(mode @ ("writable" | "readonly")) => {
                return Err(format!(
                    "option `bind-recursive={mode}` requires `readonly` to be specified"
                ));
            }
            Some(mode) => return Err(format!("invalid value for `bind-recursive`: `{mode}`")),
        }
        Ok(())
    }

    fn finish(mut self, host: &Host) -> std::result::Result<MountOption, String> {
        let kind = self.kind.take().unwrap_or_else(|| "volume".to_owned());
        if let Some(other) = self.particular.iter().find(|other| **other != kind) {
            return Err(format!(
                "cannot mix `{other}-*` options with mount type `{kind}`"
            ));
        }
        let destination = self.destination.take().ok_or("target is required")?;
        let destination = clean_destination(&destination)?;
        self.recursion()?;
        let source = self.source.take().filter(|source| !source.is_empty());
        let kind = match (kind.as_str(), source) {
            ("bind", Some(source)) => MountType::Bind {
                source: host.absolute(Path::new(&source)),
                create: self.create,
            },
            ("image", Some(source)) => MountType::Image(source),
            ("bind" | "image", None) => return Err("source is required".to_owned()),
            ("volume", Some(name)) if !is_volume_name(&name) => {
                return Err(format!(
                    "`{name}` is not a volume name: a name is made of `A-Z a-z 0-9 _ . -`; a directory takes `type=bind`"
                ));
            }
            ("volume", name) => {
                if name.is_none() && !self.manner.subpath.is_empty() {
                    return Err("`volume-subpath` needs a volume with a name".to_owned());
                }
                MountType::Volume(name)
            }
            ("tmpfs", None) => MountType::Tmpfs {
                size: self.size,
                mode: self.mode.unwrap_or(STICKY),
            },
            ("tmpfs", Some(_)) => return Err("`source` has no meaning for a tmpfs".to_owned()),
            ("npipe" | "cluster", _) => {
                return Err(format!("there are no mounts of type `{kind}` here"));
            }
            _ => {
                return Err(format!(
                    "unknown type `{kind}`: expected bind, volume, tmpfs or image"
                ));
            }
        };
        Ok(MountOption {
            read_only: self.read_only || matches!(kind, MountType::Image(_)),
            seeded: !self.nocopy && self.manner.subpath.is_empty(),
            kind,
            destination,
            manner: self.manner,
            labels: self.labels,
        })
    }
}

impl MountOption {
    /// It in Docker's words (the API's `Mount`).
    pub(super) fn told(&self) -> Value {
        let mut fields = Map::new();
        let mut say = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        let mut own = Map::new();
        if !self.manner.subpath.is_empty() {
            own.insert("Subpath".to_owned(), self.manner.subpath.as_str().into());
        }
        let (kind, source) = match &self.kind {
            MountType::Bind { source, create } => {
                for (name, is_so) in [
                    ("CreateMountpoint", *create),
                    ("NonRecursive", self.manner.flat),
                    ("ReadOnlyNonRecursive", self.manner.writable_below),
                ] {
                    if is_so {
                        own.insert(name.to_owned(), true.into());
                    }
                }
                if self.manner.propagation != Propagation::Private {
                    let name = propagation_name(self.manner.propagation);
                    own.insert("Propagation".to_owned(), name.into());
                }
                ("Bind", Some(source.to_string_lossy().into_owned()))
            }
            MountType::Volume(name) => {
                if !self.seeded && self.manner.subpath.is_empty() {
                    own.insert("NoCopy".to_owned(), true.into());
                }
                if !self.labels.is_empty() {
                    own.insert("Labels".to_owned(), json!(self.labels));
                }
                ("Volume", name.clone())
            }
            MountType::Tmpfs { size, mode } => {
                own.extend(size.map(|size| ("SizeBytes".to_owned(), size.into())));
                if *mode != STICKY {
                    own.insert("Mode".to_owned(), (*mode).into());
                }
                ("Tmpfs", None)
            }
            MountType::Image(name) => ("Image", Some(name.clone())),
        };
        say("Type", kind.to_ascii_lowercase().into());
        if let Some(source) = source {
            say("Source", source.into());
        }
        say("Target", self.destination.as_str().into());
        if self.read_only {
            say("ReadOnly", true.into());
        }
        if !own.is_empty() {
            say(&format!("{kind}Options"), own.into());
        }
        fields.into()
    }
}

/// Reads a `--tmpfs` option.
///
/// # Errors
/// [`Kind::Input`], saying which part is at fault.
pub(super) fn parse_tmpfs(text: &str) -> Result<Tmpfs> {
    let invalid = |why: String| {
        Error::new(Kind::Input, format!("invalid `--tmpfs {text}`: {why}"))
            .with_hint("as in `--tmpfs /run:size=64m,mode=755`")
    };
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    let mut tmpfs = Tmpfs {
        destination: clean_destination(destination).map_err(invalid)?,
        size: None,
        mode: STICKY,
        read_only: false,
        manner: Manner::default(),
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        tmpfs.set(option).map_err(invalid)?;
    }
    Ok(tmpfs)
}

impl Tmpfs {
    fn set(&mut self, option: &str) -> std::result::Result<(), String> {
        let allowed = &mut self.manner.allowed;
        for (yes, no, what) in ALLOWANCES {
            if option == yes || option == no {
                allowed.retain(|known| *known != what);
                allowed.extend((option == yes).then_some(what));
                return Ok(());
            }
        }
        match option.split_once('=') {
            None if option == "ro" => self.read_only = true,
            None if option == "rw" => self.read_only = false,
            // How times are kept makes no difference in memory.
            None if matches!(
                option,
                "defaults" | "noatime" | "relatime" | "strictatime" | "nodiratime"
            ) => {}
            Some(("size", value)) if !value.ends_with('%') => self.size = Some(parse_bytes(value)?),
            Some(("mode", value)) => self.mode = octal(value)?,
            Some((key @ ("size" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol"), value)) => {
                let pair = (key.to_owned(), value.to_owned());
                self.manner.settings.push(pair);
            }
            _ => return Err(format!("unknown option `{option}`")),
        }
        Ok(())
    }
}

/// A propagation by its name in `mount(8)`; the letter for "recursive" makes no difference, as all
/// mounts below come along.
pub(super) fn propagation(name: &str) -> Option<Propagation> {
    match name {
        "private" | "rprivate" => Some(Propagation::Private),
        "slave" | "rslave" => Some(Propagation::Slave),
        "shared" | "rshared" => Some(Propagation::Shared),
        _ => None,
    }
}

/// The name of a propagation, as `inspect` has it.
pub(super) fn propagation_name(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "rprivate",
        Propagation::Slave => "rslave",
        Propagation::Shared => "rshared",
    }
}

fn flag(key: &str, value: Option<&str>) -> std::result::Result<bool, String> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
        Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
        Some(other) => Err(format!("invalid value for `{key}`: `{other}`")),
    }
}

fn octal(text: &str) -> std::result::Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("invalid mode `{text}`: expected an octal number such as 1777"))
}

/// The fields of a line of comma-separated values; quotes keep commas together, doubled ones are
/// quotes themselves (RFC 4180).
fn fields(line: &str) -> std::result::Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        let Some(field) = fields.last_mut() else {
            break;
        };
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    if quoted {
        return Err("a quote is never closed".to_owned());
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::test_host;

    fn read(text: &str) -> Result<MountOption> {
        parse_mount(text, &test_host(Path::new("/work")))
    }

    #[test]
    fn mounts_are_read_as_docker_writes_them() {
        let option =
            read("type=bind,src=data,dst=/d/../e,readonly,bind-propagation=rslave").unwrap();
        let source = PathBuf::from("/work/data");
        assert_eq!(
            option.kind,
            MountType::Bind {
                source,
                create: false
            }
        );
        assert_eq!(
            (option.destination.as_str(), option.read_only),
            ("/e", true)
        );
        assert_eq!(option.manner.propagation, Propagation::Slave);
        let option =
            read("source=vol,target=/v,volume-nocopy=true,\"volume-label=a=b,c\"").unwrap();
        assert_eq!(option.kind, MountType::Volume(Some("vol".to_owned())));
        assert_eq!((option.seeded, option.labels["a"].as_str()), (false, "b,c"));
        let option = read("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap();
        let memory = MountType::Tmpfs {
            size: Some(1 << 20),
            mode: 0o700,
        };
        assert_eq!(option.kind, memory);
        let option = read("type=image,src=box,dst=/i,image-subpath=etc").unwrap();
        assert_eq!(
            (option.read_only, option.manner.subpath.as_str()),
            (true, "etc")
        );
        let option = read("type=volume,dst=/v,ro=false").unwrap();
        assert_eq!(
            (option.kind, option.read_only),
            (MountType::Volume(None), false)
        );
        for (text, flat, below) in [
            ("bind-nonrecursive", true, false),
            ("bind-recursive=disabled", true, false),
            ("ro,bind-recursive=writable", false, true),
            ("ro,bind-recursive=readonly", false, false),
        ] {
            let manner = read(&format!("type=bind,src=/a,dst=/b,{text}"))
                .unwrap()
                .manner;
            assert_eq!(
                (manner.flat, manner.writable_below),
                (flat, below),
                "{text}"
            );
        }
    }

    #[test]
    fn mounts_are_told_as_they_were_read() {
        for (text, expected) in [
            (
                "type=BIND,src=data,dst=/d/../e,ro,bind-nonrecursive,bind-propagation=slave",
                json!({"Type": "bind", "Source": "/work/data", "Target": "/e", "ReadOnly": true,
                    "BindOptions": {"NonRecursive": true, "Propagation": "rslave"}}),
            ),
            (
                "src=vol,dst=/v,volume-nocopy,\"volume-label=a=b,c\"",
                json!({"Type": "volume", "Source": "vol", "Target": "/v",
                    "VolumeOptions": {"NoCopy": true, "Labels": {"a": "b,c"}}}),
            ),
            ("dst=/v", json!({"Type": "volume", "Target": "/v"})),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700",
                json!({"Type": "tmpfs", "Target": "/t",
                    "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o700}}),
            ),
            (
                "type=image,src=box,dst=/i,image-subpath=etc",
                json!({"Type": "image", "Source": "box", "Target": "/i", "ReadOnly": true,
                    "ImageOptions": {"Subpath": "etc"}}),
            ),
        ] {
            assert_eq!(read(text).unwrap().told(), expected, "{text}");
        }
    }

    #[test]
    fn other_mounts_are_refused_with_their_fault() {
        for (text, expected) in [
            ("", "must be a key=value pair"),
            ("type=bind,dst=/a", "source is required"),
            ("type=volume,src=a1", "target is required"),
            ("type=bind,src=/a,dst=b", "must be absolute"),
            ("src=/a,dst=/b", "is not a volume name"),
            ("type=floppy,dst=/b", "unknown type `floppy`"),
            ("type=tmpfs,src=/a,dst=/b", "no meaning"),
            (
                "type=bind,src=/a,dst=/b,tmpfs-size=1",
                "cannot mix `tmpfs-*` options with mount type `bind`",
            ),
            ("dst=/b,volume-driver=nfs", "no volume driver `nfs`"),
            ("dst=/b,volume-opt=type=nfs", "use a bind mount"),
            ("dst=/b,fast=1", "unexpected key `fast`"),
            ("dst=/b,readonly=maybe", "invalid value for `readonly`"),
            ("src=vol,dst=/b,volume-subpath=../x", "relative path within"),
            ("dst=/b,volume-subpath=x", "needs a volume with a name"),
            (
                "type=bind,src=/a,dst=/b,bind-recursive=readonly",
                "requires `readonly`",
            ),
            (
                "type=bind,src=/a,dst=/b,bind-propagation=x",
                "invalid propagation",
            ),
            ("\"dst=/b", "never closed"),
        ] {
            let fault = read(text).unwrap_err().to_string();
            assert!(fault.contains(expected), "{text}: {fault}");
        }
    }

    #[test]
    fn file_systems_in_memory_have_their_options() {
        let plain = parse_tmpfs("/t").unwrap();
        assert_eq!(
            (plain.mode, plain.size, plain.read_only),
            (0o1777, None, false)
        );
        let text = "/t:rw,noexec,exec,size=64k,mode=0700,uid=1000,nr_inodes=4k,ro";
        let tmpfs = parse_tmpfs(text).unwrap();
        assert_eq!(
            (tmpfs.mode, tmpfs.size, tmpfs.read_only),
            (0o700, Some(65536), true)
        );
        assert_eq!(tmpfs.manner.allowed, [smidge_run::Allowed::Exec]);
        assert_eq!(tmpfs.manner.settings.len(), 2);
        for bad in ["t", "/t:fast", "/t:mode=9", "/t:size=x", "/"] {
            assert!(parse_tmpfs(bad).is_err(), "{bad}");
        }
    }
}
