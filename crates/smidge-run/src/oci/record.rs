//! What is known of the containers: a directory each, below the runtime's root.
//!
//! ```text
//! ROOT/ID/               made exclusively; locked (flock) while a verb changes something
//! ├── state.json         the record, replaced as a whole
//! ├── config.json        the bundle's description, as it was at `create`
//! ├── start              a pipe that the first process waits at; gone when the program runs
//! └── answer             a pipe that it says at why the program does not
//! ```

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::OciError;
use crate::cgroup::{Group, Resources};
use crate::error::RunError;
use crate::state::Process;

/// The version of the specification that is implemented.
pub const OCI_VERSION: &str = "1.2.0";

const STATE: &str = "state.json";

/// What is known of one container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) annotations: BTreeMap<String, String>,
    /// RFC 3339.
    pub(super) created: String,
    /// Who made it.
    pub(super) owner: u32,
    /// Its first process.
    pub(super) process: Process,
    pub(super) group: Option<Group>,
    /// What it may use, if that was changed since it was made.
    #[serde(default)]
    pub(super) changed: Option<Resources>,
    /// The mount of its root, if that is in the mount namespace of whoever made it.
    #[serde(default)]
    pub(super) covered: Option<u64>,
    /// Whether it has PIDs of its own: its first process takes all others with it.
    pub(super) own_pids: bool,
    /// Whether its first process does not wait for the start yet: its root may still be the host's.
    #[serde(default)]
    pub(super) unfinished: bool,
}

/// Where a container is in its life (`runtime.md`, "State"), and `paused`, as runc has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container's directory.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) dir: PathBuf,
}

impl Place {
    /// Where the container `id` is, or would be.
    ///
    /// # Errors
    /// When that is no id: nobody is led anywhere by it.
    pub(super) fn of(root: &Path, id: &str) -> Result<Self, OciError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        let plain = !id.is_empty() && id.len() <= 1024 && id.bytes().all(allowed);
        match plain && id != "." && id != ".." {
            true => Ok(Self {
                id: id.to_owned(),
                dir: root.join(id),
            }),
            false => Err(OciError::Id { id: id.to_owned() }),
        }
    }

    /// Makes the directory, which nobody else has made before.
    pub(super) fn make(&self) -> Result<(), OciError> {
        let parent = self.dir.parent().unwrap_or(Path::new("/"));
        let mut private = DirBuilder::new();
        private.mode(0o700);
        let made = private.recursive(true).create(parent);
        made.map_err(RunError::record(parent))?;
        match private.recursive(false).create(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(OciError::Exists {
                id: self.id.clone(),
            }),
            made => Ok(made.map_err(RunError::record(&self.dir))?),
        }
    }

    /// Waits until nobody else changes the container, and keeps others from it.
    pub(super) fn lock(&self) -> Result<File, OciError> {
        loop {
            let file = match File::open(&self.dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.missing()),
                opened => opened.map_err(RunError::record(&self.dir))?,
            };
            rustix::fs::flock(&file, FlockOperation::LockExclusive)
                .map_err(RunError::record(&self.dir))?;
            // It may have been removed while we waited, and made anew by somebody else.
            let locked = file.metadata().map_err(RunError::record(&self.dir))?;
            let same = |now: Metadata| (now.dev(), now.ino()) == (locked.dev(), locked.ino());
            if fs::metadata(&self.dir).is_ok_and(same) {
                return Ok(file);
            }
        }
    }

    fn missing(&self) -> OciError {
        OciError::Missing {
            id: self.id.clone(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn read(&self) -> Result<Record, OciError> {
        let path = self.path(STATE);
        match fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text).map_err(RunError::record(&path))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.missing()),
            Err(error) => Err(RunError::record(&path)(error).into()),
        }
    }

    pub(super) fn write(&self, record: &Record) -> Result<(), OciError> {
        let path = self.path(STATE);
        let temporary = self.path("state.json.new");
        let write = || {
            fs::write(&temporary, serde_json::to_vec(record)?)?;
            fs::rename(&temporary, &path)
        };
        Ok(write().map_err(RunError::record(&path))?)
    }

    /// Makes a pipe with a name, and opens it for both directions.
    pub(super) fn make_pipe(&self, name: &str) -> Result<OwnedFd, OciError> {
        let path = self.path(name);
        let mode = Mode::RUSR | Mode::WUSR;
        let made = rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let opened = made.and_then(|()| rustix::fs::open(&path, flags, Mode::empty()));
        Ok(opened.map_err(RunError::record(&path))?)
    }

    /// How the container is.
    pub(super) fn status(&self, record: &Record) -> Status {
        if !record.has_process() {
            return Status::Creating;
        }
        if !record.process.is_alive() {
            return Status::Stopped;
        }
        if record.unfinished {
            return Status::Creating;
        }
        if record.group.as_ref().is_some_and(Group::is_frozen) {
            return Status::Paused;
        }
        match self.path("start").exists() {
            true => Status::Created,
            false => Status::Running,
        }
    }

    /// Removes the directory.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Record {
    /// The state as hooks and `state` have it (`runtime.md`, "State").
    pub(super) fn state(&self, status: Status) -> Value {
        let pid = match status {
            Status::Stopped => 0,
            _ => self.process.pid,
        };
        json!({
            "ociVersion": OCI_VERSION,
            "id": self.id,
            "status": status.name(),
            "pid": pid,
            "bundle": self.bundle,
            "annotations": self.annotations,
            "rootfs": self.rootfs,
            "created": self.created,
            "owner": self.owner_name(),
        })
    }

    /// Whether there is a first process yet.
    pub(super) fn has_process(&self) -> bool {
        self.process.pid != 0
    }

    fn owner_name(&self) -> String {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        crate::idmap::name_of(&passwd, self.owner).unwrap_or_default()
    }

    /// Refuses what the container's status does not allow.
    pub(super) fn refuse(&self, status: Status, wanted: &'static str) -> OciError {
        OciError::State {
            id: self.id.clone(),
            wanted,
            status: status.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether somebody waits for the lock of a file (`proc_locks(5)`).
    fn is_waited_for(file: &File) -> bool {
        let number = format!(":{} ", file.metadata().unwrap().ino());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let waits = |line: &str| line.contains("-> ") && line.contains(&number);
        locks.lines().any(waits)
    }

    #[test]
    fn who_waits_for_a_lock_gets_that_of_what_is_there_then() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::of(root.path(), "one").unwrap();
        place.make().unwrap();
        let held = place.lock().unwrap();
        let waiter = std::thread::spawn({
            let place = place.clone();
            move || place.lock().unwrap().metadata().unwrap().ino()
        });
        while !is_waited_for(&held) {
            assert!(!waiter.is_finished(), "nobody waited");
            std::thread::yield_now();
        }
        // Its number must not be had by the new one.
        fs::rename(&place.dir, root.path().join("old")).unwrap();
        place.make().unwrap();
        drop(held);
        let now = fs::metadata(&place.dir).unwrap().ino();
        assert_eq!(waiter.join().unwrap(), now);
    }
}
