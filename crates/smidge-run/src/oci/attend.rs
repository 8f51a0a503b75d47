//! A caller that stays until a program has ended: passes signals on, stands for its terminal, tells how it
//! ended.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_setfl};
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
        let due = Due::wait(&pidfd, &signals, relay.as_ref()).map_err(fault())?;
        if due.signals {
            while let Some(signal) = sys::read_signal(signals.as_fd()) {
                match (signal, &relay) {
                    (libc::SIGWINCH, Some(relay)) => relay.resize(),
                    (signal, _) => sys::kill(pid, signal),
                }
            }
        }
        if let Some(relay) = &mut relay {
            relay.go_on(&due);
        }
        if due.end {
            break;
        }
    }
    if let Some(relay) = &mut relay {
        relay.finish();
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

/// What there is to do.
#[derive(Default)]
struct Due {
    end: bool,
    signals: bool,
    master: bool,
    stdin: bool,
    stdout: bool,
}

impl Due {
    /// Waits until there is something.
    fn wait(pidfd: &OwnedFd, signals: &OwnedFd, relay: Option<&Relay>) -> rustix::io::Result<Self> {
        let (stdin, stdout) = (stdio::stdin(), stdio::stdout());
        let mut due = Self::default();
        let mut fds = vec![
            (&mut due.end, PollFd::new(pidfd, PollFlags::IN)),
            (&mut due.signals, PollFd::new(signals, PollFlags::IN)),
        ];
        if let Some(relay) = relay {
            let mut interest = PollFlags::empty();
            interest.set(PollFlags::IN, relay.said.is_empty());
            interest.set(PollFlags::OUT, !relay.typed.is_empty());
            // Whoever only waits for the caller's terminal hears too often that nobody has this one open.
            if !interest.is_empty() {
                fds.push((&mut due.master, PollFd::new(&relay.master, interest)));
            }
            if relay.reads && relay.typed.is_empty() {
                fds.push((&mut due.stdin, PollFd::new(&stdin, PollFlags::IN)));
            }
            if !relay.said.is_empty() {
                fds.push((&mut due.stdout, PollFd::new(&stdout, PollFlags::OUT)));
            }
        }
        let (places, mut fds): (Vec<&mut bool>, Vec<PollFd<'_>>) = fds.into_iter().unzip();
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(errno) => return Err(errno),
        }
        for (place, fd) in places.into_iter().zip(fds) {
            *place = !fd.revents().is_empty();
        }
        Ok(due)
    }
}

/// The caller's terminal, which stands for the program's. Whoever does not read, the program or the one
/// that shows what it says, is waited for by nothing but its own direction.
struct Relay {
    master: OwnedFd,
    /// Whether there is still something to be read from the caller.
    reads: bool,
    /// What the caller has typed, and the program's terminal has no room for yet.
    typed: Vec<u8>,
    /// What the program has said, and the caller's has no room for yet.
    said: Vec<u8>,
}

/// As much as a pipe takes at once that has room (pipe(7)).
const CHUNK: usize = 4096;

/// More than a terminal holds that nobody reads, in chunks.
const HELD: usize = 64;

impl Relay {
    fn new(master: OwnedFd) -> Self {
        // Nobody else has it open: whoever made it executes the program.
        let _ = fcntl_setfl(&master, OFlags::NONBLOCK);
        let relay = Self {
            master,
            reads: true,
            typed: Vec::new(),
            said: Vec::new(),
        };
        relay.resize();
        relay
    }

    fn resize(&self) {
        let _ = rustix::termios::tcsetwinsize(&self.master, Size::of_caller().winsize());
    }

    fn go_on(&mut self, due: &Due) {
        if due.stdout {
            write_some(stdio::stdout(), &mut self.said);
        }
        if due.master {
            write_some(&self.master, &mut self.typed);
            if self.said.is_empty() && !self.hear() && self.typed.is_empty() && !due.end {
                // Nobody has it open any more, or not yet again.
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        if due.stdin {
            self.read();
        }
    }

    /// Hears what the program says; whether it has said anything.
    fn hear(&mut self) -> bool {
        let mut buffer = [0; CHUNK];
        let length = rustix::io::read(&self.master, &mut buffer).unwrap_or(0);
        self.said
            .extend_from_slice(buffer.get(..length).unwrap_or_default());
        length > 0
    }

    /// Shows what the program has said before it ended.
    fn finish(&mut self) {
        for _ in 0..HELD {
            while !self.said.is_empty() {
                // Somebody who shares it may have made it one that does not wait.
                let _ = poll(&mut [PollFd::new(&stdio::stdout(), PollFlags::OUT)], None);
                write_some(stdio::stdout(), &mut self.said);
            }
            if !self.hear() {
                break;
            }
        }
    }

    /// Takes what the caller types.
    fn read(&mut self) {
        let mut buffer = [0; CHUNK];
        match rustix::io::read(stdio::stdin(), &mut buffer) {
            Ok(length) if length > 0 => {
                self.typed
                    .extend_from_slice(buffer.get(..length).unwrap_or_default());
            }
            Err(Errno::INTR | Errno::AGAIN) => (),
            _ => {
                self.reads = false;
                // The end of what is typed, as a terminal has it.
                self.typed.push(4);
            }
        }
    }
}

/// Writes what there is room for. What nobody can take is dropped.
fn write_some(to: impl AsFd, bytes: &mut Vec<u8>) {
    match rustix::io::write(to, bytes) {
        Ok(length) => drop(bytes.drain(..length)),
        Err(Errno::INTR | Errno::AGAIN) => (),
        Err(_) => bytes.clear(),
    }
}
