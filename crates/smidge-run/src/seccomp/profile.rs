//! A filter of the user's: Docker's profiles, and OCI's, which are the same without conditions.
//!
//! <https://docs.docker.com/engine/security/seccomp/>, github.com/moby/profiles (`seccomp.go`), the OCI
//! runtime specification (`config-linux.md`, "Seccomp").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::abi::{self, Abi};
use super::code::{Code, Section};
use super::rule::{Action, Case, Comparison, Condition, UNKNOWN};
use super::table::{CALLS, Call, OTHERS};
use crate::capability;
use crate::sys::Instruction;

/// A system call filter as the user has written it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: Verdict,
    #[serde(default)]
    default_errno_ret: Option<u16>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<Architecture>>,
    #[serde(default)]
    syscalls: Vec<Calls>,
    #[serde(default)]
    flags: Option<Vec<Flag>>,
    #[serde(default)]
    listener_path: String,
}

/// How a filter is installed (`seccomp(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Flag {
    #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
    AllThreads,
    #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
    Log,
    #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    Speculate,
    #[serde(rename = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
    WaitKillable,
}

/// The flags that the specification knows, and whether they can be had: the last one is for filters whose
/// calls others answer.
pub(crate) const FLAGS: [(&str, bool); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", true),
    ("SECCOMP_FILTER_FLAG_LOG", true),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", true),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", false),
];

/// An architecture and those whose programs it runs as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Verdict {
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    Kill,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
}

impl Verdict {
    /// Whether a program that makes the call ends, unless it has arranged for that.
    fn is_fatal(self) -> bool {
        matches!(self, Self::Kill | Self::KillProcess | Self::Trap)
    }

    /// What a filter returns (`seccomp(2)`).
    fn value(self, errno: Option<u16>) -> u32 {
        // As `runc` has it: `EPERM` where none is named.
        let data = u32::from(errno.unwrap_or(libc::EPERM as u16));
        match self {
            Self::Kill => 0,
            Self::KillProcess => 0x8000_0000,
            Self::Trap => 0x0003_0000,
            Self::Errno => 0x0005_0000 | data,
            Self::Trace => 0x7ff0_0000 | data,
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }
}

/// What becomes of some calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    #[serde(default)]
    names: Vec<String>,
    /// The older form of a single name.
    #[serde(default)]
    name: String,
    action: Verdict,
    #[serde(default)]
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<When>,
    #[serde(default)]
    excludes: Option<When>,
}

/// What an argument should be like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Operator,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    AtMost,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    AtLeast,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// When a rule counts, or does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct When {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// This machine's architecture in the profile's words: its own, the one of older programs, and a third
/// kind that x86-64 has.
#[cfg(target_arch = "x86_64")]
const NAMES: [&str; 4] = [
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X32",
    "amd64",
];
#[cfg(target_arch = "aarch64")]
const NAMES: [&str; 4] = ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "", "arm64"];

/// The architectures whose programs can be filtered here.
pub(crate) fn architectures() -> Vec<&'static str> {
    let [all @ .., _] = NAMES;
    all.into_iter().filter(|name| !name.is_empty()).collect()
}

impl Profile {
    /// The names of the calls that end a program.
    pub(super) fn fatal(&self) -> Vec<String> {
        let fatal = self.syscalls.iter().filter(|calls| calls.action.is_fatal());
        let names = fatal.flat_map(|calls| calls.names.iter().chain([&calls.name]));
        names.filter(|name| !name.is_empty()).cloned().collect()
    }

    /// Whether a call passes, whatever its arguments.
    pub(crate) fn allows(&self, name: &str) -> bool {
        let of_name = |calls: &&Calls| calls.name == name || calls.names.iter().any(|n| n == name);
        let by_default = self.default_action == Verdict::Allow;
        let mut rules = self.syscalls.iter().filter(of_name).peekable();
        match rules.peek() {
            None => by_default,
            Some(_) => rules.all(|calls| {
                let unconditional = calls.args.as_ref().is_none_or(Vec::is_empty);
                calls.action == Verdict::Allow && (by_default || unconditional)
            }),
        }
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// What is wrong with it, as a fragment to follow a colon.
    pub fn parse(text: &str) -> Result<Self, String> {
        let profile: Self = serde_json::from_str(text).map_err(|fault| fault.to_string())?;
        profile.check()?;
        Ok(profile)
    }

    /// Whether the profile makes sense.
    ///
    /// # Errors
    /// As [`Profile::parse`].
    pub(crate) fn check(&self) -> Result<(), String> {
        if !self.listener_path.is_empty() {
            return Err("`listenerPath` needs a program that answers calls".to_owned());
        }
        if self
            .flags
            .iter()
            .flatten()
            .any(|flag| *flag == Flag::WaitKillable)
        {
            let fault =
                "`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` needs a program that answers calls";
            return Err(fault.to_owned());
        }
        for calls in &self.syscalls {
            let named = calls.names.first().unwrap_or(&calls.name);
            if calls.names.is_empty() == calls.name.is_empty() {
                return Err("a rule needs either `names` or `name`".to_owned());
            }
            for argument in calls.args.iter().flatten() {
                if argument.index > 5 {
                    return Err(format!(
                        "`{named}`: a call has no argument {}, the last one is 5",
                        argument.index
                    ));
                }
            }
        }
        Ok(())
    }

    /// Installs it in the calling thread, for a program for which it has no conditions.
    pub(crate) fn install(&self) -> std::io::Result<()> {
        crate::sys::install_filter_with(&self.filter(0), self.flags())
    }

    /// The bits of the flags (`seccomp(2)`): where the profile has none, as `runc` has it.
    pub(super) fn flags(&self) -> libc::c_ulong {
        let bit = |flag: &Flag| match flag {
            Flag::AllThreads => libc::SECCOMP_FILTER_FLAG_TSYNC,
            Flag::Log => libc::SECCOMP_FILTER_FLAG_LOG,
            Flag::Speculate => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            // `check` lets none through.
            Flag::WaitKillable => 0,
        };
        match &self.flags {
            Some(flags) => flags.iter().map(bit).fold(0, |all, bit| all | bit),
            None => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        }
    }

    /// The filter for a program that may hold `capabilities`.
    pub(super) fn filter(&self, capabilities: u64) -> Vec<Instruction> {
        let mut cases = Vec::new();
        let [_, compatible, third, _] = NAMES;
        let ranges = self.ranges(&abi::NATIVE, capabilities, &mut cases);
        let mut native = abi::NATIVE.section(ranges);
        if native.extra_bit != 0 && !self.has(third) {
            // They would be taken for the same numbers without the bit.
            let kill = Action::Return(Verdict::KillProcess.value(None));
            native.ranges.push((native.extra_bit, kill));
            native.extra_bit = 0;
        }
        let older = self.has(compatible).then(|| {
            let ranges = self.ranges(&abi::COMPATIBLE, capabilities, &mut cases);
            abi::COMPATIBLE.section(ranges)
        });
        let sections: Vec<Section> = older.into_iter().chain([native]).collect();
        Code::program(&sections, cases)
    }

    /// Whether programs of an architecture are meant. This machine's own always are.
    fn has(&self, name: &str) -> bool {
        let listed = self.architectures.iter().flatten();
        let map = self.arch_map.iter().flatten();
        let own = map.filter(|entry| entry.architecture == NAMES[0]);
        let below = own.flat_map(|entry| entry.sub_architectures.iter().flatten());
        listed.chain(below).any(|known| known == name)
    }

    /// One architecture's numbers as ranges, each up to the next one's start.
    fn ranges(
        &self,
        abi: &Abi,
        capabilities: u64,
        cases: &mut Vec<(Vec<Case>, u32)>,
    ) -> Vec<(u32, Action)> {
        let otherwise = self.default_action.value(self.default_errno_ret);
        let mut verdicts: BTreeMap<u32, (Vec<Case>, u32)> = BTreeMap::new();
        let numbers = numbers(abi.column);
        for calls in self
            .syscalls
            .iter()
            .filter(|calls| calls.count(capabilities))
        {
            let value = calls.action.value(calls.errno_ret);
            let conditions: Vec<Condition> = calls.args.iter().flatten().map(condition).collect();
            for name in calls.names.iter().chain([&calls.name]) {
                let Some(number) = numbers.get(name.as_str()) else {
                    continue;
                };
                let entry = verdicts.entry(*number);
                let (conditional, always) = entry.or_insert_with(|| (Vec::new(), otherwise));
                if conditions.is_empty() {
                    *always = value;
                } else {
                    conditional.push(Case {
                        conditions: conditions.clone(),
                        value,
                    });
                }
            }
        }
        let default = Action::Return(otherwise);
        let mut ranges = vec![(0, default)];
        let mut end = 0;
        let mut push = |start: u32, action: Action| match ranges.last_mut() {
            Some((_, last)) if *last == action => (),
            Some((at, last)) if *at == start => *last = action,
            _ => ranges.push((start, action)),
        };
        for (number, (conditional, always)) in verdicts {
            if number > end {
                push(end, default);
            }
            let action = if conditional.is_empty() {
                Action::Return(always)
            } else {
                cases.push((conditional, always));
                Action::Cases(cases.len() - 1)
            };
            push(number, action);
            end = number + 1;
        }
        // As `runc` does it: calls that are newer than the profile do not exist.
        let newer = match self.default_action {
            Verdict::Allow | Verdict::Log | Verdict::Trace => default,
            _ => UNKNOWN,
        };
        let newest = numbers.values().max().map_or(0, |last| last + 1);
        push(end, default);
        push(newest.max(end), newer);
        ranges
    }
}

impl Calls {
    /// Whether the rule counts on this machine, for these capabilities.
    fn count(&self, capabilities: u64) -> bool {
        let holds =
            |name: &String| capability::parse(name).is_some_and(|bit| capabilities & bit != 0);
        let here = |name: &String| name == NAMES[3];
        let included = self.includes.as_ref().is_none_or(|when| {
            when.caps.iter().flatten().all(holds)
                && when
                    .arches
                    .as_ref()
                    .is_none_or(|arches| arches.is_empty() || arches.iter().any(here))
                && when.min_kernel.as_deref().is_none_or(is_kernel)
        });
        let excluded = self.excludes.as_ref().is_some_and(|when| {
            when.caps.iter().flatten().any(holds)
                || when.arches.iter().flatten().any(here)
                || when.min_kernel.as_deref().is_some_and(is_kernel)
        });
        included && !excluded
    }
}

fn condition(argument: &Argument) -> Condition {
    let (comparison, negated) = match argument.op {
        Operator::NotEqual => (Comparison::Equal, true),
        Operator::Less => (Comparison::AtLeast, true),
        Operator::AtMost => (Comparison::Greater, true),
        Operator::Equal | Operator::MaskedEqual => (Comparison::Equal, false),
        Operator::AtLeast => (Comparison::AtLeast, false),
        Operator::Greater => (Comparison::Greater, false),
    };
    let masked = argument.op == Operator::MaskedEqual;
    Condition {
        argument: argument.index,
        mask: if masked { argument.value } else { u64::MAX },
        comparison,
        value: if masked {
            argument.value_two
        } else {
            argument.value
        },
        negated,
    }
}

/// The numbers of an architecture's calls by their names.
fn numbers(column: usize) -> BTreeMap<&'static str, u32> {
    let named = CALLS.iter().flat_map(|(_, calls)| calls.iter());
    let number = |(name, numbers): &Call| Some((*name, u32::try_from(numbers[column]).ok()?));
    named.chain(OTHERS).filter_map(number).collect()
}

/// Whether the kernel is as new as `wanted`, or newer: `4.8`.
fn is_kernel(wanted: &str) -> bool {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let version = |text: &str| -> Vec<u32> {
        text.split(|c: char| !c.is_ascii_digit())
            .take(2)
            .map(|part| part.parse().unwrap_or(0))
            .collect()
    };
    version(&release) >= version(wanted)
}
