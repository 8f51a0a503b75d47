//! The program as its supervisor sees it: a process, its output, its input.

use std::cell::RefCell;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, OFlags, Uid, fcntl_getfl, fcntl_setfl};
use rustix::io::{self, Errno};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::termios::{self, LocalModes, SpecialCodeIndex};

use crate::error::RunError;
use crate::halt;
use crate::isolation::Processes;
use crate::launch::{Launched, Stdio};
use crate::leftover::Mounts;
use crate::log::Stream;
use crate::network::{Address, Networks};
use crate::port::{Calls, Listeners, Proxy, Way};
use crate::spec::{Publish, Spec};
use crate::state::ASKS_TO_END;
use crate::sys;
use crate::terminal::Size;

/// A running program. Nothing here blocks.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    /// The other end of its terminal, for both directions; or else the three pipes.
    terminal: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Input that it has had no room for yet.
    pending: Vec<u8>,
    /// Whether its input is to end once that is written.
    input_ends: bool,
    /// The signal that it would have died of, were it not the first of its namespace.
    ended_by: Option<i32>,
    /// Whether its end was taken note of: from then on its number may be somebody else's.
    reaped: bool,
    /// The signal that has killed it, once it is reaped.
    killed_by: Option<i32>,
    /// Whether the kernel alone decides what signals do to it.
    bare: bool,
    /// Whether an emulator runs it.
    emulated: bool,
    /// What tells that it binds to published ports, where it is to get the host's sockets, or that it makes
    /// sockets.
    pub(crate) calls: Option<OwnedFd>,
    /// Why nothing leads out of its network namespace, where it has started without.
    pub(crate) lack: Option<RunError>,
    /// What its networks last as long as.
    pub(crate) networks: Networks,
    /// Its mount namespace, if what it leaves running has to be looked for.
    mounts: RefCell<Option<Mounts>>,
    /// A signal that its emulator may die of, and fail to.
    doubt: Option<Doubt>,
}

/// Lets a program that nobody on the host is open its streams again, as programs that log to `/dev/stdout`
/// do. Once it has its ids, nobody inside may do that.
fn give_away(spec: &Spec, streams: [&OwnedFd; 3]) -> Result<(), RunError> {
    let owner = spec.id_map.host_user(spec.user.uid);
    let Some(owner) = owner.filter(|_| spec.isolation.shifted) else {
        return Ok(());
    };
    for stream in streams {
        let stat = rustix::fs::fstat(stream).map_err(RunError::supervise("set up a stream"))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
            rustix::fs::fchown(stream, Some(Uid::from_raw(owner)), None)
                .map_err(RunError::supervise("set up a stream"))?;
        }
    }
    Ok(())
}

/// A signal whose outcome cannot be told at once.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    signal: i32,
    /// When to look again.
    due: Instant,
    /// How long that was put off.
    pause: Duration,
}

impl Doubt {
    /// The first pause, which doubles.
    const FIRST: Duration = Duration::from_millis(5);
    /// The last: a program that has not given in by then has a handler.
    const LAST: Duration = Duration::from_millis(1280);

    fn new(signal: i32, pause: Duration) -> Self {
        let due = Instant::now() + pause;
        Self { signal, due, pause }
    }
}

impl Program {
    /// Launches the program of `spec` with pipes, or with a terminal of `size`, by whichever way leads
    /// into its container.
    pub(crate) fn start(
        spec: &Spec,
        size: Size,
        launch: impl FnOnce(&Spec, Stdio) -> Result<Launched, RunError>,
    ) -> Result<Self, RunError> {
        if spec.tty {
            let Size { rows, columns } = size;
            let launched = launch(spec, Stdio::Terminal { rows, columns })?;
            return Self::new(launched, [None, None, None], spec);
        }
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(RunError::supervise("make a pipe"));
        let (stdin, input) = if spec.stdin {
            let (read, write) = pipe()?;
            (read, Some(write))
        } else {
            let null =
                fs::File::open("/dev/null").map_err(RunError::supervise("open /dev/null"))?;
            (null.into(), None)
        };
        let (output, stdout) = pipe()?;
        let (errors, stderr) = pipe()?;
        give_away(spec, [&stdin, &stdout, &stderr])?;
        let launched = launch(
            spec,
            Stdio::Files {
                stdin,
                stdout,
                stderr,
            },
        )?;
        Self::new(launched, [input, Some(output), Some(errors)], spec)
    }

    fn new(launched: Launched, pipes: [Option<OwnedFd>; 3], spec: &Spec) -> Result<Self, RunError> {
        let Launched {
            pid,
            pidfd,
            terminal,
            // A container that is supervised has the ids that it has.
            pretence: calls,
            networks,
            lack,
            // What it changes is its own.
            baseline: _,
            mounts,
        } = launched;
        for fd in pipes.iter().chain([&terminal]).flatten() {
            let flags = fcntl_getfl(fd).map_err(RunError::supervise("set up a stream"))?;
            fcntl_setfl(fd, flags | OFlags::NONBLOCK)
                .map_err(RunError::supervise("set up a stream"))?;
        }
        let [stdin, stdout, stderr] = pipes;
        Ok(Self {
            pid,
            pidfd,
            terminal,
            stdin,
            stdout,
            stderr,
            pending: Vec::new(),
            input_ends: false,
            ended_by: None,
            reaped: false,
            killed_by: None,
            // Only the first process of a namespace is shielded.
            bare: spec.lifetime.bare || spec.isolation.processes != Processes::Own,
            emulated: spec.emulator.is_some(),
            calls,
            lack,
            networks,
            mounts: RefCell::new(mounts),
            doubt: None,
        })
    }

    /// Leads published ports to it, if there are any.
    pub(crate) fn publish(
        &self,
        spec: &Spec,
        listeners: Listeners,
    ) -> Result<Option<Proxy>, RunError> {
        if listeners.is_empty() {
            return Ok(None);
        }
        let networks: Vec<_> = match spec.publish {
            Publish::Auto if rustix::process::geteuid().is_root() => {
                let all = spec.attachments.iter();
                all.filter(|network| !network.internal).collect()
            }
            _ => Vec::new(),
        };
        let ips = |addresses: &[Address]| addresses.iter().map(|own| own.ip).collect::<Vec<_>>();
        let led: Vec<_> = networks
            .iter()
            .flat_map(|network| ips(&network.addresses))
            .collect();
        let gateways: Vec<_> = networks
            .iter()
            .flat_map(|network| ips(&network.gateways))
            .collect();
        let way = match self.calls.as_ref().filter(|_| spec.is_direct()) {
            Some(calls) => Way::Direct(Calls {
                listener: calls.as_fd(),
                pid: self.pid,
            }),
            None if led.is_empty() => Way::Proxy,
            None => Way::Kernel {
                id: &spec.id,
                addresses: &led,
                gateways: &gateways,
            },
        };
        Proxy::fork(listeners, self.pidfd.as_fd(), way).map(Some)
    }

    /// Receives a call of the program's that waits for an answer, by its id; `None` if it was killed meanwhile.
    pub(crate) fn receive_call(&self) -> Option<u64> {
        let call = sys::receive(self.calls.as_ref()?.as_fd());
        call.ok().map(|call| call.id)
    }

    /// Lets the kernel carry a call of the program's out.
    pub(crate) fn let_go_on(&self, call: u64) {
        if let Some(calls) = &self.calls {
            sys::answer(calls.as_fd(), call, sys::Verdict::Continue);
        }
    }

    /// Where output may come from.
    pub(crate) fn output(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        match stream {
            Stream::Stdout => self.terminal.as_ref().or(self.stdout.as_ref()),
            Stream::Stderr => self.stderr.as_ref(),
        }
        .map(AsFd::as_fd)
    }

    /// Reads output, if there is any.
    pub(crate) fn read<'a>(
        &mut self,
        stream: Stream,
        room: &'a mut [MaybeUninit<u8>],
    ) -> Option<&'a [u8]> {
        match io::read(self.output(stream)?, room) {
            Ok((read, _)) if !read.is_empty() => return Some(read),
            Err(Errno::AGAIN | Errno::INTR) => return None,
            // The end; a terminal that nobody has open any more answers EIO.
            _ => {}
        }
        match stream {
            Stream::Stdout => (self.terminal, self.stdout) = (None, None),
            Stream::Stderr => self.stderr = None,
        }
        None
    }

    /// Where input goes.
    pub(crate) fn input(&self) -> Option<BorrowedFd<'_>> {
        self.terminal
            .as_ref()
            .or(self.stdin.as_ref())
            .map(AsFd::as_fd)
    }

    /// Writes input; what there is no room for is written by [`Program::flush`].
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.flush();
        self.heed_typed_signals(bytes);
    }

    /// Writes input that waits, as far as there is room.
    pub(crate) fn flush(&mut self) {
        while let Some(fd) = self.input()
            && !self.pending.is_empty()
        {
            match io::write(fd, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.stdin = None;
                    break;
                }
            }
        }
        self.pending = Vec::new();
        if self.input_ends {
            self.stdin = None;
        }
    }

    /// Whether input waits for room.
    pub(crate) fn lags(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Ends the input, after what waits. A terminal's has no end.
    pub(crate) fn end_input(&mut self) {
        self.input_ends = true;
        if self.pending.is_empty() {
            self.stdin = None;
        }
    }

    /// Changes the size of its terminal.
    pub(crate) fn resize(&self, size: Size) {
        if let Some(terminal) = &self.terminal {
            let _ = termios::tcsetwinsize(terminal, size.winsize());
        }
    }

    /// Sends it a signal. One that asks it to end ends it, if it has made no arrangements: for the
    /// first process of a PID namespace the kernel would drop such a signal.
    pub(crate) fn deliver(&mut self, signal: i32) {
        if ASKS_TO_END.contains(&signal) && self.is_indifferent(signal) {
            self.ended_by = Some(signal);
            let _ = sys::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        } else {
            let _ = sys::send_signal(self.pidfd.as_fd(), signal);
            self.begin_to_doubt(signal);
        }
    }

    /// An emulator catches every signal. One that the program makes no arrangements for it lets go, and
    /// sends it to itself, to die of it; for the first process of a PID namespace that comes to nothing,
    /// and it waits for ever. Only by looking again can it be told that this has happened.
    fn begin_to_doubt(&mut self, signal: i32) {
        if self.emulated && !self.bare && ASKS_TO_END.contains(&signal) {
            self.doubt = Some(Doubt::new(signal, Doubt::FIRST));
        }
    }

    /// How long until [`Program::look_again`] is to be called, if there is something to look at.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let doubt = self.doubt.as_ref()?;
        Some(doubt.due.saturating_duration_since(Instant::now()))
    }

    /// Ends the program if its emulator waits for its own death.
    pub(crate) fn look_again(&mut self) {
        let due = |doubt: &mut Doubt| doubt.due <= Instant::now();
        let Some(Doubt { signal, pause, .. }) = self.doubt.take_if(due) else {
            return;
        };
        if self.is_indifferent(signal) {
            self.ended_by = Some(signal);
            let _ = sys::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        } else if pause < Doubt::LAST {
            self.doubt = Some(Doubt::new(signal, pause * 2));
        }
    }

    /// Whether it neither catches, ignores nor blocks `signal` (proc_pid_status(5)).
    fn is_indifferent(&self, signal: i32) -> bool {
        if self.bare {
            return false;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let masks = ["SigBlk:", "SigIgn:", "SigCgt:"];
        let known: Vec<u64> = status
            .lines()
            .filter_map(|line| masks.iter().find_map(|mask| line.strip_prefix(mask)))
            .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .collect();
        known.len() == masks.len() && known.iter().all(|mask| mask & (1 << (signal - 1)) == 0)
    }

    /// A terminal turns Ctrl-C into a signal by itself, but the kernel drops it as it does others.
    fn heed_typed_signals(&mut self, typed: &[u8]) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        let Ok(modes) = termios::tcgetattr(terminal) else {
            return;
        };
        let foreground = termios::tcgetpgrp(terminal);
        let is_foreground =
            foreground.is_ok_and(|group| group.as_raw_nonzero().get().unsigned_abs() == self.pid);
        if !modes.local_modes.contains(LocalModes::ISIG) || !is_foreground {
            return;
        }
        let keys = [
            (SpecialCodeIndex::VINTR, libc::SIGINT),
            (SpecialCodeIndex::VQUIT, libc::SIGQUIT),
        ];
        for (key, signal) in keys {
            if !typed.contains(&modes.special_codes[key]) {
                continue;
            }
            if self.is_indifferent(signal) {
                self.deliver(signal);
            } else {
                self.begin_to_doubt(signal);
            }
        }
    }

    /// Its exit status, or 128 + the signal that killed it. Only to be asked when it has ended.
    pub(crate) fn reap(&mut self) -> i32 {
        let ended = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        self.reaped = true;
        self.mounts.take().into_iter().for_each(Mounts::end);
        let Ok(Some(status)) = ended else {
            return 128 + libc::SIGKILL;
        };
        self.killed_by = status.terminating_signal();
        match (status.exit_status(), self.killed_by) {
            (Some(code), _) => code,
            (None, Some(libc::SIGKILL)) => 128 + self.ended_by.unwrap_or(libc::SIGKILL),
            (None, signal) => 128 + signal.unwrap_or(libc::SIGKILL),
        }
    }

    /// Lets all processes of its container go on that were stopped. With it, they have ended.
    pub(crate) fn resume(&self) {
        if !self.reaped {
            halt::resume(self.pid);
        }
    }

    /// The signal that has killed it, if one has and it is reaped.
    pub(crate) fn killed_by(&self) -> Option<i32> {
        self.killed_by
    }

    /// The signal that has ended it in the kernel's stead; 0 if none has.
    pub(crate) fn ended_by(&self) -> i32 {
        self.ended_by.unwrap_or(0)
    }

    /// Ends it, because its supervisor cannot go on.
    pub(crate) fn kill(&mut self) {
        let _ = sys::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        self.reap();
    }
}
