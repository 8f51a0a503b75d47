//! Looks at a container's files with the container's own eyes, in a process of its own.
//!
//! Whatever leads through a container's files can be exchanged by the container meanwhile. So nobody
//! looks at them from outside: a process enters the container's namespaces, where even an absolute link
//! leads to nothing of the host (CVE-2018-15664), and it runs no code of the container (CVE-2019-14271).
//! The container does not see it: it stays out of the container's PID namespace.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::mount::MountPropagationFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, set_dumpable_behavior, waitpid};
use rustix::thread::ThreadNameSpaceType;

use crate::channel::{Channel, Report};
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::join::enter_one;
use crate::spec::Spec;
use crate::state::{self, State};
use crate::{identity, inside, root, sys};

/// What fails, for messages.
const LOOK: &str = "look at the container's files";

/// What a onlooker sees as `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The host's files, with the rights that the container's user namespace gives over files of its ids.
    Host,
    /// The container's root file system as it is now, without what is mounted in it; read-only.
    Files,
    /// What the program sees, mounts included. Of one that does not run: its files and its volumes.
    Inside,
}

/// A process that looks at a container's files.
#[derive(Debug)]
pub struct Onlooker {
    id: String,
    child: Option<Pid>,
    answer: File,
    /// Of a container that does not run: keeps it from being started meanwhile.
    _lock: Option<File>,
}

/// Where the onlooker goes.
enum Way {
    /// To the program, through a handle of its process.
    Join(OwnedFd),
    /// To namespaces of its own.
    Make,
}

/// Runs `act` in a process that sees a container's files; [`Onlooker::finish`] tells what it gives. Only
/// the standard streams and `keep` stay open there.
///
/// The caller must have one thread only.
///
/// # Errors
/// When the container is just being started, or what keeps the process from seeing its files.
pub fn look(
    spec: &Spec,
    view: View,
    keep: &[BorrowedFd<'_>],
    act: impl FnOnce() -> Vec<u8>,
) -> Result<Onlooker, RunError> {
    let (way, lock) = way(spec, view)?;
    send(spec, view, (way, lock), keep, act)
}

/// Runs `act` in a process that sees the files of a container whose program has just ended, volumes
/// included: what it gives. The caller has the container's lock, and one thread.
///
/// # Errors
/// What keeps the process from seeing the files.
pub fn look_back(spec: &Spec, act: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, RunError> {
    send(spec, View::Inside, (Way::Make, None), &[], act)?.finish()
}

/// Sends the onlooker on its way.
fn send(
    spec: &Spec,
    view: View,
    (way, lock): (Way, Option<File>),
    keep: &[BorrowedFd<'_>],
    act: impl FnOnce() -> Vec<u8>,
) -> Result<Onlooker, RunError> {
    let (outer, inner) = Channel::pair().map_err(RunError::setup(LOOK))?;
    let (answer, result) = pipe_with(PipeFlags::CLOEXEC).map_err(RunError::setup(LOOK))?;
    let cloned = sys::clone_into(namespaces(spec, view, &way), None).map_err(|source| {
        RunError::Namespaces {
            id: spec.id.clone(),
            source,
        }
    })?;
    let Some((child, _pidfd)) = cloned else {
        let mut kept = keep.to_vec();
        kept.extend([inner.as_fd(), result.as_fd()]);
        if let Way::Join(program) = &way {
            kept.push(program.as_fd());
        }
        sys::close_all_but(&kept);
        match arrive(spec, view, &way, &inner) {
            Ok(()) => inner.report_ready(),
            Err(error) => {
                inner.report_failure(&error);
                sys::exit(1);
            }
        }
        // Who waits for the other end would wait for it, too.
        sys::close_all_but(&[keep, &[result.as_fd()]].concat());
        let _ = File::from(result).write_all(&act());
        sys::exit(0);
    };
    drop((inner, result));
    let onlooker = Onlooker {
        id: spec.id.clone(),
        child: Some(child),
        answer: answer.into(),
        _lock: lock,
    };
    follow(spec, matches!(way, Way::Make), child, &outer)?;
    Ok(onlooker)
}

impl Onlooker {
    /// Waits for the process: what its work has given.
    ///
    /// # Errors
    /// When it was killed.
    pub fn finish(mut self) -> Result<Vec<u8>, RunError> {
        let mut answer = Vec::new();
        let read = self.answer.read_to_end(&mut answer);
        read.map_err(|error| RunError::setup(LOOK)(error))?;
        match self.reap() {
            Some(true) => Ok(answer),
            _ => Err(RunError::Died {
                id: self.id.clone(),
            }),
        }
    }

    /// Whether it ended by itself.
    fn reap(&mut self) -> Option<bool> {
        let (_, status) = waitpid(Some(self.child.take()?), WaitOptions::empty()).ok()??;
        Some(status.exit_status() == Some(0))
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        if let Some(child) = self.child {
            sys::kill(child, libc::SIGKILL);
            self.reap();
        }
    }
}

/// How the onlooker comes to see the files; and a lock, where nothing else keeps a stopped container from
/// being started.
fn way(spec: &Spec, view: View) -> Result<(Way, Option<File>), RunError> {
    if view != View::Inside {
        return Ok((Way::Make, None));
    }
    loop {
        if let Some(lock) = state::lock(&spec.dir)? {
            return Ok((Way::Make, Some(lock)));
        }
        let state = State::read(&spec.dir)?;
        if let Some(program) = state.program.open() {
            return Ok((Way::Join(program), None));
        }
        // It is being started or released, or somebody else looks at its files.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn namespaces(spec: &Spec, view: View, way: &Way) -> i32 {
    let mut namespaces = 0;
    if matches!(way, Way::Make) {
        if view != View::Host {
            namespaces |= libc::CLONE_NEWNS;
        }
        if *spec.disk_map() != IdMap::None {
            namespaces |= libc::CLONE_NEWUSER;
        }
    }
    namespaces
}

/// Maps the ids, and listens until the onlooker is there.
fn follow(spec: &Spec, makes: bool, child: Pid, channel: &Channel) -> Result<(), RunError> {
    if makes && *spec.disk_map() != IdMap::None {
        let unmapped = |detail| RunError::IdMap {
            id: spec.id.clone(),
            detail,
        };
        spec.disk_map().apply(child).map_err(unmapped)?;
        let released = channel.release();
        released.map_err(RunError::setup(LOOK))?;
    }
    match channel.receive() {
        Report::Ready => Ok(()),
        Report::Failed(error) => Err(*error),
        _ => Err(RunError::Died {
            id: spec.id.clone(),
        }),
    }
}

/// The onlooker's way to the files.
fn arrive(spec: &Spec, view: View, way: &Way, channel: &Channel) -> Result<(), RunError> {
    match way {
        Way::Join(program) => {
            enter_one(program.as_fd(), ThreadNameSpaceType::MOUNT)
                .map_err(RunError::setup("enter the container"))?;
            identity::become_root(&spec.id_map)?;
        }
        Way::Make => {
            if *spec.disk_map() != IdMap::None {
                let waited = channel.wait();
                waited.map_err(RunError::setup("wait for the id map"))?;
                identity::become_root(&spec.id_map)?;
            }
            if view != View::Host {
                let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
                rustix::mount::mount_change("/", private)
                    .map_err(RunError::setup("own the mounts"))?;
                let root = match view {
                    View::Inside => inside::bring_in_all(spec)?,
                    _ => root::mount_read_only(spec)?,
                };
                root::enter(&root).map_err(RunError::setup("change the root"))?;
            }
        }
    }
    // Nobody of the container's user shall have a look at the descriptors.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(RunError::setup("shield the process"))?;
    // After the identity has changed, which clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(RunError::setup("tie the process to its caller"))?;
    if !channel.is_connected() {
        sys::exit(1);
    }
    rustix::process::umask(rustix::fs::Mode::empty());
    Ok(())
}
