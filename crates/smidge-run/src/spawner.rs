//! Programs for a process with threads, which cannot launch any by itself: a small process, forked off
//! while there was one thread only, forks a keeper for each program ([`crate::keeper`]).
//!
//! ```text
//! caller ──packet socket──▶ spawner        one packet a run: its four descriptors
//!    ╰──── stream socket ───▶ keeper       the spec in, what became of it out
//!                               ╰─▶ program
//! ```
//!
//! When the caller dies, both sockets are closed: the spawner ends, and the keepers kill their programs.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, WaitOptions, getpid, waitpid};

use crate::error::RunError;
use crate::frame;
use crate::keeper::{self, Outcome, Verdict};
use crate::spec::Spec;
use crate::supervisor::leave_session;
use crate::sys;

/// The standard streams of a program: open files.
#[derive(Debug)]
pub struct Streams {
    /// Descriptor 0.
    pub stdin: OwnedFd,
    /// Descriptor 1.
    pub stdout: OwnedFd,
    /// Descriptor 2.
    pub stderr: OwnedFd,
}

/// The small process. When this value is dropped, or its owner dies however suddenly, it ends with
/// everything that it has launched.
#[derive(Debug)]
pub struct Spawner {
    /// `None` while it is being dropped.
    socket: Option<OwnedFd>,
    process: Pid,
}

/// A program that has been executed. When this value is dropped, the program is killed.
#[derive(Debug)]
pub struct Running {
    id: String,
    isolated: bool,
    socket: OwnedFd,
    /// Only one can hear the end.
    ear: Mutex<()>,
}

/// A program that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit status, or 128 + the signal that it died of.
    pub status: i32,
    /// The signal that it died of.
    pub signal: Option<i32>,
    /// Device and inode of symbolic links, and the user and group that own them in the program's eyes
    /// (only with [`Spec::pretend`]).
    pub link_owners: Vec<((u64, u64), (u32, u32))>,
}

impl Spawner {
    /// Forks the process. The caller must have one thread only.
    ///
    /// # Errors
    /// When the kernel refuses another process or a socket.
    pub fn start() -> Result<Self, RunError> {
        let pair = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        );
        let (ours, theirs) = pair.map_err(RunError::supervise("talk to the spawner"))?;
        match sys::fork().map_err(RunError::supervise("start the spawner"))? {
            Some(process) => Ok(Self {
                socket: Some(ours),
                process,
            }),
            None => serve(&theirs),
        }
    }

    /// Launches the program of `spec` and returns when it has been executed. From any thread.
    ///
    /// Where the kernel makes no namespaces, root's programs get a copy of the layers as their root
    /// directory instead (`chroot(2)`): see [`Running::is_isolated`].
    ///
    /// # Errors
    /// Everything that keeps the program from starting.
    pub fn spawn(&self, spec: &Spec, streams: Streams) -> Result<Running, RunError> {
        let gone = || RunError::Unsupervised {
            id: spec.id.clone(),
        };
        let pair = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        );
        let (ours, theirs) = pair.map_err(RunError::supervise("talk to the spawner"))?;
        let socket = self.socket.as_ref().ok_or_else(gone)?;
        let files = [&theirs, &streams.stdin, &streams.stdout, &streams.stderr];
        send_files(socket, files.map(AsFd::as_fd)).map_err(|_| gone())?;
        // Else its end would not be heard.
        drop((theirs, streams));
        frame::write(&ours, spec).map_err(|_| gone())?;
        match frame::read(&ours).ok_or_else(gone)? {
            Verdict::Runs { isolated } => Ok(Running {
                id: spec.id.clone(),
                isolated,
                socket: ours,
                ear: Mutex::new(()),
            }),
            Verdict::Failed(error) => Err(error),
        }
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.socket = None;
        while let Err(Errno::INTR) = waitpid(Some(self.process), WaitOptions::empty()) {}
    }
}

impl Running {
    /// Whether the program is in namespaces of its own. Where the kernel makes none, as in most
    /// containers, it has only a root directory of its own.
    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// Waits for the program's end, which can be heard once. By then every process in its container is
    /// gone, and so are its mounts.
    ///
    /// # Errors
    /// When the process that watches over it was killed, or its ids could not be emulated.
    pub fn wait(&self) -> Result<Finished, RunError> {
        let _alone = self.ear.lock();
        let outcome: Result<Outcome, RunError> =
            frame::read(&self.socket).ok_or(RunError::Unsupervised {
                id: self.id.clone(),
            })?;
        let outcome = outcome?;
        Ok(Finished {
            status: outcome.status,
            signal: outcome.signal,
            link_owners: outcome.link_owners,
        })
    }

    /// Kills the program and everything that it has started. Its end can be waited for as ever.
    pub fn kill(&self) {
        // It has ended already, if this fails.
        let _ = rustix::net::send(&self.socket, keeper::KILL, SendFlags::NOSIGNAL);
    }
}

/// Sends four descriptors, all or none.
fn send_files(socket: &OwnedFd, files: [std::os::fd::BorrowedFd<'_>; 4]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    loop {
        let text = [IoSlice::new(b"L")];
        match sendmsg(socket, &text, &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return sent.map(drop),
        }
    }
}

/// The small process: a keeper for every packet, until the caller is gone.
fn serve(socket: &OwnedFd) -> ! {
    sys::close_all_but(&[socket.as_fd()]);
    leave_session(c"smidge-spawner");
    let own = getpid();
    while let Some(files) = receive_files(socket) {
        let Ok([line, stdin, stdout, stderr]) = <[OwnedFd; 4]>::try_from(files) else {
            continue;
        };
        let streams = Streams {
            stdin,
            stdout,
            stderr,
        };
        match sys::fork() {
            Ok(None) => keeper::keep(own, &line, streams),
            Ok(Some(_)) => {}
            Err(error) => {
                let refused = RunError::supervise("start a process that watches over it")(error);
                let _ = frame::write(&line, &Verdict::Failed(refused));
            }
        }
        // Keepers that have ended since.
        while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
    }
    sys::exit(0)
}

/// The descriptors of the next packet; `None` at the end.
fn receive_files(socket: &OwnedFd) -> Option<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    loop {
        let mut parts = [IoSliceMut::new(&mut byte)];
        match recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) if message.bytes > 0 => break,
            Err(Errno::INTR) => {}
            _ => return None,
        }
    }
    let files = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    Some(files.flatten().collect())
}
