//! `exec`: a further program in a container that is there.
//!
//! ```text
//! caller ─fork─▶ usher      enters the group and the namespaces, becomes the user, clones its sibling, ends
//!   ╰──────────▶ visitor    the sibling: the caller's child, in the container's PID namespace
//! ```
//!
//! What whoever is inside could make of that, and what is done about it, is told in [`crate::join`].

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::config::{self, Config, NamespaceKind, Process};
use super::create::{connect, inherited, send_handle, write_pid};
use super::error::OciError;
use super::life::saved;
use super::process::{self, Label};
use super::record::{Place, Record, Status};
use super::{Runtime, Tell, device, schedule};
use crate::cgroup::Group;
use crate::channel::{Channel, Report, send_file};
use crate::error::RunError;
use crate::executable::{Executable, OwnBinary};
use crate::join::{Host, hide};
use crate::{inside, null, sys};

/// What is to be run in a container.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// The program's description, a `process` of `config.json`, as text; the container's own if there is
    /// none.
    pub process: Option<Vec<u8>>,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Variables that are added.
    pub env: Vec<String>,
    /// The working directory; the container's own if there is none.
    pub cwd: Option<String>,
    /// Whom it runs as: user and group.
    pub user: Option<(u32, Option<u32>)>,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Capabilities that are added.
    pub capabilities: Vec<String>,
    /// Whether it gets a terminal; as its description has it if nothing is said.
    pub tty: bool,
    /// Whether it cannot get new privileges.
    pub no_new_privileges: bool,
    /// AppArmor's profile for it.
    pub apparmor: Option<String>,
    /// SELinux's label of it.
    pub label: Option<String>,
    /// Control groups below the container's that it is put into.
    pub cgroups: Vec<String>,
    /// A socket that a handle of it is sent to.
    pub pidfd_socket: Option<PathBuf>,
    /// Whether it is started in a container that stands still, too: it goes on with it.
    pub ignore_paused: bool,
    /// A socket that the master side of its terminal is sent to.
    pub console_socket: Option<PathBuf>,
    /// A file that its number is written to.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors from 3 on it gets from the caller.
    pub preserve_fds: u32,
}

/// A program that was started in a container.
pub(super) struct Executed {
    pub(super) pid: Pid,
    /// Its terminal, if nobody else was to get it.
    pub(super) terminal: Option<OwnedFd>,
}

/// Starts a program in a container.
pub(super) fn exec(
    runtime: &Runtime,
    id: &str,
    options: &ExecOptions,
    relays: bool,
    tell: Tell<'_>,
) -> Result<Executed, OciError> {
    let preserved = inherited(options.preserve_fds)?;
    let place = Place::of(&runtime.root, id)?;
    let record = place.read()?;
    let status = place.status(&record);
    match status {
        Status::Created | Status::Running => (),
        Status::Paused if options.ignore_paused => (),
        Status::Paused => {
            return Err(record.refuse(Status::Paused, "cannot exec in a paused container"));
        }
        Status::Creating => {
            let wanted = "cannot exec in a container that is being made";
            return Err(record.refuse(Status::Creating, wanted));
        }
        status => return Err(record.refuse(status, "cannot exec in a stopped container")),
    }
    let config = saved(&place).ok_or_else(|| OciError::Missing { id: id.to_owned() })?;
    let process = described(&config, options)?;
    guard(&record, &config, &process, status)?;
    process::check(&process).map_err(|detail| OciError::Config {
        path: "process".into(),
        detail,
    })?;
    process::warnings(&process)
        .iter()
        .for_each(|text| tell(text));
    let console = match (&options.console_socket, process.terminal) {
        (Some(path), true) => Some(connect(path)?),
        (None, true) if !relays => {
            return Err(OciError::Config {
                path: "process".into(),
                detail: "a terminal needs `--console-socket`".to_owned(),
            });
        }
        _ => None,
    };
    let visit = Visit {
        record: &record,
        config: &config,
        process: &process,
        preserved: &preserved,
        group: record
            .group
            .as_ref()
            .map(|group| group.below(&options.cgroups))
            .transpose()?,
        is_named: !options.cgroups.is_empty(),
    };
    let (pid, terminal) = visit.make()?;
    hand_out(options, pid, terminal, console).inspect_err(|_| {
        // Nobody is told of it, so nobody would ever end it.
        sys::kill(pid, libc::SIGKILL);
        let _ = waitpid(Some(pid), WaitOptions::empty());
    })
}

/// Goes on as a sealed copy of smidge where whoever is inside could look into this process.
fn guard(
    record: &Record,
    config: &Config,
    process: &Process,
    status: Status,
) -> Result<(), OciError> {
    if config.linux.has(NamespaceKind::User) {
        return Ok(());
    }
    let own = config.process.as_ref();
    if own.is_some_and(process::may_look_into_others) {
        crate::seal::seal()?;
    } else if status == Status::Created && process::may_look_into_others(process) {
        // Its first process is still that of who made it, and did not seal itself.
        let wanted = "cannot exec with CAP_SYS_PTRACE in a container that waits for its start";
        return Err(record.refuse(status, wanted));
    }
    Ok(())
}

/// Hands its terminal and its number to whoever wants them.
fn hand_out(
    options: &ExecOptions,
    pid: Pid,
    terminal: Option<OwnedFd>,
    console: Option<OwnedFd>,
) -> Result<Executed, OciError> {
    let terminal = match (console, terminal) {
        (Some(socket), Some(master)) => {
            send_file(&socket, b"/dev/ptmx", master.as_fd())
                .map_err(RunError::supervise("hand the terminal over"))?;
            None
        }
        (_, terminal) => terminal,
    };
    if let Some(path) = &options.pidfd_socket {
        send_handle(path, pid)?;
    }
    if let Some(path) = &options.pid_file {
        write_pid(path, pid)?;
    }
    Ok(Executed { pid, terminal })
}

/// The program, from its description or the container's own, with what else was asked for.
fn described(config: &Config, options: &ExecOptions) -> Result<Process, OciError> {
    let mut process = match &options.process {
        Some(text) => config::parse(text).map_err(|error| OciError::Config {
            path: "process".into(),
            detail: error.to_string(),
        })?,
        None => Process {
            terminal: false,
            console_size: None,
            ..config.process.clone().unwrap_or_default()
        },
    };
    if !options.args.is_empty() {
        process.args.clone_from(&options.args);
    }
    process.env.extend(options.env.iter().cloned());
    if let Some(cwd) = &options.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some((uid, gid)) = options.user {
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.extend(&options.groups);
    let sets = &mut process.capabilities;
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.extend(options.capabilities.iter().cloned());
    }
    process.terminal |= options.tty;
    process.no_new_privileges |= options.no_new_privileges;
    for (to, from) in [
        (&mut process.apparmor_profile, &options.apparmor),
        (&mut process.selinux_label, &options.label),
    ] {
        if let Some(text) = from {
            to.clone_from(text);
        }
    }
    Ok(process)
}

/// A visit that is being made.
struct Visit<'a> {
    record: &'a Record,
    config: &'a Config,
    process: &'a Process,
    preserved: &'a [BorrowedFd<'static>],
    /// Its control group.
    group: Option<Group>,
    /// Whether that one was asked for, and no other will do.
    is_named: bool,
}

/// What the visitor needs of the host's.
struct Visitor {
    own: OwnBinary,
    trampoline: Option<OwnedFd>,
}

impl Visit<'_> {
    fn make(&self) -> Result<(Pid, Option<OwnedFd>), OciError> {
        let host = Host::of(self.record.process).map_err(|error| {
            match self.record.process.is_alive() {
                true => RunError::supervise("enter the container")(error).into(),
                false => self.record.refuse(Status::Stopped, "container not running"),
            }
        })?;
        let (outer, inner) = Channel::pair().map_err(RunError::setup("open a socket"))?;
        let fork = sys::fork().map_err(RunError::supervise("start a process"))?;
        let Some(usher) = fork else {
            drop(outer);
            let error = self.run(&host, &inner);
            inner.report_failure(&error);
            sys::exit(127);
        };
        drop(inner);
        let followed = self.follow(&outer);
        drop(outer);
        let _ = waitpid(Some(usher), WaitOptions::empty());
        followed
    }

    /// Listens until the program runs.
    fn follow(&self, channel: &Channel) -> Result<(Pid, Option<OwnedFd>), OciError> {
        let id = || self.record.id.clone();
        let (mut terminal, mut visitor, mut ready) = (None, None, false);
        let failed = loop {
            match channel.receive() {
                Report::Terminal(master) => terminal = Some(master),
                Report::Sibling(pid) => {
                    visitor = Some(pid);
                    let prepared = process::prepare(self.process, pid);
                    if let Err(error) = prepared {
                        sys::kill(pid, libc::SIGKILL);
                        break error;
                    }
                    let _ = channel.release();
                }
                Report::Ready => ready = true,
                Report::Refused(source) => {
                    let program = self.process.args.first().cloned().unwrap_or_default();
                    break RunError::Exec { program, source };
                }
                Report::Failed(error) => break *error,
                Report::End => match visitor.filter(|_| ready) {
                    Some(pid) => return Ok((pid, terminal)),
                    None => break RunError::Died { id: id() },
                },
                _ => (),
            }
        };
        if let Some(pid) = visitor {
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
        Err(failed.into())
    }

    /// Enters; comes back only if something keeps the program from running.
    fn run(&self, host: &Host, channel: &Channel) -> RunError {
        let prepared = self.enter(host, channel);
        match prepared {
            Ok(visitor) => match sys::clone_sibling() {
                Ok(Some(pid)) => {
                    let _ = channel.send_sibling(pid);
                    sys::exit(0)
                }
                Ok(None) => match self.prepare(visitor, channel) {
                    Ok((visitor, program)) => self.execute(&visitor, &program, channel),
                    Err(error) => error,
                },
                Err(error) => RunError::setup("start a process")(error),
            },
            Err(error) => error,
        }
    }

    /// Into the namespaces, out of the sight of whoever is inside. Gives the host's `/proc`, too, if it is
    /// needed.
    fn enter(
        &self,
        host: &Host,
        channel: &Channel,
    ) -> Result<(Visitor, Option<OwnedFd>), RunError> {
        let mut keep = vec![channel.as_fd(), host.as_fd()];
        keep.extend(self.preserved);
        sys::close_all_but(&keep);
        let affinity = &self.process.affinity;
        schedule::stay_on(&affinity.initial)?;
        if let Some(group) = &self.group {
            let own = std::process::id();
            match self.is_named {
                true => group.enter(own)?,
                false => group.enter_beside(own, self.record.process.pid)?,
            }
        }
        schedule::roam();
        schedule::stay_on(&affinity.last)?;
        process::set_oom_score(self.process, "self")?;
        hide()?;
        let own = OwnBinary::find().map_err(RunError::setup("look at `/proc/self/exe`"))?;
        let trampoline = process::allows_trampoline(&self.config.linux)
            .then(|| sys::trampoline(self.report_number()))
            .transpose();
        let trampoline = trampoline.map_err(RunError::setup("make what executes the program"))?;
        // The host's: whoever may trace could get hold of it.
        let proc = Label::is_asked_for(self.process)
            .then(process::open_proc)
            .transpose()?;
        // With its mounts in a namespace of its own comes its root.
        let root = self.record.covered.map(|_| self.open_root()).transpose()?;
        host.enter()
            .map_err(RunError::setup("enter the namespaces"))?;
        if let Some(root) = root {
            rustix::process::fchdir(&root)
                .and_then(|()| rustix::process::chroot("."))
                .map_err(RunError::setup("change the root"))?;
        }
        // As far as the user namespace has a root.
        let (uid, gid) = (crate::identity::uid(0), crate::identity::gid(0));
        let _ = rustix::thread::set_thread_res_gid(gid, gid, gid);
        let _ = rustix::thread::set_thread_res_uid(uid, uid, uid);
        hide()?;
        null::reopen()?;
        Ok((Visitor { own, trampoline }, proc))
    }

    /// The root of the container's first process.
    fn open_root(&self) -> Result<OwnedFd, RunError> {
        let process = self.record.process;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{}/root", process.pid), flags, Mode::empty())
            .map_err(RunError::setup("look at the container's root"))?;
        match process.is_alive() {
            true => Ok(root),
            // Another may have got its number.
            false => Err(RunError::NotRunning {
                id: self.record.id.clone(),
            }),
        }
    }

    /// Behind everything that the program is to have.
    fn report_number(&self) -> i32 {
        let behind = self.preserved.iter().map(|file| file.as_raw_fd() + 1);
        behind.max().unwrap_or(sys::REPORT)
    }

    /// The visitor's part: it cannot be looked into until it is the program's user.
    fn prepare(
        &self,
        (visitor, proc): (Visitor, Option<OwnedFd>),
        channel: &Channel,
    ) -> Result<(Visitor, Executable), RunError> {
        channel
            .wait()
            .map_err(RunError::setup("wait to be let on"))?;
        rustix::process::setsid().map_err(RunError::setup("open a session"))?;
        let process = self.process;
        let label = proc
            .as_ref()
            .map(|proc| Label::open(process, proc))
            .transpose()?;
        // Before any path of the container's is gone: one could lead there (CVE-2024-21626).
        drop(proc);
        if process.terminal {
            self.open_terminal(channel)
                .map_err(RunError::setup("open a terminal"))?;
        }
        rustix::process::chdir(&*process.cwd).map_err(|errno| RunError::WorkingDirectory {
            path: process.cwd.clone(),
            source: errno.into(),
        })?;
        process::settle(process, &self.config.linux, label.unwrap_or_default())?;
        // What changes an identity may undo it.
        hide()?;
        let env = process::environment(process);
        let program = Executable::look_up(&process.args, &env, &visitor.own, None)?;
        program.check()?;
        let umask = process.user.umask.unwrap_or(0o022);
        rustix::process::umask(Mode::from_raw_mode(umask & 0o777));
        Ok((visitor, program))
    }

    fn execute(&self, visitor: &Visitor, program: &Executable, channel: &Channel) -> RunError {
        for file in self.preserved {
            if let Err(error) = sys::keep_on_exec(*file) {
                return RunError::setup("hand descriptors on")(error);
            }
        }
        sys::reset_signals();
        channel.report_ready();
        match &visitor.trampoline {
            Some(trampoline) => {
                let (arguments, environment): (Vec<CString>, Vec<CString>) = program.words();
                let report = (channel.as_fd(), self.report_number());
                let source = sys::jump(trampoline.as_fd(), report, &arguments, &environment);
                RunError::setup("execute anything")(source)
            }
            None => program.execute(),
        }
    }

    fn open_terminal(&self, channel: &Channel) -> rustix::io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, "/", flags, Mode::empty())?;
        let (master, slave) = device::open_terminal(&root, self.process)?;
        inside::place(slave.as_fd(), slave.as_fd(), slave.as_fd())?;
        rustix::process::ioctl_tiocsctty(&slave)?;
        channel.send_terminal(master.as_fd())
    }
}
