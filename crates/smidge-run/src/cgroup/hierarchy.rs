//! Which hierarchies there are, and where the caller may make groups.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::controller::Controller;
use super::lack::Lack;
use crate::error::RunError;

/// Our own directory where groups are made, unless another is named.
const OURS: &str = "smidge";

/// A mounted hierarchy of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Where its top, or what of it can be seen, is mounted.
    pub(super) top: PathBuf,
    /// The caller's own group.
    pub(super) own: PathBuf,
}

/// The hierarchies of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hierarchies {
    /// Of version 1, by their controllers.
    pub(super) v1: BTreeMap<String, Hierarchy>,
    /// Of version 2: there is at most one.
    pub(super) v2: Option<Hierarchy>,
}

impl Hierarchies {
    /// Those that the caller sees.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub(super) fn of_host() -> Result<Self, RunError> {
        Self::of(Path::new("/proc/self/cgroup"))
    }

    /// The same, with the groups of another process for the caller's own.
    ///
    /// # Errors
    /// As [`Hierarchies::of_host`].
    pub(super) fn of_process(pid: u32) -> Result<Self, RunError> {
        Self::of(Path::new(&format!("/proc/{pid}/cgroup")))
    }

    fn of(groups: &Path) -> Result<Self, RunError> {
        let read = |path: &Path| fs::read(path).map_err(RunError::record(path));
        let mounts = read(Path::new("/proc/self/mountinfo"))?;
        Ok(Self::parse(&mounts, &read(groups)?))
    }

    /// What proc_pid_mountinfo(5) and `/proc/self/cgroup` (cgroups(7)) say.
    pub(super) fn parse(mounts: &[u8], groups: &[u8]) -> Self {
        let mut all = Self::default();
        for mount in mounts.split(|byte| *byte == b'\n').filter_map(Mount::parse) {
            if mount.version == 2 {
                all.v2
                    .get_or_insert_with(|| mount.hierarchy(own(groups, "")));
                continue;
            }
            for name in mount.options.split(',').filter(|name| is_controller(name)) {
                let hierarchy = || mount.hierarchy(own(groups, name));
                all.v1.entry(name.to_owned()).or_insert_with(hierarchy);
            }
        }
        all
    }

    /// The hierarchy that has a controller, and its version. Where both versions can make a container
    /// stand still, version 2 does: there it can be killed meanwhile.
    pub(super) fn with(&self, controller: Controller) -> Option<(&Hierarchy, u8)> {
        if controller == Controller::Freezer
            && let Some(v2) = self.v2.as_ref().filter(|v2| v2.place("").is_ok())
        {
            return Some((v2, 2));
        }
        if let Some(hierarchy) = self.v1.get(controller.v1()) {
            return Some((hierarchy, 1));
        }
        let v2 = self.v2.as_ref()?;
        let has = |name| words(&v2.top.join("cgroup.controllers")).any(|word| word == name);
        let is_there = match controller.v2() {
            Some(name) => has(name),
            // Every group has it.
            None => true,
        };
        is_there.then_some((v2, 2))
    }
}

/// The words of a file; none if it cannot be read.
pub(super) fn words(path: &Path) -> impl Iterator<Item = String> + use<> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    words.into_iter()
}

impl Hierarchy {
    /// The directory that new groups are made in: in `parent` if that is named, at the top if the
    /// caller may write there, else in the highest directory above the caller's group that it may.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn place(&self, parent: &str) -> Result<Place, Lack> {
        if !parent.is_empty() {
            let names = Path::new(parent).components();
            let mut directory = self.top.clone();
            for name in names {
                match name {
                    Component::Normal(name) => directory.push(name),
                    Component::RootDir | Component::CurDir => {}
                    _ => {
                        return Err(Lack::Outside {
                            parent: parent.to_owned(),
                        });
                    }
                }
            }
            return Ok(Place {
                base: self.top.clone(),
                directory,
            });
        }
        let base = self
            .own
            .ancestors()
            .filter(|dir| dir.starts_with(&self.top));
        let base = base.filter(|dir| is_ours(dir)).last();
        let base = base.ok_or_else(|| match accessible(&self.top) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Lack::ReadOnly {
                at: self.top.clone(),
            },
            _ => Lack::NotDelegated {
                group: self.own.clone(),
            },
        })?;
        Ok(Place {
            base: base.to_owned(),
            directory: base.join(OURS),
        })
    }
}

/// Where groups are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The highest directory that the caller may change.
    pub(super) base: PathBuf,
    /// Where groups are made; below `base`.
    pub(super) directory: PathBuf,
}

/// Whether the caller may make groups in a group and move processes into them.
fn is_ours(directory: &Path) -> bool {
    accessible(directory).is_ok() && accessible(&directory.join("cgroup.procs")).is_ok()
}

fn accessible(path: &Path) -> io::Result<()> {
    Ok(accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?)
}

/// A mount of a hierarchy.
struct Mount {
    version: u8,
    /// Which of its groups is at the mount's root.
    root: PathBuf,
    point: PathBuf,
    options: String,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let root = unescaped(fields.nth(3)?);
        let point = unescaped(fields.next()?);
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let version = match rest.next()? {
            b"cgroup" => 1,
            b"cgroup2" => 2,
            _ => return None,
        };
        let options = String::from_utf8_lossy(rest.nth(1)?).into_owned();
        Some(Self {
            version,
            root,
            point,
            options,
        })
    }

    fn hierarchy(&self, own: PathBuf) -> Hierarchy {
        // Out of sight, the caller's group is as good as the top.
        let below = own.strip_prefix(&self.root).unwrap_or(Path::new(""));
        let plain = below
            .components()
            .all(|name| matches!(name, Component::Normal(_)));
        Hierarchy {
            top: self.point.clone(),
            own: match plain && below != Path::new("") {
                true => self.point.join(below),
                false => self.point.clone(),
            },
        }
    }
}

/// The caller's group in the hierarchy with a controller; in that of version 2 if the name is empty.
fn own(groups: &[u8], controller: &str) -> PathBuf {
    let lines = groups.split(|byte| *byte == b'\n');
    let path = lines.filter_map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let mut names = controllers.split(|byte| *byte == b',');
        names
            .any(|name| name == controller.as_bytes())
            .then_some(path)
    });
    let path = path.into_iter().next().unwrap_or(b"/");
    PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()))
}

fn is_controller(name: &str) -> bool {
    [
        "memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "devices", "freezer", "hugetlb",
        "rdma",
    ]
    .contains(&name)
}

/// A path of `mountinfo`, where blanks and backslashes are octal numbers.
pub(crate) fn unescaped(text: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| behind.get(..3)).flatten();
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                rest = &behind[3..];
            }
            None => {
                path.push(*first);
                rest = behind;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(path))
}
