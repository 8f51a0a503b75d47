//! The process that watches over one program of a [`Spawner`](crate::Spawner): launches it, kills it
//! when nobody wants it any more, and tells its end.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getppid, pidfd_open,
    set_parent_process_death_signal, waitid,
};
use serde::{Deserialize, Serialize};

use crate::chroot::{self, Room};
use crate::copied::{self, Baseline};
use crate::error::RunError;
use crate::frame;
use crate::launch::{Launched, Stdio, launch_with};
use crate::pretend::Pretence;
use crate::spawner::Streams;
use crate::spec::Spec;
use crate::sys;

/// What the caller says to have the program killed.
pub(crate) const KILL: &[u8] = b"K";

/// What became of the start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// The program has been executed.
    Runs {
        /// Whether it is shut in.
        isolated: bool,
    },
    /// It cannot be; nothing follows.
    Failed(RunError),
}

/// What became of the program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) link_owners: Vec<((u64, u64), (u32, u32))>,
}

/// Runs one program for whoever is at the other end of `line`. `spawner` is this process's parent.
pub(crate) fn keep(spawner: Pid, line: &OwnedFd, streams: Streams) -> ! {
    let files = [line, &streams.stdin, &streams.stdout, &streams.stderr];
    sys::close_all_but(&files.map(AsFd::as_fd));
    let _ = rustix::thread::set_name(c"smidge-keeper");
    if let Some(parent) = tie_to(spawner)
        && let Some(spec) = frame::read::<Spec>(line)
    {
        match start(&spec, streams) {
            Ok(started) => Watch {
                spec: &spec,
                started,
                line,
                parent,
            }
            .run(),
            Err(error) => {
                let _ = frame::write(line, &Verdict::Failed(error));
            }
        }
    }
    sys::exit(0)
}

/// While the program is being set up the kernel is to kill this process with the spawner: the set-up
/// ends with it. Gives the handle by which the spawner's death is heard later.
fn tie_to(spawner: Pid) -> Option<OwnedFd> {
    set_parent_process_death_signal(Some(Signal::KILL)).ok()?;
    let parent = pidfd_open(spawner, PidfdFlags::empty()).ok()?;
    // Asked last: until here another process could have got its number.
    (getppid() == Some(spawner)).then_some(parent)
}

/// A program that runs.
struct Started {
    /// Its handle.
    program: OwnedFd,
    /// Where to hear from the process that emulates its ids, if one does.
    pretence: Option<OwnedFd>,
    place: Place,
}

/// Where a program runs.
enum Place {
    /// On an overlay.
    Overlay,
    /// On a copy of the layers, which were so before.
    Copy(Baseline),
    /// There as well, and not shut in.
    Room(Room),
}

impl Place {
    /// Leaves what the program has changed in the upper directory. It has ended, and nothing that it
    /// has started runs on.
    fn leave(self, spec: &Spec) -> Result<(), RunError> {
        match self {
            Self::Overlay => Ok(()),
            Self::Copy(baseline) => copied::settle(spec, Some(&baseline), &[]),
            Self::Room(room) => {
                chroot::kill_the_rest();
                room.leave(spec)
            }
        }
    }
}

fn start(spec: &Spec, streams: Streams) -> Result<Started, RunError> {
    let Streams {
        stdin,
        stdout,
        stderr,
    } = streams;
    let stdio = Stdio::Files {
        stdin,
        stdout,
        stderr,
    };
    let (mut launched, place) = launch_somehow(spec, &stdio)?;
    let pretence = emulate(spec, &mut launched).inspect_err(|_| {
        let _ = sys::send_signal(launched.pidfd.as_fd(), libc::SIGKILL);
    })?;
    Ok(Started {
        program: launched.pidfd,
        pretence,
        place,
    })
}

fn launch_somehow(spec: &Spec, stdio: &Stdio) -> Result<(Launched, Place), RunError> {
    match launch_with(spec, stdio) {
        Ok(mut launched) => {
            let place = match launched.baseline.take() {
                Some(baseline) => Place::Copy(baseline),
                None => Place::Overlay,
            };
            Ok((launched, place))
        }
        Err(error) if chroot::is_last_resort(&error) => {
            let room = Room::furnish(spec)?;
            match room.launch(spec, stdio) {
                Ok(launched) => Ok((launched, Place::Room(room))),
                Err(error) => {
                    // Whatever was lent to it is given back; the first fault is the one to tell.
                    let _ = room.leave(spec);
                    Err(error)
                }
            }
        }
        Err(error) => Err(error),
    }
}

/// What the process that emulates a program's ids says at its end: the owners of links.
type Emulated = Result<Vec<((u64, u64), (u32, u32))>, RunError>;

/// Forks a process that emulates the program's ids until it ends. Not this one: it would have to
/// enter the program's user namespace, and to be deaf to the caller meanwhile.
fn emulate(spec: &Spec, launched: &mut Launched) -> Result<Option<OwnedFd>, RunError> {
    let Some(listener) = &launched.pretence else {
        return Ok(None);
    };
    let flags = SocketFlags::CLOEXEC;
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let (ours, theirs) = pair.map_err(RunError::supervise("talk to the emulation of ids"))?;
    let fork = sys::fork().map_err(RunError::supervise("start the emulation of ids"))?;
    if fork.is_some() {
        launched.pretence = None;
        return Ok(Some(ours));
    }
    sys::close_all_but(&[&launched.pidfd, listener, &theirs].map(AsFd::as_fd));
    let _ = rustix::thread::set_name(c"smidge-pretend");
    if let Some(mut pretence) = Pretence::take(spec, launched) {
        let served = pretence.serve(launched.pidfd.as_fd());
        let owners: Emulated = served.map(|()| pretence.link_owners());
        let _ = frame::write(&theirs, &owners);
    }
    sys::exit(0)
}

/// A program that runs, and whom it concerns.
struct Watch<'a> {
    spec: &'a Spec,
    started: Started,
    line: &'a OwnedFd,
    parent: OwnedFd,
}

impl Watch<'_> {
    /// Waits for the program's end, and brings it about if the caller says so or is gone. Not left to
    /// the kernel: a program that has gained privileges is no longer tied to its parent's life
    /// (prctl(2)).
    fn run(mut self) {
        let _ = set_parent_process_death_signal(None);
        let mut emulated: Emulated = Ok(Vec::new());
        let isolated = !matches!(self.started.place, Place::Room(_));
        let told = frame::write(self.line, &Verdict::Runs { isolated });
        if told.is_err() || !self.wait(&mut emulated) {
            let _ = sys::send_signal(self.started.program.as_fd(), libc::SIGKILL);
        }
        let (status, signal) = reap(&self.started.program);
        if let Some(pretence) = self.started.pretence.take() {
            emulated = hear(&pretence);
        }
        let left = self.started.place.leave(self.spec);
        let outcome = left.and(emulated).map(|link_owners| Outcome {
            status,
            signal,
            link_owners,
        });
        let _ = frame::write(self.line, &outcome);
    }

    /// Waits; false if the program is to be killed.
    fn wait(&mut self, emulated: &mut Emulated) -> bool {
        loop {
            let started = &self.started;
            let others = [self.line, &self.parent].into_iter();
            let others = others.chain(&started.pretence);
            let mut fds: Vec<PollFd<'_>> = std::iter::once(&started.program)
                .chain(others)
                .map(|fd| PollFd::new(fd, PollFlags::IN))
                .collect();
            if poll(&mut fds, None).is_err() {
                continue;
            }
            let due: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            match due[..] {
                [true, ..] => return true,
                [_, _, true, ..] => return false,
                // Whatever is said means the same as silence for ever.
                [_, true, ..] if is_to_end(self.line) => return false,
                [_, _, _, true] => {
                    if let Some(pretence) = self.started.pretence.take() {
                        *emulated = hear(&pretence);
                    }
                    if emulated.is_err() {
                        return false;
                    }
                }
                _ => {}
            }
        }
    }
}

/// What the emulation says at its end.
fn hear(pretence: &OwnedFd) -> Emulated {
    frame::read(pretence).unwrap_or_else(|| {
        let killed = std::io::Error::other("its process was killed");
        Err(RunError::supervise("go on emulating ids")(killed))
    })
}

/// Whether the caller wants the program's end: it has said something, or is gone.
fn is_to_end(line: &OwnedFd) -> bool {
    let mut byte = [0];
    recv(line, &mut byte, RecvFlags::DONTWAIT) != Err(rustix::io::Errno::AGAIN)
}

/// The program's status, 128 + the signal that killed it if one did, and that signal.
fn reap(program: &OwnedFd) -> (i32, Option<i32>) {
    loop {
        match waitid(WaitId::PidFd(program.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                let signal = status.terminating_signal();
                let code = status.exit_status();
                let killed = 128 + signal.unwrap_or(libc::SIGKILL);
                return (code.unwrap_or(killed), signal);
            }
            Err(rustix::io::Errno::INTR) => {}
            _ => return (128 + libc::SIGKILL, Some(libc::SIGKILL)),
        }
    }
}
