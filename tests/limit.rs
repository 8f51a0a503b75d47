//! Waiting that ends: for programs, for what is to come, and for whoever is at the other end of a socket.

use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::processes::{self, Table};

/// How long a command may take: many times what the slowest takes on a machine that has more to do.
const COMMAND: Duration = Duration::from_secs(300);

/// How long something may be waited for, and a peer may be silent.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A program's end, waited for no longer than it may take. After that it is told what its processes, and
/// those that have its store (`SMIDGE_ROOT`), were doing, and they are killed.
pub trait InTime: Sized {
    /// [`Command::output`] or [`Child::wait_with_output`].
    ///
    /// # Errors
    /// As those have; [`io::ErrorKind::TimedOut`], what was found out having been printed.
    fn output_in_time(self) -> io::Result<Output>;

    /// [`Command::status`] or [`Child::wait`].
    ///
    /// # Errors
    /// As those have; [`io::ErrorKind::TimedOut`], what was found out having been printed.
    fn status_in_time(&mut self) -> io::Result<ExitStatus>;
}

impl InTime for &mut Command {
    fn output_in_time(self) -> io::Result<Output> {
        self.stdout(Stdio::piped()).stderr(Stdio::piped());
        Watched::new(&mut self.spawn()?).finish()
    }

    fn status_in_time(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.status_in_time()
    }
}

impl InTime for Command {
    fn output_in_time(mut self) -> io::Result<Output> {
        (&mut self).output_in_time()
    }

    fn status_in_time(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.status_in_time()
    }
}

impl InTime for Child {
    fn output_in_time(mut self) -> io::Result<Output> {
        Watched::new(&mut self).finish()
    }

    fn status_in_time(&mut self) -> io::Result<ExitStatus> {
        // Who wants no output reads it himself, or leaves it where it is.
        let kept = (self.stdout.take(), self.stderr.take());
        let ended = Watched::new(self).finish();
        (self.stdout, self.stderr) = kept;
        Ok(ended?.status)
    }
}

/// A child, its pipes, and what came through them.
struct Watched<'a> {
    child: &'a mut Child,
    pipes: [Option<OwnedFd>; 2],
    said: [Vec<u8>; 2],
    /// What to look for when it takes too long: `SMIDGE_ROOT=…`, and the pipes' names.
    root: Option<String>,
    names: Vec<String>,
    deadline: Instant,
}

impl<'a> Watched<'a> {
    fn new(child: &'a mut Child) -> Self {
        // As the standard library does: it may wait for the end of what it reads.
        drop(child.stdin.take());
        let out = child.stdout.take().map(OwnedFd::from);
        let err = child.stderr.take().map(OwnedFd::from);
        let name = |pipe: &OwnedFd| {
            let link = format!("/proc/self/fd/{}", pipe.as_raw_fd());
            let name = std::fs::read_link(link).unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        Self {
            root: processes::variable(child.id(), "SMIDGE_ROOT"),
            names: out.iter().chain(&err).map(name).collect(),
            pipes: [out, err],
            said: [Vec::new(), Vec::new()],
            deadline: Instant::now() + COMMAND,
            child,
        }
    }

    fn finish(mut self) -> io::Result<Output> {
        let pid = Pid::from_child(self.child);
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        while self.pipes.iter().any(Option::is_some) {
            if !self.read()? {
                return Err(self.give_up());
            }
        }
        let mut end = [PollFd::new(&ended, PollFlags::IN)];
        if !ready(&mut end, self.deadline)? {
            return Err(self.give_up());
        }
        let status = self.child.wait()?;
        let [stdout, stderr] = self.said;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    /// Reads from the pipes what is there; false if nothing came in time.
    fn read(&mut self) -> io::Result<bool> {
        let open = self.pipes.iter().flatten();
        let mut polled: Vec<_> = open.map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
        if !ready(&mut polled, self.deadline)? {
            return Ok(false);
        }
        let mut ready = polled.iter().map(|one| !one.revents().is_empty());
        let ready: Vec<bool> = self
            .pipes
            .iter()
            .map(|pipe| pipe.is_some() && ready.next() == Some(true))
            .collect();
        let mut buffer = [0; 64 << 10];
        for number in (0..self.pipes.len()).filter(|number| ready[*number]) {
            if let Some(pipe) = &self.pipes[number] {
                let length = rustix::io::read(pipe, &mut buffer)?;
                self.said[number].extend_from_slice(&buffer[..length]);
                if length == 0 {
                    self.pipes[number] = None;
                }
            }
        }
        Ok(true)
    }

    /// Tells what there is to tell, and ends everything that belongs to the command.
    #[expect(clippy::print_stderr, reason = "for whoever looks why a test failed")]
    fn give_up(&mut self) -> io::Error {
        let ended = self.child.try_wait();
        let first = i32::try_from(self.child.id()).unwrap_or_default();
        let table = Table::now();
        let mut all = table.family(processes::holders(&self.names).into_iter().chain([first]));
        if let Some(root) = &self.root {
            all.extend(table.with_variable(root));
        }
        let what = match ended {
            Ok(Some(status)) => format!("has ended ({status}), but its output is still open"),
            _ => format!("has not ended after {} s", COMMAND.as_secs()),
        };
        let [out, err] = self
            .said
            .each_ref()
            .map(|said| String::from_utf8_lossy(said));
        eprintln!(
            "process {first} {what}\n--- its output\n{out}\n--- its errors\n{err}\n--- processes\n{}",
            table.show(&all)
        );
        processes::kill(&all);
        // What cannot even be killed is left alone.
        let until = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        io::Error::new(io::ErrorKind::TimedOut, format!("process {first} {what}"))
    }
}

/// Waits for one of these; false if none comes in time.
fn ready(polled: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(polled, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            found => return Ok(found? > 0),
        }
    }
}

/// Waits until something is so; fails the test if it never is.
///
/// # Panics
/// When it is not so after two minutes.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A connection whose reading and writing fails when the peer is silent for two minutes.
///
/// # Errors
/// As [`TcpStream::connect`].
pub fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    limited(TcpStream::connect(address)?)
}

/// Those who connect to a server of a test's, as with [`connect`]: nobody's silence holds it up for ever.
pub fn incoming(listener: &TcpListener) -> impl Iterator<Item = TcpStream> {
    listener
        .incoming()
        .filter_map(|stream| stream.and_then(limited).ok())
}

fn limited(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Ends all processes of a store when for too long no command has come to its end that works with it, so
/// that nobody goes on waiting for them.
#[derive(Debug)]
pub struct Limit {
    /// Told that time counts anew; dropped when it no longer counts.
    going_on: mpsc::Sender<()>,
}

impl Limit {
    /// From now on, for the processes whose `SMIDGE_ROOT` is `root`.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        let variable = format!("SMIDGE_ROOT={}", root.display());
        let (sender, receiver) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            loop {
                match receiver.recv_timeout(2 * COMMAND) {
                    Ok(()) => (),
                    Err(RecvTimeoutError::Timeout) => return end(&variable),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        Self { going_on: sender }
    }

    /// Says that something has come to its end.
    pub fn renew(&self) {
        let _ = self.going_on.send(());
    }
}

#[expect(clippy::print_stderr, reason = "for whoever looks why a test failed")]
fn end(variable: &str) {
    let table = Table::now();
    let all = table.with_variable(variable);
    eprintln!(
        "after {} s these processes with {variable} are ended:\n{}",
        2 * COMMAND.as_secs(),
        table.show(&all)
    );
    processes::kill(&all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_is_ended_with_all_that_it_has_started() {
        for script in [
            "echo said; setsid sleep 98764 & sleep 98764",
            // Its output is held by one that it leaves.
            "echo said; setsid sleep 98764 & exit 0",
        ] {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]).stdout(Stdio::piped());
            let mut shell = shell.spawn().unwrap();
            let mut watched = Watched::new(&mut shell);
            watched.deadline = Instant::now() + Duration::from_millis(500);
            let error = watched.finish().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            until("its end", || {
                let mut found = Command::new("pgrep");
                !found
                    .args(["-f", "sleep 98764"])
                    .status()
                    .unwrap()
                    .success()
            });
        }
    }

    #[test]
    fn output_comes_whole() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "yes | head -c 1000000; echo wrong >&2; exit 3"]);
        let output = shell.output_in_time().unwrap();
        assert_eq!(output.stdout.len(), 1_000_000);
        assert_eq!(
            (&*output.stderr, output.status.code()),
            (&b"wrong\n"[..], Some(3))
        );
    }

    #[test]
    fn output_that_nobody_wants_stays_where_it_is() {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "sleep 0.1; echo said; exit 3"])
            .stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        assert_eq!(shell.status_in_time().unwrap().code(), Some(3));
        let mut said = String::new();
        let _ = io::Read::read_to_string(&mut shell.stdout.unwrap(), &mut said);
        assert_eq!(said, "said\n");
    }
}
