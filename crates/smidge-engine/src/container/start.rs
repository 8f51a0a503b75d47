//! Starting a container, and saying why it does not start.

use smidge_image::Tree;
use smidge_run::{Attach, Ended, RunError, Started, State, Status};
use smidge_store::Container;
use smidge_trim::{Fault, Program};

use super::control::refuse_paused;
use super::create::CreateRequest;
use super::emulation;
use super::record::{Known, Record};
use crate::{Engine, Error, Kind, Result, Snippet};

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
    /// Passes streams and signals to and fro until the program has ended or the user detaches.
    ///
    /// # Errors
    /// When the process that watches over the container was killed.
    pub fn wait(self) -> Result<End> {
        Ok(self.started.wait()?.into())
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
        let known = self.container(name)?;
        refuse_paused(&known, "start")?;
        if !known.state.status.is_active() {
            return self.launch(known, streams).map(Some);
        }
        match streams {
            None => Ok(None),
            Some(streams) => join(known, streams).map(Some),
        }
    }

    /// Joins the caller's streams with those of a container that runs.
    ///
    /// # Errors
    /// When there is no such container, or it does not run.
    pub fn attach(&self, name: &str, streams: Streams) -> Result<Running> {
        let known = self.container(name)?;
        let message = match known.state.status {
            Status::Running => return join(known, streams),
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
        let Known {
            container, record, ..
        } = known;
        let started = match self.unloadable(&record) {
            Some(error) => Err(error),
            None => self
                .refuse_lonely(&record)
                .and_then(|()| self.spec_to_start(&container, &record))
                .and_then(|spec| {
                    smidge_run::start(&spec, streams.map(Attach::from))
                        .map_err(|fault| self.explain(&record, &container, fault))
                }),
        };
        match started {
            Ok(started) => Ok(Running { container, started }),
            Err(error) => {
                if record.host.auto_remove {
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

    /// Says why a program did not start, as precisely as the image allows.
    fn explain(&self, record: &Record, container: &Container, fault: RunError) -> Error {
        match &fault {
            RunError::Exec { .. } | RunError::NotInPath { .. } => {
                let code = match &fault {
                    RunError::Exec { source, .. } if source.raw_os_error() != Some(2) => 126,
                    _ => 127,
                };
                let proven = self.proven_fault(record).as_ref().map(fault_error);
                let reason = proven.or_else(|| self.foreign(record));
                reason.unwrap_or_else(|| {
                    let message = fault.to_string();
                    let cause = std::error::Error::source(&fault).map(ToString::to_string);
                    let error = Error::new(Kind::CannotRun(code), message);
                    cause
                        .into_iter()
                        .fold(error, |error, cause| error.caused_by(cause))
                })
            }
            RunError::PortInUse { address, .. } => {
                let (port, name) = (address.port(), &record.image);
                let message = format!("cannot publish port {port}: `{address}` is already in use");
                let error = Error::new(Kind::Conflict, message);
                match self.holder(container, port) {
                    Some((holder, id)) => error
                        .with_fact(format!("used by: container `{holder}` ({})", &id[..12]))
                        .with_hint(another_port(record, port, name))
                        .with_hint(format!("or stop it: `smidge stop {holder}`")),
                    None => error.with_hint(another_port(record, port, name)),
                }
            }
            RunError::PortRefused { address, .. }
                if address.port() < 1024 && self.host.uid != 0 =>
            {
                let image = &record.image;
                Error::from(fault).with_hint(format!(
                    "ports below 1024 take privilege; pick another: `smidge run -p 8080:80 {image}`"
                ))
            }
            _ => fault.into(),
        }
    }

    /// That the program's loader is missing, where the kernel would not say so: an emulator starts, and
    /// fails in its own way. What is mounted may bring a loader.
    fn unloadable(&self, record: &Record) -> Option<Error> {
        if record.spec.emulator.is_none() || !record.mounts.is_empty() {
            return None;
        }
        let fault = self.proven_fault(record)?;
        let lacks = |fault: &Fault| matches!(fault, Fault::NoLoader { .. });
        let missing = match &fault {
            Fault::Interpreter { source, .. } => lacks(source),
            fault => lacks(fault),
        };
        missing.then(|| fault_error(&fault))
    }

    /// What the image's own files say against its program.
    fn proven_fault(&self, record: &Record) -> Option<Fault> {
        let image = self.store.image(&record.image_id.to_string()).ok()?;
        let tree = self.store.tree(&image).ok()?;
        let spec = &record.spec;
        let program = Program {
            env: spec.env.clone(),
            working_dir: spec.cwd.clone(),
            ..Program::new(spec.args.clone(), &record.architecture)
        };
        smidge_trim::prove(&tree as &dyn Tree, &program).err()
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

    /// Which running container has published a port of the host.
    fn holder(&self, but: &Container, port: u16) -> Option<(String, String)> {
        let all = self
            .containers_that(|state| state.status.is_active())
            .ok()?;
        let holder = all.into_iter().find(|known| {
            known.container.id != but.id
                && known.state.status == Status::Running
                && known
                    .state
                    .ports
                    .iter()
                    .any(|published| published.host_port == port)
        })?;
        Some((holder.container.name, holder.container.id))
    }
}

/// Joins the caller's streams with a container's. What its program takes no input from gives none.
fn join(known: Known, streams: Streams) -> Result<Running> {
    let streams = Streams {
        stdin: streams.stdin && known.record.spec.stdin,
        ..streams
    };
    let started = smidge_run::attach(&known.container.dir, &streams.into())?;
    Ok(Running {
        container: known.container,
        started,
    })
}

/// The error of a program that the proof refuses.
fn fault_error(fault: &Fault) -> Error {
    let error = Error::new(Kind::CannotRun(fault.exit_code()), fault.to_string());
    let label = fault.label();
    let error = match (fault.span(), label) {
        (Some(span), label) => error.with_snippet(Snippet {
            file: span.path.clone(),
            line: 1,
            column: span.column,
            source_line: span.source_line.clone(),
            length: span.length,
            label,
        }),
        // Without a place, only a label that says more than the first line is worth a line.
        (None, Some(label)) if says_more(fault) => error.with_fact(label),
        (None, _) => error,
    };
    let error = fault.facts().into_iter().fold(error, Error::with_fact);
    match fault {
        Fault::NoLoader { .. } | Fault::NoLibraries { .. } => error
            .with_hint("build it with its loader and libraries: `smidge build --with-libs PATH`")
            .with_hint("or link it statically"),
        _ => error,
    }
}

fn says_more(fault: &Fault) -> bool {
    !matches!(
        fault,
        Fault::NotFound { .. } | Fault::NotInPath { .. } | Fault::Directory { .. }
    )
}

/// Proposes the next port to publish at.
fn another_port(record: &Record, port: u16, image: &str) -> String {
    let inside = record
        .host
        .ports
        .iter()
        .find(|published| published.host_port == port);
    let inside = inside.map_or(port, |published| published.container_port);
    let other = port.checked_add(1).unwrap_or(0);
    format!("pick another host port: `smidge run -p {other}:{inside} {image}`")
}
