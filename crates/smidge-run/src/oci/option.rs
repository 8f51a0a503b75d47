//! The options of a mount (`config.md`, "Linux mount options"), sorted by what has to be done for them.

use rustix::mount::{MountAttrFlags, MountPropagationFlags};

use super::error::OciError;

/// Options that are a mount's attribute: their name, the attribute, and whether they clear it.
const ATTRIBUTES: [(&str, MountAttrFlags, bool); 12] = [
    ("ro", MountAttrFlags::MOUNT_ATTR_RDONLY, false),
    ("rw", MountAttrFlags::MOUNT_ATTR_RDONLY, true),
    ("nosuid", MountAttrFlags::MOUNT_ATTR_NOSUID, false),
    ("suid", MountAttrFlags::MOUNT_ATTR_NOSUID, true),
    ("nodev", MountAttrFlags::MOUNT_ATTR_NODEV, false),
    ("dev", MountAttrFlags::MOUNT_ATTR_NODEV, true),
    ("noexec", MountAttrFlags::MOUNT_ATTR_NOEXEC, false),
    ("exec", MountAttrFlags::MOUNT_ATTR_NOEXEC, true),
    ("nodiratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME, false),
    ("diratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME, true),
    ("nosymfollow", MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, false),
    ("symfollow", MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, true),
];

/// Options that say when a file's time of access is written: one of them counts.
const ACCESS_TIMES: [(&str, MountAttrFlags); 6] = [
    ("noatime", MountAttrFlags::MOUNT_ATTR_NOATIME),
    ("atime", MountAttrFlags::MOUNT_ATTR_RELATIME),
    ("relatime", MountAttrFlags::MOUNT_ATTR_RELATIME),
    ("norelatime", MountAttrFlags::MOUNT_ATTR_RELATIME),
    ("strictatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME),
    ("nostrictatime", MountAttrFlags::MOUNT_ATTR_RELATIME),
];

/// Options that say which mounts are seen on both sides, and whether those below are meant.
const PROPAGATIONS: [(&str, MountPropagationFlags, bool); 8] = [
    ("private", MountPropagationFlags::PRIVATE, false),
    ("rprivate", MountPropagationFlags::PRIVATE, true),
    ("slave", MountPropagationFlags::DOWNSTREAM, false),
    ("rslave", MountPropagationFlags::DOWNSTREAM, true),
    ("shared", MountPropagationFlags::SHARED, false),
    ("rshared", MountPropagationFlags::SHARED, true),
    ("unbindable", MountPropagationFlags::UNBINDABLE, false),
    ("runbindable", MountPropagationFlags::UNBINDABLE, true),
];

/// Options that ask for what is so anyway: how `mount(8)` calls defaults, and flags that Linux has given up.
const USUAL: [&str; 8] = [
    "defaults",
    "async",
    "nodirsync",
    "nomand",
    "noiversion",
    "loud",
    "nolazytime",
    "mand",
];

/// Options that a file system has as a whole, so that a bind mount of it has what is there already.
const OF_SUPERBLOCK: [&str; 7] = [
    "sync", "dirsync", "lazytime", "silent", "acl", "noacl", "iversion",
];

/// Attributes that are added to a mount, and those that are cleared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub(super) added: MountAttrFlags,
    pub(super) cleared: MountAttrFlags,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            added: MountAttrFlags::empty(),
            cleared: MountAttrFlags::empty(),
        }
    }
}

impl Attributes {
    fn say(&mut self, attribute: MountAttrFlags, clears: bool) {
        // The later option wins.
        self.added.set(attribute, !clears);
        self.cleared.set(attribute, clears);
    }

    fn say_access_time(&mut self, value: MountAttrFlags) {
        let all = MountAttrFlags::MOUNT_ATTR__ATIME;
        self.added = (self.added - all) | value;
        self.cleared |= all;
    }
}

/// What the options of one mount come to.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// Of the mount alone.
    pub(super) own: Attributes,
    /// Of everything below it as well.
    pub(super) recursive: Attributes,
    /// Which mounts are seen on both sides, and whether those below are meant: in this order.
    pub(super) propagation: Vec<(MountPropagationFlags, bool)>,
    /// Whether a file or directory is mounted, and whether with what is mounted below it.
    pub(super) bind: Option<bool>,
    /// Whether what is in the mount point is copied into it.
    pub(super) copy_up: bool,
    /// Whether ids are mapped, and whether also in what is mounted below.
    pub(super) id_mapped: Option<bool>,
    /// Settings of the file system.
    pub(super) data: Vec<(String, Option<String>)>,
}

impl Options {
    /// Sorts options.
    ///
    /// # Errors
    /// `Unsupported`.
    pub(super) fn parse(words: &[String]) -> Result<Self, OciError> {
        let mut options = Self::default();
        for word in words {
            options.add(word)?;
        }
        Ok(options)
    }

    /// Whether they mean something for a mount of this kind: the kernel would take no note of the others.
    ///
    /// # Errors
    /// `Unsupported`.
    pub(super) fn check(&self, kind: &str) -> Result<(), OciError> {
        if self.copy_up && kind != "tmpfs" {
            // What is shown would be written to.
            let what = "mounts: the option `tmpcopyup` of anything but a tmpfs";
            return Err(OciError::unsupported(what));
        }
        let binds = self.bind.is_some() || matches!(kind, "bind" | "rbind");
        let other = self
            .data
            .iter()
            .find(|(name, _)| !OF_SUPERBLOCK.contains(&name.as_str()));
        match other {
            Some((name, _)) if binds => Err(OciError::unsupported(&format!(
                "mounts: the option `{name}` of a bind mount"
            ))),
            _ => Ok(()),
        }
    }

    fn add(&mut self, word: &str) -> Result<(), OciError> {
        let below = word.strip_prefix('r').unwrap_or("");
        match word {
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.id_mapped = Some(false),
            "ridmap" => self.id_mapped = Some(true),
            "remount" => return Err(OciError::unsupported("mounts: the option `remount`")),
            _ if USUAL.contains(&word) => (),
            _ => {
                if let Some((_, attribute, clears)) = attribute(word) {
                    self.own.say(*attribute, *clears);
                } else if let Some(value) = access_time(word) {
                    self.own.say_access_time(value);
                } else if let Some((_, flags, deep)) = propagation(word) {
                    self.propagation.push((*flags, *deep));
                } else if let Some((_, attribute, clears)) = attribute(below) {
                    self.recursive.say(*attribute, *clears);
                } else if let Some(value) = access_time(below) {
                    self.recursive.say_access_time(value);
                } else {
                    let (name, value) = match word.split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (word, None),
                    };
                    self.data.push((name.to_owned(), value));
                }
            }
        }
        Ok(())
    }
}

fn attribute(word: &str) -> Option<&'static (&'static str, MountAttrFlags, bool)> {
    ATTRIBUTES.iter().find(|(name, ..)| *name == word)
}

fn access_time(word: &str) -> Option<MountAttrFlags> {
    let found = ACCESS_TIMES.iter().find(|(name, _)| *name == word);
    found.map(|(_, value)| *value)
}

/// Which mounts are seen on both sides, by the option's name.
pub(super) fn propagation(
    word: &str,
) -> Option<&'static (&'static str, MountPropagationFlags, bool)> {
    PROPAGATIONS.iter().find(|(name, ..)| *name == word)
}

/// The names of all options that are not a file system's own: for `features`.
pub(super) fn names() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().map(|(name, ..)| *name);
    let times = ACCESS_TIMES.iter().map(|(name, _)| *name);
    let recursive = attributes.clone().chain(times.clone());
    let recursive: Vec<String> = recursive.map(|name| format!("r{name}")).collect();
    let others = ["bind", "rbind", "tmpcopyup", "idmap", "ridmap"];
    let plain = attributes
        .chain(times)
        .chain(PROPAGATIONS.iter().map(|(name, ..)| *name))
        .chain(USUAL)
        .chain(others);
    let mut names: Vec<String> = plain.map(str::to_owned).chain(recursive).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_option_wins() {
        let words = [
            "ro", "rw", "nosuid", "rro", "rbind", "size=5k", "rslave", "noatime",
        ];
        let options = Options::parse(&words.map(str::to_owned)).unwrap();
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        assert!(!options.own.added.contains(read_only));
        assert!(options.own.cleared.contains(read_only));
        assert!(options.recursive.added.contains(read_only));
        assert!(
            options
                .own
                .added
                .contains(MountAttrFlags::MOUNT_ATTR_NOATIME)
        );
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.data, [("size".to_owned(), Some("5k".to_owned()))]);
        assert_eq!(options.propagation.len(), 1);
        assert!(Options::parse(&["remount".to_owned()]).is_err());
    }
}
