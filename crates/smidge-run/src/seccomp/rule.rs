//! When a system call is allowed, and what that comes to for a set of capabilities.

use rustix::thread::CapabilitySet;

/// The condition under which Docker's default profile allows a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// None.
    Always,
    /// The program may hold one of these capabilities.
    Capability(u64),
    /// `socket(2)`: depends on the address family.
    Socket,
    /// `personality(2)`: depends on the persona.
    Personality,
    /// `clone(2)`: no new namespaces without `CAP_SYS_ADMIN`.
    Clone,
    /// `clone3(2)`: its flags lie in memory, where no filter sees them. It appears not to exist, so
    /// that programs fall back to `clone(2)`.
    Clone3,
}

/// What the filter does about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Lets it pass.
    Allow,
    /// Fails it with an error number.
    Refuse(u16),
    /// Looks for its first argument in ranges that say what to do.
    ByValue(&'static [(u32, Action)]),
    /// Lets it pass if its first argument has none of these bits.
    WithoutBits(u32),
    /// Lets another process answer it.
    Notify,
    /// Lets another process answer it if its argument at the first number, counted from 0, has one of
    /// the bits.
    NotifyOnBits(u32, u32),
    /// Returns what a filter returns (`seccomp(2)`).
    Return(u32),
    /// Goes through the cases with this number, in the order in which they were given.
    Cases(usize),
}

/// What a filter returns if some arguments are as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    /// What has to be so, all of it.
    pub(super) conditions: Vec<Condition>,
    /// What the filter returns then.
    pub(super) value: u32,
}

/// What one argument of a call should be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, from 0.
    pub(super) argument: u32,
    /// The bits that count.
    pub(super) mask: u64,
    /// How these bits compare with the value.
    pub(super) comparison: Comparison,
    /// The value.
    pub(super) value: u64,
    /// Whether it is the other way round.
    pub(super) negated: bool,
}

/// How two numbers without signs compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// They are the same.
    Equal,
    /// The argument is not the smaller one.
    AtLeast,
    /// The argument is the greater one.
    Greater,
}

/// Refused as the profile refuses by default.
pub(super) const DENY: Action = Action::Refuse(libc::EPERM as u16);

/// Refused as a kernel refuses what it does not know.
pub(super) const UNKNOWN: Action = Action::Refuse(libc::ENOSYS as u16);

/// The flags of `clone(2)` that make namespaces: `NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`,
/// `NEWUSER`, `NEWPID` and `NEWNET`.
const NAMESPACES: u32 = 0x7e02_0000;

/// Address families, each range up to the next one's start. Left out are those that current kernels
/// no longer have, `AF_ALG` (38; the kernel's cryptography, CVE-2026-31431) and `AF_VSOCK` (40; the
/// hypervisor, not divided by network namespaces).
const FAMILIES: [(u32, Action); 16] = [
    (0, Action::Allow),
    (12, DENY),
    (13, Action::Allow),
    (19, DENY),
    (21, Action::Allow),
    (23, DENY),
    (24, Action::Allow),
    (25, DENY),
    (26, Action::Allow),
    (34, DENY),
    (35, Action::Allow),
    (37, DENY),
    (39, Action::Allow),
    (40, DENY),
    (41, Action::Allow),
    (46, DENY),
];

/// Where the families that see networks begin and end: IPv4, IPv6, netlink and packets.
const NETWORKS: [u32; 6] = [2, 3, 10, 11, 16, 18];

/// The same as [`FAMILIES`]; those that see networks ask.
pub(super) const ASKING_FAMILIES: &[(u32, Action)] = &asking::<16, 22>(FAMILIES);

/// The same where every family is allowed.
pub(super) const ASKING_OF_ALL: &[(u32, Action)] = &asking::<1, 7>([(0, Action::Allow)]);

/// What is done about families if those that see networks ask, which lie inside of ranges.
const fn asking<const N: usize, const M: usize>(
    families: [(u32, Action); N],
) -> [(u32, Action); M] {
    let mut asking = [(0, Action::Notify); M];
    let (mut family, mut network) = (0, 0);
    while family + network < M {
        let ends = network == NETWORKS.len();
        if family < N && (ends || families[family].0 < NETWORKS[network]) {
            asking[family + network] = families[family];
            family += 1;
            continue;
        }
        let action = match network % 2 {
            0 => Action::Notify,
            _ => families[family - 1].1,
        };
        asking[family + network] = (NETWORKS[network], action);
        network += 1;
    }
    asking
}

/// `socketcall(2)`: which of its calls makes a socket; the family lies in memory.
pub(super) const ASKING_CALLS: &[(u32, Action)] =
    &[(0, Action::Allow), (1, Action::Notify), (2, Action::Allow)];

/// `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and the question which one it is.
const PERSONAS: &[(u32, Action)] = &[
    (0, Action::Allow),
    (0x1, DENY),
    (0x8, Action::Allow),
    (0x9, DENY),
    (0x2_0000, Action::Allow),
    (0x2_0001, DENY),
    (0x2_0008, Action::Allow),
    (0x2_0009, DENY),
    (u32::MAX, Action::Allow),
];

impl Rule {
    /// What it comes to for a program that may hold `capabilities`.
    pub(super) fn action(self, capabilities: u64) -> Action {
        let admin = capabilities & CapabilitySet::SYS_ADMIN.bits() != 0;
        match self {
            Self::Always => Action::Allow,
            Self::Capability(any) if capabilities & any != 0 => Action::Allow,
            Self::Capability(_) => DENY,
            Self::Socket => Action::ByValue(&FAMILIES),
            Self::Personality => Action::ByValue(PERSONAS),
            Self::Clone | Self::Clone3 if admin => Action::Allow,
            Self::Clone => Action::WithoutBits(NAMESPACES),
            Self::Clone3 => UNKNOWN,
        }
    }
}
