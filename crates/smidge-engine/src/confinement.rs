//! What keeps this process from making namespaces, and what would let it.

use std::fs;

use smidge_run::RunError;

/// Whether it was that: the kernel, or a filter before it, makes no namespaces or lets nobody use them.
pub(crate) fn is_refusal(error: &RunError) -> bool {
    let is_one_of = |numbers: &[i32]| error.errno().is_some_and(|errno| numbers.contains(&errno));
    match error {
        RunError::NeedsNamespaces { .. } => true,
        RunError::Namespaces { .. } => is_one_of(&[PERM, NOSYS, NOSPC, ACCES]),
        RunError::Setup { .. } | RunError::RootFs { .. } | RunError::Mount { .. } => {
            is_one_of(&[PERM, ACCES, NOSYS]) && !is_free()
        }
        _ => false,
    }
}

const PERM: i32 = rustix::io::Errno::PERM.raw_os_error();
const ACCES: i32 = rustix::io::Errno::ACCESS.raw_os_error();
const NOSYS: i32 = rustix::io::Errno::NOSYS.raw_os_error();
const NOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();

/// `CAP_SYS_CHROOT` and `CAP_SYS_ADMIN` of capabilities(7).
const SYS_CHROOT: u32 = 18;
const SYS_ADMIN: u32 = 21;

/// Settings that forbid user namespaces, each with the value that does.
const SETTINGS: [(&str, &str); 3] = [
    ("user.max_user_namespaces", "0"),
    ("kernel.unprivileged_userns_clone", "0"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),
];

/// Whether nothing but the kernel itself stands in the way.
fn is_free() -> bool {
    let status = Status::read();
    status.holds(SYS_ADMIN) && !status.is_filtered
}

/// What of `/proc/self/status` (proc(5)) matters.
struct Status {
    capabilities: u64,
    is_filtered: bool,
}

impl Status {
    fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.strip_prefix(':'))
                .map(str::trim)
        };
        let capabilities = field("CapEff").and_then(|value| u64::from_str_radix(value, 16).ok());
        Self {
            capabilities: capabilities.unwrap_or(0),
            is_filtered: field("Seccomp") == Some("2"),
        }
    }

    fn holds(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }
}

/// Everything that is found in the way.
pub(crate) fn facts() -> Vec<String> {
    let status = Status::read();
    let mut facts = Vec::new();
    if !status.holds(SYS_ADMIN) {
        facts.push("missing: the capability `CAP_SYS_ADMIN`, or a user namespace".to_owned());
    }
    if status.is_filtered {
        facts.push("in the way: a system call filter (seccomp), as of a container".to_owned());
    }
    let profile = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    if let Some((name, "enforce)")) = profile.trim().split_once(" (") {
        facts.push(format!("in the way: the AppArmor profile `{name}`"));
    }
    for (name, value) in SETTINGS {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        if fs::read_to_string(path).is_ok_and(|text| text.trim() == value) {
            facts.push(format!("in the way: the setting `{name}={value}`"));
        }
    }
    if !status.holds(SYS_CHROOT) {
        facts.push(
            "missing: root with `CAP_SYS_CHROOT`, with whom a build can do without namespaces"
                .to_owned(),
        );
    }
    facts
}

/// What would let it, by who runs the container.
pub(crate) fn hints() -> Vec<String> {
    let filtered = Status::read().is_filtered;
    let container = [
        "smidge: `smidge run --security-opt seccomp=unconfined …`",
        "Docker: `docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined …`",
        "Podman: `podman run --security-opt seccomp=unconfined …`",
        "Kubernetes: `hostUsers: false` in the pod, and `seccompProfile: {type: Unconfined}` and \
         `procMount: Unmasked` in the container's `securityContext`",
    ];
    let host =
        ["on a host: `sysctl user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1`"];
    let chosen = if filtered { &container[..] } else { &host[..] };
    chosen.iter().map(|hint| (*hint).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_says_how_it_is_held() {
        let text = "Name:\tx\nCapEff:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2\n\
                    Seccomp_filters:\t1\n";
        let docker = Status::parse(text);
        assert!(docker.is_filtered && docker.holds(SYS_CHROOT) && !docker.holds(SYS_ADMIN));
        let nothing = Status::parse("");
        assert!(!nothing.is_filtered && !nothing.holds(SYS_CHROOT));
    }
}
