//! What a program has changed in a copy of the layers.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};
use rustix::io::Errno;

use super::copy::{dress, make_directory, set_time};

/// How a directory's files were before a program ran.
#[derive(Debug)]
pub(crate) struct Baseline {
    root: PathBuf,
    files: HashMap<PathBuf, Stamp>,
}

/// A file, and when it was last changed in any way: a time that no program can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    mode: u32,
    /// Inode numbers are used again.
    born: Option<SystemTime>,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            mode: metadata.mode(),
            born: metadata.created().ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether it is the same file, changed or not.
    fn is(&self, other: &Self) -> bool {
        let kind = |stamp: &Self| FileType::from_raw_mode(stamp.mode);
        (self.inode, self.born, kind(self)) == (other.inode, other.born, kind(other))
    }
}

impl Baseline {
    /// Takes it, and waits until whatever is changed from now on bears a later time: the kernel's clock
    /// for files ticks some hundred times a second.
    pub(crate) fn take(root: &Path) -> io::Result<Self> {
        let mut files = HashMap::new();
        let mut pending = vec![root.to_owned()];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let (path, metadata) = (entry.path(), entry.metadata()?);
                files.insert(path.clone(), Stamp::of(&metadata));
                if metadata.is_dir() {
                    pending.push(path);
                }
            }
        }
        let last = files.values().map(|stamp| stamp.changed).max();
        let probe = root.with_extension("probe");
        loop {
            fs::write(&probe, "")?;
            let now = Stamp::of(&probe.metadata()?).changed;
            fs::remove_file(&probe)?;
            if last.is_none_or(|last| now > last) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(Self {
            root: root.to_owned(),
            files,
        })
    }

    /// Moves what has changed to a directory, as overlayfs would have left it there: files that are new
    /// or not as they were, devices 0:0 for what is gone, an attribute on directories that replace
    /// others. Paths of `covered` are neither.
    pub(crate) fn separate(&self, upper: &Path, covered: &[PathBuf]) -> io::Result<()> {
        if !upper.is_dir() {
            make_directory(upper)?;
        }
        let mut search = Search {
            baseline: self,
            covered,
            gone: self.gone(covered),
        };
        search.directory(&self.root, upper, &mut |_| Ok(()))
    }

    /// Lets a directory of the upper directory show nothing of the one that it replaces. Only who
    /// administers the machine can set the attribute for that which his mounts look for; the mounts of
    /// user namespaces look for another. In between, whoever else will mount it is unknown.
    fn hide(&self, old: &Path, new: &Path) -> io::Result<()> {
        let set = |name: &str| lsetxattr(new, name, b"y", XattrFlags::empty());
        match set("trusted.overlay.opaque") {
            Err(Errno::PERM) if is_whole_machine() => self.white_out(old, new),
            Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(set("user.overlay.opaque")?),
            set => Ok(set?),
        }
    }

    /// The same, name by name.
    fn white_out(&self, old: &Path, new: &Path) -> io::Result<()> {
        let files = self.files.iter();
        for (path, stamp) in files.filter(|(path, _)| path.parent() == Some(old)) {
            let place = new.join(path.file_name().unwrap_or_default());
            let was_directory = FileType::from_raw_mode(stamp.mode) == FileType::Directory;
            match place.symlink_metadata() {
                Ok(metadata) if metadata.is_dir() && was_directory => {
                    self.white_out(path, &place)?;
                    set_time(&place, &metadata)?;
                }
                Ok(_) => {}
                Err(_) => make_whiteout(&place)?,
            }
        }
        Ok(())
    }

    /// What is gone, by its directory; only the topmost of trees.
    fn gone(&self, covered: &[PathBuf]) -> HashMap<PathBuf, Vec<PathBuf>> {
        let mut gone: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        for path in self.files.keys() {
            let Some(parent) = path.parent() else {
                continue;
            };
            let is_there = |path: &Path| path.symlink_metadata().is_ok();
            if !is_there(path) && !is_covered(covered, path) && is_there(parent) {
                gone.entry(parent.to_owned())
                    .or_default()
                    .push(path.clone());
            }
        }
        gone
    }
}

fn is_covered(covered: &[PathBuf], path: &Path) -> bool {
    covered.iter().any(|place| path.starts_with(place))
}

/// See `is_whiteout` of [`super::merge`].
fn make_whiteout(path: &Path) -> io::Result<()> {
    let make = |kind| mknodat(CWD, path, kind, Mode::empty(), makedev(0, 0));
    match make(FileType::CharacterDevice) {
        Err(Errno::PERM) => Ok(make(FileType::Socket)?),
        made => Ok(made?),
    }
}

/// Whether all ids exist here: not in a user namespace, as a rule.
fn is_whole_machine() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map");
    map.is_ok_and(|map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
}

struct Search<'a> {
    baseline: &'a Baseline,
    covered: &'a [PathBuf],
    gone: HashMap<PathBuf, Vec<PathBuf>>,
}

impl Search<'_> {
    /// Moves what has changed in a directory that was there before. `open` makes its counterpart, once
    /// something is to go there.
    fn directory(
        &mut self,
        here: &Path,
        there: &Path,
        open: &mut dyn FnMut(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        for path in self.gone.remove(here).unwrap_or_default() {
            open(there)?;
            let place = there.join(path.file_name().unwrap_or_default());
            make_whiteout(&place)?;
        }
        let entries: io::Result<Vec<_>> = fs::read_dir(here)?.collect();
        for entry in entries? {
            let (path, metadata) = (entry.path(), entry.metadata()?);
            if is_covered(self.covered, &path) {
                continue;
            }
            let target = there.join(entry.file_name());
            let now = Stamp::of(&metadata);
            match self.baseline.files.get(&path) {
                Some(before) if before.is(&now) && metadata.is_dir() => {
                    self.kept_directory((&path, &metadata, *before != now), &target, open)?;
                }
                Some(before) if *before == now => {}
                before => {
                    open(there)?;
                    fs::rename(&path, &target)?;
                    if before.is_some() && metadata.is_dir() {
                        self.baseline.hide(&path, &target)?;
                        set_time(&target, &metadata)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A directory that is still the same one, but something of or in it may be another.
    fn kept_directory(
        &mut self,
        (here, metadata, changed): (&Path, &Metadata, bool),
        there: &Path,
        open: &mut dyn FnMut(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut made = false;
        let mut make = |there: &Path| -> io::Result<()> {
            if !made {
                open(there.parent().unwrap_or(there))?;
                make_directory(there)?;
                made = true;
            }
            Ok(())
        };
        if changed {
            make(there)?;
        }
        self.directory(here, there, &mut make)?;
        match made {
            // Last: what was moved out of and into the two has changed their times.
            true => dress(here, metadata, there),
            false => Ok(()),
        }
    }
}
