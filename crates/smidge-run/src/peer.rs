//! Namespaces of other containers that run, in place of a container's own (`--network container:X`).
//!
//! ```text
//! launcher ─fork─▶ usher    enters the others' namespaces, makes the rest, clones its sibling, ends
//!    ╰───────────▶ sibling  the launcher's child, which is shut in and becomes the program
//! ```
//!
//! Where the processes are shared, those of the other container would see the sibling while it has every
//! privilege yet. There it is the usher that is shut in, out of their sight, and the sibling comes last:
//! hidden, without privileges, on its way into a sealed program ([`join`](crate::join)). What `/proc` is
//! to show must be opened by a process among the other's. That one can do nothing else, whoever gets hold
//! of it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, wait, waitpid};
use rustix::thread::ThreadNameSpaceType;

use crate::channel::{Channel, Report};
use crate::error::RunError;
use crate::isolation::{Joined, Namespace};
use crate::join::{Host, hide};
use crate::mount::{self, Depth};
use crate::{seccomp, state, sys};

/// The magic numbers of proc and tmpfs (`statfs(2)`).
const PROC: i64 = 0x9fa0;
const TMPFS: i64 = 0x0102_1994;

/// How long a process may take that only opens something.
const PATIENCE: Duration = Duration::from_secs(10);

/// The containers whose namespaces are to be entered.
#[derive(Debug)]
pub(crate) struct Peers(Vec<(Namespace, Host)>);

/// What a process has brought along from there.
#[derive(Debug, Default)]
pub(crate) struct Luggage {
    /// The view of their processes, mounted nowhere yet.
    pub(crate) proc: Option<OwnedFd>,
    /// Their `/dev/shm`, mounted nowhere yet.
    pub(crate) shared_memory: Option<OwnedFd>,
    /// What the process has to become, among their processes, to execute its program.
    pub(crate) trampoline: Option<OwnedFd>,
}

impl Luggage {
    /// All that is open.
    pub(crate) fn files(&self) -> impl Iterator<Item = &OwnedFd> {
        let files = [&self.proc, &self.shared_memory, &self.trampoline];
        files.into_iter().flatten()
    }
}

/// On which side of a clone a process is.
pub(crate) enum Side {
    /// It has made this child.
    Outside(Pid, OwnedFd),
    /// It is the child.
    Inside(Luggage),
}

impl Peers {
    /// Finds them; `None` if there are none.
    pub(crate) fn find(joined: &[Joined]) -> Result<Option<Self>, RunError> {
        let find = |joined: &Joined| {
            let host = Host::find(&joined.dir).map_err(|error| match error {
                RunError::NotRunning { .. } => refused(
                    joined,
                    "it is not running, and only what runs can be joined",
                ),
                error => error,
            })?;
            Ok((joined.namespace, host))
        };
        let found: Vec<_> = joined.iter().map(find).collect::<Result<_, RunError>>()?;
        let Some((_, first)) = found.first() else {
            return Ok(None);
        };
        match found.iter().position(|(_, host)| host.user != first.user) {
            Some(at) => Err(refused(
                &joined[at],
                "its user namespace is another than that of the other container that is joined",
            )),
            None => Ok(Some(Self(found))),
        }
    }

    fn host(&self, namespace: Namespace) -> Option<&Host> {
        let mut hosts = self.0.iter();
        hosts.find_map(|(shared, host)| (*shared == namespace).then_some(host))
    }

    /// Clones a process into their namespaces, new ones (`CLONE_NEW*` in `made`), and a control group.
    pub(crate) fn clone(&self, made: i32, group: Option<BorrowedFd<'_>>) -> Result<Side, RunError> {
        let (outer, inner) = Channel::pair().map_err(RunError::setup("open a socket"))?;
        let cloned = sys::clone_into(0, group).map_err(RunError::supervise("start a process"))?;
        let Some((usher, handle)) = cloned else {
            drop(outer);
            let luggage = match self.usher(made, &inner) {
                Ok(luggage) => luggage,
                Err(error) => {
                    inner.report_failure(&error);
                    sys::exit(127);
                }
            };
            return Ok(Side::Inside(luggage));
        };
        drop(inner);
        let failed = match outer.receive() {
            Report::Ready => return Ok(Side::Outside(usher, handle)),
            Report::Sibling(sibling) => {
                let _ = waitpid(Some(usher), WaitOptions::empty());
                // A child of this process's, so the number stays its own until it is waited for.
                let handle = pidfd_open(sibling, PidfdFlags::empty());
                let handle = handle.map_err(RunError::supervise("watch the process"))?;
                return Ok(Side::Outside(sibling, handle));
            }
            Report::Failed(error) => *error,
            _ => RunError::setup("enter the namespaces")(Errno::CONNRESET),
        };
        let _ = waitpid(Some(usher), WaitOptions::empty());
        Err(failed)
    }

    /// The usher's part: comes back in the process that is to be shut in.
    fn usher(&self, made: i32, channel: &Channel) -> Result<Luggage, RunError> {
        let luggage = self.enter(made)?;
        if luggage.trampoline.is_some() {
            channel.report_ready();
            return Ok(luggage);
        }
        let cloned = sys::clone_sibling().map_err(RunError::setup("start a process"))?;
        match cloned {
            None => Ok(luggage),
            Some(sibling) => {
                let _ = channel.send_sibling(sibling);
                sys::exit(0)
            }
        }
    }

    fn enter(&self, made: i32) -> Result<Luggage, RunError> {
        let enter = |host: &Host, kind| {
            host.enter_some(kind)
                .map_err(RunError::setup("enter the namespaces"))
        };
        let mut luggage = Luggage::default();
        if let Some((_, host)) = self.0.first() {
            enter(host, ThreadNameSpaceType::USER)?;
        }
        if let Some(host) = self.host(Namespace::Ipc) {
            luggage.shared_memory = Some(shared_memory(host)?);
            enter(host, ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION)?;
        }
        if let Some(host) = self.host(Namespace::Network) {
            enter(host, ThreadNameSpaceType::NETWORK)?;
        }
        sys::unshare(made).map_err(RunError::setup("make the namespaces"))?;
        if let Some(host) = self.host(Namespace::Processes) {
            luggage.proc = Some(view_of_processes(host)?);
            luggage.trampoline = Some(
                sys::trampoline(sys::REPORT)
                    .map_err(RunError::setup("make what executes the program"))?,
            );
            enter(host, ThreadNameSpaceType::PROCESS_ID)?;
        }
        Ok(luggage)
    }
}

fn refused(joined: &Joined, why: &str) -> RunError {
    RunError::NotShared {
        what: joined.namespace.to_string(),
        id: state::id(&joined.dir),
        why: why.to_owned(),
    }
}

/// What a process that is forked for it hands out; `act` runs in that process.
fn fetched(act: impl FnOnce(&Channel) -> Result<(), RunError>) -> Result<OwnedFd, RunError> {
    let (ours, theirs) = Channel::pair().map_err(RunError::setup("open a socket"))?;
    let forked = sys::fork().map_err(RunError::setup("start a process"))?;
    let Some(fetcher) = forked else {
        if let Err(error) = act(&theirs) {
            theirs.report_failure(&error);
        }
        sys::exit(0);
    };
    drop(theirs);
    let report = match says_something(&ours) {
        true => ours.receive(),
        false => Report::End,
    };
    end(fetcher);
    match report {
        Report::Mount(file) => Ok(file),
        Report::Failed(error) => Err(*error),
        _ => Err(RunError::setup("share the other container's namespaces")(
            Errno::CONNRESET,
        )),
    }
}

/// Whether there is a report within the time that it may take: the other container may have stopped who
/// was to send it.
fn says_something(channel: &Channel) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let rest = Timespec::try_from(rest).unwrap_or_default();
        match poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&rest)) {
            Ok(count) => return count > 0,
            Err(_) if rest == Timespec::default() => return false,
            Err(_) => (),
        }
    }
}

/// Ends a child that has nothing more to do, and with it all that it has made.
fn end(fetcher: Pid) {
    sys::kill(fetcher, libc::SIGKILL);
    let _ = waitpid(Some(fetcher), WaitOptions::empty());
    // Who could make more of them is gone.
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let children = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    for child in children.filter_map(Pid::from_raw) {
        sys::kill(child, libc::SIGKILL);
    }
    while wait(WaitOptions::empty()).is_ok() {}
}

/// The other container's `/dev/shm`, as its processes see it.
fn shared_memory(host: &Host) -> Result<OwnedFd, RunError> {
    let step = "share `/dev/shm`";
    fetched(|channel| {
        let get = || {
            host.enter_some(ThreadNameSpaceType::MOUNT)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let place = rustix::fs::openat(CWD, "/dev/shm", flags, Mode::empty())?;
            if rustix::fs::fstatfs(&place)?.f_type as i64 != TMPFS {
                return Err(Errno::NODEV);
            }
            channel.send_mount(&mount::clone(&place, "", Depth::Flat)?)
        };
        get().map_err(RunError::setup(step))
    })
}

/// `/proc` of the other container's processes.
fn view_of_processes(host: &Host) -> Result<OwnedFd, RunError> {
    let step = "mount `/proc` of the other container's processes";
    let context = fetched(|channel| {
        // Its root is the host's, and the other container sees it.
        hide()?;
        host.enter_some(ThreadNameSpaceType::PROCESS_ID)
            .map_err(RunError::setup(step))?;
        // What can be seen over there can do no more than this, and with it only what is asked for:
        // what it hands out is looked at.
        seccomp::allow_only(&[
            libc::SYS_clone,
            libc::SYS_fsopen,
            libc::SYS_sendmsg,
            libc::SYS_exit_group,
        ])
        .map_err(RunError::setup(step))?;
        if let Ok(None) = sys::clone_sibling() {
            let _ = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)
                .and_then(|context| channel.send_mount(&context));
            sys::exit(0);
        }
        Ok(())
    })?;
    let mount = || {
        fsconfig_set_string(&context, "source", "proc")?;
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let proc = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        match rustix::fs::fstatfs(&proc)?.f_type as i64 {
            PROC => Ok(proc),
            _ => Err(Errno::NODEV),
        }
    };
    mount().map_err(RunError::setup(step))
}
