//! What a supervisor opens while the first process of its container prepares itself: that takes longer, and there
//! are other processors.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::process::Pid;

use crate::error::RunError;
use crate::launch::launch_while;
use crate::log::Writer;
use crate::program::Program;
use crate::session;
use crate::spec::{MountKind, Spec};
use crate::terminal::Size;

/// What a supervisor opens.
pub(super) struct Opened {
    pub(super) log: Writer,
    /// Where later clients come in.
    pub(super) door: OwnedFd,
    /// Everything that is mounted in a container that is thrown away: while this is held, the kernel does not undo
    /// it. Otherwise it did so before it told of the program's end, and that would take half as long as to make it.
    pub(super) mounts: Option<File>,
}

/// Starts the program. `dir` is the container's directory.
pub(super) fn start(spec: &Spec, size: Size, dir: &File) -> Result<(Program, Opened), RunError> {
    let mut opened = None;
    let program = Program::start(spec, size, |spec, stdio| {
        launch_while(spec, &stdio, &mut |pid| {
            opened = Some(Opened::new(spec, dir, pid)?);
            Ok(())
        })
    })?;
    match opened {
        Some(opened) => Ok((program, opened)),
        None => Err(RunError::Died {
            id: spec.id.clone(),
        }),
    }
}

impl Opened {
    fn new(spec: &Spec, dir: &File, pid: Pid) -> Result<Self, RunError> {
        Ok(Self {
            log: match spec.log {
                true => Writer::open(&spec.dir, spec.log_limit)?,
                false => Writer::disabled(),
            },
            door: session::open_door(dir)
                .map_err(RunError::record(&spec.dir.join(session::DOOR)))?,
            mounts: match may_linger(spec) {
                true => File::open(format!("/proc/{}/ns/mnt", pid.as_raw_nonzero())).ok(),
                false => None,
            },
        })
    }
}

/// Whether nobody else can see how long something is mounted: it is nothing of the host's, and what it needs on
/// the disk goes with the container.
fn may_linger(spec: &Spec) -> bool {
    let is_own = |mount: &crate::spec::Mount| match mount.kind {
        MountKind::Bind => mount.source.starts_with(&spec.dir),
        MountKind::Tmpfs { .. } => true,
        MountKind::Layers(_) => false,
    };
    spec.cleanup.contains(&spec.dir)
        && spec.isolation.joined.is_empty()
        && spec.mounts.iter().all(is_own)
}
