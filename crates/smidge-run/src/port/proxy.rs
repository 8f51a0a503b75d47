//! The process that holds the listeners and is in the container's network namespace.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{self, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::Listeners;
use super::direct::Direct;
use super::lead::Lead;
use super::relay::{Help, Relay};
use crate::error::RunError;
use crate::join::enter_one;
use crate::network::widen_loopback;
use crate::{limit, sys};

/// How long answers that are on their way may take when the container has ended.
const GRACE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// How what arrives gets to the program.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// The proxy passes it on.
    Proxy,
    /// The kernel does, as soon as it can: from other machines to these addresses of the container `id`. Only
    /// for root.
    Kernel {
        /// The container.
        id: &'a str,
        /// Its addresses.
        addresses: &'a [IpAddr],
        /// The machine's addresses on its networks.
        gateways: &'a [IpAddr],
    },
    /// The program gets the listeners, as soon as it binds to their ports.
    Direct(Calls<'a>),
}

/// The calls of a program that is to get the host's sockets.
#[derive(Clone, Copy, Debug)]
pub struct Calls<'a> {
    /// What they are received from.
    pub listener: BorrowedFd<'a>,
    /// The program's process id.
    pub pid: u32,
}

/// A running proxy, a child of the process that forked it, with which it dies.
#[derive(Debug)]
pub struct Proxy {
    pidfd: OwnedFd,
    /// Closed once it has passed all on.
    done: OwnedFd,
}

impl Proxy {
    /// Forks a process that carries everything that arrives at `listeners` into the network
    /// namespace of `program`, or has it carried some other way. The caller must have one thread only.
    ///
    /// # Errors
    /// When there can be no such process, or it may not enter.
    pub fn fork(
        listeners: Listeners,
        program: BorrowedFd<'_>,
        way: Way<'_>,
    ) -> Result<Self, RunError> {
        let parent = process::getpid();
        let pipe = pipe_with(PipeFlags::CLOEXEC);
        let (done, end) = pipe.map_err(RunError::supervise("open a pipe"))?;
        let fork = sys::fork().map_err(RunError::supervise("start the port proxy"))?;
        let Some(pid) = fork else {
            let served = serve(listeners, program, way, (parent, end));
            sys::exit(i32::from(served.is_err()));
        };
        let pidfd = process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(RunError::supervise("watch the port proxy"))?;
        Ok(Self { pidfd, done })
    }

    /// Has it let go of its listeners.
    pub(super) fn close(&self) {
        let _ = process::pidfd_send_signal(&self.pidfd, Signal::TERM);
    }

    /// Ends it: its listeners close at once, answers that are on their way get a moment.
    pub fn stop(self) {
        self.finish();
        let _ = process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }

    /// The same for a caller that ends soon itself: it does not wait until the kernel has cleared up.
    pub(crate) fn finish(&self) {
        self.close();
        let ended = poll(&mut [PollFd::new(&self.done, PollFlags::IN)], Some(&GRACE));
        if !matches!(ended, Ok(1)) {
            let _ = process::pidfd_send_signal(&self.pidfd, Signal::KILL);
            let _ = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&GRACE));
        }
    }
}

/// The life of the proxy's process.
fn serve(
    listeners: Listeners,
    program: BorrowedFd<'_>,
    way: Way<'_>,
    (parent, end): (Pid, OwnedFd),
) -> std::io::Result<()> {
    let mut keep: Vec<BorrowedFd<'_>> = listeners.sockets().map(AsFd::as_fd).collect();
    keep.extend([program, end.as_fd()]);
    if let Way::Direct(calls) = way {
        keep.push(calls.listener);
    }
    sys::close_all_but(&keep);
    let _ = rustix::thread::set_name(c"smidge-ports");
    let stop = sys::signal_fd(&[libc::SIGTERM])?;
    let help = match way {
        Way::Proxy => {
            enter(program)?;
            widen_loopback();
            Help::None
        }
        Way::Kernel {
            id,
            addresses,
            gateways,
        } => {
            let lead = Lead::prepare(id, listeners.ports(), addresses, gateways);
            // The packet filter is for those with root's privileges, which are lost in a user namespace.
            move_into_thread_name_spaces(program, ThreadNameSpaceType::NETWORK)?;
            widen_loopback();
            lead.map_or(Help::None, Help::Kernel)
        }
        // It stays where the sockets are that the program gets.
        Way::Direct(calls) => Help::Direct(Direct::new(calls, program)?),
    };
    // Only now: changing the user namespace takes the wish back (prctl(2)).
    process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if process::getppid() != Some(parent) {
        return Ok(());
    }
    let limit = limit::raise_files();
    let mut relay = Relay::new(listeners, stop, limit, help)?;
    relay.run()?;
    // What else there is may take the kernel a while to close.
    drop(end);
    Ok(())
}

/// Enters the network namespace of `program`.
pub(crate) fn enter(program: BorrowedFd<'_>) -> std::io::Result<()> {
    Ok(enter_one(program, ThreadNameSpaceType::NETWORK)?)
}
