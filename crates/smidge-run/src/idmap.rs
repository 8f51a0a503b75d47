//! How the container's user and group ids appear on the host (`user_namespaces(7)`).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::spec::User;

/// The mapping of a container's ids to the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdMap {
    /// No user namespace: the ids are the host's own. For root only.
    #[default]
    None,
    /// Many ids: written directly by root, by `newuidmap` and `newgidmap` for others.
    Ranges {
        /// User ids.
        uids: Vec<Range>,
        /// Group ids.
        gids: Vec<Range>,
    },
    /// One id each, which needs nobody's permission.
    Single {
        /// The user id inside.
        uid: u32,
        /// The group id inside.
        gid: u32,
        /// The user id that it is on the host: the caller's.
        host_uid: u32,
        /// The group id that it is on the host: the caller's.
        host_gid: u32,
    },
}

/// Consecutive ids and what they are on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first id inside.
    pub container: u32,
    /// The first id on the host.
    pub host: u32,
    /// How many.
    pub length: u32,
}

/// Where the set-user-ID programs that map ranges are looked for.
const HELPER_DIRECTORIES: [&str; 5] = [
    "/usr/bin",
    "/bin",
    "/usr/local/bin",
    "/usr/sbin",
    "/run/wrappers/bin",
];

impl IdMap {
    /// Picks the widest map that the caller may use on this host: none for root
    /// (see [`IdMap::for_root`]), the ranges of `/etc/subuid` and `/etc/subgid` where the set-user-ID programs that map them are installed,
    /// else a single id, which is then the one that `user` asks for.
    ///
    /// # Errors
    /// When `/etc/subuid` or `/etc/subgid` exists and cannot be read.
    pub fn for_host(user: &User) -> Result<Self, RunError> {
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        if uid == 0 {
            return Self::for_root();
        }
        let single = Self::Single {
            uid: user.uid,
            gid: user.gid,
            host_uid: uid,
            host_gid: gid,
        };
        // A process without new privileges cannot gain them from a set-user-ID program either.
        if rustix::thread::no_new_privs().unwrap_or(false)
            || helper("newuidmap").is_none()
            || helper("newgidmap").is_none()
        {
            return Ok(single);
        }
        let name = name_of(&read("/etc/passwd")?, uid);
        let uids = subordinate(&read("/etc/subuid")?, name.as_deref(), uid);
        let gids = subordinate(&read("/etc/subgid")?, name.as_deref(), uid);
        if uids.is_empty() || gids.is_empty() {
            return Ok(single);
        }
        Ok(Self::Ranges {
            uids: with_caller(uid, uids),
            gids: with_caller(gid, gids),
        })
    }

    /// Root's map: none, if root may make namespaces. The root of a container may not, as a rule, unless
    /// it is in a user namespace of its own.
    ///
    /// # Errors
    /// As [`IdMap::identity`].
    pub fn for_root() -> Result<Self, RunError> {
        match rustix::thread::capabilities(None) {
            Ok(sets) if !sets.effective.contains(CapabilitySet::SYS_ADMIN) => Self::identity(),
            _ => Ok(Self::None),
        }
    }

    /// A user namespace whose ids are the host's own, as far as they are mapped here: for root, who
    /// needs the namespace and not the map.
    ///
    /// # Errors
    /// When this process's own map cannot be read.
    pub fn identity() -> Result<Self, RunError> {
        let own = |name: &str| -> Result<Vec<Range>, RunError> {
            let text = read(&format!("/proc/self/{name}"))?;
            Ok(text.lines().filter_map(same).collect())
        };
        Ok(Self::Ranges {
            uids: own("uid_map")?,
            gids: own("gid_map")?,
        })
    }

    /// Ids for a user namespace that shares none with the host's users nor with `taken`: from those that
    /// `/etc/subuid` and `/etc/subgid` give the user `containers`, or else root.
    ///
    /// # Errors
    /// `NoIds`, with what is missing; when a file cannot be read.
    pub fn own(taken: &[&Self]) -> Result<Self, RunError> {
        let (mut uids, mut gids) = (Vec::new(), Vec::new());
        for map in taken {
            if let Self::Ranges { uids: u, gids: g } = map {
                uids.extend(u);
                gids.extend(g);
            }
        }
        Ok(Self::Ranges {
            uids: vec![free("/etc/subuid", &uids)?],
            gids: vec![free("/etc/subgid", &gids)?],
        })
    }

    /// The user of the host's that a user of the container's is, if there is one.
    pub(crate) fn host_user(&self, id: u32) -> Option<u32> {
        match self {
            Self::None => Some(id),
            Self::Single { uid, host_uid, .. } => (*uid == id).then_some(*host_uid),
            Self::Ranges { uids, .. } => uids.iter().find_map(|range| {
                let at = id.checked_sub(range.container)?;
                (at < range.length).then(|| range.host + at)
            }),
        }
    }

    /// Whether a container's group id exists on the host.
    pub(crate) fn maps_group(&self, id: u32) -> bool {
        match self {
            Self::None => true,
            Self::Ranges { gids, .. } => contains(gids, id),
            Self::Single { gid, .. } => *gid == id,
        }
    }

    /// Whether a container's user id exists on the host.
    pub(crate) fn maps_user(&self, id: u32) -> bool {
        match self {
            Self::None => true,
            Self::Ranges { uids, .. } => contains(uids, id),
            Self::Single { uid, .. } => *uid == id,
        }
    }

    /// The first and last of the longest range of mapped group ids, as `ping_group_range` wants them.
    pub(crate) fn mapped_groups(&self) -> String {
        match self {
            Self::None => "0 2147483647".to_owned(),
            Self::Single { gid, .. } => format!("{gid} {gid}"),
            Self::Ranges { gids, .. } => {
                let longest = gids.iter().max_by_key(|range| range.length);
                longest.map_or_else(String::new, |range| {
                    let last = range
                        .container
                        .saturating_add(range.length.saturating_sub(1));
                    format!("{} {last}", range.container)
                })
            }
        }
    }

    /// Checks that everything `user` names is mapped.
    pub(crate) fn check(&self, user: &User) -> Result<(), RunError> {
        let unmapped = |what: &str, number: u32, mapped: String| {
            Err(RunError::Unmapped {
                what: what.to_owned(),
                number,
                mapped,
            })
        };
        let (uids, gids) = match self {
            Self::None => return Ok(()),
            Self::Ranges { uids, gids } => (describe(uids), describe(gids)),
            Self::Single { uid, gid, .. } => (uid.to_string(), gid.to_string()),
        };
        if !self.maps_user(user.uid) {
            return unmapped("user", user.uid, uids);
        }
        // Supplementary groups are not applied to a single id, so they need not be mapped there.
        let groups = if matches!(self, Self::Single { .. }) {
            &[][..]
        } else {
            &user.groups
        };
        for group in std::iter::once(&user.gid).chain(groups) {
            if !self.maps_group(*group) {
                return unmapped("group", *group, gids);
            }
        }
        Ok(())
    }

    /// Maps the ids of process `pid`, which has just been cloned into a new user namespace.
    pub(crate) fn apply(&self, pid: Pid) -> Result<(), String> {
        let pid = pid.as_raw_nonzero().get();
        match self {
            Self::None => Ok(()),
            Self::Single {
                uid,
                gid,
                host_uid,
                host_gid,
            } => {
                // The kernel wants groups to be given up first (user_namespaces(7)).
                write(pid, "setgroups", "deny")?;
                write(pid, "uid_map", &format!("{uid} {host_uid} 1"))?;
                write(pid, "gid_map", &format!("{gid} {host_gid} 1"))
            }
            Self::Ranges { uids, gids } if rustix::process::geteuid().is_root() => {
                write(pid, "uid_map", &lines(uids))?;
                write(pid, "gid_map", &lines(gids))
            }
            Self::Ranges { uids, gids } => {
                // Each takes more than a millisecond: side by side.
                let users = start_helper("newuidmap", pid, uids)?;
                let groups = start_helper("newgidmap", pid, gids)?;
                finish_helper("newuidmap", users)?;
                finish_helper("newgidmap", groups)
            }
        }
    }
}

/// How many ids a namespace of its own has: all that images use.
const OWN: u32 = 1 << 16;

/// The first ids of a file that nobody has taken.
fn free(path: &str, taken: &[Range]) -> Result<Range, RunError> {
    let text = read(path)?;
    let mut given = subordinate(&text, Some("containers"), u32::MAX);
    if given.is_empty() {
        given = subordinate(&text, Some("root"), 0);
    }
    let none = |why: String| RunError::NoIds { why };
    if given.is_empty() {
        let why = format!("`{path}` gives none to the user `containers`, nor to root");
        return Err(none(why));
    }
    let is_free = |host: u32| {
        let overlaps = |range: &Range| host < range.host + range.length && range.host < host + OWN;
        !taken.iter().any(overlaps)
    };
    given
        .iter()
        .flat_map(|(first, length)| (0..length / OWN).map(move |block| first + block * OWN))
        .find(|host| is_free(*host))
        .map(|host| Range {
            container: 0,
            host,
            length: OWN,
        })
        .ok_or_else(|| {
            none(format!(
                "other containers have all {OWN} at a time that `{path}` gives"
            ))
        })
}

/// The ids of a line of a map, as a range that leaves them as they are.
fn same(line: &str) -> Option<Range> {
    let mut numbers = line.split_whitespace().map(str::parse);
    let (first, length) = (numbers.next()?.ok()?, numbers.nth(1)?.ok()?);
    Some(Range {
        container: first,
        host: first,
        length,
    })
}

fn contains(ranges: &[Range], id: u32) -> bool {
    ranges.iter().any(|range| {
        id.checked_sub(range.container)
            .is_some_and(|at| at < range.length)
    })
}

fn describe(ranges: &[Range]) -> String {
    let texts: Vec<String> = ranges
        .iter()
        .map(|range| match range.length {
            1 => range.container.to_string(),
            length => format!(
                "{}-{}",
                range.container,
                range.container.saturating_add(length - 1)
            ),
        })
        .collect();
    texts.join(", ")
}

/// The caller is the container's root; what was given to it follows from 1 on.
fn with_caller(id: u32, given: Vec<(u32, u32)>) -> Vec<Range> {
    let mut ranges = vec![Range {
        container: 0,
        host: id,
        length: 1,
    }];
    let mut container = 1_u32;
    for (host, length) in given {
        let length = length.min(u32::MAX - container);
        ranges.push(Range {
            container,
            host,
            length,
        });
        container = container.saturating_add(length);
    }
    ranges
}

/// First id and length of the ranges that belong to a user, by name or by number (`subuid(5)`).
fn subordinate(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let first: u32 = fields.next()?.parse().ok()?;
            let length: u32 = fields.next()?.parse().ok()?;
            let mine = Some(owner) == name || owner.parse() == Ok(uid);
            (mine && length > 0 && first.checked_add(length).is_some()).then_some((first, length))
        })
        .collect()
}

/// The user's name (`passwd(5)`).
pub(crate) fn name_of(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn read(path: &str) -> Result<String, RunError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(RunError::IdFile {
            path: path.into(),
            source,
        }),
    }
}

fn lines(ranges: &[Range]) -> String {
    let line = |range: &Range| format!("{} {} {}\n", range.container, range.host, range.length);
    ranges.iter().map(line).collect()
}

fn write(pid: i32, file: &str, text: &str) -> Result<(), String> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, text)
        .map_err(|error| format!("cannot write `{text}` to `{path}`: {error}"))
}

/// The program's path, if it is installed so that it can gain privileges.
fn helper(name: &str) -> Option<PathBuf> {
    HELPER_DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| {
            let set_user = path.metadata().is_ok_and(|file| file.mode() & 0o4000 != 0);
            let mut value = [0; 64];
            set_user || rustix::fs::getxattr(path, "security.capability", &mut value).is_ok()
        })
}

fn start_helper(name: &str, pid: i32, ranges: &[Range]) -> Result<Child, String> {
    let program = helper(name).ok_or_else(|| format!("`{name}` is not installed"))?;
    Command::new(program)
        .arg(pid.to_string())
        .args(ranges.iter().flat_map(|range| {
            [range.container, range.host, range.length].map(|number| number.to_string())
        }))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start `{name}`: {error}"))
}

fn finish_helper(name: &str, child: Child) -> Result<(), String> {
    let output = child
        .wait_with_output()
        .map_err(|error| format!("`{name}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{name}` failed: {}", said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "root:1:2\nann:100000:65536\n1001:300000:10\n# ann:1:1\nann:x:1\nann:7\n\
                    ann:5:0\nann:4294967295:9\nannie:1:5\n";
        assert_eq!(
            subordinate(text, Some("ann"), 1001),
            [(100_000, 65536), (300_000, 10)]
        );
        assert_eq!(subordinate(text, None, 1002), []);
    }

    #[test]
    fn the_caller_is_root_and_its_ranges_follow() {
        let ranges = with_caller(1001, vec![(100_000, 65536), (300_000, u32::MAX - 300_000)]);
        assert_eq!(lines(&ranges[..2]), "0 1001 1\n1 100000 65536\n");
        assert_eq!(ranges[2].container, 65537);
        assert!(contains(&ranges, 65536) && contains(&ranges, 0));
        assert_eq!(describe(&ranges[..2]), "0, 1-65536");
    }

    #[test]
    fn users_outside_the_map_are_named() {
        let single = IdMap::Single {
            uid: 1000,
            gid: 100,
            host_uid: 7,
            host_gid: 8,
        };
        let ranges = IdMap::Ranges {
            uids: with_caller(7, vec![(9, 5)]),
            gids: with_caller(8, vec![(9, 5)]),
        };
        let user = |uid, gid, groups: &[u32]| User {
            uid,
            gid,
            groups: groups.to_vec(),
        };
        for (map, user, expected) in [
            (&single, user(1000, 100, &[5]), Ok(())),
            (
                &single,
                user(0, 100, &[]),
                Err("user 0 is not mapped in the container: only 1000 are"),
            ),
            (&ranges, user(5, 5, &[1]), Ok(())),
            (
                &ranges,
                user(5, 5, &[6]),
                Err("group 6 is not mapped in the container: only 0, 1-5 are"),
            ),
        ] {
            assert_eq!(
                map.check(&user).map_err(|error| error.to_string()),
                expected.map_err(str::to_owned)
            );
        }
    }

    #[test]
    fn names_are_read_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\nann:x:1001:1001::/home/ann:\n";
        assert_eq!(name_of(passwd, 1001).as_deref(), Some("ann"));
        assert_eq!(name_of(passwd, 5), None);
    }
}
