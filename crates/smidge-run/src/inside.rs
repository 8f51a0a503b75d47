//! The process inside, from the clone to the program: shuts itself in, step by step.
//!
//! The order matters. What needs the host (its files, its `/proc`) comes before the root is changed;
//! what needs privileges before they are dropped; the filter while it can still be installed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::process::Signal;
use rustix::termios::Winsize;

use crate::cgroup::{self, Group};
use crate::channel::Channel;
use crate::device::{self, Devices};
use crate::emulator::Emulation;
use crate::error::RunError;
use crate::executable::{Executable, OwnBinary};
use crate::idmap::IdMap;
use crate::isolation::{Namespace, Processes};
use crate::launch::{Stdio, is_prepared_from_outside};
use crate::mount::{self, Depth, Kind};
use crate::peer::Luggage;
use crate::shift::Handover;
use crate::spec::{Mount, MountKind, Spec, WayOut};
use crate::{
    external, identity, join, kernel, limit, netns, network, null, port, pretend, reaper, root,
    seccomp, sys,
};

/// The first step that a kernel refuses which makes namespaces and lets nobody use them.
pub(crate) const OWN_MOUNTS: &str = "own the mounts";

/// Turns the process into the program of `spec`, or reports why it cannot.
pub(crate) fn run(
    spec: &Spec,
    stdio: &Stdio,
    channel: &Channel,
    group: Option<&Group>,
    luggage: Luggage,
) -> ! {
    let shut_in = shut_in(spec, stdio, channel, group, &luggage);
    match (luggage.trampoline, shut_in) {
        (Some(trampoline), Ok(program)) => {
            let error = join::appear(spec, channel, program, &trampoline);
            channel.report_failure(&error);
            sys::exit(127)
        }
        (_, shut_in) => start(spec, shut_in, channel),
    }
}

/// Turns the process, shut in, into its program, or reports why that cannot be.
pub(crate) fn start(spec: &Spec, shut_in: Result<Executable, RunError>, channel: &Channel) -> ! {
    let error = match shut_in {
        Ok(program) => become_program(spec, &program, channel),
        Err(error) => error,
    };
    channel.report_failure(&error);
    sys::exit(127)
}

fn become_program(spec: &Spec, program: &Executable, channel: &Channel) -> RunError {
    if spec.init {
        let is_first = spec.isolation.processes == Processes::Own;
        match reaper::split(spec.tty, is_first) {
            Ok(()) => (),
            Err(error) => return RunError::setup("start PID 1")(error),
        }
    }
    sys::reset_signals();
    channel.report_ready();
    program.execute()
}

fn shut_in(
    spec: &Spec,
    stdio: &Stdio,
    channel: &Channel,
    group: Option<&Group>,
    luggage: &Luggage,
) -> Result<Executable, RunError> {
    let mut keep = vec![channel.as_fd()];
    keep.extend(luggage.files().map(AsFd::as_fd));
    let terminal = take_stdio(stdio, &keep).map_err(RunError::setup("take the streams over"))?;
    rustix::process::setsid().map_err(RunError::setup("open a session"))?;
    rustix::process::umask(Mode::empty());
    let arrival = Arrival {
        terminal,
        channel,
        group,
        luggage,
    };
    if spec.isolation.shifted {
        own_mounts(spec)?;
        let mut handed = Handover::receive(spec, channel)?;
        let prepared = std::mem::take(&mut handed.sources);
        let spec = handed.spec(spec);
        return furnish(&spec, prepared, Some(handed), &arrival);
    }
    let prepared = external::prepare(spec)?;
    own_mounts(spec)?;
    if is_prepared_from_outside(spec, &spec.id_map, group) {
        channel
            .wait()
            .map_err(RunError::setup("wait to be let on"))?;
    }
    furnish(spec, prepared, None, &arrival)
}

/// What a process has when it comes into its namespaces.
struct Arrival<'a> {
    /// The size of its terminal.
    terminal: Option<Winsize>,
    channel: &'a Channel,
    group: Option<&'a Group>,
    luggage: &'a Luggage,
}

/// Cuts the mounts off from the host's, and sets the names.
fn own_mounts(spec: &Spec) -> Result<(), RunError> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private).map_err(RunError::setup(OWN_MOUNTS))?;
    set_names(spec)
}

/// Builds what the program is to see, and gives up all that it may not have.
fn furnish(
    spec: &Spec,
    prepared: Vec<Option<OwnedFd>>,
    handed: Option<Handover>,
    arrival: &Arrival<'_>,
) -> Result<Executable, RunError> {
    let Arrival {
        terminal,
        channel,
        group,
        ..
    } = *arrival;
    limit::rank_for_death(spec.resources.oom_score_adj)?;
    if group.is_some() && !spec.resources.host_cgroup_namespace {
        sys::enter_new_cgroup_namespace().map_err(RunError::setup("shut the groups in"))?;
    }
    if spec.id_map != IdMap::None {
        identity::become_root(&spec.id_map)?;
    }
    let own = OwnBinary::find().map_err(RunError::setup("look at `/proc/self/exe`"))?;
    let Interior {
        cwd,
        devices,
        emulation,
    } = build_root(spec, prepared, handed, arrival)?;
    if let Some(size) = terminal {
        open_terminal(spec, &devices, size, channel).map_err(RunError::setup("open a terminal"))?;
    }
    drop(devices);
    if spec.id_map == IdMap::None {
        null::reopen()?;
    }
    rustix::process::fchdir(&cwd).map_err(|errno| working_directory(spec, errno))?;
    drop(cwd);
    let program = Executable::find(spec, &own, emulation)?;
    give_streams_away(spec);
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if spec.waits_for_networks() {
        let waited = channel.wait();
        waited.map_err(RunError::setup("wait for the networks"))?;
        let settled = network::settle(&spec.attachments, spec.uplink.is_some());
        // Whoever goes on without has no device to be found.
        if spec.way_out != WayOut::IfPossible {
            settled?;
        }
    }
    limit::apply(&spec.limits)?;
    let_calls_be_answered(spec, channel)?;
    if !(asks_for_network(spec, channel)? || filters_late(spec)) {
        seccomp::install(spec).map_err(RunError::setup("install the filter"))?;
    }
    identity::drop_privileges(spec)?;
    tie_to_launcher(channel)?;
    // The process that comes after this one has more to do than any filter must allow.
    if filters_late(spec) && !spec.isolation.joins(Namespace::Processes) {
        seccomp::install(spec).map_err(RunError::setup("install the filter"))?;
    }
    Ok(program)
}

/// Hands out what tells the calls that others answer.
fn let_calls_be_answered(spec: &Spec, channel: &Channel) -> Result<(), RunError> {
    if spec.pretend {
        // None of the steps that follow makes a call that would wait for an answer.
        let listener = pretend::install().map_err(RunError::setup("let calls be answered"))?;
        let handed = channel.send_pretence(listener.as_fd());
        handed.map_err(RunError::setup("let calls be answered"))?;
    }
    if spec.is_direct() {
        let listener = port::install().map_err(RunError::setup("watch the published ports"))?;
        let handed = channel.send_pretence(listener.as_fd());
        handed.map_err(RunError::setup("watch the published ports"))?;
    }
    Ok(())
}

/// Installs a filter that tells when the program asks for its network, if that is to be told; true if nothing
/// else has to be filtered. Where the kernel has no such filter, or one is there already, nobody is told.
fn asks_for_network(spec: &Spec, channel: &Channel) -> Result<bool, RunError> {
    if spec.way_out != WayOut::OnDemand {
        return Ok(false);
    }
    let Ok(listener) = seccomp::install_asking(spec) else {
        return Ok(false);
    };
    let handed = channel.send_pretence(listener.as_fd());
    handed.map_err(RunError::setup("watch for the first socket"))?;
    Ok(spec.isolation.profile.is_none())
}

/// Lets the process die with its launcher, which may be gone already. After the identity has changed,
/// which would undo it.
pub(crate) fn tie_to_launcher(channel: &Channel) -> Result<(), RunError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(RunError::setup("tie the process to its supervisor"))?;
    if !channel.is_connected() {
        sys::exit(137);
    }
    Ok(())
}

/// Whether the filter comes last: one of the user's may refuse what is to be done before the program
/// starts. Only without new privileges it can come when there are no privileges left.
pub(crate) fn filters_late(spec: &Spec) -> bool {
    spec.isolation.profile.is_some() && spec.no_new_privileges
}

/// Puts the program's streams in their places and closes every other descriptor but `keep`,
/// whoever opened it, and so the streams' own: nothing of the host stays within reach (CVE-2024-21626).
/// A terminal's size comes back: it is made later, where the container can see it.
///
/// The process must never drop `stdio` again.
pub(crate) fn take_stdio(
    stdio: &Stdio,
    keep: &[BorrowedFd<'_>],
) -> rustix::io::Result<Option<Winsize>> {
    let size = match stdio {
        Stdio::Files {
            stdin,
            stdout,
            stderr,
        } => {
            place(stdin.as_fd(), stdout.as_fd(), stderr.as_fd())?;
            None
        }
        Stdio::Terminal { rows, columns } => Some(Winsize {
            ws_row: *rows,
            ws_col: *columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        }),
    };
    sys::close_all_but(keep);
    Ok(size)
}

/// Makes three files descriptors 0, 1 and 2, whatever numbers they have.
pub(crate) fn place(
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    // Out of the way first: one may already be where another belongs.
    let [stdin, stdout, stderr] =
        [stdin, stdout, stderr].map(|file| rustix::io::fcntl_dupfd_cloexec(file, 3));
    rustix::stdio::dup2_stdin(stdin?)?;
    rustix::stdio::dup2_stdout(stdout?)?;
    rustix::stdio::dup2_stderr(stderr?)
}

/// What does not depend on the id map, and so can be done while it is being written.
fn set_names(spec: &Spec) -> Result<(), RunError> {
    if !spec.hostname.is_empty() && !spec.isolation.host_names {
        match rustix::system::sethostname(spec.hostname.as_bytes()) {
            // The filter of a container around this one.
            Err(Errno::PERM | Errno::NOSYS) if spec.id_map != IdMap::None => (),
            set => set.map_err(RunError::setup("set the host name"))?,
        }
    }
    let domain = &spec.isolation.domainname;
    if !domain.is_empty() {
        rustix::system::setdomainname(domain.as_bytes())
            .map_err(RunError::setup("set the domain name"))?;
    }
    if spec.network.is_own() && !netns::is_handed_in(spec) {
        netns::bring_up_loopback()?;
    }
    Ok(())
}

/// What is left open of a root that was built and entered.
struct Interior {
    /// The working directory.
    cwd: OwnedFd,
    devices: Devices,
    /// What the program is to be started by, if not by the kernel.
    emulation: Option<Emulation>,
}

/// Mounts everything and enters it.
fn build_root(
    spec: &Spec,
    prepared: Vec<Option<OwnedFd>>,
    handed: Option<Handover>,
    arrival: &Arrival<'_>,
) -> Result<Interior, RunError> {
    let (group, luggage) = (arrival.group, arrival.luggage);
    let root = match handed {
        Some(handed) => handed.during(|| root::mount(spec))?,
        None => root::mount(spec)?,
    };
    let devices = device::mount(spec, &root, luggage.shared_memory.as_ref())?;
    // What the kernel shows of itself is that namespace's.
    if netns::is_handed_in(spec) {
        netns::enter(arrival.channel)?;
    }
    kernel::mount(spec, &root, &devices, luggage.proc.as_ref())?;
    if let Some(group) = group {
        cgroup::mount_view(group, &root)?;
    }
    let emulation = match &spec.emulator {
        Some(emulator) => Emulation::prepare(emulator, spec, root.as_fd())?,
        None => None,
    };
    for (mount, prepared) in spec.mounts.iter().zip(prepared) {
        external::bring_in(spec, mount, prepared, root.as_fd())?;
    }
    let cwd = mount::point(root.as_fd(), &spec.cwd, Kind::Directory)
        .map_err(|errno| working_directory(spec, errno))?;
    if spec.read_only {
        mount::make_read_only(&root, Depth::Flat)
            .map_err(RunError::setup("make the root file system read-only"))?;
    }
    root::enter(&root).map_err(RunError::setup("change the root"))?;
    Ok(Interior {
        cwd,
        devices,
        emulation,
    })
}

/// Mounts the root file system and what is kept outside of it, for somebody who looks at a container
/// that does not run.
pub(crate) fn bring_in_all(spec: &Spec) -> Result<OwnedFd, RunError> {
    let root = root::mount(spec)?;
    let kept = |mount: &&Mount| !matches!(mount.kind, MountKind::Tmpfs { .. });
    for mount in spec.mounts.iter().filter(kept) {
        external::bring_in(spec, mount, None, root.as_fd())?;
    }
    if spec.read_only {
        mount::make_read_only(&root, Depth::Flat)
            .map_err(RunError::setup("make the root file system read-only"))?;
    }
    Ok(root)
}

/// Makes the program's terminal, its streams, and it the session's.
fn open_terminal(
    spec: &Spec,
    devices: &Devices,
    size: Winsize,
    channel: &Channel,
) -> rustix::io::Result<()> {
    let (master, slave) = devices.open_terminal()?;
    rustix::termios::tcsetwinsize(&slave, size)?;
    if !spec.pretend {
        rustix::fs::fchown(&slave, Some(identity::uid(spec.user.uid)), None)?;
    }
    place(slave.as_fd(), slave.as_fd(), slave.as_fd())?;
    // Otherwise it is for the process that comes after this one.
    if !spec.isolation.joins(Namespace::Processes) {
        rustix::process::ioctl_tiocsctty(&slave)?;
    }
    channel.send_terminal(master.as_fd())
}

/// Lets another user than root open its own `/dev/stdout` again, as programs that log to it do. Only
/// pipes: a file that the caller redirected to stays the caller's.
pub(crate) fn give_streams_away(spec: &Spec) {
    if spec.user.uid == 0 || spec.pretend {
        return;
    }
    for stream in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        let is_pipe = rustix::fs::fstat(stream)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        if is_pipe {
            // Not ours, or an unmapped owner: then it stays as it is.
            let _ = rustix::fs::fchown(stream, Some(identity::uid(spec.user.uid)), None);
        }
    }
}

pub(crate) fn working_directory(spec: &Spec, errno: Errno) -> RunError {
    RunError::WorkingDirectory {
        path: spec.cwd.clone(),
        source: errno.into(),
    }
}
