//! Programs that a bundle wants to be called at turning points of a container's life
//! (`config.md`, "POSIX-platform Hooks").

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::config::Hook;
use super::error::OciError;

/// Calls hooks in their order, with the container's state on their standard input.
///
/// # Errors
/// `Hook`, for the first that fails; those behind it are not called.
pub(super) fn call(kind: &'static str, hooks: &[Hook], state: &Value) -> Result<(), OciError> {
    hooks.iter().try_for_each(|hook| {
        one(hook, state).map_err(|detail| OciError::Hook {
            kind,
            path: hook.path.clone(),
            detail,
        })
    })
}

fn one(hook: &Hook, state: &Value) -> Result<(), String> {
    if !hook.path.is_absolute() {
        return Err("its path is not absolute".to_owned());
    }
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    let variables = hook.env.iter().filter_map(|text| text.split_once('='));
    command.env_clear().envs(variables).stdin(Stdio::piped());
    // What it prints is no answer of the runtime's.
    let said = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3);
    command.stdout(said.map_or_else(|_| Stdio::null(), Stdio::from));
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may not care.
        let _ = stdin.write_all(state.to_string().as_bytes());
    }
    let ended = wait(&mut child, hook.timeout)?;
    match ended.success() {
        true => Ok(()),
        false => Err(ended.to_string()),
    }
}

fn wait(child: &mut Child, seconds: Option<u64>) -> Result<ExitStatus, String> {
    let text = |error: std::io::Error| error.to_string();
    if let Some(seconds) = seconds {
        let deadline = Instant::now().checked_add(Duration::from_secs(seconds));
        if !ends_before(child, deadline) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it did not end within {seconds} seconds"));
        }
    }
    child.wait().map_err(text)
}

/// Whether a child ends before a time; a time that is too far away never comes.
fn ends_before(child: &Child, deadline: Option<Instant>) -> bool {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let Some((pidfd, deadline)) = pid
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .zip(deadline)
    else {
        return true;
    };
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let rest = Timespec::try_from(rest).unwrap_or_default();
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&rest)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(_) if Instant::now() >= deadline => return false,
            Err(_) => (),
        }
    }
}
