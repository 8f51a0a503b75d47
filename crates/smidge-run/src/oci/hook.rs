//! Programs that a bundle wants to be called at turning points of a container's life
//! (`config.md`, "POSIX-platform Hooks").

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::Tell;
use super::config::Hook;
use super::error::OciError;

/// Calls hooks in their order, with the container's state on their standard input, in its bundle unless they
/// are the container's own.
///
/// # Errors
/// `Hook`, for the first that fails; those behind it are not called.
pub(super) fn call(kind: &'static str, hooks: &[Hook], state: &Value) -> Result<(), OciError> {
    hooks.iter().try_for_each(|hook| {
        one(kind, hook, state).map_err(|detail| OciError::Hook {
            kind,
            path: hook.path.clone(),
            detail,
        })
    })
}

/// Calls all of them, and tells of those that fail.
pub(super) fn call_all(kind: &'static str, hooks: &[Hook], state: &Value, tell: Tell<'_>) {
    for hook in hooks {
        if let Err(error) = call(kind, std::slice::from_ref(hook), state) {
            tell(&error.to_string());
        }
    }
}

fn one(kind: &str, hook: &Hook, state: &Value) -> Result<(), String> {
    if !hook.path.is_absolute() {
        return Err("its path is not absolute".to_owned());
    }
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    let bundle = state["bundle"]
        .as_str()
        .filter(|_| kind != "startContainer");
    // Whoever made it may have removed it by now.
    if let Some(bundle) = bundle.filter(|bundle| Path::new(bundle).is_dir()) {
        command.current_dir(bundle);
    }
    let variables = hook.env.iter().filter_map(|text| text.split_once('='));
    command.env_clear().envs(variables).stdin(Stdio::piped());
    // What it prints is no answer of the runtime's.
    let said = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3);
    command.stdout(said.map_or_else(|_| Stdio::null(), Stdio::from));
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let limit = hook.timeout.map(Duration::from_secs);
    // A time that is too far away never comes.
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    if let Some(stdin) = child.stdin.take() {
        tell(&child, &stdin, state.to_string().as_bytes(), deadline);
    }
    let ended = wait(&mut child, hook.timeout.zip(deadline))?;
    match ended.success() {
        true => Ok(()),
        false => Err(ended.to_string()),
    }
}

/// Writes what a hook is told, as long as it runs and has time. It may not care.
fn tell(child: &Child, stdin: &ChildStdin, mut text: &[u8], deadline: Option<Instant>) {
    if fcntl_setfl(stdin, OFlags::NONBLOCK).is_err() {
        return;
    }
    while !text.is_empty() {
        match rustix::io::write(stdin, text) {
            Ok(length) => text = &text[length..],
            Err(Errno::INTR) => (),
            Err(Errno::AGAIN) => {
                let Some(pidfd) = open(child) else {
                    return;
                };
                let room = PollFd::new(stdin, PollFlags::OUT);
                let mut waited = [room, PollFd::new(&pidfd, PollFlags::IN)];
                if !is_ready(&mut waited, deadline) || !waited[1].revents().is_empty() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

fn wait(child: &mut Child, limit: Option<(u64, Instant)>) -> Result<ExitStatus, String> {
    if let Some((seconds, deadline)) = limit
        && let Some(pidfd) = open(child)
        && !is_ready(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(deadline))
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("it did not end within {seconds} seconds"));
    }
    child.wait().map_err(|error| error.to_string())
}

fn open(child: &Child) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(child.id()).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Whether something is ready before a time.
fn is_ready(waited: &mut [PollFd<'_>], deadline: Option<Instant>) -> bool {
    loop {
        let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let rest = rest.map(|rest| Timespec::try_from(rest).unwrap_or_default());
        match poll(waited, rest.as_ref()) {
            Ok(count) => return count > 0,
            Err(_) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return false,
            Err(_) => (),
        }
    }
}
