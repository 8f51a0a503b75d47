//! A client's side of a running container: its terminal and streams, passed to and fro.
//!
//! The client itself reads and writes its descriptors, never the supervisor: whoever else shares
//! them (the shell that comes back, a stopped job) finds their flags, their offset and their input
//! untouched, and a client that blocks on them blocks nobody else.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process;
use rustix::stdio;

use crate::error::RunError;
use crate::log::Stream;
use crate::message::{self, CHUNK, Reply, Request, Running, Streams};
use crate::reason::Reason;
use crate::state::{self, Process, State};
use crate::sys;
use crate::terminal::{DetachKeys, RawMode, Size};

/// Signals that a waiting client passes on to the program.
const PASSED_ON: [i32; 7] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

/// Where a supervisor listens, in its container's directory.
pub(crate) const DOOR: &str = "attach.sock";

/// Clients that may wait to be let in.
const BACKLOG: i32 = 128;

/// Which of the caller's streams are joined with the program's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// Whether the caller's standard input goes to the program.
    pub stdin: bool,
    /// Whether the program's output comes to the caller's.
    pub stdout: bool,
    /// Whether the program's error output comes to the caller's. With a terminal there is none.
    pub stderr: bool,
    /// The keys that detach, when the program has a terminal: [`Attach::DETACH_KEYS`] by default,
    /// none if empty.
    pub detach_keys: Vec<u8>,
    /// Whether signals that the caller gets go to the program.
    pub signals: bool,
}

impl Attach {
    /// Ctrl-P Ctrl-Q.
    pub const DETACH_KEYS: [u8; 2] = [0x10, 0x11];

    pub(crate) fn streams(&self) -> Streams {
        Streams {
            stdin: self.stdin,
            stdout: self.stdout,
            stderr: self.stderr,
        }
    }
}

/// A container whose program has been executed.
#[derive(Debug)]
pub struct Started {
    /// The program's process id on the host.
    pub pid: u32,
    tty: bool,
    dir: PathBuf,
    socket: OwnedFd,
    attach: Option<Attach>,
    /// The program, if it is not the container's own: signals go to it and not to the container.
    visitor: Option<Option<OwnedFd>>,
}

/// How an attached session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The program ended: its exit status, or 128 + the signal that killed it.
    Exited(i32),
    /// The program goes on without the caller.
    Detached,
}

impl Started {
    /// Hears on `socket` whether the program has been executed.
    pub(crate) fn hear(
        socket: OwnedFd,
        dir: &Path,
        attach: Option<Attach>,
    ) -> Result<Self, RunError> {
        let mut packet = Vec::new();
        message::receive(&socket, &mut packet)
            .map_err(RunError::supervise("hear from the supervisor"))?;
        match Reply::decode(&packet) {
            Some(Reply::Started(Running { pid, tty })) => Ok(Self {
                pid,
                tty,
                dir: dir.to_owned(),
                socket,
                attach,
                visitor: None,
            }),
            Some(Reply::Failed(error)) => Err(error),
            _ => Err(RunError::Unsupervised { id: state::id(dir) }),
        }
    }

    /// Says that the program is one beside the container's own.
    pub(crate) fn of_visitor(self) -> Self {
        let visitor = Some(Process::of(self.pid).open());
        Self { visitor, ..self }
    }

    /// Passes streams, window sizes and signals to and fro until the program has ended, or the
    /// user detaches. When it has ended, everything that the container held is released already.
    ///
    /// Without an [`Attach`] it only waits. If the caller's output is closed, it detaches.
    ///
    /// # Errors
    /// When the supervisor was killed.
    pub fn wait(self) -> Result<Ended, RunError> {
        self.hear_out().map(|(ended, _)| ended)
    }

    /// The same; tells why the program has ended, too, if that is known.
    ///
    /// # Errors
    /// As [`Started::wait`].
    pub fn hear_out(self) -> Result<(Ended, Option<Reason>), RunError> {
        let attach = self.attach.clone().unwrap_or(Attach {
            stdin: false,
            stdout: false,
            stderr: false,
            detach_keys: Vec::new(),
            signals: true,
        });
        let heard = if attach.signals {
            &PASSED_ON[..]
        } else {
            &[libc::SIGWINCH]
        };
        let signals = sys::signal_fd(heard).map_err(RunError::supervise("watch for signals"))?;
        let raw = if self.tty && attach.stdin {
            RawMode::enter()
        } else {
            None
        };
        let mut relay = Relay {
            keys: DetachKeys::new(if self.tty {
                attach.detach_keys
            } else {
                Vec::new()
            }),
            reads: attach.stdin,
            outgoing: None,
            packet: Vec::new(),
            session: self,
            reason: None,
        };
        if relay.session.tty {
            relay.resize();
        }
        let ended = relay.run(signals.as_fd());
        drop(raw);
        sys::unblock_signals(heard);
        Ok((ended?, relay.reason))
    }
}

/// The client's loop.
struct Relay {
    session: Started,
    keys: DetachKeys,
    /// Whether standard input is still to be read.
    reads: bool,
    /// A packet that the supervisor has no room for yet.
    outgoing: Option<Vec<u8>>,
    packet: Vec<u8>,
    /// Why the program has ended.
    reason: Option<Reason>,
}

impl Relay {
    fn run(&mut self, signals: BorrowedFd<'_>) -> Result<Ended, RunError> {
        loop {
            let [socket, signalled, input] = self.poll(signals)?;
            if signalled {
                while let Some(signal) = sys::read_signal(signals) {
                    if let Some(ended) = self.pass_on(signal) {
                        return Ok(ended);
                    }
                }
            }
            if socket && let Some(ended) = self.receive()? {
                return Ok(ended);
            }
            if input && self.read_input() {
                return Ok(Ended::Detached);
            }
            if let Some(packet) = self.outgoing.take() {
                self.send(packet);
            }
        }
    }

    /// Waits until the socket, a signal or standard input has something.
    fn poll(&self, signals: BorrowedFd<'_>) -> Result<[bool; 3], RunError> {
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, self.outgoing.is_some());
        let stdin = stdio::stdin();
        let mut fds = vec![
            PollFd::new(&self.session.socket, interest),
            PollFd::from_borrowed_fd(signals, PollFlags::IN),
        ];
        if self.reads && self.outgoing.is_none() {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        loop {
            match poll(&mut fds, None) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(RunError::supervise("wait for the container")(error)),
            }
        }
        let due = |index: usize, flags: PollFlags| {
            fds.get(index)
                .is_some_and(|fd| fd.revents().intersects(flags))
        };
        let any = !PollFlags::OUT;
        Ok([due(0, any), due(1, any), due(2, any)])
    }

    fn receive(&mut self) -> Result<Option<Ended>, RunError> {
        let received = message::receive(&self.session.socket, &mut self.packet);
        if received.is_err() || self.packet.is_empty() {
            // Killed: the program is dead too, by the kernel's hand.
            State::read(&self.session.dir)?;
            return Err(RunError::Unsupervised {
                id: state::id(&self.session.dir),
            });
        }
        let written = match Reply::decode(&self.packet) {
            Some(Reply::Output(Stream::Stdout, bytes)) => write_all(stdio::stdout(), bytes),
            Some(Reply::Output(Stream::Stderr, bytes)) => write_all(stdio::stderr(), bytes),
            Some(Reply::Exited(code)) => return Ok(Some(Ended::Exited(code))),
            Some(Reply::Why(reason)) => {
                self.reason = Some(reason);
                Ok(())
            }
            _ => Ok(()),
        };
        Ok(written.is_err().then_some(Ended::Detached))
    }

    /// Reads what there is to read; true if the user detaches.
    fn read_input(&mut self) -> bool {
        let mut typed = vec![0; CHUNK];
        let length = match rustix::io::read(stdio::stdin(), &mut typed) {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Err(_) => 0,
        };
        if length == 0 {
            self.reads = false;
            self.outgoing = Some(Request::InputEnd.encode());
            return false;
        }
        let mut passed_on = Vec::with_capacity(length);
        let detached = self.keys.filter(&typed[..length], &mut passed_on);
        if !passed_on.is_empty() {
            self.outgoing = Some(Request::Input(&passed_on).encode());
        }
        if detached && let Some(packet) = self.outgoing.take() {
            self.send(packet);
        }
        detached
    }

    /// Sends a packet, or keeps it until there is room. A supervisor that is gone shows in `receive`.
    fn send(&mut self, packet: Vec<u8>) {
        if let Ok(false) = message::send(&self.session.socket, &packet) {
            self.outgoing = Some(packet);
        }
    }

    fn resize(&mut self) {
        let Size { rows, columns } = Size::of_caller();
        let _ = message::send(
            &self.session.socket,
            &Request::Resize { rows, columns }.encode(),
        );
    }

    /// Passes a signal on. It takes another way than the input, which may be stuck because the
    /// program does not read it.
    fn pass_on(&mut self, number: i32) -> Option<Ended> {
        match number {
            libc::SIGWINCH => {
                if self.session.tty {
                    self.resize();
                }
                None
            }
            // The terminal is gone, the container stays.
            libc::SIGHUP if self.session.tty => Some(Ended::Detached),
            _ => {
                match &self.session.visitor {
                    None => drop(signal(&self.session.dir, number)),
                    Some(Some(program)) => drop(sys::send_signal(program.as_fd(), number)),
                    Some(None) => (),
                }
                None
            }
        }
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            // Somebody who shares the descriptor has made it so.
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Attaches to the running container in `dir`.
///
/// # Errors
/// `NotRunning`, or why its supervisor cannot be reached.
pub fn attach(dir: &Path, attach: &Attach) -> Result<Started, RunError> {
    let not_running = |_| RunError::NotRunning { id: state::id(dir) };
    let socket = connect(dir).map_err(not_running)?;
    let join = Request::Join(attach.streams()).encode();
    message::send(&socket, &join).map_err(|error| not_running(error.into()))?;
    let started = Started::hear(socket, dir, Some(attach.clone()))?;
    if started.tty {
        // Only a change of size makes a full-screen program draw itself again.
        let Size { rows, columns } = Size::of_caller();
        let odd = Request::Resize {
            rows: rows.saturating_add(1),
            columns,
        };
        let _ = message::send(&started.socket, &odd.encode());
    }
    Ok(started)
}

/// Asks the supervisor of the container in `dir` for something that it answers.
pub(crate) fn ask(dir: &Path, request: &Request<'_>) -> Result<(), RunError> {
    let not_running = |_| RunError::NotRunning { id: state::id(dir) };
    let socket = connect(dir).map_err(not_running)?;
    message::send(&socket, &request.encode()).map_err(|error| not_running(error.into()))?;
    let mut packet = Vec::new();
    loop {
        let received = message::receive(&socket, &mut packet);
        received.map_err(|error| not_running(error.into()))?;
        match Reply::decode(&packet) {
            Some(Reply::Done) => return Ok(()),
            Some(Reply::Failed(error)) => return Err(error),
            Some(_) => {}
            None => return Err(RunError::NotRunning { id: state::id(dir) }),
        }
    }
}

/// Sends a signal by way of the supervisor.
pub(crate) fn signal(dir: &Path, signal: i32) -> io::Result<()> {
    message::send(connect(dir)?, &Request::Signal(signal).encode())?;
    Ok(())
}

/// Tells the supervisor something about its program's end. If there is none, there is nobody to be told.
pub(crate) fn tell(dir: &Path, request: &Request<'_>) {
    if let Ok(socket) = connect(dir) {
        let _ = message::send(socket, &request.encode());
    }
}

/// Lets the supervisor know that the caller stops the container's processes: it lets them go on when what is
/// returned is closed, by whomever.
pub(crate) fn halt(dir: &Path) -> io::Result<OwnedFd> {
    let socket = connect(dir)?;
    message::send(&socket, &Request::Halt.encode())?;
    Ok(socket)
}

/// Waits for the exit status of the container in `dir`; `Some(None)` if `timeout` passes first,
/// `None` if it cannot be had from a supervisor.
pub(crate) fn watch(dir: &Path, timeout: Option<Duration>) -> Option<Option<i32>> {
    let socket = connect(dir).ok()?;
    message::send(&socket, &Request::Join(Streams::default()).encode()).ok()?;
    // A time that no clock will show is none.
    let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut packet = Vec::new();
    loop {
        let rest = end.map(|end| end.saturating_duration_since(Instant::now()));
        let rest = rest.and_then(|rest| Timespec::try_from(rest).ok());
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], rest.as_ref()) {
            Ok(0) => return Some(None),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return None,
        }
        message::receive(&socket, &mut packet).ok()?;
        match Reply::decode(&packet) {
            Some(Reply::Exited(code)) => return Some(Some(code)),
            Some(_) => {}
            None => return None,
        }
    }
}

/// Connects to the supervisor of the container in `dir`. By way of a descriptor, because the path
/// of the socket may be longer than an address holds (unix(7): 108 bytes).
fn connect(dir: &Path) -> io::Result<OwnedFd> {
    let dir = File::open(dir)?;
    let socket = net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    net::connect(&socket, &address(&dir)?)?;
    Ok(socket)
}

/// Whether a supervisor listens in `dir`, perhaps before its program runs.
pub(crate) fn is_supervised(dir: &Path) -> bool {
    // Most containers are looked at when they are stopped: that takes one call.
    dir.join(DOOR).exists() && connect(dir).is_ok()
}

/// Listens in the container's directory, for its owner only.
pub(crate) fn open_door(dir: &File) -> io::Result<OwnedFd> {
    let address = address(dir)?;
    if let Some(path) = address.path() {
        let _ = rustix::fs::unlink(path.as_ref());
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let door = net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let usual = process::umask(Mode::RWXG | Mode::RWXO);
    let bound = net::bind(&door, &address);
    process::umask(usual);
    bound?;
    net::listen(&door, BACKLOG)?;
    Ok(door)
}

/// The address of the supervisor's socket in the directory that is open as `dir`.
fn address(dir: &File) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!(
        "/proc/self/fd/{}/attach.sock",
        dir.as_raw_fd()
    ))?)
}
