//! The container's root file system: the layers under a writable directory, joined by overlayfs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, unmount,
};

use crate::copied;
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::mount::{self, Change, Depth, OverlayOptions};
use crate::spec::Spec;

/// Mounts the root file system over the namespace's own `/`, where nothing else can be in its way:
/// paths of the host are still looked up below that. [`enter`] turns the two around.
pub(crate) fn mount(spec: &Spec) -> Result<OwnedFd, RunError> {
    let (upper, work) = (spec.dir.join("upper"), spec.dir.join("work"));
    make_directory(&upper, 0o755)?;
    if spec.layers.is_empty() {
        return plain(spec, &upper);
    }
    make_directory(&work, 0o700)?;
    match copied::root(&spec.dir) {
        // Made because they could not be joined before: what was changed since is there.
        Some(copy) => plain(spec, &copy),
        None => joined(spec, &upper, &work),
    }
}

/// A directory as it is.
fn plain(spec: &Spec, directory: &Path) -> Result<OwnedFd, RunError> {
    let root = mount::clone(CWD, directory, Depth::Flat).map_err(fault(directory, "clone it"))?;
    if !attributes(spec).is_empty() {
        let no_devices = Change {
            no_devices: true,
            ..Change::default()
        };
        mount::change(&root, no_devices).map_err(fault(directory, "lock it"))?;
    }
    mount::attach(&root, CWD, "/").map_err(fault(directory, "attach it"))?;
    Ok(root)
}

/// The layers under the upper directory.
fn joined(spec: &Spec, upper: &Path, work: &Path) -> Result<OwnedFd, RunError> {
    let root = match overlay(spec, upper, work) {
        // Left behind by a run that ended without unmounting, which is no harm: see `Spec::cleanup`.
        Err(Fault {
            errno: Errno::INVAL,
            ..
        }) if unmark_volatile(work) => overlay(spec, upper, work),
        other => other,
    };
    match root {
        Ok(root) => {
            mount::attach(&root, CWD, "/").map_err(fault(&spec.dir, "attach it"))?;
            Ok(root)
        }
        // What a kernel before 6.7 says to layers one by one, at once or, before 6.5, at the end.
        Err(Fault {
            errno: Errno::INVAL,
            step,
        }) => match classic_overlay(spec, upper, work) {
            Err(_) => Err(fault(&spec.dir, &step)(Errno::INVAL)),
            mounted => mounted,
        },
        Err(Fault { errno, step }) => Err(fault(&spec.dir, &step)(errno)),
    }
}

/// Mounts the root file system as it is now, to be looked at: also that of a container that runs.
pub(crate) fn mount_read_only(spec: &Spec) -> Result<OwnedFd, RunError> {
    let upper = spec.dir.join("upper");
    make_directory(&upper, 0o755)?;
    let join = || {
        if spec.layers.is_empty() {
            return mount::clone(CWD, &upper, Depth::Flat);
        }
        if let Some(copy) = copied::root(&spec.dir) {
            return mount::clone(CWD, &copy, Depth::Flat);
        }
        let layers: Vec<&PathBuf> = std::iter::once(&upper).chain(&spec.layers).collect();
        mount::join(&layers, spec.id_map != IdMap::None, attributes(spec))
    };
    let root = join().map_err(fault(&spec.dir, "join its directories"))?;
    mount::attach(&root, CWD, "/").map_err(fault(&spec.dir, "attach it"))?;
    Ok(root)
}

/// Makes `root` the process's and the namespace's root, and lets go of the host's.
pub(crate) fn enter(root: &OwnedFd) -> rustix::io::Result<()> {
    rustix::process::fchdir(root)?;
    // Both names mean the new root: afterwards the old one lies on top of it and can be unmounted,
    // without a directory for it having to exist (pivot_root(2), "NOTES").
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

/// A step of the overlay's making that the kernel refused.
struct Fault {
    errno: Errno,
    step: String,
}

fn overlay(spec: &Spec, upper: &Path, work: &Path) -> Result<OwnedFd, Fault> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| Fault {
        errno,
        step: "open overlayfs".to_owned(),
    })?;
    let set = |name: &str, value: &Path| {
        fsconfig_set_string(&context, name, value).map_err(|errno| Fault {
            errno,
            step: format!("{name}={}{}", value.display(), message(context.as_fd())),
        })
    };
    for layer in &spec.layers {
        set("lowerdir+", layer)?;
    }
    set("upperdir", upper)?;
    set("workdir", work)?;
    let create = || {
        fsconfig_set_string(&context, "source", "overlay")?;
        for flag in flags(spec) {
            fsconfig_set_flag(&context, *flag)?;
        }
        for (name, value) in settings(spec) {
            fsconfig_set_string(&context, *name, *value)?;
        }
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(spec))
    };
    create().map_err(|errno| Fault {
        errno,
        step: format!("create the overlay{}", message(context.as_fd())),
    })
}

/// A node that root makes opens no device of the host; in a user namespace none does anyway.
fn attributes(spec: &Spec) -> MountAttrFlags {
    let mut attributes = MountAttrFlags::empty();
    let locked = spec.id_map == IdMap::None && !spec.insecure;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, locked);
    attributes
}

/// In a user namespace overlayfs keeps its notes in `user.` attributes. A container that is thrown
/// away when it exits (`--rm`) needs no `sync` of the host's disk then.
fn flags(spec: &Spec) -> &'static [&'static str] {
    match (&spec.id_map, spec.cleanup.is_empty()) {
        (IdMap::None, true) => &[],
        (IdMap::None, false) => &["volatile"],
        (_, true) => &["userxattr"],
        (_, false) => &["userxattr", "volatile"],
    }
}

/// Whatever the kernel's defaults: the upper directory must be readable as a layer by itself.
fn settings(spec: &Spec) -> &'static [(&'static str, &'static str)] {
    match spec.id_map {
        IdMap::None => &[("redirect_dir", "off"), ("metacopy", "off")],
        // Off in a user namespace, and not to be named there.
        _ => &[],
    }
}

/// The same with `mount(2)`, for kernels before 6.7 that lack `lowerdir+`.
fn classic_overlay(spec: &Spec, upper: &Path, work: &Path) -> Result<OwnedFd, RunError> {
    let target = spec.dir.join("merged");
    make_directory(&target, 0o700)?;
    let prepare = || {
        let mut options = OverlayOptions::default();
        options.directories("lowerdir", spec.layers.iter().map(PathBuf::as_path))?;
        options.directories("upperdir", std::iter::once(upper))?;
        options.directories("workdir", std::iter::once(work))?;
        flags(spec).iter().for_each(|flag| options.add(flag));
        for (name, value) in settings(spec) {
            options.add(&format!("{name}={value}"));
        }
        Ok(options)
    };
    let attributes = match attributes(spec).is_empty() {
        true => MountFlags::empty(),
        false => MountFlags::NODEV,
    };
    prepare()
        .and_then(|options| options.mount(&target, attributes))
        .map_err(fault(&spec.dir, "mount the overlay"))?;
    let open = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&target, open, Mode::empty()).map_err(fault(&target, "open it"))
}

/// Why the kernel refused, in its own words, where it says so (`fsopen(2)`: messages are read from
/// the context, one a read, with a letter for their severity in front).
fn message(context: BorrowedFd<'_>) -> String {
    let mut buffer = [0; 256];
    match rustix::io::read(context, &mut buffer) {
        Ok(length) => {
            let text = String::from_utf8_lossy(&buffer[..length]);
            format!(" ({})", text.trim_start_matches("e ").trim())
        }
        Err(_) => String::new(),
    }
}

/// Removes the mark, if there is one, that keeps overlayfs from using a volatile directory again (the
/// kernel's `Documentation/filesystems/overlayfs.rst`, "Volatile mount").
fn unmark_volatile(work: &Path) -> bool {
    let mark = work.join("work/incompat/volatile");
    let _ = rustix::fs::unlink(mark.join("dirty"));
    rustix::fs::unlinkat(CWD, mark, AtFlags::REMOVEDIR).is_ok()
}

fn make_directory(path: &Path, mode: u32) -> Result<(), RunError> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(fault(path, "make the directory")(errno)),
    }
}

fn fault(dir: &Path, step: &str) -> impl FnOnce(Errno) -> RunError {
    move |errno| RunError::RootFs {
        dir: dir.to_owned(),
        step: step.to_owned(),
        source: errno.into(),
    }
}
