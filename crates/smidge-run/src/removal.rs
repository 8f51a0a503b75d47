//! Removes trees that hold other users' files and the overlay's leavings.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::channel::{Channel, Report};
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::journal::label;
use crate::{identity, sys};

/// How many directories are open at once. What lies deeper is moved up, so that no tree is too deep.
const DEPTH: u32 = 64;

/// How often a directory is looked at again in which somebody makes more while it is removed.
const TRIES: u32 = 1000;

/// Removes `path` and everything below it, also what belongs to ids that only `map` can reach and
/// directories without any permission. A path that does not exist is fine, and so is whatever
/// vanishes meanwhile: a container's supervisor may be removing the same. Links are removed, never
/// followed, whoever else changes the tree.
///
/// # Errors
/// When something could not be removed; the rest may be gone.
pub fn remove_tree(map: &IdMap, path: &Path) -> Result<(), RunError> {
    match remove(path) {
        Ok(()) => Ok(()),
        Err(Errno::ACCESS | Errno::PERM) if *map != IdMap::None => remove_mapped(map, path),
        Err(errno) => Err(fault(path, errno)),
    }
}

/// Frees the name of the container in `dir`, if it still has it: the file in `names/` beside it that is also
/// its own `name`. Another container may have got a name that this one had before.
pub(crate) fn forget_name(dir: &Path) {
    let label = label(dir);
    let name = label.split_once(' ').map_or("", |(_, name)| name);
    if name.is_empty() || name.contains('/') {
        return;
    }
    let path = dir.with_file_name("names").join(name);
    let file = |path: &Path| {
        rustix::fs::lstat(path)
            .ok()
            .map(|stat| (stat.st_dev, stat.st_ino))
    };
    if file(&path).is_some_and(|named| Some(named) == file(&dir.join("name"))) {
        let _ = rustix::fs::unlink(&path);
    }
}

/// Takes a container's directory away from where it is looked for, in one step. Where it is now, whoever
/// removes it is killed meanwhile, it is known for garbage.
pub(crate) fn move_aside(dir: &Path) -> Option<PathBuf> {
    let grave = dir.with_extension("gone");
    rustix::fs::rename(dir, &grave).ok().map(|()| grave)
}

/// The same as the caller, without a map.
pub(crate) fn remove(path: &Path) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        // The kernel's answer and POSIX's for a directory.
        Err(Errno::ISDIR | Errno::PERM) => (),
        Err(errno) => return unless_gone(Err(errno)),
    }
    unless_gone(remove_directory(path))
}

/// Takes what is gone already for removed.
fn unless_gone(removed: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

fn remove_directory(path: &Path) -> rustix::io::Result<()> {
    let top = open(CWD, path)?;
    let mut moved = 0_u64;
    let mut tries = TRIES;
    loop {
        let before = moved;
        empty(top.as_fd(), top.as_fd(), DEPTH, &mut moved)?;
        match rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) if moved > before => (),
            Err(Errno::NOTEMPTY) if tries > 0 => tries -= 1,
            removed => return removed,
        }
    }
}

/// Empties a directory; what lies `depth` levels below it is moved to `top` and counted.
fn empty(
    directory: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    depth: u32,
    moved: &mut u64,
) -> rustix::io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match unless_gone(rustix::fs::unlinkat(directory, name, AtFlags::empty())) {
                Ok(()) => continue,
                // On a file system that does not say what its entries are.
                Err(Errno::ISDIR) => (),
                Err(errno) => return Err(errno),
            }
        }
        if depth == 0 {
            unless_gone(move_up(directory, name, top, moved))?;
            continue;
        }
        let emptied = open(directory, name)
            .and_then(|child| empty(child.as_fd(), top, depth - 1, moved))
            .and_then(|()| rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR));
        match unless_gone(emptied) {
            // Somebody has made more in it meanwhile: that is found when all is looked at again.
            Err(Errno::NOTEMPTY) => (),
            emptied => emptied?,
        }
    }
    Ok(())
}

/// Moves a directory to `top`, by a name that nothing there has, and counts it.
fn move_up(
    directory: BorrowedFd<'_>,
    name: &CStr,
    top: BorrowedFd<'_>,
    moved: &mut u64,
) -> rustix::io::Result<()> {
    let mut number = *moved;
    loop {
        number += 1;
        let aside = format!(".removed-{number}");
        match rustix::fs::renameat_with(directory, name, top, aside, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => (),
            renamed => {
                *moved = number;
                return renamed;
            }
        }
    }
}

/// Opens a directory so that it can be emptied: the overlay's work directory has no permissions, and
/// a container's user may have taken them from others.
fn open<P: rustix::path::Arg + Copy>(parent: impl AsFd, name: P) -> rustix::io::Result<OwnedFd> {
    let parent = parent.as_fd();
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(parent, name, flags, Mode::empty());
    let writable = |directory: &OwnedFd| {
        rustix::fs::accessat(
            directory,
            ".",
            rustix::fs::Access::WRITE_OK,
            AtFlags::EACCESS,
        )
    };
    match opened {
        Ok(directory) if writable(&directory).is_ok() => return Ok(directory),
        Ok(_) | Err(Errno::ACCESS) => (),
        Err(errno) => return Err(errno),
    }
    // By descriptor, for a link in its place would be followed.
    let place = rustix::fs::openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", place.as_raw_fd()), Mode::RWXU)?;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Does the same as the root of a user namespace, to whom all of the map's ids belong.
fn remove_mapped(map: &IdMap, path: &Path) -> Result<(), RunError> {
    let (outer, inner) = Channel::pair().map_err(|errno| fault(path, errno))?;
    let forked = sys::fork().map_err(|source| RunError::Remove {
        path: path.to_owned(),
        source,
    })?;
    let Some(child) = forked else {
        if let Err(error) = remove_inside(map, path, &inner) {
            inner.report_failure(&error);
        }
        sys::exit(0);
    };
    drop(inner);
    let removed = follow(map, path, child, &outer);
    drop(outer);
    let _ = waitpid(Some(child), WaitOptions::empty());
    removed
}

fn remove_inside(map: &IdMap, path: &Path, channel: &Channel) -> Result<(), RunError> {
    sys::enter_new_user_namespace().map_err(|source| RunError::Remove {
        path: path.to_owned(),
        source,
    })?;
    channel.report_ready();
    channel.wait().map_err(|errno| fault(path, errno))?;
    identity::become_root(map)?;
    remove(path).map_err(|errno| fault(path, errno))
}

fn follow(map: &IdMap, path: &Path, child: Pid, channel: &Channel) -> Result<(), RunError> {
    loop {
        match channel.receive() {
            Report::Ready => {
                let unmapped = |detail| RunError::IdMap {
                    id: path.display().to_string(),
                    detail,
                };
                map.apply(child).map_err(unmapped)?;
                channel.release().map_err(|errno| fault(path, errno))?;
            }
            Report::Failed(error) => return Err(*error),
            Report::End => return Ok(()),
            _ => {}
        }
    }
}

fn fault(path: &Path, errno: Errno) -> RunError {
    RunError::Remove {
        path: path.to_owned(),
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn trees_are_removed_though_somebody_makes_more_of_them() {
        for _ in 0..20 {
            let directory = tempfile::tempdir().unwrap();
            let tree = directory.path().join("tree");
            fs::create_dir_all(tree.join("below")).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let place = |number: u32| ["", "below"][number as usize % 2];
                    (0..2000).try_for_each(|number| {
                        fs::create_dir(tree.join(place(number)).join(number.to_string()))
                    })
                });
                remove(&tree).unwrap();
            });
            assert!(!tree.exists());
        }
    }

    #[test]
    fn trees_are_removed_whatever_is_in_them() {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("a/b/closed")).unwrap();
        fs::write(tree.join("a/b/closed/file"), "").unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        symlink("nowhere", tree.join("dangling")).unwrap();
        let closed = fs::Permissions::from_mode(0o0);
        fs::set_permissions(tree.join("a/b/closed"), closed).unwrap();
        remove_tree(&IdMap::None, &tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.join("kept").exists());
        remove_tree(&IdMap::None, &tree).unwrap();
        symlink(&outside, &tree).unwrap();
        remove_tree(&IdMap::None, &tree).unwrap();
        assert!(outside.join("kept").exists());
    }

    #[test]
    fn several_may_remove_the_same_tree() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        for round in 0..20 {
            for name in 0..40 {
                fs::create_dir_all(tree.join(format!("a/{name}/b/c"))).unwrap();
                fs::write(tree.join(format!("a/{name}/file")), "").unwrap();
            }
            let start = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                let remove = || {
                    start.wait();
                    remove_tree(&IdMap::None, &tree)
                };
                let removals: Vec<_> = (0..4).map(|_| scope.spawn(remove)).collect();
                for removal in removals {
                    removal.join().unwrap().unwrap();
                }
            });
            assert!(!tree.exists(), "round {round}");
        }
    }

    #[test]
    fn no_tree_is_too_deep() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut here = fs::File::open(&tree).map(OwnedFd::from).unwrap();
        // Names that somebody who knows where deep ones are moved to may choose.
        fs::write(tree.join(".removed-1"), "").unwrap();
        fs::create_dir_all(tree.join(".removed-2/in/the/way")).unwrap();
        for _ in 0..300 {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        drop(here);
        remove_tree(&IdMap::None, &tree).unwrap();
        assert!(!tree.exists());
    }
}
