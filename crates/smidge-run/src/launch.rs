//! From a [`Spec`] to a process: the seam between the sandbox and the supervisor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitOptions, pidfd_open, waitpid};

use crate::cgroup::{Group, Shut};
use crate::channel::{Channel, Report};
use crate::copied::{self, Baseline};
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::inside;
use crate::isolation::{Ipc, Processes};
use crate::leftover::Mounts;
use crate::netns;
use crate::network::{self, Networks};
use crate::peer::{Luggage, Peers, Side};
use crate::pretend;
use crate::shift::Handover;
use crate::spec::{Spec, WayOut};
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
    /// What tells the calls that [`Pretence`](crate::Pretence) answers, with [`Spec::pretend`], those that bind
    /// sockets, with [`Publish::Direct`](crate::Publish::Direct), or those that make them, with
    /// [`WayOut::OnDemand`].
    pub pretence: Option<OwnedFd>,
    /// What must stay open as long as it runs.
    pub(crate) networks: Networks,
    /// Why nothing leads out of its network namespace, where it has started without.
    pub(crate) lack: Option<RunError>,
    /// Its mount namespace, if what it leaves running has to be looked for.
    pub(crate) mounts: Option<Mounts>,
    /// How the copy of the layers was before, where one had to be made.
    pub(crate) baseline: Option<Baseline>,
}

/// Starts the program of `spec` in a new container, and returns when it has been executed.
///
/// The caller must have one thread only, and is the program's parent: it waits for it, and when it
/// dies, the kernel kills the program.
///
/// # Errors
/// Everything that goes wrong until the kernel has accepted the program, here or inside.
pub fn launch(spec: &Spec, stdio: Stdio) -> Result<Launched, RunError> {
    launch_with(spec, &stdio)
}

/// The same for streams that may be needed again.
pub(crate) fn launch_with(spec: &Spec, stdio: &Stdio) -> Result<Launched, RunError> {
    launch_while(spec, stdio, &mut |_| Ok(()))
}

/// What a launcher does while the process inside, which is given, prepares itself: once an attempt.
pub(crate) type Meanwhile<'a> = &'a mut dyn FnMut(Pid) -> Result<(), RunError>;

/// The same for a launcher that has something else to do.
pub(crate) fn launch_while(
    spec: &Spec,
    stdio: &Stdio,
    meanwhile: Meanwhile<'_>,
) -> Result<Launched, RunError> {
    check(spec)?;
    match attempt(spec, stdio, meanwhile) {
        Err(error)
            if is_without_overlay(&error)
                && copied::root(&spec.dir).is_none()
                && !spec.isolation.shifted =>
        {
            let baseline = copied::fill(spec)?;
            if let Some(baseline) = &baseline {
                let step = RunError::supervise("write down what the copied layers are");
                baseline.save(&spec.dir).map_err(step)?;
            }
            let launched = attempt(spec, stdio, meanwhile)?;
            Ok(Launched {
                baseline,
                ..launched
            })
        }
        attempt => attempt,
    }
}

/// Whether the layers cannot be joined for a reason that copies do not share.
fn is_without_overlay(error: &RunError) -> bool {
    const REFUSALS: [i32; 5] = [
        libc::EINVAL,
        libc::EPERM,
        libc::ENODEV,
        libc::ENOSYS,
        libc::EOPNOTSUPP,
    ];
    let is_refusal = |errno| REFUSALS.contains(&errno);
    matches!(error, RunError::RootFs { .. }) && error.errno().is_some_and(is_refusal)
}

/// Refuses what cannot be started anywhere.
pub(crate) fn check(spec: &Spec) -> Result<(), RunError> {
    if spec.args.is_empty() {
        return Err(RunError::NoProgram {
            id: spec.id.clone(),
        });
    }
    // Who is only believed to be there need not be.
    match spec.pretend {
        true => Ok(()),
        false => spec.id_map.check(&spec.user),
    }
}

fn attempt(spec: &Spec, stdio: &Stdio, meanwhile: Meanwhile<'_>) -> Result<Launched, RunError> {
    let group = Group::create(&spec.dir, &spec.resources, &Shut::of(spec))?;
    let group = group.as_ref();
    let inside = |channel: &Channel, luggage| inside::run(spec, stdio, channel, group, luggage);
    let ids_and_group = (&spec.id_map, group);
    let launched = clone_to(
        spec,
        namespaces(spec, group),
        ids_and_group,
        inside,
        meanwhile,
    );
    launched.inspect_err(|_| {
        if let Some(group) = group {
            group.remove(&spec.dir);
        }
    })
}

/// Clones a process into namespaces, whose ids it maps if they are new, and a control group, and lets it
/// become the program: `inside` does not return.
pub(crate) fn clone_to(
    spec: &Spec,
    namespaces: i32,
    (map, group): (&IdMap, Option<&Group>),
    inside: impl FnOnce(&Channel, Luggage),
    meanwhile: Meanwhile<'_>,
) -> Result<Launched, RunError> {
    let peers = Peers::find(&spec.isolation.joined)?;
    let brings_network = namespaces & libc::CLONE_NEWNET != 0 && netns::is_handed_in(spec);
    let namespaces = match brings_network {
        true => namespaces & !libc::CLONE_NEWNET,
        false => namespaces,
    };
    let (outer, inner) = Channel::pair().map_err(RunError::setup("open a socket"))?;
    let directory = group.map(Group::open_v2).transpose();
    let directory = directory.map_err(RunError::setup("open the control group"))?;
    let directory = directory.flatten();
    let directory = directory.as_ref().map(AsFd::as_fd);
    let side = match &peers {
        Some(peers) => peers.clone(namespaces, directory),
        None => clone(spec, namespaces, directory),
    };
    let (pid, pidfd) = match side? {
        Side::Outside(pid, pidfd) => (pid, pidfd),
        Side::Inside(luggage) => {
            inside(&inner, luggage);
            sys::exit(127);
        }
    };
    drop((inner, peers));
    let process = (pid, pidfd.as_fd());
    let prepared = prepare(spec, (map, group), process, &outer, brings_network);
    let followed = prepared.and_then(|handed| {
        meanwhile(pid)?;
        follow(spec, &outer, handed)
    });
    drop(outer);
    let reap = |pidfd: &OwnedFd| {
        let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    };
    let handed = followed.inspect_err(|_| {
        // It may have become the program just before, and nobody will watch over that.
        let _ = sys::send_signal(pidfd.as_fd(), libc::SIGKILL);
        reap(&pidfd);
    })?;
    let (pid, pidfd) = match handed.sibling {
        Some(sibling) => {
            reap(&pidfd);
            sibling
        }
        None => (pid, pidfd),
    };
    Ok(Launched {
        pid: pid.as_raw_nonzero().get().cast_unsigned(),
        pidfd,
        terminal: handed.terminal,
        pretence: handed.pretence,
        networks: handed.networks,
        lack: handed.lack,
        baseline: None,
        mounts: handed.mounts,
    })
}

fn clone(spec: &Spec, namespaces: i32, group: Option<BorrowedFd<'_>>) -> Result<Side, RunError> {
    let cloned = sys::clone_into(namespaces, group).map_err(|source| RunError::Namespaces {
        id: spec.id.clone(),
        source,
    })?;
    Ok(match cloned {
        Some((pid, pidfd)) => Side::Outside(pid, pidfd),
        None => Side::Inside(Luggage::default()),
    })
}

fn namespaces(spec: &Spec, group: Option<&Group>) -> i32 {
    let mut namespaces = libc::CLONE_NEWNS;
    if spec.isolation.processes == Processes::Own {
        namespaces |= libc::CLONE_NEWPID;
    }
    // At its top is the group that the process is in when it is made: in a group, that comes later.
    if group.is_none() && !spec.resources.host_cgroup_namespace {
        namespaces |= libc::CLONE_NEWCGROUP;
    }
    if !spec.isolation.host_names {
        namespaces |= libc::CLONE_NEWUTS;
    }
    if !matches!(spec.isolation.ipc, Ipc::Host | Ipc::Joined) {
        namespaces |= libc::CLONE_NEWIPC;
    }
    if spec.network.is_own() {
        namespaces |= libc::CLONE_NEWNET;
    }
    if spec.id_map != IdMap::None && spec.isolation.joined.is_empty() {
        namespaces |= libc::CLONE_NEWUSER;
    }
    namespaces
}

/// What the process inside has handed out.
#[derive(Default)]
struct Handed {
    terminal: Option<OwnedFd>,
    pretence: Option<OwnedFd>,
    networks: Networks,
    lack: Option<RunError>,
    /// The process that becomes the program, if it is another than the one that was cloned.
    sibling: Option<(Pid, OwnedFd)>,
    mounts: Option<Mounts>,
}

/// Whether the process inside has to wait until something is done to it, or known of it.
pub(crate) fn is_prepared_from_outside(spec: &Spec, map: &IdMap, group: Option<&Group>) -> bool {
    *map != IdMap::None || group.is_some() || spec.isolation.processes != Processes::Own
}

/// Whether the process inside may need its launcher before it has become the program.
fn asks_back(spec: &Spec) -> bool {
    spec.pretend || !spec.ports.is_empty() || spec.isolation.processes != Processes::Own
}

/// Maps the ids, and does what else can only be done from outside.
fn prepare(
    spec: &Spec,
    (map, group): (&IdMap, Option<&Group>),
    (pid, pidfd): (Pid, BorrowedFd<'_>),
    channel: &Channel,
    brings_network: bool,
) -> Result<Handed, RunError> {
    if let Some(group) = group {
        // While it still has the caller's ids, which version 1 asks for.
        group.enter_v1(pid.as_raw_nonzero().get().cast_unsigned())?;
    }
    // Another container's namespace has its map.
    if *map != IdMap::None && spec.isolation.joined.is_empty() {
        let unmapped = |detail| RunError::IdMap {
            id: spec.id.clone(),
            detail,
        };
        map.apply(pid).map_err(unmapped)?;
    }
    let mut handed = Handed::default();
    if spec.isolation.processes != Processes::Own {
        handed.mounts = Mounts::of(pid.as_raw_nonzero().get().cast_unsigned());
    }
    if spec.isolation.shifted {
        Handover::prepare(spec, pid)?.send(channel)?;
    } else if is_prepared_from_outside(spec, map, group) {
        // A process that does not hear it has failed already, and has said how.
        let _ = channel.release();
    }
    match join_networks(spec, pid, pidfd) {
        Ok(networks) => handed.networks = networks,
        Err(lack) if spec.way_out == WayOut::IfPossible => handed.lack = Some(lack),
        Err(fault) => return Err(last_words(spec, channel).unwrap_or(fault)),
    }
    if spec.waits_for_networks() {
        let told = channel.release().map_err(RunError::setup("go on"));
        told.map_err(|fault| last_words(spec, channel).unwrap_or(fault))?;
    }
    if brings_network {
        netns::bring(spec, channel)?;
    }
    Ok(handed)
}

/// Listens until the program runs.
fn follow(spec: &Spec, channel: &Channel, mut handed: Handed) -> Result<Handed, RunError> {
    if !asks_back(spec) {
        channel.wait_for_end();
    }
    let mut ready = false;
    loop {
        if let Some(listener) = &handed.pretence {
            pretend::let_pass(listener.as_fd(), channel.as_fd());
        }
        match channel.receive() {
            Report::Terminal(master) => handed.terminal = Some(master),
            Report::Pretence(listener) => handed.pretence = Some(listener),
            Report::Ready => ready = true,
            Report::Mount(_) => (),
            // A child of this process's, so the number stays its own until it is waited for.
            Report::Sibling(pid) => {
                let pidfd = pidfd_open(pid, PidfdFlags::empty());
                let pidfd = pidfd.map_err(RunError::supervise("watch the process"))?;
                handed.sibling = Some((pid, pidfd));
            }
            Report::End if ready => return Ok(handed),
            report => {
                if let Some((pid, _)) = handed.sibling {
                    let _ = waitpid(Some(pid), WaitOptions::empty());
                }
                return Err(failure(spec, report));
            }
        }
    }
}

/// Puts a process that was just made on its networks.
fn join_networks(spec: &Spec, pid: Pid, pidfd: BorrowedFd<'_>) -> Result<Networks, RunError> {
    let mut networks = match spec.attachments.is_empty() {
        true => Networks::default(),
        false => network::join(&spec.attachments, pid, pidfd)?,
    };
    if let Some(pasta) = &spec.uplink {
        networks.lead_out(pasta, pid)?;
    }
    Ok(networks)
}

/// Why a process has failed that could not be put on its networks, if it has said so: one that is gone has
/// none.
fn last_words(spec: &Spec, channel: &Channel) -> Option<RunError> {
    let now = Timespec::default();
    loop {
        let mut fds = [PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::IN)];
        if poll(&mut fds, Some(&now)).ok()? == 0 {
            return None;
        }
        match channel.receive() {
            report @ (Report::Failed(_) | Report::Refused(_)) => {
                return Some(failure(spec, report));
            }
            Report::End => return None,
            _ => (),
        }
    }
}

/// What the last report of a process says that has not become the program.
fn failure(spec: &Spec, report: Report) -> RunError {
    match report {
        Report::Failed(error) => *error,
        Report::Refused(source) => RunError::Exec {
            program: spec.args.first().cloned().unwrap_or_default(),
            source,
        },
        _ => RunError::Died {
            id: spec.id.clone(),
        },
    }
}
