//! The last resort for programs of builds, where the kernel makes no namespaces, as in most containers:
//! a copy of the layers as the root directory (`chroot(2)`), and nothing else that shuts them in.
//!
//! What would be mounted is copied in, or moved in and out again where what is written there is to
//! stay. There is no `/proc`. What a program has started is killed at its end, as far as it descends
//! from it: this process takes in its orphans (`PR_SET_CHILD_SUBREAPER`, prctl(2)).

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use rustix::thread::CapabilitySet;

use crate::channel::Channel;
use crate::copied::{self, Baseline, copy_tree};
use crate::device::{LINKS, NODES};
use crate::error::RunError;
use crate::executable::{Executable, OwnBinary};
use crate::idmap::IdMap;
use crate::launch::{self, Launched, Stdio};
use crate::mount::{self, Kind};
use crate::spec::{Mount, MountKind, Network, Spec};
use crate::{identity, inside, limit, null, pretend, removal};

/// Whether namespaces are out of reach, and a root directory is not. Only what no image and no option
/// can bring about counts: a sandbox that could be had is never done without.
pub(crate) fn is_last_resort(error: &RunError) -> bool {
    const REFUSALS: [i32; 3] = [libc::EPERM, libc::EACCES, libc::ENOSYS];
    let refused = match error {
        RunError::Namespaces { .. } => true,
        RunError::Setup { step, .. } => step == inside::OWN_MOUNTS,
        _ => false,
    };
    let holds = |capability| {
        let sets = rustix::thread::capabilities(None);
        sets.is_ok_and(|sets| sets.effective.contains(capability))
    };
    let refused = refused && error.errno().is_some_and(|errno| REFUSALS.contains(&errno));
    (refused || matches!(error, RunError::IdMap { .. })) && holds(CapabilitySet::SYS_CHROOT)
}

/// A root directory that was furnished for a program.
#[derive(Debug)]
pub(crate) struct Room {
    root: PathBuf,
    /// What would be mounted over.
    covered: Vec<PathBuf>,
    /// The directories around that, and their times before.
    around: Vec<(PathBuf, Metadata)>,
    /// Directories inside whose files go back to where they were.
    lent: Vec<(PathBuf, PathBuf)>,
    baseline: Option<Baseline>,
}

impl Room {
    /// Copies the layers of `spec`, and everything that it would have mounted.
    pub(crate) fn furnish(spec: &Spec) -> Result<Self, RunError> {
        refuse(spec)?;
        let root = copied::path(&spec.dir);
        let baseline = copied::fill(spec)?;
        let mut room = Self {
            root,
            covered: Vec::new(),
            around: Vec::new(),
            lent: Vec::new(),
            baseline: None,
        };
        room.bring_in(spec)?;
        if baseline.is_some() {
            // It has changed since.
            let taken = Baseline::take(&room.root);
            let step = "look at the copied layers";
            room.baseline = Some(taken.map_err(RunError::supervise(step))?);
        }
        Ok(room)
    }

    fn bring_in(&mut self, spec: &Spec) -> Result<(), RunError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(&self.root, flags, Mode::empty())
            .map_err(RunError::setup("open the root"))?;
        let fault = |destination: &str| {
            let destination = destination.to_owned();
            move |source: io::Error| RunError::Mount {
                destination,
                source,
            }
        };
        for name in ["dev", "proc", "sys"] {
            let place = self.cover(&top, name, Kind::Directory);
            let place = place.map_err(fault(name))?;
            fs::create_dir(&place).map_err(fault(name))?;
            if name == "dev" {
                make_devices(&place).map_err(fault(name))?;
            }
        }
        for mount in &spec.mounts {
            self.furnish_one(&top, mount)
                .map_err(fault(&mount.destination))?;
        }
        // Nothing has changed in them, as far as the program should see. The first note of each counts.
        for (directory, before) in self.around.iter().rev() {
            copied::set_time(directory, before).map_err(fault("/"))?;
        }
        Ok(())
    }

    fn furnish_one(&mut self, top: &OwnedFd, mount: &Mount) -> io::Result<()> {
        match &mount.kind {
            MountKind::Bind => (),
            MountKind::Tmpfs { mode, .. } => {
                let place = self.cover(top, &mount.destination, Kind::Directory)?;
                fs::create_dir(&place)?;
                return fs::set_permissions(&place, Permissions::from_mode(*mode));
            }
            MountKind::Layers(layers) => {
                let place = self.cover(top, &mount.destination, Kind::Directory)?;
                return copied::merge(layers, &place);
            }
        }
        let source = mount.source.metadata()?;
        if !source.is_dir() {
            let place = self.cover(top, &mount.destination, Kind::File)?;
            return copy_tree(&mount.source, &place);
        }
        let place = self.cover(top, &mount.destination, Kind::Directory)?;
        if mount.read_only {
            return copy_tree(&mount.source, &place);
        }
        fs::create_dir(&place)?;
        move_files(&mount.source, &place)?;
        std::os::unix::fs::chown(&place, Some(source.uid()), Some(source.gid()))?;
        fs::set_permissions(&place, source.permissions())?;
        self.lent.push((place, mount.source.clone()));
        Ok(())
    }

    /// Finds a path inside, and frees the place: what is there is hidden while the program runs.
    fn cover(&mut self, top: &OwnedFd, path: &str, kind: Kind) -> io::Result<PathBuf> {
        let point = mount::point(top.as_fd(), path, kind)?;
        let place = fs::read_link(format!("/proc/self/fd/{}", point.as_raw_fd()))?;
        let parent = Some(&place)
            .filter(|place| place.starts_with(&self.root) && **place != self.root)
            .and_then(|place| place.parent())
            .ok_or(Errno::BUSY)?;
        let before = parent.metadata()?;
        removal::remove(&place)?;
        self.covered.push(place.clone());
        self.around.push((parent.to_owned(), before));
        Ok(place)
    }

    /// Starts the program of `spec` in it.
    pub(crate) fn launch(&self, spec: &Spec, stdio: &Stdio) -> Result<Launched, RunError> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(RunError::supervise("take in orphans"))?;
        let inside = |channel: &Channel, _| {
            let program = self.enter(spec, stdio, channel);
            inside::start(spec, program, channel)
        };
        launch::clone_to(spec, 0, (&IdMap::None, None), inside, &mut |_| Ok(()))
    }

    fn enter(&self, spec: &Spec, stdio: &Stdio, channel: &Channel) -> Result<Executable, RunError> {
        inside::take_stdio(stdio, &[channel.as_fd()])
            .map_err(RunError::setup("take the streams over"))?;
        rustix::process::setsid().map_err(RunError::setup("open a session"))?;
        rustix::process::umask(Mode::empty());
        let own = OwnBinary::find().map_err(RunError::setup("look at `/proc/self/exe`"))?;
        let into = || -> rustix::io::Result<OwnedFd> {
            rustix::process::chroot(&self.root)?;
            rustix::process::chdir("/")?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open("/", flags, Mode::empty())
        };
        let top = into().map_err(RunError::setup("change the root"))?;
        // Where nodes cannot be used it stays the host's: whoever is here could get at that anyway.
        let _ = null::reopen();
        let cwd = mount::point(top.as_fd(), &spec.cwd, Kind::Directory)
            .and_then(rustix::process::fchdir)
            .map_err(|errno| inside::working_directory(spec, errno));
        cwd?;
        let program = Executable::find(spec, &own, None)?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        limit::apply(&spec.limits)?;
        if spec.pretend {
            // It lets nobody become another user by a program's mode, which is emulated, too.
            rustix::thread::set_no_new_privs(true)
                .map_err(RunError::setup("give up new privileges"))?;
            let listener = pretend::install().map_err(RunError::setup("let calls be answered"))?;
            let handed = channel.send_pretence(listener.as_fd());
            handed.map_err(RunError::setup("let calls be answered"))?;
        }
        identity::drop_what_can_be_dropped(spec)?;
        inside::tie_to_launcher(channel)?;
        Ok(program)
    }

    /// Brings back what was lent, and moves what has changed to the upper directory. Nothing may be
    /// running inside any more.
    pub(crate) fn leave(self, spec: &Spec) -> Result<(), RunError> {
        for (place, home) in &self.lent {
            move_files(place, home).map_err(|source| RunError::Mount {
                destination: home.display().to_string(),
                source,
            })?;
        }
        copied::settle(spec, self.baseline.as_ref(), &self.covered)
    }
}

/// Refuses what only namespaces can give.
fn refuse(spec: &Spec) -> Result<(), RunError> {
    let what = if spec.network != Network::Host {
        "`RUN --network=none`"
    } else if spec.emulator.is_some() {
        "a program for another platform"
    } else {
        return Ok(());
    };
    Err(RunError::NeedsNamespaces {
        what: what.to_owned(),
    })
}

/// Moves all files of a directory to another, in place of those of the same names.
fn move_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (old, new) = (entry.path(), to.join(entry.file_name()));
        removal::remove(&new)?;
        match rustix::fs::rename(&old, &new) {
            Err(Errno::XDEV) => {
                copy_tree(&old, &new)?;
                removal::remove(&old)?;
            }
            moved => moved?,
        }
    }
    Ok(())
}

/// The nodes that every program expects. Where the kernel lets nobody make or use them, `null` is a file
/// that at least takes what is written to it.
fn make_devices(dev: &Path) -> io::Result<()> {
    let mode = |bits| Permissions::from_mode(bits);
    for (name, major, minor) in NODES {
        let path = dev.join(name);
        let kind = FileType::CharacterDevice;
        let made = mknodat(CWD, &path, kind, Mode::empty(), makedev(major, minor));
        let is_usable = || name == "tty" || fs::File::open(&path).is_ok();
        if made.is_ok() {
            fs::set_permissions(&path, mode(0o666))?;
        }
        if made.is_err() || !is_usable() {
            removal::remove(&path)?;
            if name == "null" {
                fs::write(&path, "")?;
                fs::set_permissions(&path, mode(0o666))?;
            }
        }
    }
    for (target, name) in LINKS {
        symlink(target, dev.join(name))?;
    }
    for (name, bits) in [("pts", 0o755), ("mqueue", 0o1777), ("shm", 0o1777)] {
        fs::create_dir(dev.join(name))?;
        fs::set_permissions(dev.join(name), mode(bits))?;
    }
    Ok(())
}

/// Kills everything that a program has left, until this process has no child any more.
pub(crate) fn kill_the_rest() {
    loop {
        for child in children() {
            // Gone already, if this fails.
            let _ = kill_process(child, Signal::KILL);
        }
        match waitid(WaitId::All, WaitIdOptions::EXITED) {
            Ok(_) | Err(Errno::INTR) => {}
            // There is none.
            Err(_) => return,
        }
    }
}

/// The processes whose parent this one is.
fn children() -> Vec<Pid> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let listed = fs::read_to_string(format!("/proc/self/task/{own}/children"));
    let listed = listed.unwrap_or_default();
    let numbers = listed.split_whitespace().map(str::parse);
    numbers
        .filter_map(|number| Pid::from_raw(number.ok()?))
        .collect()
}
