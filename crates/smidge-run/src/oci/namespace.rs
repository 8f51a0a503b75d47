//! The namespaces of a container: those that are made, and those of others that are joined.

use std::fs::File;
use std::os::fd::AsFd as _;

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::config::{Linux, NamespaceKind};
use crate::error::RunError;
use crate::sys;

/// Every kind with its name below `/proc/PID/ns`, and the flag that makes one.
const KINDS: [(NamespaceKind, &str, i32); 8] = [
    (NamespaceKind::User, "user", libc::CLONE_NEWUSER),
    (NamespaceKind::Mount, "mount", libc::CLONE_NEWNS),
    (NamespaceKind::Pid, "pid", libc::CLONE_NEWPID),
    (NamespaceKind::Network, "network", libc::CLONE_NEWNET),
    (NamespaceKind::Ipc, "ipc", libc::CLONE_NEWIPC),
    (NamespaceKind::Uts, "uts", libc::CLONE_NEWUTS),
    (NamespaceKind::Cgroup, "cgroup", libc::CLONE_NEWCGROUP),
    (NamespaceKind::Time, "time", CLONE_NEWTIME),
];

/// `libc` does not have it.
const CLONE_NEWTIME: i32 = 0x80;

/// The names of all kinds: for `features`.
pub(super) fn names() -> Vec<&'static str> {
    KINDS.iter().map(|(_, name, _)| *name).collect()
}

fn flag(kind: NamespaceKind) -> i32 {
    let found = KINDS.iter().find(|(known, ..)| *known == kind);
    found.map_or(0, |(.., flag)| *flag)
}

/// The flags that make the new ones; that of control groups is made later, at the container's group, and
/// that of time when its clocks are set.
pub(super) fn made(linux: &Linux) -> i32 {
    let new = linux
        .namespaces
        .iter()
        .filter(|one| one.path.as_os_str().is_empty())
        .filter(|one| !matches!(one.kind, NamespaceKind::Cgroup | NamespaceKind::Time));
    new.fold(0, |flags, one| flags | flag(one.kind))
}

/// Moves this process into a new time namespace, with clocks that are ahead of the host's
/// (`time_namespaces(7)`): they can be set as long as nobody is in it.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn enter_new_time(linux: &Linux) -> Result<(), RunError> {
    let enter = || {
        sys::unshare(CLONE_NEWTIME)?;
        let lines = linux.time_offsets.iter();
        let lines = lines.map(|(clock, by)| format!("{clock} {} {}\n", by.secs, by.nanosecs));
        let text: String = lines.collect();
        if !text.is_empty() {
            std::fs::write("/proc/self/timens_offsets", text)?;
        }
        let made = File::open("/proc/self/ns/time_for_children")?;
        Ok(move_into_link_name_space(
            made.as_fd(),
            Some(LinkNameSpaceType::Time),
        )?)
    };
    enter().map_err(|source: std::io::Error| RunError::setup("make a time namespace")(source))
}

/// A namespace that is to be joined.
pub(super) struct Joined {
    kind: NamespaceKind,
    path: String,
    file: File,
}

/// Opens the namespaces of others, which are checked to be of their kind.
///
/// # Errors
/// When one is not there, or of another kind.
pub(super) fn open(linux: &Linux) -> Result<Vec<Joined>, RunError> {
    let with_path = linux.namespaces.iter();
    let with_path = with_path.filter(|one| !one.path.as_os_str().is_empty());
    let mut joined = Vec::new();
    for namespace in with_path {
        let path = namespace.path.display().to_string();
        let fault = |source| RunError::Setup {
            step: format!("join the namespace `{path}`"),
            source,
        };
        if !namespace.path.is_absolute() {
            return Err(fault(Errno::INVAL.into()));
        }
        let file = File::open(&namespace.path).map_err(fault)?;
        if sys::namespace_kind(file.as_fd()) != Some(flag(namespace.kind)) {
            return Err(fault(Errno::INVAL.into()));
        }
        joined.push(Joined {
            kind: namespace.kind,
            path,
            file,
        });
    }
    Ok(joined)
}

/// Enters them: a user namespace as soon as what is outside of it has been entered.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn enter(joined: &[Joined]) -> Result<(), RunError> {
    let is_user = |one: &&Joined| one.kind == NamespaceKind::User;
    let mut later = Vec::new();
    for one in joined.iter().filter(|one| !is_user(one)) {
        // Those that belong to the user namespace can be entered from there.
        match move_into(one) {
            Err(Errno::PERM) => later.push(one),
            entered => entered.map_err(fault(one))?,
        }
    }
    for one in joined.iter().filter(is_user).chain(later) {
        move_into(one).map_err(fault(one))?;
    }
    Ok(())
}

fn fault(one: &Joined) -> impl FnOnce(Errno) -> RunError {
    let step = format!("join the namespace `{}`", one.path);
    move |errno| RunError::Setup {
        step,
        source: errno.into(),
    }
}

fn move_into(one: &Joined) -> rustix::io::Result<()> {
    let kind = match one.kind {
        NamespaceKind::User => LinkNameSpaceType::User,
        NamespaceKind::Mount => LinkNameSpaceType::Mount,
        NamespaceKind::Pid => LinkNameSpaceType::ProcessID,
        NamespaceKind::Network => LinkNameSpaceType::Network,
        NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        NamespaceKind::Cgroup => LinkNameSpaceType::ControlGroup,
        NamespaceKind::Time => LinkNameSpaceType::Time,
    };
    move_into_link_name_space(one.file.as_fd(), Some(kind))
}
