//! Files for a user namespace whose ids are nobody's on the host (`--userns auto`): on the disk they have the
//! ids that the container knows, and their mounts translate (idmapped mounts, `mount_setattr(2)`).
//!
//! The container's ids have no right to any directory of the host. So whoever launches it opens everything,
//! and hands it over.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Pid;

use crate::channel::Channel;
use crate::error::RunError;
use crate::external;
use crate::mount::{self, Depth};
use crate::spec::{Mount, MountKind, Spec};
use crate::sys;

/// What the process inside is handed.
#[derive(Debug)]
pub(crate) struct Handover {
    /// The container's own directory.
    dir: OwnedFd,
    /// Its layers, top-most first.
    layers: Vec<OwnedFd>,
    /// What is mounted of the host's files, in the order of [`Spec::mounts`].
    pub(crate) sources: Vec<Option<OwnedFd>>,
}

impl Handover {
    /// Opens everything for the namespace of a process, which has its map.
    pub(crate) fn prepare(spec: &Spec, pid: Pid) -> Result<Self, RunError> {
        let namespace = File::open(format!("/proc/{}/ns/user", pid.as_raw_nonzero()));
        let namespace = namespace.map_err(RunError::supervise("open the user namespace"))?;
        for (name, mode) in [("upper", 0o755), ("work", 0o700)] {
            let path = spec.dir.join(name);
            match rustix::fs::mkdir(&path, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(Errno::EXIST) => (),
                Err(errno) => return Err(fault(&path)(errno)),
            }
        }
        let mapped = |path: &Path| {
            mount::clone(CWD, path, Depth::Flat)
                .and_then(|tree| map(tree, namespace.as_fd()))
                .map_err(fault(path))
        };
        let source = |mount: &Mount| match mount.kind {
            MountKind::Bind => {
                let tree = external::source(mount)?;
                let tree = match mount.manner.own_ids {
                    true => map(tree, namespace.as_fd()).map_err(fault(&mount.source))?,
                    false => tree,
                };
                external::cut_off(mount, &tree)?;
                Ok(Some(tree))
            }
            MountKind::Layers(ref layers) => {
                let trees: Vec<OwnedFd> = layers
                    .iter()
                    .map(|layer| mapped(layer))
                    .collect::<Result<_, _>>()?;
                let paths: Vec<PathBuf> = trees.iter().map(path).collect();
                external::joined(&paths, mount, true)
                    .map(Some)
                    .map_err(fault(Path::new(&mount.destination)))
            }
            MountKind::Tmpfs { .. } => Ok(None),
        };
        Ok(Self {
            dir: mapped(&spec.dir)?,
            layers: spec
                .layers
                .iter()
                .map(|layer| mapped(layer))
                .collect::<Result<_, _>>()?,
            sources: spec.mounts.iter().map(source).collect::<Result<_, _>>()?,
        })
    }

    /// Hands everything over to the process inside, which goes on.
    pub(crate) fn send(&self, channel: &Channel) -> Result<(), RunError> {
        let all = [&self.dir].into_iter().chain(&self.layers);
        let all: Vec<BorrowedFd<'_>> = all
            .chain(self.sources.iter().flatten())
            .map(AsFd::as_fd)
            .collect();
        for files in all.chunks(CHUNK) {
            channel
                .send_files(files)
                .map_err(RunError::setup("hand the files over"))?;
        }
        Ok(())
    }

    /// Takes everything over.
    pub(crate) fn receive(spec: &Spec, channel: &Channel) -> Result<Self, RunError> {
        let is_handed = |mount: &Mount| !matches!(mount.kind, MountKind::Tmpfs { .. });
        let handed = spec.mounts.iter().filter(|mount| is_handed(mount)).count();
        let count = 1 + spec.layers.len() + handed;
        let mut files = Vec::new();
        while files.len() < count {
            let more = channel
                .receive_files()
                .map_err(RunError::setup("take the files over"))?;
            files.extend(more);
        }
        let mut files = files.into_iter();
        let lost = || RunError::setup("take the files over")(Errno::BADF);
        let dir = files.next().ok_or_else(lost)?;
        let layers: Vec<OwnedFd> = files.by_ref().take(spec.layers.len()).collect();
        let mut next = |mount| is_handed(mount).then(|| files.next()).flatten();
        let sources = spec.mounts.iter().map(&mut next).collect();
        Ok(Self {
            dir,
            layers,
            sources,
        })
    }

    /// Lets `join` make an overlay of the directories. Kernels before 6.15 take them only if they are
    /// attached somewhere, which they are as long as that takes.
    pub(crate) fn during<T>(
        &self,
        join: impl FnOnce() -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let attach = |directory| mount::attach(directory, CWD, PLACE);
        let mut all = [&self.dir].into_iter().chain(&self.layers);
        all.try_for_each(attach)
            .map_err(RunError::setup("take the files over"))?;
        let joined = join()?;
        for _ in 0..=self.layers.len() {
            unmount(PLACE, UnmountFlags::DETACH).map_err(RunError::setup("let the files go"))?;
        }
        Ok(joined)
    }

    /// The spec as it is for whoever has been handed this.
    pub(crate) fn spec(&self, spec: &Spec) -> Spec {
        Spec {
            dir: path(&self.dir),
            layers: self.layers.iter().map(path).collect(),
            ..spec.clone()
        }
    }
}

/// A directory that every host has, and that nobody needs meanwhile.
const PLACE: &str = "/sys";

/// How many files fit in one message (`unix(7)`: 253).
const CHUNK: usize = 128;

/// What leads to an open file by path.
fn path(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn map(tree: OwnedFd, namespace: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    sys::map_mount(tree.as_fd(), namespace, false)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(tree)
}

fn fault(path: &Path) -> impl FnOnce(Errno) -> RunError + use<> {
    let path = path.to_owned();
    move |errno| RunError::Unmappable {
        path,
        source: errno.into(),
    }
}
