//! Mounts as file descriptors: made or cloned detached, configured, then attached to a place that
//! was resolved inside the container's root and cannot be exchanged any more (CVE-2021-30465).

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, move_mount, open_tree, unmount,
};

use crate::{sys, within};

/// The magic number of procfs (`statfs(2)`).
pub(crate) const PROC: i64 = 0x9fa0;

/// How many symbolic links a path may lead through, as the kernel has it (`path_resolution(7)`).
const LINKS: u32 = 40;

/// A new file system, mounted nowhere yet.
pub(crate) fn new(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What `mount` and `df` show in their first column.
    fsconfig_set_string(&context, "source", kind)?;
    for (name, value) in options {
        fsconfig_set_string(&context, *name, *value)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Two directories or more, the top one first, as overlayfs shows them: read-only, mounted nowhere yet.
/// In a user namespace (`user`) the marks of opaque directories are `user.` attributes.
pub(crate) fn join(layers: &[&PathBuf], user: bool, attributes: MountAttrFlags) -> Result<OwnedFd> {
    match join_one_by_one(layers, user, attributes) {
        // What a kernel before 6.7 says to layers one by one.
        Err(Errno::INVAL) => join_in_a_page(layers, user, attributes),
        joined => joined,
    }
}

fn join_one_by_one(layers: &[&PathBuf], user: bool, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "overlay")?;
    for layer in layers {
        fsconfig_set_string(&context, "lowerdir+", *layer)?;
    }
    if user {
        fsconfig_set_flag(&context, "userxattr")?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | attributes;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// The same with `mount(2)`, which takes a place to mount at: the top layer's own, for this moment.
fn join_in_a_page(layers: &[&PathBuf], user: bool, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let place = layers.first().ok_or(Errno::INVAL)?;
    let mut options = OverlayOptions::default();
    options.directories("lowerdir", layers.iter().map(|layer| layer.as_path()))?;
    if user {
        options.add("userxattr");
    }
    let mut flags = MountFlags::RDONLY;
    let no_devices = attributes.contains(MountAttrFlags::MOUNT_ATTR_NODEV);
    flags.set(MountFlags::NODEV, no_devices);
    options.mount(place, flags)?;
    let joined = clone(CWD, place.as_path(), Depth::Flat);
    unmount(place.as_path(), UnmountFlags::DETACH)?;
    joined
}

/// What an overlay consists of, for `mount(2)`. It has to fit in a page, and has a quoting of its own, so
/// directories are named by the numbers of their descriptors: the kernel's 500 layers fit.
#[derive(Debug, Default)]
pub(crate) struct OverlayOptions {
    text: String,
    open: Vec<OwnedFd>,
}

impl OverlayOptions {
    /// Adds an option that names directories.
    pub(crate) fn directories<'p>(
        &mut self,
        name: &str,
        paths: impl Iterator<Item = &'p Path>,
    ) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut numbers = Vec::new();
        for path in paths {
            let directory = rustix::fs::open(path, flags, Mode::empty())?;
            numbers.push(directory.as_raw_fd().to_string());
            self.open.push(directory);
        }
        self.add(&format!("{name}={}", numbers.join(":")));
        Ok(())
    }

    /// Adds another option.
    pub(crate) fn add(&mut self, option: &str) {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(option);
    }

    /// Mounts the overlay.
    pub(crate) fn mount(self, target: &Path, flags: MountFlags) -> Result<()> {
        // What does not fit, the kernel would leave out without a word.
        if self.text.len() >= rustix::param::page_size() {
            return Err(Errno::TOOBIG);
        }
        let options = CString::new(self.text).map_err(|_| Errno::INVAL)?;
        let here = rustix::fs::open(".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        rustix::process::chdir("/proc/self/fd")?;
        let mounted = rustix::mount::mount("overlay", target, "overlay", flags, &*options);
        rustix::process::fchdir(&here)?;
        mounted
    }
}

/// A second mount of what `path` shows, mounted nowhere yet; an empty path means `directory` itself.
pub(crate) fn clone<P: rustix::path::Arg>(
    directory: impl AsFd,
    path: P,
    depth: Depth,
) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if depth == Depth::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(directory, path, flags)
}

/// Whether mounts below a mount are meant too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The mount alone.
    Flat,
    /// With everything mounted below it.
    Recursive,
}

/// Adds the read-only attribute.
pub(crate) fn make_read_only(mount: &OwnedFd, depth: Depth) -> Result<()> {
    let change = Change {
        read_only: true,
        recursive: depth == Depth::Recursive,
        ..Change::default()
    };
    self::change(mount, change)
}

/// What becomes of a mount that is there. Attributes are only added, so flags that a user namespace may
/// not clear stay (`mount_setattr(2)`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    /// It becomes read-only.
    pub(crate) read_only: bool,
    /// No device opens in it.
    pub(crate) no_devices: bool,
    /// It follows its source and no longer the other way round.
    pub(crate) slave: bool,
    /// Neither follows the other.
    pub(crate) private: bool,
    /// Mounts below it are meant, too.
    pub(crate) recursive: bool,
}

/// Changes a mount.
pub(crate) fn change(mount: impl AsFd, change: Change) -> Result<()> {
    let mut added = MountAttrFlags::empty();
    added.set(MountAttrFlags::MOUNT_ATTR_RDONLY, change.read_only);
    added.set(MountAttrFlags::MOUNT_ATTR_NODEV, change.no_devices);
    let propagation = match (change.slave, change.private) {
        (true, _) => MountPropagationFlags::DOWNSTREAM,
        (false, true) => MountPropagationFlags::PRIVATE,
        (false, false) => MountPropagationFlags::empty(),
    };
    let cleared = MountAttrFlags::empty();
    set_attributes(mount, added, cleared, propagation, change.recursive)
}

/// Changes a mount in any way, with `recursive` also those below it.
pub(crate) fn set_attributes(
    mount: impl AsFd,
    added: MountAttrFlags,
    cleared: MountAttrFlags,
    propagation: MountPropagationFlags,
    recursive: bool,
) -> Result<()> {
    sys::change_mount(mount.as_fd(), added, cleared, propagation, recursive)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Attaches a detached mount over `path` below `directory`; an empty path means `directory` itself.
/// A link at the end of the path is not followed.
pub(crate) fn attach(mount: &OwnedFd, directory: impl AsFd, path: &str) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", directory, path, flags)
}

/// What has to be made where a mount point is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// What is at the container's path `path`, found below `root` as the container will see it.
pub(crate) fn existing(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    within::open(root, path, OFlags::PATH)
}

/// The container's path `path`, found below `root` as the container will see it, and made where it
/// is missing. The result names the place itself (`O_PATH`), however the tree changes afterwards.
pub(crate) fn point(root: BorrowedFd<'_>, path: &str, kind: Kind) -> Result<OwnedFd> {
    match existing(root, path) {
        Err(Errno::NOENT) => make_point(root, OsStr::new(path), kind),
        found => found,
    }
}

/// Walks `path` one name at a time, so that what is missing can be made in between: also what a
/// dangling link leads to.
fn make_point(root: BorrowedFd<'_>, path: &OsStr, kind: Kind) -> Result<OwnedFd> {
    let mut names = VecDeque::from(names_of(path));
    let mut trail: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if name == ".." {
            trail.pop();
            continue;
        }
        let here = trail.last().map_or(root, AsFd::as_fd);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match rustix::fs::openat(here, &name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                make(
                    here,
                    &name,
                    if names.is_empty() {
                        kind
                    } else {
                        Kind::Directory
                    },
                )?;
                rustix::fs::openat(here, &name, flags, Mode::empty())?
            }
            found => found?,
        };
        if !is_link(&found)? {
            trail.push(found);
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(Errno::LOOP);
        }
        let target = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
        if target.starts_with(b"/") {
            // One of `/proc`'s own, which leads to an open file whatever its text is (CVE-2024-21626).
            if rustix::fs::fstatfs(&found)?.f_type as i64 == PROC {
                return Err(Errno::LOOP);
            }
            trail.clear();
        }
        for name in names_of(OsStr::from_bytes(&target)).into_iter().rev() {
            names.push_front(name);
        }
    }
    match trail.pop() {
        Some(found) => Ok(found),
        None => rustix::io::fcntl_dupfd_cloexec(root, 0),
    }
}

/// The names a path consists of, `..` included.
fn names_of(path: &OsStr) -> Vec<OsString> {
    path.as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect()
}

fn make(directory: BorrowedFd<'_>, name: &OsStr, kind: Kind) -> Result<()> {
    let made = match kind {
        Kind::Directory => rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let mode = Mode::from_raw_mode(0o644);
            rustix::fs::mknodat(directory, name, FileType::RegularFile, mode, 0)
        }
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

fn is_link(file: &OwnedFd) -> Result<bool> {
    let stat = rustix::fs::statat(file, "", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn made(root: &std::path::Path, path: &str, kind: Kind) -> String {
        let directory = fs::File::open(root).unwrap();
        match point(directory.as_fd(), path, kind) {
            Ok(fd) => {
                let at = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
                let place = fs::read_link(at).unwrap();
                format!("/{}", place.strip_prefix(root).unwrap().display())
            }
            Err(Errno::LOOP) => "too many links".to_owned(),
            Err(Errno::NOTDIR) => "not a directory".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// Layers under `directory`, whose names are long, each with one file of its own and one that the
    /// layers above have as well.
    fn layers(directory: &Path, count: usize) -> Vec<PathBuf> {
        let layer = |number: usize| {
            let layer = directory.join(format!("{number}-{}", "x".repeat(200)));
            fs::create_dir(&layer).unwrap();
            fs::write(layer.join(format!("own{number}")), "").unwrap();
            fs::write(layer.join("all"), number.to_string()).unwrap();
            layer
        };
        (0..count).map(layer).collect()
    }

    /// As kernels before 6.7 need it: more layers than a page has room for paths of.
    #[test]
    fn layers_are_joined_without_naming_them_one_by_one() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can mount in a process with threads");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        let act = move || {
            sys::unshare(libc::CLONE_NEWNS).unwrap();
            let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
            rustix::mount::mount_change("/", private).unwrap();
            // An overlay of the machine's may lie below: memory never does.
            let memory = new("tmpfs", &[], MountAttrFlags::empty()).unwrap();
            attach(&memory, CWD, root.to_str().unwrap()).unwrap();
            let layers = layers(&root, 300);
            let layers: Vec<&PathBuf> = layers.iter().collect();
            let before = std::env::current_dir().unwrap();
            for join in [join_in_a_page, join_one_by_one] {
                let joined = join(&layers, false, MountAttrFlags::MOUNT_ATTR_NODEV).unwrap();
                let inside = PathBuf::from(format!("/proc/self/fd/{}", joined.as_raw_fd()));
                assert_eq!(fs::read_dir(&inside).unwrap().count(), 301);
                assert_eq!(fs::read_to_string(inside.join("all")).unwrap(), "0");
                let refused = fs::write(inside.join("new"), "").unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
                // The place that it was mounted at is as it was.
                assert_eq!(fs::read_dir(layers[0]).unwrap().count(), 2);
            }
            assert_eq!(std::env::current_dir().unwrap(), before);
            let too_many = join_in_a_page(&layers.repeat(5), false, MountAttrFlags::empty());
            assert_eq!(too_many.unwrap_err(), Errno::TOOBIG);
        };
        std::thread::spawn(act).join().unwrap();
    }

    #[test]
    fn mount_points_stay_inside_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink("/", root.join("top")).unwrap();
        symlink("../outside", root.join("up")).unwrap();
        symlink("/run/lock/x", root.join("dangling")).unwrap();
        symlink("dangling", root.join("etc/chain")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        for (path, kind, expected) in [
            ("/", Kind::Directory, "/"),
            ("", Kind::Directory, "/"),
            ("/etc/hosts", Kind::File, "/etc/hosts"),
            ("/etc/./deep//er/", Kind::Directory, "/etc/deep/er"),
            ("/../../a", Kind::Directory, "/a"),
            ("/top/top/b", Kind::Directory, "/b"),
            ("/up/c", Kind::Directory, "/outside/c"),
            ("/dangling", Kind::File, "/run/lock/x"),
            ("/etc/chain/../y", Kind::Directory, "/etc/y"),
            ("/loop/d", Kind::Directory, "too many links"),
            ("/file/d", Kind::Directory, "not a directory"),
            ("/proc/self/root", Kind::Directory, "/proc/self/root"),
        ] {
            let found = made(&root, path, kind);
            assert_eq!(found, expected, "{path}");
        }
        assert!(root.join("run/lock/x").is_file());
        assert!(!directory.path().join("outside").exists());
    }
}
