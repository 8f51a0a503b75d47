//! The container's first process, from the clone to its program.
//!
//! ```text
//! caller                               first process
//! ids, groups, limits of it   ──────▶  root, mounts, devices
//! prestart, createRuntime     ◀─────▶  createContainer, terminal, the root is changed
//! is done                     ◀──────  becomes the user, waits at the pipe `start`
//!                                      startContainer, the program
//! ```

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use serde_json::Value;

use super::config::NamespaceKind;
use super::error::OciError;
use super::plan::Plan;
use super::process::{self, Label};
use super::record::{Record, Status};
use super::{device, hook, mount as mounts, namespace, option, outside, schedule};
use crate::channel::Channel;
use crate::error::RunError;
use crate::executable::{Executable, OwnBinary};
use crate::idmap::IdMap;
use crate::join::hide;
use crate::mount::{self, Kind};
use crate::{identity, inside, kernel, null, sys};

/// What the first process has of the caller's.
pub(super) struct Ends<'a> {
    /// Where it waits to be started.
    pub(super) start: &'a OwnedFd,
    /// Where it says why the program does not run.
    pub(super) answer: &'a OwnedFd,
    /// What the program gets from the caller, from 3 on.
    pub(super) preserved: &'a [BorrowedFd<'static>],
    /// What hooks are told, but for the number of the process.
    pub(super) record: &'a Record,
}

/// Turns the process into the container's first one; it waits there until it is started.
pub(super) fn run(plan: &Plan, ends: &Ends<'_>, channel: Channel) -> ! {
    match shut_in(plan, ends, &channel) {
        Ok(ready) => {
            channel.report_ready();
            drop(channel);
            let error = ready.start(plan, ends);
            let mut text = vec![b'F'];
            // Writing to memory fails for no error type of ours.
            let _ = serde_json::to_writer(&mut text, &error);
            let _ = rustix::io::write(ends.answer, &text);
        }
        Err(error) => channel.report_failure(&error),
    }
    sys::exit(127)
}

/// A container that only waits for its start.
struct Ready {
    program: Executable,
    /// What is executed before the program, if its filter lets it.
    trampoline: Option<OwnedFd>,
    state: Value,
}

fn shut_in(plan: &Plan, ends: &Ends<'_>, channel: &Channel) -> Result<Ready, RunError> {
    let mut keep = vec![channel.as_fd(), ends.start.as_fd(), ends.answer.as_fd()];
    keep.extend(ends.preserved);
    let opened = plan.mapped.iter().chain(&plan.opened);
    keep.extend(opened.map(|(_, tree)| tree.as_fd()));
    sys::close_all_but(&keep);
    rustix::process::setsid().map_err(RunError::setup("open a session"))?;
    rustix::process::umask(Mode::empty());
    if !plan.no_new_keyring {
        let name = CString::new(format!("_ses.{}", plan.id)).unwrap_or_default();
        sys::join_new_keyring(&name).map_err(RunError::setup("make a keyring"))?;
    }
    if has_own_mounts(plan) {
        own_mounts(plan).map_err(RunError::setup(inside::OWN_MOUNTS))?;
    }
    // With the caller's identity: directories on the way may be the caller's alone.
    let prepared = mounts::prepare(plan)?;
    let root = open_root(plan)?;
    channel
        .wait()
        .map_err(RunError::setup("wait to be let on"))?;
    if plan.config.linux.makes(NamespaceKind::Cgroup) {
        sys::enter_new_cgroup_namespace().map_err(RunError::setup("shut the groups in"))?;
    }
    if plan.config.linux.makes(NamespaceKind::Time) {
        namespace::enter_new_time(&plan.config.linux)?;
    }
    schedule::roam();
    let was_hidden = is_hidden();
    become_root(plan)?;
    if was_hidden {
        // What changes an identity may undo it.
        hide()?;
    }
    set_names(plan)?;
    let outside = Outside::look(plan)?;
    let state = build(plan, ends, &root, prepared, channel)?;
    if plan.process.terminal {
        open_terminal(plan, &root, channel).map_err(RunError::setup("open a terminal"))?;
    }
    let cwd = finish(plan, &root, &outside)?;
    enter(plan, &root).map_err(RunError::setup("change the root"))?;
    rustix::process::fchdir(&cwd).map_err(|errno| RunError::WorkingDirectory {
        path: plan.process.cwd.clone(),
        source: errno.into(),
    })?;
    drop((cwd, root, outside.proc, outside.null));
    null::reopen()?;
    hide()?;
    process::settle(&plan.process, &plan.config.linux, outside.label)?;
    // What changes an identity may undo it.
    hide()?;
    let (args, env) = (&plan.process.args, process::environment(&plan.process));
    let program = Executable::look_up(args, &env, &outside.own, None)?;
    program.check()?;
    Ok(Ready {
        program,
        trampoline: outside.trampoline,
        state,
    })
}

/// What comes from outside of the root, and is needed after it was changed.
struct Outside {
    own: OwnBinary,
    label: Label,
    trampoline: Option<OwnedFd>,
    proc: OwnedFd,
    null: OwnedFd,
}

impl Outside {
    fn look(plan: &Plan) -> Result<Self, RunError> {
        let trampoline = process::allows_trampoline(&plan.config.linux)
            .then(|| sys::trampoline(report_number(plan)))
            .transpose();
        let proc = process::open_proc()?;
        Ok(Self {
            own: OwnBinary::find().map_err(RunError::setup("look at `/proc/self/exe`"))?,
            label: Label::open(&plan.process, &proc)?,
            trampoline: trampoline.map_err(RunError::setup("make what executes the program"))?,
            proc,
            null: device::null()?,
        })
    }
}

/// Behind everything that the program is to have.
fn report_number(plan: &Plan) -> i32 {
    sys::REPORT.saturating_add_unsigned(plan.preserved)
}

/// Mounts that are made from now on are not seen outside, unless that is asked for; the root of all is in
/// any case this process's own.
fn own_mounts(plan: &Plan) -> rustix::io::Result<()> {
    let (flags, deep) = propagation(plan).unwrap_or((MountPropagationFlags::DOWNSTREAM, true));
    // Mounts that cannot be bound could not be brought in.
    let flags = match flags {
        MountPropagationFlags::UNBINDABLE => MountPropagationFlags::PRIVATE,
        flags => flags,
    };
    let deep = match deep {
        true => MountPropagationFlags::REC,
        false => MountPropagationFlags::empty(),
    };
    rustix::mount::mount_change("/", flags | deep)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE)
}

fn propagation(plan: &Plan) -> Option<(MountPropagationFlags, bool)> {
    let named = option::propagation(&plan.config.linux.rootfs_propagation);
    named.map(|(_, flags, deep)| (*flags, *deep))
}

fn open_root(plan: &Plan) -> Result<OwnedFd, RunError> {
    let opened = match has_own_mounts(plan) {
        true => mounts::clone_root(&plan.rootfs).or_else(|errno| match mounts::opened_root(plan) {
            Some(root) if errno == Errno::ACCESS => rustix::io::fcntl_dupfd_cloexec(root, 0),
            _ => Err(errno),
        }),
        // It is mounted already.
        false => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(&plan.rootfs, flags, Mode::empty())
        }
    };
    opened.map_err(|errno: Errno| RunError::RootFs {
        dir: plan.rootfs.clone(),
        step: "clone it".to_owned(),
        source: errno.into(),
    })
}

/// Whether the container's mounts are in a namespace that is not the caller's.
fn has_own_mounts(plan: &Plan) -> bool {
    plan.config.linux.has(NamespaceKind::Mount)
}

/// Whether nobody may look into this process.
fn is_hidden() -> bool {
    let now = rustix::process::dumpable_behavior();
    !matches!(now, Ok(rustix::process::DumpableBehavior::Dumpable))
}

fn become_root(plan: &Plan) -> Result<(), RunError> {
    if plan.id_map != IdMap::None {
        identity::become_root(&plan.id_map)?;
    }
    if let IdMap::Ranges { uids, gids } = &plan.id_map {
        // Where there is no root: who makes files must have some id there.
        let step = || RunError::setup("take an id of the container's");
        if let Some(first) = gids.first().filter(|_| !plan.id_map.maps_group(0)) {
            let gid = identity::gid(first.container);
            rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(step())?;
        }
        if let Some(first) = uids.first().filter(|_| !plan.id_map.maps_user(0)) {
            let uid = identity::uid(first.container);
            rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(step())?;
        }
    }
    if plan.id_map != IdMap::None {
        return Ok(());
    }
    if plan.config.linux.has(NamespaceKind::User) {
        // In a namespace of others: as far as it has a root.
        let (uid, gid) = (identity::uid(0), identity::gid(0));
        let _ = rustix::thread::set_thread_res_gid(gid, gid, gid);
        let _ = rustix::thread::set_thread_res_uid(uid, uid, uid);
    }
    Ok(())
}

fn set_names(plan: &Plan) -> Result<(), RunError> {
    let config = &plan.config;
    if !config.hostname.is_empty() {
        rustix::system::sethostname(config.hostname.as_bytes())
            .map_err(RunError::setup("set the host name"))?;
    }
    if !config.domainname.is_empty() {
        rustix::system::setdomainname(config.domainname.as_bytes())
            .map_err(RunError::setup("set the domain name"))?;
    }
    if config.linux.makes(NamespaceKind::Network) {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
        let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)
            .map_err(RunError::setup("open a socket"))?;
        sys::loopback_up(socket.as_fd())
            .map_err(RunError::setup("bring up the loopback device"))?;
    }
    Ok(())
}

/// Mounts everything, and lets hooks look at it. Gives the state that hooks are told.
fn build(
    plan: &Plan,
    ends: &Ends<'_>,
    root: &OwnedFd,
    prepared: Vec<mounts::Prepared<'_>>,
    channel: &Channel,
) -> Result<Value, RunError> {
    if has_own_mounts(plan) {
        mount::attach(root, rustix::fs::CWD, "/").map_err(mounts::fault("/"))?;
    }
    let is_dev = |one: &mounts::Prepared<'_>| mounts::is_devices(one.mount) && one.is_bind();
    let has_dev = prepared.iter().any(is_dev);
    for one in prepared {
        mounts::attach(plan, root, one)?;
    }
    if !has_dev {
        device::make(plan, root)?;
    }
    channel.report_ready();
    channel
        .wait()
        .map_err(RunError::setup("wait to be let on"))?;
    let mut record = ends.record.clone();
    record.process.pid = own_number();
    let hooks = &plan.config.hooks.create_container;
    call("createContainer", hooks, &record.state(Status::Creating))?;
    Ok(record.state(Status::Created))
}

/// This process's number on the host, by the host's `/proc`.
fn own_number() -> u32 {
    let link = std::fs::read_link("/proc/self").unwrap_or_default();
    link.to_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn call(kind: &'static str, hooks: &[super::config::Hook], state: &Value) -> Result<(), RunError> {
    hook::call(kind, hooks, state).map_err(|error| match error {
        OciError::Run(error) => error,
        OciError::Hook { kind, path, detail } => RunError::Hook {
            kind: kind.to_owned(),
            path,
            detail,
        },
        error => RunError::Setup {
            step: format!("go on: {error},"),
            source: Errno::CANCELED.into(),
        },
    })
}

fn open_terminal(plan: &Plan, root: &OwnedFd, channel: &Channel) -> rustix::io::Result<()> {
    let (master, slave) = device::open_terminal(root, &plan.process)?;
    device::show_console(root, &slave)?;
    inside::place(slave.as_fd(), slave.as_fd(), slave.as_fd())?;
    rustix::process::ioctl_tiocsctty(&slave)?;
    channel.send_terminal(master.as_fd())
}

/// What is hidden, read-only or set in the finished root; gives the working directory.
fn finish(plan: &Plan, root: &OwnedFd, outside: &Outside) -> Result<OwnedFd, RunError> {
    let linux = &plan.config.linux;
    set_sysctls(plan, outside)?;
    mounts::finish_directories(plan, root)?;
    for path in &linux.readonly_paths {
        mounts::protect(root, path)?;
    }
    for path in &linux.masked_paths {
        mounts::mask(root, path, &outside.null)?;
    }
    // Opened before, it would be what lies below those covers.
    let cwd = mount::point(root.as_fd(), &plan.process.cwd, Kind::Directory);
    let cwd = cwd.map_err(|errno| RunError::WorkingDirectory {
        path: plan.process.cwd.clone(),
        source: errno.into(),
    })?;
    if plan.config.root.as_ref().is_some_and(|root| root.readonly) {
        mount::make_read_only(root, mount::Depth::Flat)
            .map_err(RunError::setup("make the root file system read-only"))?;
    }
    Ok(cwd)
}

/// Settings are made in a `/proc` that the container has no part in (CVE-2025-52881): a new one, or the
/// host's where the kernel makes none.
fn set_sysctls(plan: &Plan, outside: &Outside) -> Result<(), RunError> {
    if plan.config.linux.sysctl.is_empty() {
        return Ok(());
    }
    let none = rustix::mount::MountAttrFlags::empty();
    let new = mount::new("proc", &[], none);
    let proc = new.as_ref().unwrap_or(&outside.proc);
    kernel::set_sysctls(&plan.config.linux.sysctl, proc)
}

/// Makes the new root the process's, and lets go of the host's without taking the host's mounts down.
fn enter(plan: &Plan, new: &OwnedFd) -> rustix::io::Result<()> {
    rustix::process::fchdir(new)?;
    if !has_own_mounts(plan) {
        // The root of all is everybody's.
        rustix::process::chroot(".")?;
        return rustix::process::chdir("/");
    }
    if plan.no_pivot {
        outside::take_away_views(new)?;
        // It lies on top of the old one already.
        rustix::process::chroot(".")?;
    } else {
        rustix::process::pivot_root(".", ".")?;
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change(".", slave)?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    }
    rustix::process::chdir("/")?;
    if let Some((flags, _)) = propagation(plan) {
        rustix::mount::mount_change("/", flags)?;
    }
    Ok(())
}

impl Ready {
    /// Waits for the start, and becomes the program; comes back only if it cannot.
    fn start(&self, plan: &Plan, ends: &Ends<'_>) -> RunError {
        let mut byte = [0];
        let waited = loop {
            match rustix::io::read(ends.start, &mut byte) {
                Err(Errno::INTR) => (),
                waited => break waited,
            }
        };
        let prepared = waited
            .map(drop)
            .map_err(RunError::setup("wait for the start"))
            .and_then(|()| {
                let hooks = &plan.config.hooks.start_container;
                call("startContainer", hooks, &self.state)
            });
        if let Err(error) = prepared {
            return error;
        }
        let umask = plan.process.user.umask.unwrap_or(0o022);
        rustix::process::umask(Mode::from_raw_mode(umask & 0o777));
        for file in ends.preserved {
            if let Err(error) = sys::keep_on_exec(*file) {
                return RunError::setup("hand descriptors on")(error);
            }
        }
        sys::reset_signals();
        match &self.trampoline {
            Some(trampoline) => {
                let (arguments, environment) = self.program.words();
                let report = (ends.answer.as_fd(), report_number(plan));
                let source = sys::jump(trampoline.as_fd(), report, &arguments, &environment);
                RunError::setup("execute anything")(source)
            }
            None => self.program.execute(),
        }
    }
}
