//! Removal of directories, whatever a program has made of them.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, IFlags, Mode, OFlags, RenameFlags, chmodat, fchmod,
    ioctl_getflags, ioctl_setflags, openat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// Directories that are deeper are moved up first: each level takes a file descriptor and a piece of
/// the stack.
const DEPTH: usize = 64;

/// Removes a file or a directory with all it holds, even where the owner's permission bits are not
/// set, and however deep it is. What is gone already is no error.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_encoded_bytes())?;
    let Some(root) = remove_or_open(CWD, &name)? else {
        return Ok(());
    };
    let mut eraser = Eraser {
        root: root.as_fd(),
        moved: 0,
    };
    loop {
        let before = eraser.moved;
        eraser.empty(root.as_fd(), 0)?;
        if eraser.moved == before {
            break;
        }
    }
    Ok(gone(unlinkat(CWD, &name, AtFlags::REMOVEDIR))?)
}

struct Eraser<'r> {
    root: BorrowedFd<'r>,
    /// Directories that were moved to the root.
    moved: u64,
}

impl Eraser<'_> {
    /// Removes all that is in a directory, but what it moves to the root.
    fn empty(&mut self, directory: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let is_directory = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => is_directory(directory, name)?,
                _ => false,
            };
            if !is_directory {
                unlink(directory, name, AtFlags::empty())?;
            } else if depth == DEPTH {
                self.move_up(directory, name)?;
            } else if let Some(below) = remove_or_open(directory, name)? {
                self.empty(below.as_fd(), depth + 1)?;
                unlink(directory, name, AtFlags::REMOVEDIR)?;
            }
        }
        Ok(())
    }

    fn move_up(&mut self, directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        // Without permission to write to it, it cannot be moved (rename(2)).
        gone(chmodat(directory, name, Mode::RWXU, AtFlags::empty()))?;
        loop {
            let free = format!(".moved-{}", self.moved);
            self.moved += 1;
            let moved = permitted(directory, || {
                renameat_with(directory, name, self.root, &free, RenameFlags::NOREPLACE)
            });
            match moved {
                Err(Errno::EXIST) => {}
                moved => return Ok(gone(moved)?),
            }
        }
    }
}

/// Opens a directory to be emptied; removes anything else.
fn remove_or_open(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(parent, name, flags, Mode::empty());
    match open() {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            unlink(parent, name, AtFlags::empty())?;
            Ok(None)
        }
        Err(Errno::ACCESS) => {
            chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            Ok(Some(open()?))
        }
        Err(error) => Err(error.into()),
    }
}

fn unlink(directory: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> io::Result<()> {
    let remove = || permitted(directory, || unlinkat(directory, name, flags));
    let removed = match remove() {
        Err(Errno::PERM) if unseal_at(directory, name).is_ok() => remove(),
        removed => removed,
    };
    Ok(gone(removed)?)
}

/// Lets a file or directory be changed that was closed to everybody (ioctl_iflags(2)).
fn unseal(file: impl AsFd) -> rustix::io::Result<()> {
    let seals = IFlags::IMMUTABLE | IFlags::APPEND;
    let flags = ioctl_getflags(&file)?;
    match flags.intersects(seals) {
        true => ioctl_setflags(&file, flags - seals),
        false => Err(Errno::PERM),
    }
}

/// Lets what has a name in a directory be removed: neither may be sealed. Fails if neither was.
fn unseal_at(directory: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let own = openat(directory, name, flags, Mode::empty()).and_then(unseal);
    let parent = unseal(directory);
    own.or(parent)
}

/// Changes a directory, which its owner may not be allowed to yet.
fn permitted(
    directory: BorrowedFd<'_>,
    change: impl Fn() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    match change() {
        Err(Errno::ACCESS) => {
            // Of the working directory, only somebody else can change the mode.
            fchmod(directory, Mode::RWXU).map_err(|_| Errno::ACCESS)?;
            change()
        }
        changed => changed,
    }
}

fn gone(outcome: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match outcome {
        Err(Errno::NOENT) => Ok(()),
        outcome => outcome,
    }
}

fn is_directory(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn everything_goes_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        let doomed = directory.path().join("doomed");
        fs::create_dir_all(doomed.join("a/b/c")).unwrap();
        fs::write(doomed.join("a/b/file"), "").unwrap();
        symlink(&outside, doomed.join("a/link")).unwrap();
        fs::create_dir_all(doomed.join("x/".repeat(1000))).unwrap();
        for number in 0..3 {
            fs::create_dir_all(doomed.join(format!(".moved-{number}/y"))).unwrap();
        }
        for locked in ["a/b", "a", "x/x"] {
            let none = fs::Permissions::from_mode(0o0);
            fs::set_permissions(doomed.join(locked), none).unwrap();
        }
        remove_tree(&doomed).unwrap();
        assert!(!doomed.exists());
        remove_tree(&doomed).unwrap();
        let link = directory.path().join("link");
        symlink(&outside, &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(!link.is_symlink() && outside.join("kept").exists());
        remove_tree(&outside.join("kept")).unwrap();
        assert!(!outside.join("kept").exists());
    }
}
