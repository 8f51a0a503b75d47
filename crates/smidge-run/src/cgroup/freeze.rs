//! Making a container stand still: `cgroup.freeze` of version 2, or version 1's freezer.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::controller::Controller;
use super::directory::write;
use super::group::{self, Group};
use super::resources::Resources;
use crate::error::RunError;
use crate::state;

/// How long a container may take to stand still: a process in the middle of a system call that cannot
/// be interrupted finishes it first.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes every process of the running container in `dir` stand still.
///
/// # Errors
/// When it does not run, is paused already, or no group can be had that does it.
pub fn pause(dir: &Path, resources: &Resources) -> Result<(), RunError> {
    let group = group::surround(dir, resources, &[(Controller::Freezer, "pause")])?;
    if is_frozen(&group) {
        return Err(RunError::Paused { id: state::id(dir) });
    }
    freeze(&group).map_err(|(path, source)| {
        thaw(&group);
        RunError::Cgroup {
            step: "freeze".to_owned(),
            path,
            source,
        }
    })
}

/// Lets the paused container in `dir` go on.
///
/// # Errors
/// When it is not paused, or the kernel refuses.
pub fn unpause(dir: &Path) -> Result<(), RunError> {
    let group = Group::load(dir).filter(is_frozen);
    let Some(group) = group else {
        return Err(RunError::NotPaused { id: state::id(dir) });
    };
    thaw(&group);
    if is_frozen(&group) {
        return Err(RunError::Cgroup {
            step: "thaw".to_owned(),
            path: group.directories().next().cloned().unwrap_or_default(),
            source: io::ErrorKind::PermissionDenied.into(),
        });
    }
    Ok(())
}

/// Whether the container in `dir` is paused. Costs one call where it has no group.
pub(crate) fn is_paused(dir: &Path) -> bool {
    Group::load(dir).is_some_and(|group| is_frozen(&group))
}

/// Whether a group stands still, or is about to.
pub(super) fn is_frozen(group: &Group) -> bool {
    let says = |path: &Path, name: &str, expected: &[&str]| {
        let text = fs::read_to_string(path.join(name)).unwrap_or_default();
        expected.contains(&text.trim())
    };
    let v1 = group.v1("freezer");
    let v2 = group.v2();
    v1.is_some_and(|path| says(path, "freezer.state", &["FROZEN", "FREEZING"]))
        || v2.is_some_and(|path| says(path, "cgroup.freeze", &["1"]))
}

pub(super) fn freeze(group: &Group) -> Result<(), (std::path::PathBuf, io::Error)> {
    let deadline = Instant::now() + PATIENCE;
    let (path, file, word, answer, expected) = match (group.v1("freezer"), group.v2()) {
        (Some(path), _) => (path, "freezer.state", "FROZEN", "freezer.state", "FROZEN"),
        (None, Some(path)) => (path, "cgroup.freeze", "1", "cgroup.events", "frozen 1"),
        (None, None) => return Ok(()),
    };
    let mut pause = Duration::from_micros(50);
    loop {
        // Written again and again: version 1 does not see processes that are made meanwhile otherwise.
        write(&path.join(file), word).map_err(|error| (path.join(file), error))?;
        let text = fs::read_to_string(path.join(answer)).unwrap_or_default();
        if text.lines().any(|line| line == expected) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err((path.join(file), io::ErrorKind::TimedOut.into()));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Lets a group go on. One that does not stand still is left as it is.
pub(super) fn thaw(group: &Group) {
    if let Some(path) = group.v1("freezer") {
        let _ = write(&path.join("freezer.state"), "THAWED");
    }
    if let Some(path) = group.v2() {
        let _ = write(&path.join("cgroup.freeze"), "0");
    }
}
