//! The system call filter, equal in effect to Docker's default profile.
//!
//! ```text
//! table   which calls the profile names, by the rule that they are allowed under
//! rule    what a rule comes to for a set of capabilities
//! abi     the numbers of one architecture as ranges with the same action
//! code    the ranges as a search tree in BPF
//! profile a filter of the user's, in the words of Docker's and OCI's profiles
//! refusal what is refused, by name
//! ```
//!
//! A tree of ranges takes an instruction a range and about eight steps a call, where a list of
//! comparisons takes hundreds of both: installing it would be a third of a container's start.

mod abi;
mod code;
mod profile;
mod refusal;
mod rule;
mod table;

use std::os::fd::OwnedFd;

use self::code::Code;
pub use self::profile::Profile;
pub(crate) use self::profile::{FLAGS, architectures};
pub use self::refusal::{call_name, fatal_calls, refuses_call};
pub(crate) use self::rule::Action;
use crate::spec::Spec;
use crate::sys::{self, Instruction};

/// Installs the filter that the spec asks for, if it asks for one.
pub(crate) fn install(spec: &Spec) -> std::io::Result<()> {
    if !spec.seccomp || spec.insecure {
        return Ok(());
    }
    match &spec.isolation.profile {
        Some(profile) => {
            sys::install_filter_with(&profile.filter(spec.capabilities), profile.flags())
        }
        None => sys::install_filter(&filter(spec.capabilities)),
    }
}

/// The same, and calls for sockets that could see a network wait for an answer from whoever has the
/// descriptor. One that the user has written stays as it is: there it takes a filter more.
pub(crate) fn install_asking(spec: &Spec) -> std::io::Result<OwnedFd> {
    sys::install_listener(&match spec.isolation.profile {
        Some(_) => asking_of_all(),
        None => asking(spec.capabilities),
    })
}

/// The default filter, which asks about sockets.
fn asking(capabilities: u64) -> Vec<Instruction> {
    let abis = [&abi::COMPATIBLE, &abi::NATIVE];
    let sections =
        abis.map(|abi| abi.section(abi.asking(abi.ranges(capabilities), rule::ASKING_FAMILIES)));
    Code::program(&sections, Vec::new())
}

/// A filter that does nothing else.
fn asking_of_all() -> Vec<Instruction> {
    let abis = [&abi::COMPATIBLE, &abi::NATIVE];
    let all = || vec![(0, Action::Allow)];
    let sections = abis.map(|abi| abi.section(abi.asking(all(), rule::ASKING_OF_ALL)));
    Code::program(&sections, Vec::new())
}

/// A filter for this machine's own calls, by ranges of their numbers, each up to the next one's start;
/// the first starts at 0. It lets programs of other kinds do what they like.
pub(crate) fn native(ranges: Vec<(u32, Action)>) -> Vec<Instruction> {
    let compatible = vec![(0, Action::Allow)];
    let sections = [
        abi::COMPATIBLE.section(compatible),
        abi::NATIVE.section(ranges),
    ];
    Code::program(&sections, Vec::new())
}

/// Lets the process and its children make no other calls than these, from now on.
pub(crate) fn allow_only(calls: &[i64]) -> std::io::Result<()> {
    let mut numbers: Vec<u32> = calls
        .iter()
        .filter_map(|call| u32::try_from(*call).ok())
        .collect();
    numbers.sort_unstable();
    let mut ranges = vec![(0, rule::DENY)];
    for number in numbers {
        ranges.push((number, Action::Allow));
        ranges.push((number + 1, rule::DENY));
    }
    let sections = [abi::NATIVE.section(ranges)];
    sys::install_filter(&Code::program(&sections, Vec::new()))
}

fn filter(capabilities: u64) -> Vec<Instruction> {
    let abis = [&abi::COMPATIBLE, &abi::NATIVE];
    let sections = abis.map(|abi| abi.section(abi.ranges(capabilities)));
    Code::program(&sections, Vec::new())
}

#[cfg(test)]
mod tests;
