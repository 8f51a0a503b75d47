//! What a program has changed in a copy of the layers so far, for those who look at it while the container stays as
//! it is, or runs.
//!
//! Whatever runs may exchange directories for links meanwhile, so the copy is walked by open directories only.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, OsStr};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, linkat, openat};
use rustix::io::Errno;

use super::copy::{dress, make_directory, set_time};
use super::difference::{Baseline, Stamp, make_whiteout};
use crate::removal;

/// What such directories are called, before the number of the process that looks.
const PREFIX: &str = "changes.";

/// A directory that shows what a program has changed, as overlayfs would have left it in an upper directory: of files
/// that are no directories, further names. It goes with this.
#[derive(Debug)]
pub struct Changes(PathBuf);

impl Changes {
    /// Looks for them in a container's directory; none if nobody knows how its copy was before.
    ///
    /// # Errors
    /// When something cannot be read or made.
    pub fn find(dir: &Path) -> io::Result<Option<Self>> {
        let Some(baseline) = Baseline::load(dir)? else {
            return Ok(None);
        };
        remove_left(dir)?;
        let changes = Self(dir.join(format!("{PREFIX}{}", std::process::id())));
        make_directory(&changes.0)?;
        let root = open(CWD, super::path(dir).as_os_str())?;
        let search = Search::of(&baseline);
        search.directory(root.as_fd(), baseline.root(), &changes.0)?;
        Ok(Some(changes))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Removes what those have left who looked for changes and were killed meanwhile.
fn remove_left(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let owner = owner.and_then(|owner| owner.parse().ok());
        if owner.is_some_and(|owner: u32| owner == std::process::id() || !is_there(owner)) {
            removal::remove(&dir.join(name))?;
        }
    }
    Ok(())
}

fn is_there(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

impl Drop for Changes {
    fn drop(&mut self) {
        let _ = removal::remove(&self.0);
    }
}

struct Search<'b> {
    baseline: &'b Baseline,
    /// What was in each directory.
    names: HashMap<&'b Path, Vec<&'b OsStr>>,
}

impl<'b> Search<'b> {
    fn of(baseline: &'b Baseline) -> Self {
        let mut names: HashMap<_, Vec<_>> = HashMap::new();
        for path in baseline.paths() {
            if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
                names.entry(parent).or_default().push(name);
            }
        }
        Self { baseline, names }
    }

    /// Shows what has changed in a directory that was there before, under the path `path`. Whether there is anything.
    fn directory(&self, here: BorrowedFd<'_>, path: &Path, there: &Path) -> io::Result<bool> {
        let names = list(here)?;
        let mut found = false;
        let present: HashSet<&[u8]> = names.iter().map(|name| name.to_bytes()).collect();
        let before = self.names.get(path).into_iter().flatten();
        for gone in before.filter(|name| !present.contains(name.as_bytes())) {
            make_whiteout(&there.join(gone))?;
            found = true;
        }
        for name in &names {
            let name = OsStr::from_bytes(name.to_bytes());
            // What has gone meanwhile may be told or not.
            if let Some(now) = unless_gone(Stamp::at(here, name))? {
                found |= self.entry((here, name, now), &path.join(name), &there.join(name))?;
            }
        }
        Ok(found)
    }

    /// Shows one file, if it is not as it was.
    fn entry(
        &self,
        (here, name, now): (BorrowedFd<'_>, &OsStr, Stamp),
        path: &Path,
        there: &Path,
    ) -> io::Result<bool> {
        match self.baseline.before(path) {
            Some(before) if before.is(&now) && now.is_directory() => {
                let Some(directory) = unless_gone(open(here, name))? else {
                    return Ok(false);
                };
                make_directory(there)?;
                if !self.directory(directory.as_fd(), path, there)? && *before == now {
                    fs::remove_dir(there)?;
                    return Ok(false);
                }
                dress_as(&directory, there)?;
            }
            Some(before) if *before == now => return Ok(false),
            before => {
                let taken = take(here, name, there)?;
                if let (Some(_), Some(metadata)) = (before, taken) {
                    self.baseline.hide(path, there)?;
                    set_time(there, &metadata)?;
                }
            }
        }
        Ok(true)
    }
}

/// Gives a file another name, or a directory a counterpart, whose metadata is told.
fn take(here: BorrowedFd<'_>, name: &OsStr, there: &Path) -> io::Result<Option<Metadata>> {
    let directory = match open(here, name) {
        Ok(directory) => directory,
        Err(Errno::NOTDIR | Errno::LOOP) => {
            unless_gone(linkat(here, name, CWD, there, AtFlags::empty()))?;
            return Ok(None);
        }
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    make_directory(there)?;
    for name in list(directory.as_fd())? {
        let name = OsStr::from_bytes(name.to_bytes());
        take(directory.as_fd(), name, &there.join(name))?;
    }
    dress_as(&directory, there).map(Some)
}

/// Gives a directory what the file system says of another.
fn dress_as(directory: &OwnedFd, there: &Path) -> io::Result<Metadata> {
    let metadata = File::from(directory.try_clone()?).metadata()?;
    let from = format!("/proc/self/fd/{}/.", directory.as_raw_fd());
    dress(from.as_ref(), &metadata, there)?;
    Ok(metadata)
}

fn open(here: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(here, name, flags, Mode::empty())
}

fn list(directory: BorrowedFd<'_>) -> io::Result<Vec<std::ffi::CString>> {
    let is_other = |name: &CStr| ![c".", c".."].contains(&name);
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        names.extend(Some(entry.file_name().to_owned()).filter(|name| is_other(name)));
    }
    Ok(names)
}

fn unless_gone<T>(done: rustix::io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// A container's directory with a copy of some files, one of a name that is no text.
    fn container() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = super::super::path(dir.path());
        fs::create_dir_all(root.join("kept/deep")).unwrap();
        fs::create_dir(root.join("gone")).unwrap();
        fs::write(root.join("kept/same"), "same").unwrap();
        fs::write(root.join("kept/deep/changed"), "old").unwrap();
        fs::write(root.join(OsStr::from_bytes(b"gone/\xff \n")), "").unwrap();
        Baseline::take(&root).unwrap().save(dir.path()).unwrap();
        dir
    }

    fn shown(dir: &Path) -> Vec<String> {
        let mut shown: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        shown.sort();
        shown
    }

    #[test]
    fn what_has_changed_is_shown_and_stays_where_it_is() {
        let dir = container();
        let root = super::super::path(dir.path());
        // One that somebody left who is no more: no process has this number.
        fs::create_dir_all(dir.path().join("changes.4294967295/x")).unwrap();
        fs::create_dir(dir.path().join("changes.1")).unwrap();
        let nothing = Changes::find(dir.path()).unwrap().unwrap();
        assert!(!dir.path().join("changes.4294967295").exists());
        assert!(dir.path().join("changes.1").exists());
        assert_eq!(shown(nothing.path()), [""; 0]);
        drop(nothing);
        fs::write(root.join("kept/deep/changed"), "new").unwrap();
        fs::remove_dir_all(root.join("gone")).unwrap();
        fs::create_dir_all(root.join("made/new")).unwrap();
        for _ in 0..2 {
            let changes = Changes::find(dir.path()).unwrap().unwrap();
            let path = changes.path().to_owned();
            assert_eq!(shown(&path), ["gone", "kept", "made"]);
            assert_eq!(shown(&path.join("kept")), ["deep"]);
            assert_eq!(shown(&path.join("made")), ["new"]);
            let changed = "kept/deep/changed";
            let inode = |root: &Path| fs::metadata(root.join(changed)).unwrap().ino();
            assert_eq!(inode(&path), inode(&root));
            assert!(!path.join("gone").symlink_metadata().unwrap().is_dir());
            drop(changes);
            assert!(!path.exists());
        }
        assert_eq!(fs::read(root.join("kept/deep/changed")).unwrap(), b"new");
    }

    #[test]
    fn of_a_copy_that_came_from_elsewhere_nobody_knows() {
        let (dir, other) = (container(), container());
        let record = dir.path().join("root.baseline");
        fs::copy(other.path().join("root.baseline"), &record).unwrap();
        assert!(Changes::find(dir.path()).unwrap().is_none());
        fs::write(&record, "x").unwrap();
        assert!(Changes::find(dir.path()).unwrap().is_none());
        fs::remove_file(&record).unwrap();
        assert!(Changes::find(dir.path()).unwrap().is_none());
    }
}
