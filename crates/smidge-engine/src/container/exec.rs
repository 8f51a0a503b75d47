//! `exec`: another program in a container that runs.

use std::path::PathBuf;

use serde_json::Value;
use smidge_run::{Attach, Ended, RunError, Spec, Started, Status, capability};

use super::control::refuse_paused;
use super::env;
use super::record::{Known, Record};
use super::start::{End, Streams};
use super::user;
use crate::event::Farewell;
use crate::{Engine, Error, Kind, Result};

/// A program to be started in a container that runs.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `--env`.
    pub env: Vec<String>,
    /// `--env-file`.
    pub env_files: Vec<PathBuf>,
    /// `--workdir`; the container's own otherwise.
    pub workdir: Option<String>,
    /// `--user`; the container's own otherwise.
    pub user: Option<String>,
    /// Whether the program has a terminal.
    pub tty: bool,
    /// Whether its standard input is kept open.
    pub stdin: bool,
    /// `--privileged`: every capability.
    pub privileged: bool,
}

/// A program that was started in a container.
#[derive(Debug)]
pub struct Execution {
    pub(super) started: Started,
    pub(super) farewell: Option<Farewell>,
}

impl Execution {
    /// Passes streams and signals to and fro until the program has ended or the user detaches.
    ///
    /// # Errors
    /// When the process that watches over the program was killed.
    pub fn wait(self) -> Result<End> {
        let ended = self.started.wait()?;
        if let (Ended::Detached, Some(farewell)) = (&ended, self.farewell) {
            farewell.note();
        }
        Ok(ended.into())
    }
}

impl Engine {
    /// Starts a program in a container that runs. Without streams nobody hears what it says. The caller
    /// must have one thread only.
    ///
    /// # Errors
    /// [`Kind::CannotRun`] when the program cannot be started; when the container does not run, or an
    /// option cannot be understood or met.
    pub fn exec(
        &self,
        name: &str,
        request: &ExecRequest,
        streams: Option<Streams>,
    ) -> Result<Execution> {
        let known = self.container(name)?;
        if known.state.status != Status::Running {
            return Err(not_running(&known));
        }
        refuse_paused(&known, "run anything in")?;
        self.lead_out(&known)?;
        let mut spec = self.exec_spec(&known, request)?;
        let id = exec_id();
        let command = request.args.join(" ");
        for action in ["exec_create", "exec_start"] {
            let action = format!("{action}: {command}");
            self.note_container(&known, &action, &[("execID", id.as_str())]);
        }
        let farewell = self.farewell(&known, "exec_detach").with("execID", &id);
        if let Some(journal) = &mut spec.journal {
            journal.attributes.insert("execID".to_owned(), id);
        }
        let started = smidge_run::visit(&spec, streams.map(Attach::from));
        let started = started.map_err(|fault| self.explain_exec(&known, &spec, fault))?;
        Ok(Execution {
            started,
            farewell: Some(farewell),
        })
    }

    /// Says why a program could not be started beside a container's own.
    fn explain_exec(&self, known: &Known, spec: &Spec, fault: RunError) -> Error {
        let name = &known.container.name;
        let record = Record {
            spec: spec.clone(),
            ..known.record.clone()
        };
        // Tools in the container do not help where its directory is missing.
        let is_place = matches!(fault, RunError::WorkingDirectory { .. });
        let error = match self.start_finding(&record, &fault) {
            Some(finding) => finding.into_error(),
            None => explain(known, fault),
        };
        match error.kind() {
            Kind::CannotRun(127) if !is_place => error.with_hint(format!(
                "tools that the image does not have: `smidge debug {name}`"
            )),
            _ => error,
        }
    }

    /// The container's spec with what concerns the program changed.
    fn exec_spec(&self, known: &Known, request: &ExecRequest) -> Result<Spec> {
        let record = &known.record;
        let asked_user = request.user.as_ref().filter(|user| !user.is_empty());
        let user = asked_user.unwrap_or(&record.config.user);
        // As in Docker: the container is there, and the program cannot be started.
        let groups = record.host.asked.get("GroupAdd").and_then(Value::as_array);
        let groups = groups.into_iter().flatten().filter_map(Value::as_str);
        let groups: Vec<String> = groups.map(str::to_owned).collect();
        let account = user::find_inside(&record.spec, user, &groups)
            .map_err(|error| error.with_kind(Kind::CannotRun(126)))?;
        let asked = env::requested(&request.env, &request.env_files, &self.host)?;
        let asked: env::Environment = record.config.env.iter().chain(&asked).collect();
        let mut spec = Spec {
            args: request.args.clone(),
            env: env::of_program(
                &asked.into_pairs(),
                &record.spec.hostname,
                request.tty,
                &account.home,
            ),
            // Without a wish the ids are the container's, whatever its files say by now.
            user: match asked_user {
                Some(_) => account.user,
                None => record.spec.user.clone(),
            },
            tty: request.tty,
            stdin: request.stdin,
            ..record.spec.clone()
        };
        if let Some(workdir) = &request.workdir {
            spec.cwd.clone_from(workdir);
        }
        if request.privileged {
            spec.capabilities = capability::ALL;
        }
        Ok(spec)
    }
}

/// What tells one program that is started in a container from another, in Docker's form.
fn exec_id() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let number = now.unwrap_or_default().as_nanos() ^ u128::from(std::process::id()) << 64;
    format!("{number:064x}")
}

/// What keeps a program from being started in a container that does not run.
pub(super) fn not_running(known: &Known) -> Error {
    let name = &known.container.name;
    if known.state.status == Status::Restarting {
        let message = format!("container `{name}` is restarting, wait until it is running");
        return Error::new(Kind::Conflict, message)
            .with_hint(format!("see why it ends: `smidge logs {name}`"));
    }
    Error::new(Kind::Conflict, format!("container `{name}` is not running"))
        .with_fact(format!("id: {}", known.container.id))
        .with_hint(format!("start it: `smidge start {name}`"))
}

pub(super) fn explain(known: &Known, fault: RunError) -> Error {
    let code = match &fault {
        RunError::NotRunning { .. } => return not_running(known),
        RunError::NotInPath { .. } => 127,
        RunError::Exec { source, .. } | RunError::WorkingDirectory { source, .. } => {
            match source.kind() {
                std::io::ErrorKind::NotFound => 127,
                _ => 126,
            }
        }
        RunError::OwnBinary { .. } => 126,
        _ => return fault.into(),
    };
    let cause = std::error::Error::source(&fault).map(ToString::to_string);
    let error = Error::new(Kind::CannotRun(code), fault.to_string());
    cause
        .into_iter()
        .fold(error, |error, cause| error.caused_by(cause))
}
