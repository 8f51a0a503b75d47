//! What a program has changed in a copy of the layers.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write as _};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, StatxFlags, XattrFlags, lsetxattr, makedev, mknodat, statx,
};
use rustix::io::Errno;
use rustix::path::Arg;

use super::copy::{dress, make_directory, set_time};

/// Where a container's baseline is written down: of each file inode, mode, seconds and nanoseconds of its birth and of
/// its last change, and path, that of the copy itself being empty; each ends with a zero byte.
const RECORD: &str = "root.baseline";

/// How a directory's files were before a program ran.
#[derive(Debug)]
pub(crate) struct Baseline {
    root: PathBuf,
    files: HashMap<PathBuf, Stamp>,
}

/// A file, and when it was last changed in any way: a time that no program can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    mode: u32,
    /// Inode numbers are used again. Zeros where nobody knows.
    born: (i64, u32),
    changed: (i64, u32),
}

impl Stamp {
    /// That of a file, not of what a link leads to.
    pub(super) fn at(directory: impl AsFd, name: impl Arg) -> rustix::io::Result<Self> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, mask)?;
        Ok(Self {
            inode: stat.stx_ino,
            mode: stat.stx_mode.into(),
            born: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        })
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Whether it is the same file, changed or not.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.inode, self.born, self.kind()) == (other.inode, other.born, other.kind())
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
                let path = entry.path();
                let stamp = Stamp::at(CWD, &path)?;
                files.insert(path.clone(), stamp);
                if stamp.is_directory() {
                    pending.push(path);
                }
            }
        }
        let last = files.values().map(|stamp| stamp.changed).max();
        let probe = root.with_extension("probe");
        loop {
            fs::write(&probe, "")?;
            let now = Stamp::at(CWD, &probe)?.changed;
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

    /// Writes it down in a container's directory.
    pub(crate) fn save(&self, dir: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(dir.join(RECORD))?);
        let root = Stamp::at(CWD, &self.root)?;
        let root = (Path::new(""), &root);
        let below = |path| Path::strip_prefix(path, &self.root).unwrap_or(path);
        let files = self.files.iter().map(|(path, stamp)| (below(path), stamp));
        for (path, stamp) in std::iter::once(root).chain(files) {
            let Stamp {
                inode,
                mode,
                born: (born, born_ns),
                changed: (changed, changed_ns),
            } = stamp;
            write!(
                file,
                "{inode} {mode} {born} {born_ns} {changed} {changed_ns} "
            )?;
            file.write_all(path.as_os_str().as_bytes())?;
            file.write_all(b"\0")?;
        }
        file.flush()
    }

    /// Reads what was written down in a container's directory; nothing if that is not of the copy that is there: of
    /// one that was moved from elsewhere, say.
    pub(super) fn load(dir: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read(dir.join(RECORD)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let root = super::path(dir);
        let mut files = HashMap::new();
        for record in text.split_inclusive(|byte| *byte == 0) {
            let Some((path, stamp)) = parsed(record) else {
                return Ok(None);
            };
            files.insert(root.join(path), stamp);
        }
        let is_it = match (files.remove(&root.join("")), Stamp::at(CWD, &root)) {
            (Some(before), Ok(now)) => before.is(&now),
            _ => false,
        };
        Ok(is_it.then_some(Self { root, files }))
    }

    /// The copy.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// All paths that were there.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// How a file was.
    pub(super) fn before(&self, path: &Path) -> Option<&Stamp> {
        self.files.get(path)
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
    pub(super) fn hide(&self, old: &Path, new: &Path) -> io::Result<()> {
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
            match place.symlink_metadata() {
                Ok(metadata) if metadata.is_dir() && stamp.is_directory() => {
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

/// One file's record.
fn parsed(record: &[u8]) -> Option<(PathBuf, Stamp)> {
    let record = record.strip_suffix(b"\0")?;
    let mut fields = record.splitn(7, |byte| *byte == b' ');
    let mut next = || std::str::from_utf8(fields.next()?).ok();
    let stamp = Stamp {
        inode: next()?.parse().ok()?,
        mode: next()?.parse().ok()?,
        born: (next()?.parse().ok()?, next()?.parse().ok()?),
        changed: (next()?.parse().ok()?, next()?.parse().ok()?),
    };
    Some((OsStr::from_bytes(fields.next()?).into(), stamp))
}

fn is_covered(covered: &[PathBuf], path: &Path) -> bool {
    covered.iter().any(|place| path.starts_with(place))
}

/// See `is_whiteout` of [`super::merge`].
pub(super) fn make_whiteout(path: &Path) -> io::Result<()> {
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
            let now = Stamp::at(CWD, &path)?;
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
