//! Into a container that runs: a process beside its program, shut in as it is.
//!
//! ```text
//! caller ─fork─▶ usher      enters the namespaces, gives up its privileges, clones its sibling, ends
//!   ╰──────────▶ visitor    the sibling: the caller's child, in the container's PID namespace
//! ```
//!
//! Whoever is inside can see the visitor and get at what it does by path, at any moment. So
//! - it has given up what it may not have before it can be seen, and cannot be traced or looked into
//!   (`PR_SET_DUMPABLE`): no descriptor of the host's is within reach (CVE-2016-9962, CVE-2024-21626);
//! - it never executes anything by path as smidge: it becomes a sealed program of a few instructions
//!   first, so that `/proc/PID/exe` and `#!/proc/self/exe` never lead to smidge's binary
//!   (CVE-2019-5736);
//! - its terminal is made from the container's devpts, which is checked to be one (CVE-2025-52565).

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, PidfdFlags, WaitOptions, pidfd_open, set_dumpable_behavior, waitpid,
};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::cgroup::Group;
use crate::channel::{Channel, Report};
use crate::error::RunError;
use crate::executable::{Executable, OwnBinary};
use crate::idmap::IdMap;
use crate::launch::{Launched, Stdio};
use crate::network::Networks;
use crate::spec::Spec;
use crate::state::{self, Process, State, Status};
use crate::{beside, identity, inside, limit, null, seccomp, sys, within};

/// The magic number of devpts (`statfs(2)`).
const DEVPTS: i64 = 0x1cd1;

/// Every kind of namespace that a container may have of its own, by its name in `/proc/PID/ns`.
const NAMESPACES: [(&str, ThreadNameSpaceType); 8] = [
    ("user", ThreadNameSpaceType::USER),
    ("mnt", ThreadNameSpaceType::MOUNT),
    ("pid", ThreadNameSpaceType::PROCESS_ID),
    ("net", ThreadNameSpaceType::NETWORK),
    ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
    ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
    ("cgroup", ThreadNameSpaceType::CONTROL_GROUP),
    ("time", ThreadNameSpaceType::TIME),
];

/// A process of a container that can be entered by way of it.
#[derive(Debug)]
pub(crate) struct Host {
    pid: u32,
    pidfd: OwnedFd,
    namespaces: ThreadNameSpaceType,
    /// Its user namespace's number.
    pub(crate) user: u64,
}

impl Host {
    /// Finds the program of the container in `dir`, or a child of it: a PID 1 of ours (`--init`) lets
    /// nobody in.
    pub(crate) fn find(dir: &Path) -> Result<Self, RunError> {
        let not_running = || RunError::NotRunning { id: state::id(dir) };
        let state = State::read(dir)?;
        if state.status != Status::Running {
            return Err(not_running());
        }
        let program = state.program;
        let first = match Self::of(program) {
            Ok(host) => return Ok(host),
            Err(error) => error,
        };
        let children = format!("/proc/{0}/task/{0}/children", program.pid);
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let mut children = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        match children.find_map(|pid| Self::of(Process::of(pid)).ok()) {
            // Whether it was its child is only sure while it still runs.
            Some(host) if program.is_alive() => Ok(host),
            _ if !program.is_alive() => Err(not_running()),
            _ => Err(RunError::supervise("enter the container")(first)),
        }
    }

    pub(crate) fn of(process: Process) -> std::io::Result<Self> {
        let pidfd = process.open().ok_or(Errno::SRCH)?;
        let (mut namespaces, mut user) = (ThreadNameSpaceType::empty(), 0);
        for (name, kind) in NAMESPACES {
            let theirs = match std::fs::metadata(format!("/proc/{}/ns/{name}", process.pid)) {
                // Not every kernel has them.
                Err(_) if kind == ThreadNameSpaceType::TIME => continue,
                theirs => theirs?,
            };
            let ours = std::fs::metadata(format!("/proc/self/ns/{name}"))?;
            namespaces.set(kind, theirs.ino() != ours.ino());
            if kind == ThreadNameSpaceType::USER {
                user = theirs.ino();
            }
        }
        Ok(Self {
            pid: process.pid,
            pidfd,
            namespaces,
            user,
        })
    }

    /// A handle of the process.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    fn is_alive(&self) -> bool {
        // An end of the process is something to read (pidfd_open(2)).
        let now = Timespec::default();
        poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&now)) == Ok(0)
    }

    /// Enters the network namespace alone, as far as it is another: with it the user namespace, without
    /// which that is not allowed.
    pub(crate) fn enter_network(&self) -> rustix::io::Result<()> {
        if !self.namespaces.contains(ThreadNameSpaceType::NETWORK) {
            return Ok(());
        }
        self.enter_some(ThreadNameSpaceType::USER | ThreadNameSpaceType::NETWORK)
    }

    /// Enters namespaces of these kinds, as far as they are others.
    pub(crate) fn enter_some(&self, kinds: ThreadNameSpaceType) -> rustix::io::Result<()> {
        match self.namespaces & kinds {
            none if none.is_empty() => Ok(()),
            some => move_into_thread_name_spaces(self.pidfd.as_fd(), some),
        }
    }

    pub(crate) fn enter(&self) -> rustix::io::Result<()> {
        move_into_thread_name_spaces(self.pidfd.as_fd(), self.namespaces)
    }
}

/// Starts the program of `spec` in the container that runs with a spec like it: only what concerns the
/// program itself may differ. Returns when it has been executed.
///
/// The caller must have one thread only, and is the program's parent: it waits for it, and when it
/// dies, the kernel kills the program. So does the end of the container.
///
/// # Errors
/// `NotRunning`, and everything that goes wrong until the kernel has accepted the program.
pub fn join(spec: &Spec, stdio: Stdio) -> Result<Launched, RunError> {
    send(spec, None, stdio)
}

/// The same for a program that has a root of its own, made of the directories `tools`, the top one first:
/// see [`beside`].
pub(crate) fn join_beside(
    spec: &Spec,
    tools: &[PathBuf],
    stdio: Stdio,
) -> Result<Launched, RunError> {
    send(spec, Some(tools), stdio)
}

fn send(spec: &Spec, tools: Option<&[PathBuf]>, stdio: Stdio) -> Result<Launched, RunError> {
    if spec.args.is_empty() {
        return Err(RunError::NoProgram {
            id: spec.id.clone(),
        });
    }
    spec.id_map.check(&spec.user)?;
    let host = Host::find(&spec.dir)?;
    let (outer, inner) = Channel::pair().map_err(RunError::setup("open a socket"))?;
    let fork = sys::fork().map_err(RunError::supervise("start a process"))?;
    let Some(usher) = fork else {
        let visit = Visit {
            spec,
            tools,
            channel: inner,
        };
        let error = visit.run(host, stdio);
        visit.channel.report_failure(&error);
        sys::exit(127);
    };
    drop((inner, stdio, host));
    let followed = follow(spec, &outer);
    drop(outer);
    let _ = waitpid(Some(usher), WaitOptions::empty());
    followed
}

/// Listens until the program runs.
fn follow(spec: &Spec, channel: &Channel) -> Result<Launched, RunError> {
    let died = || RunError::Died {
        id: spec.id.clone(),
    };
    let (mut terminal, mut visitor, mut ready) = (None, None, false);
    let failed = loop {
        match channel.receive() {
            Report::Terminal(master) => terminal = Some(master),
            // A child of this process's, so the number stays its own until it is waited for.
            Report::Sibling(pid) => {
                let pidfd = pidfd_open(pid, PidfdFlags::empty());
                let pidfd = pidfd.map_err(RunError::supervise("watch the process"))?;
                visitor = Some((pid, pidfd));
            }
            Report::Ready => ready = true,
            Report::Refused(source) => {
                break RunError::Exec {
                    program: spec.args.first().cloned().unwrap_or_default(),
                    source,
                };
            }
            Report::Failed(error) => break *error,
            Report::End if ready => match visitor {
                Some((pid, pidfd)) => {
                    return Ok(Launched {
                        baseline: None,
                        mounts: None,
                        pid: pid.as_raw_nonzero().get().cast_unsigned(),
                        pidfd,
                        terminal,
                        pretence: None,
                        lack: None,
                        networks: Networks::default(),
                    });
                }
                None => break died(),
            },
            Report::Pretence(_) | Report::Mount(_) => (),
            Report::End => break died(),
        }
    };
    if let Some((pid, _)) = visitor {
        let _ = waitpid(Some(pid), WaitOptions::empty());
    }
    Err(failed)
}

/// Enters a namespace of `program`, for which its user namespace must be entered too, if it has one of its
/// own; whoever is root there does not look into this process.
pub(crate) fn enter_one(
    program: BorrowedFd<'_>,
    kind: ThreadNameSpaceType,
) -> rustix::io::Result<()> {
    match move_into_thread_name_spaces(program, ThreadNameSpaceType::USER | kind) {
        // It has none (setns(2)).
        Err(Errno::INVAL) => move_into_thread_name_spaces(program, kind)?,
        entered => entered?,
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Keeps everybody inside from tracing the process and from looking into it.
pub(crate) fn hide() -> Result<(), RunError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(RunError::setup("hide the process"))
}

/// Lets a process that has been shut in out of a container's sight appear among its processes, as a sibling
/// of this one, which becomes the program. Comes back only if it cannot.
pub(crate) fn appear(
    spec: &Spec,
    channel: &Channel,
    program: Executable,
    trampoline: &OwnedFd,
) -> RunError {
    if let Err(error) = hide() {
        return error;
    }
    match sys::clone_sibling() {
        Ok(Some(pid)) => {
            let _ = channel.send_sibling(pid);
            sys::exit(0)
        }
        Ok(None) => match begin_session(spec, channel) {
            Ok(()) => execute(spec, channel, &program, trampoline),
            Err(error) => error,
        },
        Err(error) => RunError::setup("start a process")(error),
    }
}

/// Makes a process the first of a session of its own, that ends with its supervisor.
fn begin_session(spec: &Spec, channel: &Channel) -> Result<(), RunError> {
    rustix::process::setsid().map_err(RunError::setup("open a session"))?;
    if spec.tty {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
            .map_err(RunError::setup("open a terminal"))?;
    }
    inside::tie_to_launcher(channel)
}

/// Becomes the sealed program that becomes the program.
fn execute(spec: &Spec, channel: &Channel, program: &Executable, trampoline: &OwnedFd) -> RunError {
    let (arguments, environment) = program.words();
    sys::reset_signals();
    if inside::filters_late(spec)
        && let Err(error) = seccomp::install(spec)
    {
        return RunError::setup("install the filter")(error);
    }
    channel.report_ready();
    let report = (channel.as_fd(), sys::REPORT);
    let source = sys::jump(trampoline.as_fd(), report, &arguments, &environment);
    RunError::setup("execute anything")(source)
}

/// What the visitor needs of the host's.
struct Visitor {
    own: OwnBinary,
    trampoline: OwnedFd,
}

/// A visit that is being made.
struct Visit<'a> {
    spec: &'a Spec,
    /// What its root is made of, if it is not the container's.
    tools: Option<&'a [PathBuf]>,
    channel: Channel,
}

impl Visit<'_> {
    /// Enters; comes back only if something keeps the program from running.
    fn run(&self, host: Host, stdio: Stdio) -> RunError {
        let prepared = self
            .enter(host, stdio)
            .and_then(|visitor| Ok((visitor, self.give_up_privileges()?)));
        match prepared {
            Ok((visitor, ())) => self.split(&visitor),
            Err(error) => error,
        }
    }

    /// Into the namespaces, still with every privilege there and out of the sight of whoever is inside.
    fn enter(&self, host: Host, stdio: Stdio) -> Result<Visitor, RunError> {
        let spec = self.spec;
        let keep = [self.channel.as_fd(), host.pidfd.as_fd()];
        let size = inside::take_stdio(&stdio, &keep);
        // They are closed.
        std::mem::forget(stdio);
        let size = size.map_err(RunError::setup("take the streams over"))?;
        limit::rank_for_death(spec.resources.oom_score_adj)?;
        if let Some(group) = Group::load(&spec.dir) {
            group.enter_beside(std::process::id(), host.pid)?;
        }
        hide()?;
        let own = OwnBinary::find().map_err(RunError::setup("look at `/proc/self/exe`"))?;
        let trampoline = sys::trampoline(sys::REPORT)
            .map_err(RunError::setup("make what executes the program"))?;
        match self.tools {
            Some(tools) => beside::enter(&host, spec, tools)?,
            None => {
                host.enter()
                    .map_err(RunError::setup("enter the namespaces"))?;
                if spec.id_map != IdMap::None {
                    identity::become_root(&spec.id_map)?;
                }
            }
        }
        if spec.id_map == IdMap::None {
            null::reopen()?;
        }
        rustix::process::umask(Mode::from_raw_mode(0o022));
        if let Some(size) = size {
            self.open_terminal(size)
                .map_err(RunError::setup("open a terminal"))?;
        }
        inside::give_streams_away(spec);
        Ok(Visitor { own, trampoline })
    }

    fn give_up_privileges(&self) -> Result<(), RunError> {
        let spec = self.spec;
        limit::apply(&spec.limits)?;
        if !inside::filters_late(spec) {
            seccomp::install(spec).map_err(RunError::setup("install the filter"))?;
        }
        identity::drop_privileges(spec)?;
        // What changes an identity may undo it.
        hide()
    }

    /// Clones the visitor, and ends.
    fn split(&self, visitor: &Visitor) -> RunError {
        match sys::clone_sibling() {
            Ok(Some(pid)) => {
                let _ = self.channel.send_sibling(pid);
                sys::exit(0)
            }
            Ok(None) => self.execute(visitor),
            Err(error) => RunError::setup("start a process")(error),
        }
    }

    /// The visitor's part, where it can be seen.
    fn execute(&self, visitor: &Visitor) -> RunError {
        match self.prepare(visitor) {
            Ok(program) => execute(self.spec, &self.channel, &program, &visitor.trampoline),
            Err(error) => error,
        }
    }

    fn prepare(&self, visitor: &Visitor) -> Result<Executable, RunError> {
        let spec = self.spec;
        begin_session(spec, &self.channel)?;
        let cwd = if spec.cwd.is_empty() { "/" } else { &spec.cwd };
        rustix::process::chdir(cwd).map_err(|errno| RunError::WorkingDirectory {
            path: cwd.to_owned(),
            source: errno.into(),
        })?;
        Executable::find(spec, &visitor.own, None)
    }

    /// Makes the program's terminal from the container's own devpts, and its streams.
    fn open_terminal(&self, size: Winsize) -> rustix::io::Result<()> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let nofollow = flags | OFlags::NOFOLLOW;
        let master = rustix::fs::openat(CWD, "/dev/pts/ptmx", nofollow, Mode::empty())?;
        if rustix::fs::fstatfs(&master)?.f_type as i64 != DEVPTS {
            return Err(Errno::NOTTY);
        }
        rustix::pty::unlockpt(&master)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        rustix::termios::tcsetwinsize(&slave, size)?;
        rustix::fs::fchown(&slave, Some(identity::uid(self.spec.user.uid)), None)?;
        inside::place(slave.as_fd(), slave.as_fd(), slave.as_fd())?;
        self.channel.send_terminal(master.as_fd())
    }
}

/// Reads a file of the running container of `spec` as its programs see it: at most `limit` bytes, and
/// only a regular one, wherever links lead inside. `None` if there is none.
///
/// # Errors
/// `NotRunning`; when the file cannot be read.
pub fn read_inside(spec: &Spec, path: &str, limit: u64) -> Result<Option<Vec<u8>>, RunError> {
    let host = Host::find(&spec.dir)?;
    let fault = |errno: Errno| RunError::Record {
        path: path.into(),
        source: errno.into(),
    };
    let place = OFlags::PATH | OFlags::CLOEXEC;
    let root = format!("/proc/{}/root", host.pid);
    let root = rustix::fs::open(root, place | OFlags::DIRECTORY, Mode::empty()).map_err(fault)?;
    // Until here another process could have got its number.
    if !host.is_alive() {
        return Err(RunError::NotRunning {
            id: spec.id.clone(),
        });
    }
    let found = match within::open(&root, path, place) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        found => found.map_err(fault)?,
    };
    let mode = rustix::fs::fstat(&found).map_err(fault)?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::RegularFile {
        return Ok(None);
    }
    let again = format!("/proc/self/fd/{}", found.as_raw_fd());
    let mut bytes = Vec::new();
    File::open(again)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|source| RunError::Record {
            path: path.into(),
            source,
        })?;
    Ok(Some(bytes))
}
