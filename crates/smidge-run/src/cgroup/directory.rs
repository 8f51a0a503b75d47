//! The directories that groups are: made, set, removed with what runs in them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::controller::Controller;
use super::hierarchy::{Place, words};
use super::lack::Lack;
use super::setting::Setting;
use crate::error::RunError;
use crate::sys;

/// How long to wait until killed processes are gone from a group, and for a parent that others remove.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes to a file of the kernel's that is there.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(text.as_bytes())
}

/// Microseconds of each period in which a group's programs may run in realtime (sched-rt-group).
const REALTIME: &str = "cpu.rt_runtime_us";

/// What keeps a group from being made.
pub(super) struct Fault {
    /// What the controller is then, where that is what counts.
    why: Option<Lack>,
    path: PathBuf,
    source: io::Error,
}

impl Fault {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            why: None,
            path,
            source,
        }
    }

    pub(super) fn of(self, option: &str, controller: Controller) -> RunError {
        match self.why {
            Some(why) => RunError::NoController {
                option: option.to_owned(),
                controller: controller.to_string(),
                why,
            },
            None => RunError::Cgroup {
                step: format!("make, for `{option}`, the control group"),
                path: self.path,
                source: self.source,
            },
        }
    }
}

/// Makes a group in a hierarchy of version 1.
pub(super) fn make_v1(controller: Controller, place: &Place, path: &Path) -> Result<(), Fault> {
    let prepare = |directory: &Path| match (controller, directory.parent()) {
        (Controller::Cpuset, Some(parent)) => inherit_cpuset(directory, parent),
        _ => Ok(()),
    };
    make_directories(place, path, prepare)
}

/// In version 1 a new group has no processors, and nothing can enter it, before it is given some.
pub(super) fn inherit_cpuset(directory: &Path, parent: &Path) -> io::Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = directory.join(name);
        if fs::read_to_string(&file)?.trim().is_empty() {
            write(&file, fs::read_to_string(parent.join(name))?.trim())?;
        }
    }
    Ok(())
}

/// In version 2 every group on the way hands the controller on.
pub(super) fn make_v2(name: Option<&str>, place: &Place, path: &Path) -> Result<(), Fault> {
    let Some(name) = name else {
        return make_directories(place, path, |_| Ok(()));
    };
    if !words(&place.base.join("cgroup.controllers")).any(|word| word == name) {
        return Err(Fault {
            why: Some(Lack::NotGiven {
                group: place.base.clone(),
            }),
            path: place.base.clone(),
            source: io::ErrorKind::NotFound.into(),
        });
    }
    hand_on(name, &place.base)?;
    let leaf = path.to_owned();
    make_directories(place, path, |directory| match directory == leaf {
        true => Ok(()),
        false => hand_on(name, directory).map_err(|fault| fault.source),
    })
}

/// Lets the groups below one have a controller (version 2).
pub(super) fn hand_on(name: &str, directory: &Path) -> Result<(), Fault> {
    let file = directory.join("cgroup.subtree_control");
    if words(&file).any(|word| word == name) {
        return Ok(());
    }
    write(&file, &format!("+{name}")).map_err(|source| Fault {
        why: (source.raw_os_error() == Some(libc::EBUSY)).then(|| Lack::Occupied {
            group: directory.to_owned(),
        }),
        path: file,
        source,
    })
}

/// Makes the directories from below a place's base to `path`, and prepares each. The last one is new.
fn make_directories(
    place: &Place,
    path: &Path,
    prepare: impl Fn(&Path) -> io::Result<()>,
) -> Result<(), Fault> {
    let below = path.strip_prefix(&place.base).unwrap_or(Path::new(""));
    let depth = below.components().count();
    // Another container that leaves the same parent may remove it in between.
    let patience = Instant::now() + PATIENCE;
    loop {
        let mut way: Vec<&Path> = path.ancestors().take(depth).collect();
        way.reverse();
        let mut made = way.into_iter().map(|directory| {
            match fs::create_dir(directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Fault::at(directory)(error)),
                Ok(()) => {}
            }
            prepare(directory).map_err(Fault::at(directory))
        });
        match made.find_map(Result::err) {
            Some(fault) if is_gone(&fault.source) && Instant::now() < patience => {}
            Some(fault) => return Err(fault),
            None => return Ok(()),
        }
    }
}

/// Whether a group has been removed: before it was looked for, or after one of its files was opened.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// Writes settings to the files of one group. What is refused is tried again after the others: which of
/// two limits has to be raised first depends on what they are.
pub(super) fn write_all(
    controller: Controller,
    path: &Path,
    settings: &[Setting],
) -> Result<(), RunError> {
    let mut refused = Vec::new();
    for setting in settings {
        let mut choices = setting.choices();
        let Some((name, value)) = choices.find(|(name, _)| path.join(name).exists()) else {
            if !setting.required {
                continue;
            }
            let names: Vec<&str> = setting.choices().map(|(name, _)| name).collect();
            return Err(RunError::NoController {
                option: setting.option.to_owned(),
                controller: controller.to_string(),
                why: Lack::NoFile {
                    file: names.join("` or `"),
                },
            });
        };
        let file = path.join(name);
        if write(&file, value).is_err() {
            refused.push((setting.option, value, file));
        }
    }
    for (option, value, file) in refused {
        if file.ends_with(REALTIME) {
            lend_realtime(path);
        }
        write(&file, value).map_err(|source| RunError::Limit {
            option: option.to_owned(),
            value: value.to_owned(),
            path: file,
            source,
        })?;
    }
    Ok(())
}

/// In version 1 a new group has no realtime to share with those below it: it is given all that its
/// parent has. Where that cannot be, the group below says so.
fn lend_realtime(path: &Path) {
    let mut above = path.ancestors().skip(1);
    if let (Some(group), Some(parent)) = (above.next(), above.next())
        && let Ok(runtime) = fs::read_to_string(parent.join(REALTIME))
    {
        let _ = write(&group.join(REALTIME), runtime.trim());
    }
}

/// Kills what is in a group and in those below it, and removes them. Whether they are gone.
pub(super) fn remove_directory(path: &Path) -> bool {
    remove_until(path, Instant::now() + PATIENCE)
}

fn remove_until(path: &Path, patience: Instant) -> bool {
    let mut pause = Duration::from_micros(100);
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
            Err(_) if Instant::now() > patience => return false,
            Err(_) => {}
        }
        for child in fs::read_dir(path).into_iter().flatten().flatten() {
            if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_until(&child.path(), patience);
            }
        }
        kill(path);
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Kills the processes in a group.
fn kill(path: &Path) {
    for word in words(&path.join("cgroup.procs")) {
        let number = word.parse().ok().filter(|number| *number > 0);
        let Some(pid) = number.and_then(Pid::from_raw) else {
            continue;
        };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        // The number may have passed to another process before, but not after, the handle was made.
        if words(&path.join("cgroup.procs")).any(|again| again == word) {
            let _ = sys::send_signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }
}
