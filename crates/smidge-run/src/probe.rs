//! The process that finds out whether a container's program is well: forked off for each question, so that
//! no answer, however late, keeps the supervisor from its work.

use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, getppid, pidfd_open,
    set_parent_process_death_signal, waitpid,
};

use crate::clock;
use crate::error::RunError;
use crate::health::{Health, Probe, ProbeResult};
use crate::join::{Host, hide, join};
use crate::launch::{Launched, Stdio};
use crate::log::Stream;
use crate::program::Program;
use crate::spec::Spec;
use crate::sys;
use crate::terminal::Size;

/// The most that is kept of what a probe says.
const OUTPUT: usize = 4096;

/// Where programs of the host's are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A question that is being asked. When this value is dropped, it is asked no longer.
#[derive(Debug)]
pub(crate) struct Prober {
    process: Pid,
    /// Ends when the answer is complete.
    pub(crate) answer: OwnedFd,
    bytes: Vec<u8>,
    start: String,
}

/// How far the question is whether the program is well.
#[derive(Debug, Default)]
pub(crate) struct Check {
    /// When to ask next.
    pub(crate) due: Option<Instant>,
    /// Who asks now.
    pub(crate) prober: Option<Prober>,
    /// How long the program had run by then.
    pub(crate) asked: Duration,
}

impl Check {
    /// How long nobody has to ask.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.due
            .map(|due| due.saturating_duration_since(Instant::now()))
    }
}

impl Prober {
    /// Asks. The caller must have one thread only.
    pub(crate) fn fork(spec: &Spec, health: &Health) -> Result<Self, RunError> {
        let pipe = pipe_with(PipeFlags::CLOEXEC).map_err(RunError::supervise("make a pipe"))?;
        let (answer, ours) = pipe;
        let supervisor = getpid();
        match sys::fork().map_err(RunError::supervise("start a health probe"))? {
            Some(process) => Ok(Self {
                process,
                answer,
                bytes: Vec::new(),
                start: clock::now(),
            }),
            None => {
                sys::close_all_but(&[ours.as_fd()]);
                let _ = rustix::thread::set_name(c"smidge-health");
                let asked = Question {
                    spec,
                    supervisor,
                    deadline: Instant::now() + health.timeout,
                };
                let (exit_code, output) = asked.answer(health);
                let text = format!("{exit_code}\n{output}");
                let _ = rustix::io::write(&ours, text.as_bytes());
                sys::exit(0)
            }
        }
    }

    /// Hears what there is of the answer; gives it when it is complete.
    pub(crate) fn hear(&mut self) -> Option<ProbeResult> {
        let mut buffer = [0; 2 * OUTPUT];
        match rustix::io::read(&self.answer, &mut buffer) {
            Ok(length) if length > 0 => {
                self.bytes.extend_from_slice(&buffer[..length]);
                return None;
            }
            Err(Errno::INTR | Errno::AGAIN) => return None,
            _ => {}
        }
        let text = String::from_utf8_lossy(&self.bytes);
        let (code, output) = text
            .split_once('\n')
            .unwrap_or(("-1", "the probe was killed"));
        Some(ProbeResult {
            start: self.start.clone(),
            end: clock::now(),
            exit_code: code.parse().unwrap_or(-1),
            output: output.to_owned(),
        })
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        sys::kill(self.process, libc::SIGKILL);
        while let Err(Errno::INTR) = waitpid(Some(self.process), WaitOptions::empty()) {}
    }
}

/// A question in the process that asks it.
struct Question<'a> {
    spec: &'a Spec,
    supervisor: Pid,
    deadline: Instant,
}

impl Question<'_> {
    /// The exit code, -1 for none in time, and what was said.
    fn answer(&self, health: &Health) -> (i32, String) {
        self.die_with_supervisor();
        let late = || {
            let seconds = health.timeout.as_secs_f64();
            (-1, format!("Health check exceeded timeout ({seconds}s)"))
        };
        let found = match &health.probe {
            Probe::Command(words) => self.run(words, join),
            Probe::Host(words) => self.on_network(|| self.run(words, start_here)),
            Probe::Tcp(port) => self.on_network(|| {
                self.connect(*port)?;
                Ok(Some((0, format!("port {port} accepts connections"))))
            }),
            Probe::Http {
                method,
                port,
                path,
                code,
            } => self.on_network(|| self.request(method, *port, path, *code)),
        };
        match found {
            Ok(Some(answer)) => answer,
            Ok(None) => late(),
            Err(_) if self.rest().is_zero() => late(),
            Err(error) => (1, error),
        }
    }

    fn rest(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn die_with_supervisor(&self) {
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        if getppid() != Some(self.supervisor) {
            sys::exit(1);
        }
    }

    /// Does something in the container's network namespace.
    fn on_network<T>(&self, act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let host = Host::find(&self.spec.dir).map_err(|error| error.to_string())?;
        let fault = |errno| format!("cannot enter the container's network: {errno}");
        host.enter_network().map_err(fault)?;
        // The change of identity took the wish back (prctl(2)).
        self.die_with_supervisor();
        hide().map_err(|error| error.to_string())?;
        act()
    }

    /// Starts a program and waits for its end; `None` if that does not come in time.
    fn run(
        &self,
        words: &[String],
        start: impl FnOnce(&Spec, Stdio) -> Result<Launched, RunError>,
    ) -> Result<Option<(i32, String)>, String> {
        let spec = Spec {
            args: words.to_vec(),
            tty: false,
            stdin: false,
            ..self.spec.clone()
        };
        let mut size = Size::of_caller();
        size.rows = size.rows.max(1);
        let program = Program::start(&spec, size, start);
        let mut program = program.map_err(|error| match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        })?;
        let mut said = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); OUTPUT];
        loop {
            let streams = [Stream::Stdout, Stream::Stderr].map(|stream| program.output(stream));
            let mut fds: Vec<PollFd<'_>> = streams
                .into_iter()
                .flatten()
                .chain([program.pidfd.as_fd()])
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
                .collect();
            let rest = Timespec::try_from(self.rest()).ok();
            let waited = poll(&mut fds, rest.as_ref());
            // One that never stops talking is late, too.
            if waited == Ok(0) || self.rest().is_zero() {
                program.kill();
                return Ok(None);
            }
            let ended = fds.last().is_some_and(|fd| !fd.revents().is_empty());
            for stream in [Stream::Stdout, Stream::Stderr] {
                while let Some(read) = program.read(stream, &mut buffer)
                    && !self.rest().is_zero()
                {
                    let room = OUTPUT.saturating_sub(said.len());
                    said.extend_from_slice(&read[..read.len().min(room)]);
                }
            }
            if ended {
                let said = String::from_utf8_lossy(&said).into_owned();
                return Ok(Some((program.reap(), said)));
            }
        }
    }

    fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let addresses = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ];
        let mut fault = String::new();
        for address in addresses {
            // No time at all would be refused as an argument.
            let rest = self.rest().max(Duration::from_millis(1));
            match TcpStream::connect_timeout(&address, rest) {
                Ok(stream) => return Ok(stream),
                Err(error) if fault.is_empty() => {
                    fault = format!("cannot connect to port {port}: {error}");
                }
                Err(_) => {}
            }
        }
        Err(fault)
    }

    fn request(
        &self,
        method: &str,
        port: u16,
        path: &str,
        code: Option<u16>,
    ) -> Result<Option<(i32, String)>, String> {
        let mut stream = self.connect(port)?;
        let fault = |error: std::io::Error| format!("no answer from port {port}: {error}");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: smidge\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).map_err(fault)?;
        let mut answer = Vec::new();
        let mut buffer = [0; OUTPUT];
        while answer.len() < OUTPUT && !answer.contains(&b'\n') {
            let rest = self.rest();
            if rest.is_zero() {
                return Ok(None);
            }
            stream.set_read_timeout(Some(rest)).map_err(fault)?;
            match stream.read(&mut buffer).map_err(fault)? {
                0 => break,
                length => answer.extend_from_slice(&buffer[..length]),
            }
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let line = answer.lines().next().unwrap_or("").trim_end().to_owned();
        let said = format!("{method} :{port}{path}: {line}");
        let mut words = line.split_whitespace();
        let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/"));
        let status: Option<u16> = words.next().and_then(|word| word.parse().ok());
        let is_well = match (status.filter(|_| is_http), code) {
            (Some(status), Some(code)) => status == code,
            (Some(status), None) => (200..400).contains(&status),
            (None, _) => return Err(format!("no HTTP from port {port}: {line}")),
        };
        Ok(Some((i32::from(!is_well), said)))
    }
}

/// Starts a program where this process is.
fn start_here(spec: &Spec, stdio: Stdio) -> Result<Launched, RunError> {
    let program = spec.args.first().cloned().unwrap_or_default();
    let Stdio::Files {
        stdin,
        stdout,
        stderr,
    } = stdio
    else {
        return Err(RunError::NoProgram {
            id: spec.id.clone(),
        });
    };
    let child = Command::new(&program)
        .args(spec.args.iter().skip(1))
        .env_clear()
        .env("PATH", PATH)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(|source| RunError::Exec { program, source })?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid
        .ok_or(Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    Ok(Launched {
        pid: child.id(),
        pidfd: pid.map_err(RunError::supervise("watch the probe"))?,
        terminal: None,
        pretence: None,
        lack: None,
        networks: crate::network::Networks::default(),
        baseline: None,
        mounts: None,
    })
}
