//! Starting a container, and saying why it does not start.

use smidge_run::{Attach, Ended, Reason, RunError, Started, State, Status};
use smidge_store::Container;
use smidge_trim::Fault;

use super::control::refuse_paused;
use super::create::CreateRequest;
use super::emulation;
use super::reason::{self, Finding};
use super::record::{Known, Record};
use crate::event::Farewell;
use crate::{Engine, Error, Kind, Result, network};

/// Which of the caller's streams go to and from a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Keys that detach from a terminal; `None` for Ctrl-P Ctrl-Q.
    pub detach_keys: Option<Vec<u8>>,
    /// Whether signals that the caller gets are for the caller alone.
    pub keep_signals: bool,
}

impl From<Streams> for Attach {
    fn from(streams: Streams) -> Self {
        Self {
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
            detach_keys: streams
                .detach_keys
                .unwrap_or_else(|| Self::DETACH_KEYS.to_vec()),
            signals: !streams.keep_signals,
        }
    }
}

/// A container whose program runs.
#[derive(Debug)]
pub struct Running {
    /// The container.
    pub container: Container,
    started: Started,
    farewell: Farewell,
}

/// How a foreground container let go of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The program ended: its exit status, or 128 + the signal that killed it.
    Exited(i32),
    /// The user detached; the program goes on.
    Detached,
}

impl From<Ended> for End {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Exited(code) => Self::Exited(code),
            Ended::Detached => Self::Detached,
        }
    }
}

impl Running {
    /// Passes streams and signals to and fro until the program has ended or the user detaches. Tells why
    /// it has ended, too, if it has failed and that is known.
    ///
    /// # Errors
    /// When the process that watches over the container was killed.
    pub fn wait(self) -> Result<(End, Option<Reason>)> {
        let (ended, reason) = self.started.hear_out()?;
        if ended == Ended::Detached {
            self.farewell.note();
        }
        Ok((ended.into(), reason))
    }
}

impl Engine {
    /// Makes a container and starts it. The caller must have one thread only.
    ///
    /// When it cannot be started, it stays, unless it was to be removed at its end.
    ///
    /// # Errors
    /// [`Kind::CannotRun`] when the image's program cannot be started, with the reason; otherwise as
    /// [`Engine::create`], or what keeps the sandbox from being set up.
    pub fn run(&self, request: &CreateRequest, streams: Option<Streams>) -> Result<Running> {
        let known = self.create(request)?;
        self.launch(known, streams)
    }

    /// Starts a container that does not run. One that runs is attached to, if streams are given.
    ///
    /// # Errors
    /// As [`Engine::run`]; when there is no such container.
    pub fn start(&self, name: &str, streams: Option<Streams>) -> Result<Option<Running>> {
        // Who starts it, too, or puts it on a network meanwhile, finds it started.
        let (_turn, known) = self.turn(name)?;
        refuse_paused(&known, "start")?;
        if !known.state.status.is_active() {
            return self.launch_in_turn(known, streams).map(Some);
        }
        match streams {
            None => Ok(None),
            Some(streams) => self.join(known, streams).map(Some),
        }
    }

    /// Joins the caller's streams with those of a container that runs.
    ///
    /// # Errors
    /// When there is no such container, or it does not run.
    pub fn attach(&self, name: &str, streams: Streams) -> Result<Running> {
        let known = self.container(name)?;
        refuse_paused(&known, "attach to")?;
        let message = match known.state.status {
            Status::Running => return self.join(known, streams),
            Status::Restarting => {
                "cannot attach to a restarting container, wait until it is running"
            }
            _ => "cannot attach to a stopped container, start it first",
        };
        let name = &known.container.name;
        Err(Error::new(Kind::Conflict, message).with_hint(format!(
            "start it and stay with it: `smidge start -ai {name}`"
        )))
    }

    /// Starts a container that was just made. The caller must have one thread only.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn launch(&self, known: Known, streams: Option<Streams>) -> Result<Running> {
        let (_turn, container) = self.locked(&known.container)?;
        self.launch_in_turn(Known { container, ..known }, streams)
    }

    fn launch_in_turn(&self, known: Known, streams: Option<Streams>) -> Result<Running> {
        if streams.is_some() {
            self.note_container(&known, "attach", &[]);
        }
        let farewell = self.farewell(&known, "detach");
        let Known {
            container, record, ..
        } = known;
        let started = match self.unloadable(&record) {
            Some(finding) => Err((Some(finding.reason.clone()), finding.into_error())),
            None => self
                .refuse_lonely(&record)
                .and_then(|()| self.spec_to_start(&container, &record))
                .map_err(|error| (None, error))
                .and_then(|spec| {
                    let record = Record {
                        spec,
                        ..record.clone()
                    };
                    let watch = smidge_run::Watch {
                        inquest: &|failure| {
                            reason::inquest(&record, failure, self.why_shut(&record.network()))
                        },
                        outlet: &|lay| self.open_way_out((&container, &record), lay),
                    };
                    smidge_run::start_watched(&record.spec, streams.map(Attach::from), watch)
                        .map_err(|fault| self.explain(&record, &container, fault))
                }),
        };
        match started {
            Ok(started) => Ok(Running {
                container,
                started,
                farewell,
            }),
            Err((reason, error)) => {
                // Another start may have been quicker: the container is that one's.
                if note(&container, &error, reason) && record.host.auto_remove {
                    // What is left over is found by `prune`; the first fault is worth telling.
                    let _ = self.discard(
                        &Known {
                            container,
                            record,
                            state: State::default(),
                            notes: Vec::new(),
                        },
                        true,
                    );
                }
                Err(error)
            }
        }
    }

    /// Joins the caller's streams with a container's. What its program takes no input from gives none.
    fn join(&self, known: Known, streams: Streams) -> Result<Running> {
        let streams = Streams {
            stdin: streams.stdin && known.record.spec.stdin,
            ..streams
        };
        self.note_container(&known, "attach", &[]);
        let started = smidge_run::attach(&known.container.dir, &streams.into())?;
        Ok(Running {
            farewell: self.farewell(&known, "detach"),
            container: known.container,
            started,
        })
    }

    /// Says why a program did not start, as precisely as the image allows.
    fn explain(
        &self,
        record: &Record,
        container: &Container,
        fault: RunError,
    ) -> (Option<Reason>, Error) {
        if let Some(finding) = self.start_finding(record, &fault) {
            return (Some(finding.reason.clone()), finding.into_error());
        }
        let error = match &fault {
            RunError::Exec { .. } | RunError::NotInPath { .. } => {
                let code = match &fault {
                    RunError::Exec { source, .. } if source.raw_os_error() != Some(2) => 126,
                    _ => 127,
                };
                self.foreign(record).unwrap_or_else(|| {
                    let message = fault.to_string();
                    let cause = std::error::Error::source(&fault).map(ToString::to_string);
                    let error = Error::new(Kind::CannotRun(code), message);
                    cause
                        .into_iter()
                        .fold(error, |error, cause| error.caused_by(cause))
                })
            }
            RunError::PortInUse { address, protocol } => {
                self.port_in_use(record, container, (*address, *protocol))
            }
            RunError::PortRefused { address, .. }
                if address.port() < 1024 && self.host.uid != 0 =>
            {
                let image = &record.image;
                Error::from(fault).with_hint(format!(
                    "ports below 1024 take privilege; pick another: `smidge run -p 8080:80 {image}`"
                ))
            }
            RunError::Uplink { .. } => network::explain_pasta(fault),
            RunError::Mount { .. } => explain_mount(record, fault),
            _ => fault.into(),
        };
        (None, error)
    }

    /// That the program's loader is missing, where the kernel would not say so: an emulator starts, and
    /// fails in its own way. What is mounted may bring a loader.
    fn unloadable(&self, record: &Record) -> Option<Finding> {
        if record.spec.emulator.is_none() || !record.mounts.is_empty() {
            return None;
        }
        let image = self.store.image(&record.image_id.to_string()).ok()?;
        let tree = self.store.tree(&image).ok()?;
        let fault = reason::proven_fault(record, &tree)?;
        let lacks = |fault: &Fault| matches!(fault, Fault::NoLoader { .. });
        let missing = match &fault {
            Fault::Interpreter { source, .. } => lacks(source),
            fault => lacks(fault),
        };
        missing.then(|| reason::of_fault(&fault).addressed(record))
    }

    /// That the image is for another machine, which its own files cannot tell.
    fn foreign(&self, record: &Record) -> Option<Error> {
        let (wanted, here) = (record.architecture.as_str(), self.host.architecture());
        (wanted != here).then(|| {
            let program = record.spec.args.first().map_or("", String::as_str);
            let message = format!(
                "`{program}` cannot start: the image is for `linux/{wanted}`, this machine is `linux/{here}`"
            );
            let hint = format!("or build it for this machine: `smidge build --platform linux/{here} PATH`");
            emulation::advice(wanted)
                .into_iter()
                .chain([hint])
                .fold(Error::new(Kind::CannotRun(126), message), Error::with_hint)
        })
    }
}

/// The kernel refuses to mount a file over a directory, or the other way round, without saying so.
fn explain_mount(record: &Record, fault: RunError) -> Error {
    let place = match &fault {
        RunError::Mount {
            destination,
            source,
        } if source.kind() == std::io::ErrorKind::InvalidInput => {
            let mut mounts = record.mounts.iter();
            mounts.find(|mount| mount.destination == *destination)
        }
        _ => None,
    };
    let source = place.map(|mount| mount.source.clone());
    let error = Error::from(fault);
    let Some(source) = source.filter(|source| source.exists()) else {
        return error;
    };
    let (here, there) = match source.is_dir() {
        true => ("directory", "file"),
        false => ("file", "directory"),
    };
    error
        .with_fact(format!(
            "`{}` is a {here}, what is in its place a {there}",
            source.display()
        ))
        .with_hint("mount directories over directories, and files over files")
}

/// Writes down why a program did not start.
fn note(container: &Container, error: &Error, reason: Option<Reason>) -> bool {
    /// What Docker writes where the program is not to blame.
    const NOT_THE_PROGRAM: i32 = 128;
    let code = match error.kind() {
        Kind::CannotRun(code) => code.into(),
        _ => NOT_THE_PROGRAM,
    };
    smidge_run::note_failure(&container.dir, code, error.message(), reason)
}
