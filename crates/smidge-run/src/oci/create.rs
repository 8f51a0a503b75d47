//! `create`: from a bundle to a container that waits for its start.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};

use super::Tell;
use super::config::NamespaceKind;
use super::error::OciError;
use super::init::{self, Ends};
use super::namespace::{self, Joined};
use super::plan::{self, CONFIG, Plan};
use super::record::{Place, Record, Status};
use super::{hook, idmapped, mount, process};
use crate::cgroup::Group;
use crate::channel::{Channel, Report};
use crate::clock;
use crate::device::rules;
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::join::hide;
use crate::state::Process;
use crate::sys;

/// How a container is made, beside what its bundle says.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// A socket that the master side of the program's terminal is sent to.
    pub console_socket: Option<PathBuf>,
    /// A file that the first process's number is written to.
    pub pid_file: Option<PathBuf>,
    /// A socket that a handle of the first process is sent to.
    pub pidfd_socket: Option<PathBuf>,
    /// Whether the root is changed without `pivot_root(2)`.
    pub no_pivot: bool,
    /// Whether the container shares the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors from 3 on, beside the standard ones, the program gets from the caller.
    pub preserve_fds: u32,
    /// Variables that are added to the program's.
    pub env: Vec<String>,
    /// Whether it gets a control group.
    pub no_cgroups: bool,
}

/// A container that was made, for a caller that goes on with it.
pub(super) struct Created {
    /// The first process.
    pub(super) pid: Pid,
    /// The program's terminal, if nobody else was to get it.
    pub(super) terminal: Option<OwnedFd>,
}

/// Makes a container. `relays` says that the caller itself takes care of the program's terminal; `tell` is
/// told what is not as it was asked for.
pub(super) fn create(
    root: &Path,
    id: &str,
    options: &CreateOptions,
    relays: bool,
    tell: Tell<'_>,
) -> Result<Created, OciError> {
    let preserved = inherited(options.preserve_fds)?;
    let place = Place::of(root, id)?;
    let (bundle, text) = plan::read(&options.bundle)?;
    let mut plan = plan::plan(id, &bundle, &text)?;
    plan.no_pivot = options.no_pivot;
    plan.no_new_keyring = options.no_new_keyring;
    plan.preserved = options.preserve_fds;
    plan.process.env.extend(options.env.iter().cloned());
    if is_looked_into(&plan) {
        crate::seal::seal()?;
    }
    let console = Console::find(&plan, options, relays)?;
    plan.warnings().for_each(|text| tell(&text));
    place.make()?;
    let saved = place.path(CONFIG);
    let created = fs::write(&saved, &text)
        .map_err(|error| RunError::record(&saved)(error).into())
        .and_then(|()| place.lock())
        .and_then(|_lock| {
            let mut making = Making {
                place: &place,
                plan: &mut plan,
                console,
                child: None,
                covered: None,
            };
            making
                .make(options, &preserved)
                .inspect_err(|_| making.undo())
        });
    if created.is_err() {
        place.remove();
    }
    created
}

/// Whether whoever is inside could look into the first process before it is the program: those whose
/// processes it comes among, or what `exec` starts while it waits for its start.
fn is_looked_into(plan: &Plan) -> bool {
    let linux = &plan.config.linux;
    let joins = linux.has(NamespaceKind::Pid) && !linux.makes(NamespaceKind::Pid);
    let may_look = process::may_look_into_others(&plan.process);
    plan.id_map == IdMap::None && (joins || may_look && !linux.has(NamespaceKind::User))
}

/// What the program is to get from the caller: as many descriptors as were promised.
pub(super) fn inherited(count: u32) -> Result<Vec<BorrowedFd<'static>>, RunError> {
    let open = sys::inherited(count);
    match open.len() == count as usize {
        true => Ok(open),
        false => Err(RunError::setup(
            "hand descriptors on: some of --preserve-fds are not open,",
        )(rustix::io::Errno::BADF)),
    }
}

/// Where the program's terminal goes.
enum Console {
    /// It has none.
    None,
    /// To whoever listens at a socket.
    Socket(OwnedFd),
    /// To the caller.
    Caller,
}

impl Console {
    fn find(plan: &Plan, options: &CreateOptions, relays: bool) -> Result<Self, OciError> {
        match (&options.console_socket, plan.process.terminal) {
            (Some(path), true) => Ok(Self::Socket(connect(path)?)),
            (None, true) if relays => Ok(Self::Caller),
            (None, true) => Err(OciError::Config {
                path: plan.bundle.join(CONFIG),
                detail: "`process.terminal` needs `--console-socket`".to_owned(),
            }),
            (Some(_), false) => Err(OciError::Config {
                path: plan.bundle.join(CONFIG),
                detail: "`--console-socket` needs `process.terminal`".to_owned(),
            }),
            (None, false) => Ok(Self::None),
        }
    }
}

/// Connects to whoever waits for a terminal.
pub(super) fn connect(path: &Path) -> Result<OwnedFd, RunError> {
    let connect = || {
        let address = SocketAddrUnix::new(path)?;
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &address)?;
        Ok(socket)
    };
    connect().map_err(|errno: rustix::io::Errno| RunError::Record {
        path: path.to_owned(),
        source: errno.into(),
    })
}

/// A container that is being made, and can be undone.
struct Making<'p> {
    place: &'p Place,
    plan: &'p mut Plan,
    console: Console,
    child: Option<(Pid, OwnedFd)>,
    /// The mount of its root, if it is to be taken away again.
    covered: Option<u64>,
}

impl Making<'_> {
    fn make(
        &mut self,
        options: &CreateOptions,
        preserved: &[BorrowedFd<'static>],
    ) -> Result<Created, OciError> {
        let mut record = self.record();
        if !options.no_cgroups {
            // Before it is made: what is written down can be found and removed.
            record.group = Group::planned(&group_path(self.plan)?)?;
            self.place.write(&record)?;
            self.plan.group = group(self.plan)?;
        }
        record.group.clone_from(&self.plan.group);
        if !self.plan.config.linux.has(NamespaceKind::Mount) {
            record.covered = Some(mount::cover_root(&self.plan.rootfs)?);
            self.covered = record.covered;
            self.place.write(&record)?;
        }
        self.plan.mapped = idmapped::make(self.plan)?;
        self.plan.opened = mount::open_all(self.plan);
        let (start, answer) = (
            self.place.make_pipe("start")?,
            self.place.make_pipe("answer")?,
        );
        let joined = namespace::open(&self.plan.config.linux)?;
        let (outer, inner) = Channel::pair().map_err(RunError::setup("open a socket"))?;
        let ends = Ends {
            start: &start,
            answer: &answer,
            preserved,
            record: &record,
        };
        let (pid, pidfd, outer) = clone(self.plan, &ends, &joined, (outer, inner))?;
        self.child = Some((pid, pidfd));
        record.process = Process::of(pid.as_raw_nonzero().get().cast_unsigned());
        self.place.write(&record)?;
        if !hides_at_once(self.plan, &joined) {
            self.score(pid, &outer)?;
        }
        let terminal = self.follow(pid, &outer, &record)?;
        record.unfinished = false;
        self.place.write(&record)?;
        if let Some(path) = &options.pidfd_socket {
            send_handle(path, pid)?;
        }
        if let Some(path) = &options.pid_file {
            write_pid(path, pid)?;
        }
        Ok(Created { pid, terminal })
    }

    /// Sets the first process's OOM score, as long as it waits for that, and does not hide.
    fn score(&self, pid: Pid, channel: &Channel) -> Result<(), RunError> {
        let number = pid.as_raw_nonzero().to_string();
        process::set_oom_score(&self.plan.process, &number).map_err(|error| {
            sys::kill(pid, libc::SIGKILL);
            // Who has failed already has said how.
            match channel.receive() {
                Report::Failed(said) => *said,
                _ => error,
            }
        })
    }

    fn record(&self) -> Record {
        let plan = &self.plan;
        Record {
            id: plan.id.clone(),
            bundle: plan.bundle.clone(),
            rootfs: plan.rootfs.clone(),
            annotations: plan.config.annotations.clone(),
            created: clock::now(),
            owner: rustix::process::getuid().as_raw(),
            process: Process::default(),
            group: plan.group.clone(),
            changed: None,
            covered: None,
            own_pids: plan.config.linux.makes(NamespaceKind::Pid),
            unfinished: true,
        }
    }

    /// Does what only the caller can do to the first process, and listens until it waits for its start.
    fn follow(
        &mut self,
        pid: Pid,
        channel: &Channel,
        record: &Record,
    ) -> Result<Option<OwnedFd>, OciError> {
        let plan = &*self.plan;
        if let Some(group) = &plan.group {
            group.enter(pid.as_raw_nonzero().get().cast_unsigned())?;
        }
        if plan.id_map != IdMap::None {
            let unmapped = |detail| RunError::IdMap {
                id: plan.id.clone(),
                detail,
            };
            plan.id_map.apply(pid).map_err(unmapped)?;
        }
        // A process that does not hear it has failed already, and has said how.
        let _ = channel.release();
        let mut terminal = None;
        let mut mounted = false;
        loop {
            match channel.receive() {
                Report::Terminal(master) => terminal = Some(master),
                Report::Ready if mounted => break,
                Report::Ready => {
                    mounted = true;
                    process::prepare(&plan.process, pid)?;
                    let state = record.state(Status::Creating);
                    hook::call("prestart", &plan.config.hooks.prestart, &state)?;
                    hook::call("createRuntime", &plan.config.hooks.create_runtime, &state)?;
                    let _ = channel.release();
                }
                Report::Failed(error) => return Err((*error).into()),
                Report::End => {
                    let id = plan.id.clone();
                    return Err(RunError::Died { id }.into());
                }
                _ => (),
            }
        }
        if let (Console::Socket(socket), Some(master)) = (&self.console, &terminal) {
            crate::channel::send_file(socket, b"/dev/ptmx", master.as_fd())
                .map_err(RunError::supervise("hand the terminal over"))?;
            return Ok(None);
        }
        Ok(terminal)
    }

    /// Leaves nothing behind.
    fn undo(&mut self) {
        if let Some((pid, pidfd)) = self.child.take() {
            let _ = sys::send_signal(pidfd.as_fd(), libc::SIGKILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
        mount::uncover_root(&self.plan.rootfs, self.covered);
        if let Some(group) = &self.plan.group {
            group.destroy();
        }
    }
}

/// Where the container's control group is to be.
fn group_path(plan: &Plan) -> Result<PathBuf, OciError> {
    match plan.config.linux.cgroups_path.as_str() {
        "" => Ok(Path::new("/").join(&plan.id)),
        path if path.matches(':').count() == 2 => Err(OciError::Unsupported {
            what: format!("linux.cgroupsPath: {path}"),
            why: ": it is systemd's; use the `cgroupfs` manager (`podman --cgroup-manager=\
                  cgroupfs`, `dockerd --exec-opt native.cgroupdriver=cgroupfs`)"
                .to_owned(),
        }),
        path => Ok(path.into()),
    }
}

/// What asks for devices.
const OPTION: &str = "linux.resources.devices";

/// The container's control group, its limits set; none where none can be had and none is asked for.
fn group(plan: &Plan) -> Result<Option<Group>, OciError> {
    let linux = &plan.config.linux;
    let (resources, files) = (linux.resources.resources()?, linux.resources.files()?);
    // Whoever is no root there may not, but has no right to a device either.
    let shuts_devices = rustix::process::geteuid().is_root() && is_in_first_user_namespace();
    let devices = shuts_devices.then(|| rules(&linux.resources.devices));
    let made = Group::at(&group_path(plan)?, &resources, shuts_devices)?;
    let Some(group) = made else {
        let none = Group::default();
        if let Some(devices) = &devices {
            none.allow_devices(OPTION, devices)?;
        }
        if let Some(file) = files.first() {
            none.write_file(file)?;
        }
        return Ok(None);
    };
    let shut = |group: &Group| -> Result<(), RunError> {
        group.set(&resources)?;
        files.iter().try_for_each(|file| group.write_file(file))?;
        for (name, value) in &linux.resources.unified {
            group.write_unified(name, value)?;
        }
        devices
            .iter()
            .try_for_each(|devices| group.allow_devices(OPTION, devices))
    };
    match shut(&group) {
        Ok(()) => Ok(Some(group)),
        Err(error) => {
            group.destroy();
            Err(error.into())
        }
    }
}

/// Whether the caller is in the first user namespace, whose ids are all there are (user_namespaces(7)).
#[must_use]
pub fn is_in_first_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let words: Vec<&str> = map.split_whitespace().collect();
    words == ["0", "0", "4294967295"]
}

/// Whether the first process hides before anybody can see it who is in one of the namespaces already. In a
/// user namespace of its own it cannot, unless the caller is root: the ids of who hides are for root to map.
fn hides_at_once(plan: &Plan, joined: &[Joined]) -> bool {
    let may_map = plan.id_map == IdMap::None || rustix::process::geteuid().is_root();
    may_map && !joined.is_empty()
}

/// Clones the first process; gives its number, a handle, and this side of the channel.
fn clone(
    plan: &Plan,
    ends: &Ends<'_>,
    joined: &[Joined],
    (outer, inner): (Channel, Channel),
) -> Result<(Pid, OwnedFd, Channel), RunError> {
    let flags = namespace::made(&plan.config.linux);
    let refused = |source| RunError::Namespaces {
        id: plan.id.clone(),
        source,
    };
    if joined.is_empty() {
        return match sys::clone_into(flags, None).map_err(refused)? {
            Some((pid, pidfd)) => Ok((pid, pidfd, outer)),
            None => {
                drop(outer);
                init::run(plan, ends, inner)
            }
        };
    }
    // Somebody else enters the namespaces, and clones a sibling: the caller stays where it is.
    let fork = sys::fork().map_err(RunError::supervise("start a process"))?;
    let Some(usher) = fork else {
        drop(outer);
        let hidden = match hides_at_once(plan, joined) {
            true => process::set_oom_score(&plan.process, "self").and_then(|()| hide()),
            false => Ok(()),
        };
        let entered = hidden.and_then(|()| namespace::enter(joined));
        let cloned = entered
            .and_then(|()| sys::clone_into(flags | libc::CLONE_PARENT, None).map_err(refused));
        match cloned {
            Ok(None) => init::run(plan, ends, inner),
            Ok(Some((pid, _))) => drop(inner.send_sibling(pid)),
            Err(error) => inner.report_failure(&error),
        }
        sys::exit(0)
    };
    drop(inner);
    let report = outer.receive();
    let _ = waitpid(Some(usher), WaitOptions::empty());
    match report {
        Report::Sibling(pid) => {
            // A child of this process's, so the number stays its own until it is waited for.
            let pidfd = pidfd_open(pid, PidfdFlags::empty());
            let pidfd = pidfd.map_err(RunError::supervise("watch the process"))?;
            Ok((pid, pidfd, outer))
        }
        Report::Failed(error) => Err(*error),
        _ => Err(RunError::Died {
            id: plan.id.clone(),
        }),
    }
}

/// Sends a handle of a child of this process's to whoever listens at a socket (`pidfd_open(2)`).
pub(super) fn send_handle(socket: &Path, child: Pid) -> Result<(), RunError> {
    let socket = connect(socket)?;
    pidfd_open(child, PidfdFlags::empty())
        .and_then(|handle| crate::channel::send_file(&socket, b"pidfd", handle.as_fd()))
        .map_err(RunError::supervise("hand the process over"))
}

/// Writes a process's number as a whole.
pub(super) fn write_pid(path: &Path, pid: Pid) -> Result<(), RunError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let temporary = path.with_file_name(name);
    fs::write(&temporary, pid.as_raw_nonzero().to_string())
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(RunError::record(path))
}
