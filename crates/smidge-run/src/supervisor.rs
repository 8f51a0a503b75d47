//! The process that watches over one container: its streams, its log, its ports, its end.
//!
//! [`start`] forks it off a process with one thread; it has one thread too, and one loop that
//! never blocks on anything but `poll(2)`. It outlives the client that started it. If it is killed
//! itself, the kernel kills the program, and [`State::read`] says so.

use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::process;

use crate::client::Client;
use crate::error::RunError;
use crate::log::{Stream, Writer};
use crate::message::{CHUNK, LIMIT, Reply, Request, Running, Streams};
use crate::port::{Listeners, Proxy};
use crate::program::Program;
use crate::removal::remove_tree;
use crate::session::{self, Attach, Started};
use crate::spec::{Network, Spec};
use crate::state::{self, State, Status};
use crate::sys;
use crate::terminal::Size;

/// Signals that the supervisor passes on to the program instead of dying of them.
const PASSED_ON: [i32; 6] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// The most output that is taken over after the program's end: what the largest pipes hold.
const DRAINED: usize = 4 << 20;

/// How long another process may hold a container's lock without supervising it: it takes microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Starts the container of `spec`, new or stopped before, and returns when its program has been
/// executed. Published ports are bound first, so that one that is taken costs nothing.
///
/// The caller must have one thread only.
///
/// # Errors
/// Everything that keeps the program from starting.
pub fn start(spec: &Spec, attach: Option<Attach>) -> Result<Started, RunError> {
    let listeners = match spec.network {
        Network::Private => Listeners::bind(&spec.ports)?,
        Network::Host | Network::None => Listeners::default(),
    };
    let lock = take(spec)?;
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(RunError::supervise("talk to the supervisor"))?;
    let fork = sys::fork().map_err(RunError::supervise("start the supervisor"))?;
    if fork.is_none() {
        let size = Size::of_caller();
        let streams = attach.as_ref().map(Attach::streams).unwrap_or_default();
        supervise(
            Duty {
                spec,
                listeners,
                lock,
                size,
            },
            theirs,
            streams,
        );
        sys::exit(0);
    }
    drop((theirs, lock, listeners));
    Started::hear(ours, &spec.dir, attach)
}

/// Takes the container's lock. Held by a process that is not supervising it, it is about to be free,
/// or about to belong to a supervisor.
fn take(spec: &Spec) -> Result<File, RunError> {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(lock) = state::lock(&spec.dir)? {
            return Ok(lock);
        }
        let is_running = State::read(&spec.dir)?.status == Status::Running;
        if is_running || Instant::now() > patience {
            return Err(RunError::AlreadyRunning {
                id: spec.id.clone(),
            });
        }
        std::thread::yield_now();
    }
}

/// What a new supervisor takes over.
struct Duty<'a> {
    spec: &'a Spec,
    listeners: Listeners,
    /// The container's directory, locked.
    lock: File,
    /// The size of the caller's terminal.
    size: Size,
}

fn supervise(duty: Duty<'_>, socket: OwnedFd, streams: Streams) {
    let mut keep = vec![duty.lock.as_fd(), socket.as_fd()];
    keep.extend(duty.listeners.sockets().map(AsFd::as_fd));
    sys::close_all_but(&keep);
    leave_session(c"smidge-super");
    let mut starter = Client::new(socket);
    starter.join(streams);
    match Supervisor::new(duty) {
        Ok(mut supervisor) => {
            supervisor.stdin_once = streams.stdin;
            starter.tell(&Reply::Started(supervisor.running()));
            if starter.gone {
                // Whoever wanted it was killed before it could know: it never was.
                supervisor.program.deliver(libc::SIGKILL);
            }
            supervisor.clients.push(starter);
            sys::release_memory();
            supervisor.run();
        }
        Err(error) => starter.tell(&Reply::Failed(error)),
    }
}

/// Leaves the caller's session, terminal, directory and standard streams, and gets a name.
pub(crate) fn leave_session(name: &CStr) {
    let _ = process::setsid();
    let _ = process::chdir("/");
    let _ = rustix::thread::set_name(name);
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// Something that the loop waits for. In the order in which it is served: the exit comes last.
#[derive(Clone, Copy, Debug)]
enum Source {
    Output(Stream),
    Input,
    Signal,
    Door,
    Client(usize),
    Exit,
}

struct Supervisor<'a> {
    spec: &'a Spec,
    program: Program,
    proxy: Option<Proxy>,
    state: State,
    log: Writer,
    clients: Vec<Client>,
    /// Where later clients come in.
    door: OwnedFd,
    signals: OwnedFd,
    /// Whether the program's input ends with its client's.
    stdin_once: bool,
    buffer: Vec<u8>,
    /// Held until everything is released.
    lock: File,
}

impl<'a> Supervisor<'a> {
    /// Starts the program and everything around it.
    fn new(duty: Duty<'a>) -> Result<Self, RunError> {
        let Duty {
            spec,
            listeners,
            lock,
            size,
        } = duty;
        let log = if spec.log {
            Writer::open(&spec.dir)?
        } else {
            Writer::disabled()
        };
        let door =
            session::open_door(&lock).map_err(RunError::record(&spec.dir.join(session::DOOR)))?;
        let program = Program::launch(spec, size)?;
        let state = State::running(program.pid, listeners.ports().to_vec());
        let surround = || {
            let proxy = match listeners.is_empty() {
                true => None,
                false => Some(Proxy::fork(listeners, program.pidfd.as_fd())?),
            };
            let signals = sys::signal_fd(&PASSED_ON);
            let signals = signals.map_err(RunError::supervise("watch for signals"))?;
            state.write(&spec.dir)?;
            Ok((proxy, signals))
        };
        let (proxy, signals) = surround().inspect_err(|_| program.kill())?;
        Ok(Self {
            spec,
            program,
            proxy,
            state,
            log,
            clients: Vec::new(),
            door,
            signals,
            stdin_once: false,
            buffer: vec![0; LIMIT],
            lock,
        })
    }

    fn running(&self) -> Running {
        Running {
            pid: self.program.pid,
            ports: self.state.ports.clone(),
            tty: self.spec.tty,
        }
    }

    fn run(mut self) {
        while !self.turn() {}
        let code = self.program.reap();
        self.drain();
        self.release(code);
        self.say_farewell(code);
    }

    /// Waits for something to do and does it; true when the program has ended.
    fn turn(&mut self) -> bool {
        let interests = self.interests();
        let mut fds: Vec<PollFd<'_>> = interests
            .iter()
            .map(|(source, flags)| PollFd::from_borrowed_fd(self.descriptor(*source), *flags))
            .collect();
        let patience = self.program.patience();
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        // Only fails if interrupted, or if memory is short: tried again either way.
        if poll(&mut fds, patience.as_ref()).is_err() {
            return false;
        }
        let due: Vec<Source> = interests
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|((source, _), _)| *source)
            .collect();
        let ended = due.iter().any(|source| self.serve(*source));
        self.dismiss();
        self.program.look_again();
        ended
    }

    /// What to wait for. While a client lags, the program's output waits for it; while the
    /// program's input lags, the clients' does.
    fn interests(&self) -> Vec<(Source, PollFlags)> {
        let mut interests = Vec::with_capacity(8);
        if !self.clients.iter().any(Client::lags) {
            for stream in [Stream::Stdout, Stream::Stderr] {
                if self.program.output(stream).is_some() {
                    interests.push((Source::Output(stream), PollFlags::IN));
                }
            }
        }
        if self.program.lags() && self.program.input().is_some() {
            interests.push((Source::Input, PollFlags::OUT));
        }
        interests.push((Source::Signal, PollFlags::IN));
        interests.push((Source::Door, PollFlags::IN));
        for (index, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(
                PollFlags::IN,
                !(client.streams.stdin && self.program.lags()),
            );
            flags.set(PollFlags::OUT, client.lags());
            // Without a flag its hanging up would be reported again and again.
            if !flags.is_empty() {
                interests.push((Source::Client(index), flags));
            }
        }
        interests.push((Source::Exit, PollFlags::IN));
        interests
    }

    fn descriptor(&self, source: Source) -> BorrowedFd<'_> {
        let missing = self.door.as_fd();
        match source {
            Source::Output(stream) => self.program.output(stream).unwrap_or(missing),
            Source::Input => self.program.input().unwrap_or(missing),
            Source::Signal => self.signals.as_fd(),
            Source::Door => self.door.as_fd(),
            Source::Client(index) => self.clients[index].socket.as_fd(),
            Source::Exit => self.program.pidfd.as_fd(),
        }
    }

    /// Serves one source; true if it says that the program has ended.
    fn serve(&mut self, source: Source) -> bool {
        match source {
            Source::Output(stream) => {
                self.pass_output(stream);
            }
            Source::Input => self.program.flush(),
            Source::Signal => {
                while let Some(signal) = sys::read_signal(self.signals.as_fd()) {
                    self.program.deliver(signal);
                }
            }
            Source::Door => self.admit(),
            Source::Client(index) => self.serve_client(index),
            Source::Exit => return true,
        }
        false
    }

    /// Passes some output to the log and the clients; false if there is none now.
    fn pass_output(&mut self, stream: Stream) -> bool {
        let Some(length) = self.program.read(stream, &mut self.buffer[..CHUNK]) else {
            return false;
        };
        let chunk = &self.buffer[..length];
        self.log.append(stream, chunk);
        for client in self
            .clients
            .iter_mut()
            .filter(|client| client.streams.wants(stream))
        {
            client.tell(&Reply::Output(stream, chunk));
        }
        true
    }

    fn admit(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = net::accept_with(&self.door, flags) {
            self.clients.push(Client::new(socket));
        }
    }

    fn serve_client(&mut self, index: usize) {
        let running = self.running();
        let client = &mut self.clients[index];
        client.flush();
        let length = match net::recv(&client.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) if length > 0 => length,
            // After a reset comes what the client had said before it left.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNRESET) => return,
            _ => {
                client.gone = true;
                return;
            }
        };
        let streams = client.streams;
        match Request::decode(&self.buffer[..length]) {
            Some(Request::Join(streams)) if !client.joined => {
                client.join(streams);
                client.tell(&Reply::Started(running));
            }
            Some(Request::Input(bytes)) if streams.stdin => self.program.write(bytes),
            Some(Request::InputEnd) if streams.stdin && self.stdin_once => self.program.end_input(),
            Some(Request::Resize { rows, columns }) => self.program.resize(Size { rows, columns }),
            Some(Request::Signal(signal)) => self.program.deliver(signal),
            _ => {}
        }
    }

    /// Forgets clients that are gone. Input that only they could give has ended.
    fn dismiss(&mut self) {
        if self.stdin_once
            && self
                .clients
                .iter()
                .any(|client| client.gone && client.streams.stdin)
        {
            self.program.end_input();
        }
        self.clients.retain(|client| !client.gone);
    }

    /// Passes on what the program has left in its pipes. Bounded: somebody outside of the
    /// container may have got hold of one.
    fn drain(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut rest = DRAINED / CHUNK;
            while rest > 0 && self.pass_output(stream) {
                rest -= 1;
            }
        }
        self.log.finish();
    }

    /// Lets go of everything that the container held, the door last: who can come in waits for more
    /// than the program's end.
    fn release(&mut self, code: i32) {
        if let Some(proxy) = self.proxy.take() {
            proxy.stop();
        }
        self.state.finish(code);
        // Who waits for a container that is thrown away hears its end from the socket.
        let _ = self.state.write(&self.spec.dir);
        for path in &self.spec.cleanup {
            if let Err(error) = remove_tree(&self.spec.id_map, path) {
                self.state.error = error.to_string();
                let _ = self.state.write(&self.spec.dir);
            }
        }
        let _ = fs::remove_file(self.spec.dir.join(session::DOOR));
    }

    /// Tells everybody the end, and stays until they have heard it.
    fn say_farewell(mut self, code: i32) {
        self.admit();
        let Self {
            mut clients,
            lock,
            door,
            ..
        } = self;
        drop((lock, door));
        for client in &mut clients {
            client.tell(&Reply::Exited(code));
        }
        clients.retain(Client::lags);
        while !clients.is_empty() {
            let mut fds: Vec<PollFd<'_>> = clients
                .iter()
                .map(|client| PollFd::new(&client.socket, PollFlags::OUT))
                .collect();
            let _ = poll(&mut fds, None);
            clients.iter_mut().for_each(Client::flush);
            clients.retain(Client::lags);
        }
    }
}
