//! A caller that stays until a program has ended: passes signals on, stands for its terminal, tells how it
//! ended.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use rustix::stdio;

use crate::error::RunError;
use crate::sys;
use crate::terminal::{RawMode, Size};

/// Signals that are for the program.
const FORWARDED: [i32; 9] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
    libc::SIGALRM,
    libc::SIGWINCH,
];

/// Waits for a child's end; gives its exit code, or 128 and the number of the signal that killed it.
///
/// # Errors
/// When it cannot be watched.
pub(super) fn attend(pid: Pid, terminal: Option<OwnedFd>) -> Result<u8, RunError> {
    let fault = || RunError::supervise::<Errno>("watch the program");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(fault())?;
    let signals = sys::signal_fd(&FORWARDED).map_err(RunError::supervise("watch the program"))?;
    let raw = terminal.as_ref().and_then(|_| RawMode::enter());
    let mut relay = terminal.map(Relay::new);
    loop {
        let mut fds = vec![
            PollFd::new(&pidfd, PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
        ];
        let (stdin, has_stdin) = (
            stdio::stdin(),
            relay.as_ref().is_some_and(|relay| relay.reads),
        );
        if let Some(relay) = &relay {
            fds.push(PollFd::new(&relay.master, PollFlags::IN));
            if has_stdin {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(errno) => return Err(fault()(errno)),
        }
        let due: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let is_due = |at: usize| due.get(at).copied().unwrap_or(false);
        if is_due(1) {
            while let Some(signal) = sys::read_signal(signals.as_fd()) {
                match (signal, &relay) {
                    (libc::SIGWINCH, Some(relay)) => relay.resize(),
                    (signal, _) => sys::kill(pid, signal),
                }
            }
        }
        if let Some(relay) = &mut relay {
            if is_due(2) && !relay.show() && !is_due(0) {
                // Nobody has it open any more, or not yet again.
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            if is_due(3) {
                relay.pass();
            }
        }
        if is_due(0) {
            break;
        }
    }
    if let Some(relay) = &mut relay {
        while relay.has_more() && relay.show() {}
    }
    drop(raw);
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).map_err(fault())?;
    let status = status.ok_or(Errno::CHILD).map_err(fault())?;
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    Ok(u8::try_from(code & 0xff).unwrap_or(255))
}

/// The caller's terminal, which stands for the program's.
struct Relay {
    master: OwnedFd,
    /// Whether there is still something to be read from the caller.
    reads: bool,
}

impl Relay {
    fn new(master: OwnedFd) -> Self {
        let relay = Self {
            master,
            reads: true,
        };
        relay.resize();
        relay
    }

    fn resize(&self) {
        let _ = rustix::termios::tcsetwinsize(&self.master, Size::of_caller().winsize());
    }

    /// Shows what the program says; whether it has said anything.
    fn show(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(length) if length > 0 => {
                write_all(stdio::stdout(), buffer.get(..length).unwrap_or_default());
                true
            }
            _ => false,
        }
    }

    fn has_more(&self) -> bool {
        let now = rustix::event::Timespec::default();
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().contains(PollFlags::IN)
    }

    /// Passes on what the caller types.
    fn pass(&mut self) {
        let mut buffer = [0; 4096];
        match rustix::io::read(stdio::stdin(), &mut buffer) {
            Ok(length) if length > 0 => {
                write_all(&self.master, buffer.get(..length).unwrap_or_default());
            }
            Err(Errno::INTR | Errno::AGAIN) => (),
            _ => {
                self.reads = false;
                // The end of what is typed, as a terminal has it.
                write_all(&self.master, b"\x04");
            }
        }
    }
}

fn write_all(to: impl AsFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(to.as_fd(), bytes) {
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(Errno::INTR) => (),
            Err(_) => return,
        }
    }
}
