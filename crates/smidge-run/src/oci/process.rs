//! Who a program is and what it may do, from `process` of `config.json` (`config.md`, "Process").

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fstatfs};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    configure_capability_in_ambient_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::config::{Capabilities, Linux, Personality, Process};
use super::{plan, schedule};
use crate::error::RunError;
use crate::mount::PROC;
use crate::{capability, identity, limit, seccomp, sys};

/// Whether a program's description makes sense.
///
/// # Errors
/// What is wrong with it, as a fragment.
pub(super) fn check(process: &Process) -> Result<(), String> {
    if process.args.is_empty() {
        return Err("`process.args` is empty".to_owned());
    }
    if !process.cwd.starts_with('/') {
        return Err(format!(
            "`process.cwd` is `{}`: no absolute path",
            process.cwd
        ));
    }
    let texts = process.args.iter().chain(&process.env);
    if let Some(text) = texts.chain([&process.cwd]).find(|text| text.contains('\0')) {
        return Err(format!("`{}` holds a NUL byte", text.replace('\0', "\\0")));
    }
    for (at, rlimit) in process.rlimits.iter().enumerate() {
        resource(&rlimit.kind)?;
        if process.rlimits[..at]
            .iter()
            .any(|one| one.kind == rlimit.kind)
        {
            return Err(format!("`{}` is limited twice", rlimit.kind));
        }
        if rlimit.soft > rlimit.hard {
            return Err(format!(
                "`{}`: the soft limit is above the hard one",
                rlimit.kind
            ));
        }
    }
    process
        .scheduler
        .as_ref()
        .map(schedule::attributes)
        .transpose()?;
    schedule::check(&process.affinity)?;
    if let Some(priority) = &process.io_priority {
        io_class(&priority.class)?;
        if priority.priority > 7 {
            let number = priority.priority;
            return Err(format!(
                "`process.ioPriority.priority` is {number}: it goes from 0 to 7"
            ));
        }
    }
    if let Some(score) = process
        .oom_score_adj
        .filter(|score| !(-1000..=1000).contains(score))
    {
        return Err(format!(
            "`process.oomScoreAdj` is {score}: it goes from -1000 to 1000"
        ));
    }
    check_labels(process)
}

/// What of a description is not as it was asked for, and no fault (`config.md`, `capabilities`).
pub(super) fn warnings(process: &Process) -> Option<String> {
    let sets = &process.capabilities;
    let all = [
        &sets.bounding,
        &sets.effective,
        &sets.inheritable,
        &sets.permitted,
        &sets.ambient,
    ];
    let unknown = |name: &&String| capability::parse(name).is_none();
    let names: BTreeSet<&str> = all
        .into_iter()
        .flatten()
        .filter(unknown)
        .map(String::as_str)
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    (!names.is_empty()).then(|| format!("there are no such capabilities: {}", names.join(", ")))
}

/// Labels of security modules that are not there would be promises that nobody keeps.
fn check_labels(process: &Process) -> Result<(), String> {
    let profile = &process.apparmor_profile;
    let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
    if !matches!(profile.as_str(), "" | "unconfined")
        && !enabled.is_ok_and(|text| text.starts_with(b"Y"))
    {
        return Err(format!(
            "`process.apparmorProfile` is `{profile}`, and AppArmor is not enabled here"
        ));
    }
    let label = &process.selinux_label;
    if !label.is_empty() && !super::mount::is_labelling() {
        return Err(format!(
            "`process.selinuxLabel` is `{label}`, and SELinux is not enabled here"
        ));
    }
    Ok(())
}

fn resource(kind: &str) -> Result<Resource, String> {
    let name = kind.strip_prefix("RLIMIT_").unwrap_or("");
    if name == "AS" {
        // `--ulimit` of Docker's does not have it.
        return Ok(Resource::As);
    }
    limit::resource(&name.to_ascii_lowercase()).ok_or_else(|| format!("`{kind}` is no limit"))
}

fn io_class(class: &str) -> Result<i32, String> {
    match class {
        "IOPRIO_CLASS_RT" => Ok(1),
        "IOPRIO_CLASS_BE" => Ok(2),
        "IOPRIO_CLASS_IDLE" => Ok(3),
        _ => Err(format!("`{class}` is no I/O priority class")),
    }
}

/// Sets from outside what the process itself may not, in its user namespace.
///
/// # Errors
/// When the kernel does not take it.
pub(super) fn prepare(process: &Process, pid: Pid) -> Result<(), RunError> {
    for rlimit in &process.rlimits {
        let Ok(resource) = resource(&rlimit.kind) else {
            continue;
        };
        let amount = |value: u64| Some(value).filter(|value| *value != u64::MAX);
        let wanted = Rlimit {
            current: amount(rlimit.soft),
            maximum: amount(rlimit.hard),
        };
        let set = rustix::process::prlimit(Some(pid), resource, wanted);
        set.map_err(|errno| RunError::Setup {
            step: format!("set `{}` to {}:{}", rlimit.kind, rlimit.soft, rlimit.hard),
            source: errno.into(),
        })?;
    }
    Ok(())
}

/// Says how soon a process is killed when memory runs out, and with it those that it starts. `whose` is its
/// name in `/proc`. It must not hide yet: then this is for the host's root alone.
///
/// # Errors
/// When the kernel does not take it.
pub(super) fn set_oom_score(process: &Process, whose: &str) -> Result<(), RunError> {
    if let Some(adjustment) = process.oom_score_adj {
        let path = format!("/proc/{whose}/oom_score_adj");
        let value = adjustment.to_string();
        std::fs::write(&path, &value).map_err(|source| RunError::Limit {
            option: "process.oomScoreAdj".to_owned(),
            value,
            path: path.into(),
            source,
        })?;
    }
    Ok(())
}

/// What a security module gives the next program that this process executes.
#[derive(Debug, Default)]
pub(super) struct Label(Option<(OwnedFd, String)>);

impl Label {
    /// Whether a program is to have one.
    pub(super) fn is_asked_for(process: &Process) -> bool {
        let profile = process.apparmor_profile.as_str();
        !matches!(profile, "" | "unconfined") || !process.selinux_label.is_empty()
    }

    /// Opens the file that takes it, checked to be procfs's (CVE-2025-52881), by way of `proc`, the host's.
    /// Nobody may label the programs of another process.
    pub(super) fn open(process: &Process, proc: impl AsFd) -> Result<Self, RunError> {
        if !Self::is_asked_for(process) {
            return Ok(Self(None));
        }
        let profile = process.apparmor_profile.as_str();
        let label = match (profile, process.selinux_label.as_str()) {
            ("" | "unconfined", label) => ("self/attr/exec", label.to_owned()),
            (profile, _) => ("self/attr/apparmor/exec", format!("exec {profile}")),
        };
        let open = || {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(proc, label.0, flags, Mode::empty())?;
            match fstatfs(&file)?.f_type as i64 {
                PROC => Ok(file),
                _ => Err(Errno::NOTTY),
            }
        };
        let file = open().map_err(RunError::setup("label the program"))?;
        Ok(Self(Some((file, label.1))))
    }

    fn write(self) -> Result<(), RunError> {
        match self.0 {
            Some((file, label)) => rustix::io::write(&file, label.as_bytes())
                .map(drop)
                .map_err(RunError::setup("label the program")),
            None => Ok(()),
        }
    }
}

/// Becomes the program's user, with its capabilities and no more, behind its filter.
///
/// # Errors
/// When the kernel refuses a step.
pub(super) fn settle(process: &Process, linux: &Linux, label: Label) -> Result<(), RunError> {
    if let Some(priority) = &process.io_priority {
        let class = io_class(&priority.class).unwrap_or(2);
        let set = sys::set_io_priority(class, i32::from(priority.priority & 7));
        set.map_err(RunError::setup("set the I/O priority"))?;
    }
    schedule::set(process.scheduler.as_ref())?;
    if let Some(Ok(persona)) = linux.personality.as_ref().map(persona) {
        sys::set_personality(persona).map_err(RunError::setup("set the personality"))?;
    }
    label.write()?;
    let filter = |late: bool| match &linux.seccomp {
        Some(profile) if process.no_new_privileges == late => profile
            .install()
            .map_err(RunError::setup("install the filter")),
        _ => Ok(()),
    };
    filter(false)?;
    let sets = Sets::of(&process.capabilities);
    identity::bound(sets.bounding).map_err(RunError::setup("drop capabilities"))?;
    change_user(process)?;
    hold(&sets)?;
    if process.no_new_privileges {
        set_no_new_privs(true).map_err(RunError::setup("give up new privileges"))?;
    }
    filter(true)
}

fn change_user(process: &Process) -> Result<(), RunError> {
    let user = &process.user;
    // `execve(2)` drops them where they do not belong.
    set_keep_capabilities(true).map_err(RunError::setup("keep capabilities"))?;
    let groups: Vec<_> = user
        .additional_gids
        .iter()
        .copied()
        .map(identity::gid)
        .collect();
    match set_thread_groups(&groups) {
        // Where the user namespace forbids it, those of the caller stay.
        Err(Errno::PERM) if groups.is_empty() => (),
        set => set.map_err(RunError::setup("set the supplementary groups"))?,
    }
    let (uid, gid) = (identity::uid(user.uid), identity::gid(user.gid));
    set_thread_res_gid(gid, gid, gid).map_err(RunError::setup("set the group"))?;
    set_thread_res_uid(uid, uid, uid).map_err(RunError::setup("set the user"))?;
    set_keep_capabilities(false).map_err(RunError::setup("keep capabilities"))
}

/// The five sets of capabilities (`capabilities(7)`).
struct Sets {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl Sets {
    /// Names that this version does not know are left out, as the specification wants it.
    fn of(names: &Capabilities) -> Self {
        let set = |names: &[String]| {
            let bits = names.iter().filter_map(|name| capability::parse(name));
            CapabilitySet::from_bits_retain(bits.fold(0, |all, bit| all | bit))
        };
        Self {
            bounding: set(&names.bounding),
            effective: set(&names.effective),
            permitted: set(&names.permitted),
            inheritable: set(&names.inheritable),
            ambient: set(&names.ambient),
        }
    }
}

fn hold(sets: &Sets) -> Result<(), RunError> {
    let step = || RunError::setup("set the capabilities");
    let held = rustix::thread::capabilities(None)
        .map_err(step())?
        .permitted;
    // Nobody gets what the caller does not have.
    let permitted = sets.permitted & held;
    let wanted = CapabilitySets {
        effective: sets.effective & permitted,
        permitted,
        inheritable: sets.inheritable & held,
    };
    set_capabilities(None, wanted).map_err(step())?;
    clear_ambient_capability_set().map_err(step())?;
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if sets.ambient.contains(one) && (wanted.permitted & wanted.inheritable).contains(one) {
            configure_capability_in_ambient_set(one, true).map_err(step())?;
        }
    }
    Ok(())
}

/// The execution domain that is asked for (`personality(2)`).
///
/// # Errors
/// What is wrong with it, as a fragment.
pub(super) fn persona(asked: &Personality) -> Result<libc::c_ulong, String> {
    match (asked.domain.as_str(), asked.flags.as_slice()) {
        ("LINUX", []) => Ok(0),
        ("LINUX32", []) => Ok(8),
        (domain, []) => Err(format!(
            "`linux.personality.domain` is `{domain}`: there are LINUX and LINUX32"
        )),
        (_, [flag, ..]) => Err(format!("`linux.personality.flags`: there is no `{flag}`")),
    }
}

/// Whether a program may look into processes of its user namespace that hide from others
/// (`capabilities(7)`).
pub(super) fn may_look_into_others(process: &Process) -> bool {
    let names = &process.capabilities;
    [&names.bounding, &names.inheritable, &names.ambient]
        .iter()
        .any(|set| set.iter().any(|name| name == "CAP_SYS_PTRACE"))
}

/// Whether the filter lets a small program execute another: then nothing of the container's is ever
/// executed as smidge (CVE-2019-5736).
pub(super) fn allows_trampoline(linux: &Linux) -> bool {
    let calls = ["execveat", "execve", "fcntl", "write"];
    let allowed = |profile: &seccomp::Profile| calls.iter().all(|call| profile.allows(call));
    linux.seccomp.as_ref().is_none_or(allowed)
}

/// The program's variables: the last of each name, and `HOME`, which the container's own list of users has,
/// where nothing is said of it. To be called inside.
pub(super) fn environment(process: &Process) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut seen = BTreeSet::new();
    // An empty one is none, as runc has it.
    let last = |variable: &&String| *variable != "HOME=" && seen.insert(name(variable));
    let mut env: Vec<String> = process.env.iter().rev().filter(last).cloned().collect();
    env.reverse();
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        let text = plan::read_regular(Path::new("/etc/passwd")).unwrap_or_default();
        let home = home(&String::from_utf8_lossy(&text), process.user.uid);
        env.push(format!("HOME={home}"));
    }
    env
}

/// A user's directory, by `passwd(5)`; the root, for whoever is not there.
fn home(passwd: &str, uid: u32) -> String {
    let of = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let own = fields.get(2).and_then(|text| text.parse().ok()) == Some(uid);
        fields
            .get(5)
            .filter(|home| own && !home.is_empty())
            .map(|home| (*home).to_owned())
    };
    passwd
        .lines()
        .find_map(of)
        .unwrap_or_else(|| "/".to_owned())
}

/// Opens `/proc` of the host, to be used after the root was changed.
///
/// # Errors
/// When it is no procfs.
pub(super) fn open_proc() -> Result<OwnedFd, RunError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = || {
        let proc = rustix::fs::openat(CWD, "/proc", flags, Mode::empty())?;
        match fstatfs(proc.as_fd())?.f_type as i64 {
            PROC => Ok(proc),
            _ => Err(Errno::NOTTY),
        }
    };
    open().map_err(RunError::setup("open `/proc`"))
}
