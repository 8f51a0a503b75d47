//! Paths of a container's, found below its root as its processes would find them.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

/// How often a path is tried that other processes make uncertain.
const TRIES: usize = 1000;

/// Opens what `path` leads to, `/` and `..` ending at `root`. Links of the kernel's own, in `/proc`, are
/// not followed: they lead elsewhere.
///
/// # Errors
/// Those of openat2(2).
pub(crate) fn open(root: impl AsFd, path: impl Arg + Copy, flags: OFlags) -> Result<OwnedFd> {
    resolve(root, path, flags, ResolveFlags::NO_MAGICLINKS)
}

/// Opens what is at `path` if no link lies on the way.
///
/// # Errors
/// Those of openat2(2).
pub(crate) fn open_without_links(
    root: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
) -> Result<OwnedFd> {
    resolve(root, path, flags, ResolveFlags::NO_SYMLINKS)
}

/// A mount or a rename anywhere on the machine makes `..` uncertain for a moment (openat2(2), EAGAIN).
fn resolve(
    root: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    links: ResolveFlags,
) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let how = ResolveFlags::IN_ROOT | links;
    for _ in 0..TRIES {
        match openat2(root.as_fd(), path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn renames_elsewhere_keep_no_path_from_being_found() {
        let fixture = tempfile::tempdir().unwrap();
        let (root, other) = (fixture.path().join("root"), fixture.path().join("other"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(other.join("0")).unwrap();
        let root = fs::File::open(root).unwrap();
        let found = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0_u64.. {
                    let (from, to) = (turn.to_string(), (turn + 1).to_string());
                    fs::rename(other.join(from), other.join(to)).unwrap();
                    if found.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
            let path = "a/../a/b/../b";
            let opened: Result<Vec<OwnedFd>> =
                (0..5000).map(|_| open(&root, path, OFlags::PATH)).collect();
            found.store(true, Ordering::Relaxed);
            opened.unwrap();
        });
    }
}
