//! Credential helpers: programs `docker-credential-NAME` that keep logins for others.
//!
//! Protocol: <https://github.com/docker/docker-credential-helpers>: a verb as argument, a server's
//! name or a login as JSON on standard input, JSON on standard output.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Map, Value};

use super::auth_file::{self, TOKEN_USER};
use super::{Sources, file};
use crate::{Credentials, Error, Result};

/// A helper may wait for a person to unlock something; but not for ever.
const PATIENCE: Duration = Duration::from_secs(300);

/// The most that a helper has to say.
const MOST_BYTES: u64 = 1 << 20;

/// A credential helper.
pub(super) struct Helper<'a> {
    name: &'a str,
    sources: &'a Sources,
    patience: Duration,
}

/// What a helper said.
struct Answer {
    status: ExitStatus,
    output: String,
    complaint: String,
}

impl<'a> Helper<'a> {
    /// The helper that an auth file names.
    pub(super) fn new(name: &'a str, sources: &'a Sources) -> Self {
        Self {
            name,
            sources,
            patience: PATIENCE,
        }
    }

    /// The program's name.
    pub(super) fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    /// Whether the program is there.
    pub(super) fn exists(&self) -> bool {
        self.find().is_some()
    }

    /// Asks for the login for a server, under the key that auth files have for it.
    pub(super) fn get(&self, key: &str) -> Result<Option<Credentials>> {
        for server in servers(key) {
            let answer = self.run("get", server)?;
            if !answer.status.success() {
                if answer.is_not_found() {
                    continue;
                }
                return Err(self.fault(&answer, None));
            }
            let reply = self.object(&answer)?;
            let text = |key: &str| reply.get(key).and_then(Value::as_str).unwrap_or_default();
            let (username, secret) = (text("Username"), text("Secret"));
            if !secret.is_empty() {
                return Ok(Some(auth_file::credentials(username, secret)));
            }
        }
        Ok(None)
    }

    /// Gives a login to keep.
    pub(super) fn store(&self, key: &str, credentials: &Credentials) -> Result<()> {
        let (username, secret) = match credentials {
            Credentials::Basic { username, password } => (username.as_str(), password),
            Credentials::IdentityToken(token) => (TOKEN_USER, token),
        };
        let login = serde_json::json!({
            "ServerURL": auth_file::written(key),
            "Username": username,
            "Secret": secret.expose(),
        });
        let answer = self.run("store", &login.to_string())?;
        if answer.status.success() {
            return Ok(());
        }
        Err(self.fault(&answer, Some(secret.expose())))
    }

    /// Removes every login whose server means the key; whether there was one.
    pub(super) fn erase(&self, key: &str) -> Result<bool> {
        let mut found = false;
        for server in self.known(key)? {
            let answer = self.run("erase", &server)?;
            if answer.status.success() {
                found = true;
            } else if !answer.is_not_found() {
                return Err(self.fault(&answer, None));
            }
        }
        Ok(found)
    }

    /// The servers of a helper that mean the key. Not every helper has `list`.
    fn known(&self, key: &str) -> Result<Vec<String>> {
        let answer = self.run("list", "unused")?;
        if answer.status.success()
            && let Ok(list) = serde_json::from_str::<Map<String, Value>>(answer.output.trim())
        {
            let servers = list.into_iter().map(|(server, _)| server);
            return Ok(servers.filter(|s| auth_file::meaning(s) == key).collect());
        }
        let mut known = Vec::new();
        for server in servers(key) {
            let answer = self.run("get", server)?;
            if answer.status.success() {
                known.push(server.to_owned());
            } else if !answer.is_not_found() {
                return Err(self.fault(&answer, None));
            }
        }
        Ok(known)
    }

    fn object(&self, answer: &Answer) -> Result<Map<String, Value>> {
        // The text may hold a secret: only the place of the fault is told.
        serde_json::from_str(answer.output.trim()).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            self.error(format!(
                "its answer to `get` is not a JSON object (line {line}, column {column})"
            ))
        })
    }

    fn fault(&self, answer: &Answer, secret: Option<&str>) -> Error {
        let mut said = answer.complaint.trim();
        if said.is_empty() && !answer.output.trim_start().starts_with('{') {
            said = answer.output.trim();
        }
        let mut words: String = said
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if let Some(secret) = secret.filter(|s| !s.is_empty()) {
            words = words.replace(secret, "***");
        }
        if let Some((end, _)) = words.char_indices().nth(1000) {
            words.truncate(end);
            words.push('…');
        }
        if words.is_empty() {
            words = format!("it failed without a word: {}", answer.status);
        }
        self.error(words)
    }

    fn error(&self, why: impl Into<String>) -> Error {
        Error::Helper {
            helper: self.program(),
            why: why.into(),
        }
    }

    /// The program on `PATH`; relative directories of it are never looked into.
    fn find(&self) -> Option<PathBuf> {
        if self.name.is_empty() || self.name.contains('/') {
            return None;
        }
        std::env::split_paths(&self.sources.path)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(self.program()))
            .find(|path| {
                let executable =
                    |m: std::fs::Metadata| m.is_file() && m.permissions().mode() & 0o111 != 0;
                path.metadata().is_ok_and(executable)
            })
    }

    /// Runs the program. Its three streams are files in memory: whatever it writes, and whatever
    /// processes it leaves behind, nobody waits at a full or open pipe.
    fn run(&self, verb: &str, input: &str) -> Result<Answer> {
        let Some(program) = self.find() else {
            return Err(self.error("there is no such program in `$PATH`"));
        };
        let of_io = |error: io::Error| self.error(format!("`{verb}`: {}", file::reason(&error)));
        let stream =
            || -> io::Result<File> { Ok(memfd_create("credential", MemfdFlags::CLOEXEC)?.into()) };
        let (mut stdin, stdout, stderr) = (
            stream().map_err(of_io)?,
            stream().map_err(of_io)?,
            stream().map_err(of_io)?,
        );
        stdin
            .write_all(input.as_bytes())
            .and_then(|()| stdin.rewind())
            .map_err(of_io)?;
        let handle = |file: &File| file.try_clone().map(Stdio::from);
        let mut child = Command::new(program)
            .arg(verb)
            .env_clear()
            .env("PATH", &self.sources.path)
            .envs(&self.sources.env)
            .stdin(stdin)
            .stdout(handle(&stdout).map_err(of_io)?)
            .stderr(handle(&stderr).map_err(of_io)?)
            .spawn()
            .map_err(of_io)?;
        let status = self.wait(&mut child, verb, [&stdout, &stderr])?;
        Ok(Answer {
            status,
            output: text(stdout).map_err(of_io)?,
            complaint: text(stderr).map_err(of_io)?,
        })
    }

    fn wait(&self, child: &mut Child, verb: &str, streams: [&File; 2]) -> Result<ExitStatus> {
        let started = Instant::now();
        let why = loop {
            match ended(child) {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if started.elapsed() >= self.patience => {
                    let seconds = self.patience.as_secs();
                    break format!("`{verb}`: no answer within {seconds} seconds");
                }
                Ok(None) => {}
                Err(error) => break format!("`{verb}`: {}", file::reason(&error)),
            }
            let size = |file: &&File| file.metadata().map_or(0, |m| m.len());
            if streams.iter().any(|file| size(file) > MOST_BYTES) {
                break format!("`{verb}`: it does not stop talking");
            }
        };
        // Both fail only when it has ended in the meantime.
        child.kill().ok();
        child.wait().ok();
        Err(self.error(why))
    }
}

/// Waits for a child, but only for as long as it cannot say very much.
fn ended(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let Ok(handle) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else {
        // A kernel before 5.3.
        return child.wait().map(Some);
    };
    let moment = Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&moment)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => child.try_wait(),
        Err(error) => Err(error.into()),
    }
}

fn text(mut file: File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The names under which tools keep the login of a key: Docker's first.
fn servers(key: &str) -> Vec<&str> {
    let mut servers = vec![auth_file::written(key)];
    if servers[0] != key {
        servers.push(key);
    }
    servers
}

impl Answer {
    fn is_not_found(&self) -> bool {
        [&self.output, &self.complaint]
            .iter()
            .any(|text| text.to_lowercase().contains("credentials not found"))
    }
}

#[cfg(test)]
mod tests;
