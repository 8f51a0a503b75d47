//! What becomes of a container that is there: started, looked at, sent signals, removed.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde_json::Value;

use super::config::{self, Config};
use super::create::{self, CreateOptions};
use super::error::OciError;
use super::plan::CONFIG;
use super::record::{Place, Record, Status};
use super::{Runtime, Tell};
use super::{hook, mount};
use crate::error::RunError;
use crate::state::Process;
use crate::sys;

/// How long a killed container may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

impl Runtime {
    /// Makes a container that waits for its start.
    ///
    /// # Errors
    /// When the bundle makes no sense, or a step fails; nothing is left then.
    pub fn create(
        &self,
        id: &str,
        options: &CreateOptions,
        tell: Tell<'_>,
    ) -> Result<(), OciError> {
        create::create(&self.root, id, options, false, tell).map(drop)
    }

    /// Lets the program of a container that was created run.
    ///
    /// # Errors
    /// When the container is not `created`, or its program cannot be executed.
    pub fn start(&self, id: &str) -> Result<(), OciError> {
        let place = Place::of(&self.root, id)?;
        let _lock = place.lock()?;
        let record = place.read()?;
        let status = place.status(&record);
        match status {
            Status::Created => (),
            Status::Running | Status::Paused => {
                return Err(record.refuse(status, "cannot start an already running container"));
            }
            Status::Creating => {
                return Err(record.refuse(status, "cannot start a container that is being made"));
            }
            Status::Stopped => {
                return Err(record.refuse(status, "cannot start a container that has stopped"));
            }
        }
        release(&place)?;
        let _ = fs::remove_file(place.path("start"));
        let _ = fs::remove_file(place.path("answer"));
        let hooks = hooks(&place);
        let state = record.state(Status::Running);
        let called = hook::call("poststart", &hooks.poststart, &state);
        called.inspect_err(|_| {
            // As the specification has it: the container does not go on.
            let _ = kill(&record, libc::SIGKILL);
        })
    }

    /// The state of a container (`runtime.md`, "State").
    ///
    /// # Errors
    /// `Missing`.
    pub fn state(&self, id: &str) -> Result<Value, OciError> {
        let place = Place::of(&self.root, id)?;
        let record = place.read()?;
        Ok(record.state(place.status(&record)))
    }

    /// The states of all containers, by their names.
    ///
    /// # Errors
    /// When the runtime's root cannot be read.
    pub fn list(&self) -> Result<Vec<Value>, OciError> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(RunError::record(&self.root))?,
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort_unstable();
        // Those that are being made, or removed, at this moment are no containers.
        Ok(names.iter().filter_map(|id| self.state(id).ok()).collect())
    }

    /// Sends a signal to a container's first process, or to all.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, id: &str, signal: i32, all: bool) -> Result<(), OciError> {
        let place = Place::of(&self.root, id)?;
        let record = place.read()?;
        if all {
            for pid in record.group.iter().flat_map(|group| group.processes()) {
                signal_process(Process::of(pid), signal);
            }
            let lives = record.process.is_alive();
            if lives {
                let _ = kill(&record, signal);
            }
            return Ok(());
        }
        match place.status(&record) {
            // Who shares the host's PIDs may outlive the first process.
            Status::Stopped if !record.own_pids && has_processes(&record) => {
                self.kill(id, signal, true)
            }
            Status::Stopped => Err(record.refuse(Status::Stopped, "container not running")),
            _ => kill(&record, signal),
        }
    }

    /// Removes a container that has ended, and with `force` any. `tell` is told of hooks that fail.
    ///
    /// # Errors
    /// When it has not ended.
    pub fn delete(&self, id: &str, force: bool, tell: Tell<'_>) -> Result<(), OciError> {
        let place = Place::of(&self.root, id)?;
        let _lock = match place.lock() {
            Err(OciError::Missing { .. }) if force => return Ok(()),
            lock => lock?,
        };
        let record = match place.read() {
            Ok(record) => record,
            // It was never finished.
            Err(OciError::Missing { .. }) => {
                place.remove();
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let status = place.status(&record);
        match status {
            Status::Stopped => (),
            Status::Created | Status::Creating => end(&record)?,
            _ if force => end(&record)?,
            _ => return Err(record.refuse(status, "cannot delete a container that is not stopped")),
        }
        match &record.group {
            Some(group) if record.has_process() => drop(group.destroy()),
            // Whether it was the container's before whoever made it was killed is not known.
            Some(group) => group.remove_empty(),
            None => (),
        }
        mount::uncover_root(&record.rootfs, record.covered);
        let hooks = hooks(&place);
        place.remove();
        let state = record.state(Status::Stopped);
        hook::call_all("poststop", &hooks.poststop, &state, tell);
        Ok(())
    }
}

/// Lets the first process go on, and hears whether the program could be executed.
fn release(place: &Place) -> Result<(), OciError> {
    let fault = |name: &'static str| {
        move |errno: Errno| RunError::Record {
            path: place.path(name),
            source: errno.into(),
        }
    };
    let open = |name: &str, flags: OFlags| {
        rustix::fs::open(place.path(name), flags | OFlags::CLOEXEC, Mode::empty())
    };
    let answer = open("answer", OFlags::RDONLY | OFlags::NONBLOCK);
    let answer = answer.map_err(fault("answer"))?;
    let start = match open("start", OFlags::WRONLY | OFlags::NONBLOCK) {
        // Nobody waits any more: it was started by somebody who was killed meanwhile.
        Err(Errno::NXIO) => return Ok(()),
        opened => opened.map_err(fault("start"))?,
    };
    rustix::fs::fcntl_setfl(&answer, OFlags::empty()).map_err(fault("answer"))?;
    rustix::io::write(&start, b"G").map_err(fault("start"))?;
    let mut text = Vec::new();
    let read = File::from(answer).read_to_end(&mut text);
    read.map_err(RunError::record(&place.path("answer")))?;
    match text.split_first() {
        None => Ok(()),
        Some((b'E', [low, high, ..])) => {
            let errno = i32::from(u16::from_le_bytes([*low, *high]));
            Err(RunError::Exec {
                program: program(place),
                source: std::io::Error::from_raw_os_error(errno),
            }
            .into())
        }
        Some((_, text)) => Err(serde_json::from_slice::<RunError>(text)
            .unwrap_or_else(|_| RunError::Died {
                id: place.id.clone(),
            })
            .into()),
    }
}

pub(super) fn saved(place: &Place) -> Option<Config> {
    config::parse(&fs::read(place.path(CONFIG)).ok()?).ok()
}

fn program(place: &Place) -> String {
    let process = saved(place).and_then(|config| config.process);
    let program = process.and_then(|process| process.args.into_iter().next());
    program.unwrap_or_default()
}

fn hooks(place: &Place) -> config::Hooks {
    saved(place).map(|config| config.hooks).unwrap_or_default()
}

fn has_processes(record: &Record) -> bool {
    let group = record.group.as_ref();
    group.is_some_and(|group| !group.processes().is_empty())
}

fn signal_process(process: Process, signal: i32) -> bool {
    let sent = process
        .open()
        .map(|pidfd| sys::send_signal(pidfd.as_fd(), signal));
    matches!(sent, Some(Ok(())))
}

/// Sends a signal to a container's first process; one that ends it to all of a container that has no PIDs of
/// its own.
fn kill(record: &Record, signal: i32) -> Result<(), OciError> {
    let Some(pidfd) = record.process.open() else {
        return Err(record.refuse(Status::Stopped, "container not running"));
    };
    sys::send_signal(pidfd.as_fd(), signal).map_err(|error| match error.raw_os_error() {
        // It has ended since.
        Some(libc::ESRCH) => record.refuse(Status::Stopped, "container not running"),
        _ => RunError::supervise("send the signal")(error).into(),
    })?;
    if let Some(group) = record.group.as_ref().filter(|_| signal == libc::SIGKILL) {
        if !record.own_pids {
            for pid in group.processes() {
                signal_process(Process::of(pid), signal);
            }
        }
        // Who stands still does not even die (version 1).
        group.thaw();
    }
    Ok(())
}

/// Kills a container and waits for its end.
fn end(record: &Record) -> Result<(), OciError> {
    let Some(pidfd) = record.process.open() else {
        return Ok(());
    };
    match kill(record, libc::SIGKILL) {
        // It has ended since.
        Err(OciError::State { .. }) => return Ok(()),
        sent => sent?,
    }
    let deadline = Instant::now() + PATIENCE;
    while record.process.is_alive() {
        let rest = deadline.saturating_duration_since(Instant::now());
        let rest = Timespec::try_from(rest).unwrap_or_default();
        if poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&rest)) == Ok(0) {
            return Err(record.refuse(Status::Running, "the container does not end"));
        }
    }
    Ok(())
}
