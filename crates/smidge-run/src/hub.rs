//! A program's streams and the clients that share them: what every process does that watches over a
//! program for others. Nothing here blocks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags};

use crate::cgroup::Resources;
use crate::client::Client;
use crate::lifetime::{Restart, Settling};
use crate::log::{Stream, Writer};
use crate::message::{CHUNK, LIMIT, Reply, Request, Running, Streams};
use crate::network::Attachment;
use crate::program::Program;
use crate::reason::Reason;
use crate::terminal::Size;

/// The most output that is taken over after the program's end: what the largest pipes hold.
const DRAINED: usize = 4 << 20;

/// Something that a watching process waits for. In the order in which it is served: the exit comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Output(Stream),
    Input,
    Client(usize),
    /// One of the watching process's own.
    Own(u8),
    Exit,
}

/// Something that a client asks for and is answered.
#[derive(Debug)]
pub(crate) enum Wish {
    /// To be put on a network.
    Connect(Box<Attachment>),
    /// To be taken off the network of a bridge.
    Disconnect(String),
    /// To have its way out.
    LeadOut,
    /// To have these limits when it is started again.
    Limit(Box<Resources>),
}

/// A program between its log and its clients.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) program: Program,
    pub(crate) clients: Vec<Client>,
    pub(crate) settling: Settling,
    /// What later clients are told first.
    pub(crate) running: Running,
    log: Writer,
    /// Whether the program's input ends with its client's.
    stdin_once: bool,
    /// Whether a client has said that the program shall not be started again.
    pub(crate) retired: bool,
    /// What clients have asked for that is for others to do, with the number of the client who waits.
    pub(crate) wishes: Vec<(usize, Wish)>,
    /// The size that a client's terminal has come to have.
    pub(crate) resized: Option<Size>,
    /// Whether a client has said that the container shall not be removed.
    pub(crate) kept: bool,
    /// What a client has said is to happen when the program ends.
    pub(crate) restart: Option<Restart>,
}

impl Hub {
    /// A program without clients.
    pub(crate) fn new(program: Program, running: Running, log: Writer) -> Self {
        Self {
            program,
            clients: Vec::new(),
            settling: Settling::begin(),
            running,
            log,
            stdin_once: false,
            retired: false,
            wishes: Vec::new(),
            resized: None,
            kept: false,
            restart: None,
        }
    }

    /// Puts a program in the place of one that has ended.
    pub(crate) fn replace(&mut self, program: Program) {
        self.running.pid = program.pid;
        self.program = program;
        self.settling = Settling::begin();
        self.stdin_once = false;
    }

    /// Takes in whoever had the program started. If it was killed before it could know, the program
    /// never was.
    pub(crate) fn begin(&mut self, mut starter: Client, streams: Streams) {
        self.stdin_once = streams.stdin;
        starter.tell(&Reply::Started(self.running));
        if starter.gone {
            self.program.deliver(libc::SIGKILL);
        }
        self.clients.push(starter);
    }

    /// Adds what to wait for, but for the exit. While a client lags, the program's output waits for it;
    /// while the program's input lags, the clients' does.
    pub(crate) fn add_interests(&self, interests: &mut Vec<(Source, PollFlags)>) {
        let slow = |client: &Client| client.lags() && !client.leaving;
        if !self.clients.iter().any(slow) {
            for stream in [Stream::Stdout, Stream::Stderr] {
                if self.program.output(stream).is_some() {
                    interests.push((Source::Output(stream), PollFlags::IN));
                }
            }
        }
        if self.program.lags() && self.program.input().is_some() {
            interests.push((Source::Input, PollFlags::OUT));
        }
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
    }

    /// What stands for one of its sources.
    pub(crate) fn descriptor(&self, source: Source) -> Option<BorrowedFd<'_>> {
        match source {
            Source::Output(stream) => self.program.output(stream),
            Source::Input => self.program.input(),
            Source::Client(index) => Some(self.clients[index].socket.as_fd()),
            Source::Exit => Some(self.program.pidfd.as_fd()),
            Source::Own(_) => None,
        }
    }

    /// Serves one of its sources.
    pub(crate) fn serve(&mut self, source: Source) {
        match source {
            Source::Output(stream) => {
                self.pass_output(stream);
            }
            Source::Input => self.program.flush(),
            Source::Client(index) => {
                self.serve_client(index);
            }
            Source::Own(_) | Source::Exit => (),
        }
    }

    /// Passes some output to the log and the clients; false if there is none now.
    fn pass_output(&mut self, stream: Stream) -> bool {
        // Made anew each time, and never filled before: what is not touched costs nothing.
        let mut room = Box::new_uninit_slice(CHUNK);
        let Some(chunk) = self.program.read(stream, &mut room) else {
            return false;
        };
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

    /// Lets everybody in who waits at the door.
    pub(crate) fn admit(&mut self, door: &OwnedFd) {
        let flags = net::SocketFlags::CLOEXEC | net::SocketFlags::NONBLOCK;
        while let Ok(socket) = net::accept_with(door, flags) {
            self.clients.push(Client::new(socket));
        }
    }

    /// Hears one thing that a client says; false if it says nothing now.
    fn serve_client(&mut self, index: usize) -> bool {
        let client = &mut self.clients[index];
        client.flush();
        let mut room = Box::<[u8]>::new_uninit_slice(LIMIT);
        let packet = match net::recv(&client.socket, &mut room[..], RecvFlags::DONTWAIT) {
            Ok(((packet, _), _)) if !packet.is_empty() => packet,
            // After a reset comes what the client had said before it left.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNRESET) => return false,
            _ => {
                client.gone = true;
                return false;
            }
        };
        let streams = client.streams;
        match Request::decode(packet) {
            Some(Request::Join(streams)) if !client.joined => {
                client.join(streams);
                client.tell(&Reply::Started(self.running));
            }
            Some(Request::Input(bytes)) if streams.stdin => self.program.write(bytes),
            Some(Request::InputEnd) if streams.stdin && self.stdin_once => self.program.end_input(),
            Some(Request::Resize { rows, columns }) => {
                let size = Size { rows, columns };
                self.program.resize(size);
                self.resized = Some(size);
            }
            Some(Request::Signal(signal)) => self.program.deliver(signal),
            Some(Request::Retire) => self.retired = true,
            Some(Request::Halt) => client.halts = true,
            Some(Request::Connect(attachment)) => {
                self.wishes.push((index, Wish::Connect(attachment)));
            }
            Some(Request::Disconnect(bridge)) => {
                self.wishes.push((index, Wish::Disconnect(bridge)));
            }
            Some(Request::LeadOut) => self.wishes.push((index, Wish::LeadOut)),
            Some(Request::Limit(all)) => self.wishes.push((index, Wish::Limit(all))),
            Some(Request::Keep) => self.kept = true,
            Some(Request::Restart(restart)) => self.restart = Some(restart),
            _ => {}
        }
        true
    }

    /// Hears everything that clients have said so far.
    pub(crate) fn hear_all(&mut self) {
        for index in 0..self.clients.len() {
            while self.serve_client(index) {}
        }
    }

    /// Forgets clients that are gone. Input that only they could give has ended.
    pub(crate) fn dismiss(&mut self) {
        if self.stdin_once
            && self
                .clients
                .iter()
                .any(|client| client.gone && client.streams.stdin)
        {
            self.program.end_input();
        }
        let halts = |client: &Client, gone| client.halts && client.gone == gone;
        let any = |gone| self.clients.iter().any(|client| halts(client, gone));
        if any(true) && !any(false) {
            self.program.resume();
        }
        self.clients
            .retain(|client| !client.gone && (client.lags() || !client.leaving));
    }

    /// Passes on what the program has left in its pipes. Bounded: somebody outside of the
    /// container may have got hold of one.
    pub(crate) fn drain(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut rest = DRAINED / CHUNK;
            while rest > 0 && self.pass_output(stream) {
                rest -= 1;
            }
        }
        self.log.finish();
    }

    /// Tells every client the end of this run, and why if that is known. They leave when they have heard
    /// it. If it `is_last`, that is everybody; else those stay who have not joined: they are about to say
    /// what they want, that the program shall stay down for example.
    pub(crate) fn say_farewell(&mut self, code: i32, reason: Option<&Reason>, is_last: bool) {
        let leaves = |client: &&mut Client| is_last || client.joined;
        for client in self.clients.iter_mut().filter(leaves) {
            if let Some(reason) = reason {
                client.tell(&Reply::Why(reason.clone()));
            }
            client.tell(&Reply::Exited(code));
            client.streams = Streams::default();
            client.leaving = true;
        }
        self.dismiss();
    }

    /// Stays until everybody who leaves has left.
    pub(crate) fn see_off(&mut self) {
        while !self.clients.is_empty() {
            let mut fds: Vec<PollFd<'_>> = self
                .clients
                .iter()
                .map(|client| PollFd::new(&client.socket, PollFlags::OUT))
                .collect();
            let _ = poll(&mut fds, None);
            self.clients.iter_mut().for_each(Client::flush);
            self.dismiss();
        }
    }
}
