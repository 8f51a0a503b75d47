//! From a [`Spec`] to a process: the seam between the sandbox and the supervisor.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, WaitId, WaitIdOptions};

use crate::channel::{Channel, Report};
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::inside;
use crate::network::{self, Anchor};
use crate::pretend;
use crate::spec::{Network, Spec};
use crate::sys;

/// Where the program's standard streams lead.
#[derive(Debug)]
pub enum Stdio {
    /// Three open files.
    Files {
        /// Descriptor 0.
        stdin: OwnedFd,
        /// Descriptor 1.
        stdout: OwnedFd,
        /// Descriptor 2.
        stderr: OwnedFd,
    },
    /// A new terminal, made in the container's own `/dev/pts`, which controls the program's session.
    Terminal {
        /// Its height in characters.
        rows: u16,
        /// Its width in characters.
        columns: u16,
    },
}

/// A program that has been executed in its container.
#[derive(Debug)]
pub struct Launched {
    /// Its process id on the host.
    pub pid: u32,
    /// A handle of the process that no later process can take over (`pidfd_open(2)`).
    pub pidfd: OwnedFd,
    /// The other end of the program's terminal, if it was given one.
    pub terminal: Option<OwnedFd>,
    /// What tells the calls that [`Pretence`](crate::Pretence) answers, with [`Spec::pretend`].
    pub pretence: Option<OwnedFd>,
    /// What must stay open as long as it runs.
    pub(crate) anchors: Vec<Anchor>,
}

/// Starts the program of `spec` in a new container, and returns when it has been executed.
///
/// The caller must have one thread only, and is the program's parent: it waits for it, and when it
/// dies, the kernel kills the program.
///
/// # Errors
/// Everything that goes wrong until the kernel has accepted the program, here or inside.
pub fn launch(spec: &Spec, stdio: Stdio) -> Result<Launched, RunError> {
    if spec.args.is_empty() {
        return Err(RunError::NoProgram {
            id: spec.id.clone(),
        });
    }
    // Who is only believed to be there need not be.
    if !spec.pretend {
        spec.id_map.check(&spec.user)?;
    }
    let (outer, inner) = Channel::pair().map_err(RunError::setup("open a socket"))?;
    let cloned = sys::clone_into(namespaces(spec)).map_err(|source| RunError::Namespaces {
        id: spec.id.clone(),
        source,
    })?;
    let Some((pid, pidfd)) = cloned else {
        inside::run(spec, stdio, &inner);
    };
    drop((inner, stdio));
    match follow(spec, pid, &outer) {
        Ok(Handed {
            terminal,
            pretence,
            anchors,
        }) => Ok(Launched {
            pid: pid.as_raw_nonzero().get().cast_unsigned(),
            pidfd,
            terminal,
            pretence,
            anchors,
        }),
        Err(error) => {
            // It ends by itself after its report, and at the closed channel otherwise.
            drop(outer);
            let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            Err(error)
        }
    }
}

fn namespaces(spec: &Spec) -> i32 {
    let mut namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWCGROUP;
    if spec.network != Network::Host {
        namespaces |= libc::CLONE_NEWNET;
    }
    if spec.id_map != IdMap::None {
        namespaces |= libc::CLONE_NEWUSER;
    }
    namespaces
}

/// What the process inside has handed out.
#[derive(Default)]
struct Handed {
    terminal: Option<OwnedFd>,
    pretence: Option<OwnedFd>,
    anchors: Vec<Anchor>,
}

/// Puts the process on its networks, and lets it go on when it is.
fn join_networks(spec: &Spec, pid: Pid, channel: &Channel) -> Result<Vec<Anchor>, RunError> {
    if spec.attachments.is_empty() {
        return Ok(Vec::new());
    }
    let path = format!("/proc/{}/ns/net", pid.as_raw_nonzero());
    let namespace = File::open(path).map_err(RunError::supervise("open the network namespace"))?;
    let anchors = spec.attachments.iter();
    let anchors = anchors.map(|attachment| network::attach(attachment, namespace.as_fd()));
    let anchors: Vec<_> = anchors.collect::<Result<_, _>>()?;
    channel.release().map_err(RunError::setup("go on"))?;
    Ok(anchors.into_iter().flatten().collect())
}

/// Maps the ids and listens until the program runs.
fn follow(spec: &Spec, pid: Pid, channel: &Channel) -> Result<Handed, RunError> {
    if spec.id_map != IdMap::None {
        let unmapped = |detail| RunError::IdMap {
            id: spec.id.clone(),
            detail,
        };
        spec.id_map.apply(pid).map_err(unmapped)?;
        channel.release().map_err(RunError::setup("go on"))?;
    }
    let mut handed = Handed {
        anchors: join_networks(spec, pid, channel)?,
        ..Handed::default()
    };
    let mut ready = false;
    loop {
        if let Some(listener) = &handed.pretence {
            pretend::let_pass(listener.as_fd(), channel.as_fd());
        }
        match channel.receive() {
            Report::Terminal(master) => handed.terminal = Some(master),
            Report::Pretence(listener) => handed.pretence = Some(listener),
            Report::Ready => ready = true,
            Report::Sibling(_) | Report::Refused(_) => (),
            Report::Failed(error) => return Err(*error),
            Report::End if ready => return Ok(handed),
            Report::End => {
                return Err(RunError::Died {
                    id: spec.id.clone(),
                });
            }
        }
    }
}
