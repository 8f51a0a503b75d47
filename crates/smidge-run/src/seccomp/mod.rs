//! The system call filter, equal in effect to Docker's default profile.
//!
//! ```text
//! table   which calls the profile names, by the rule that they are allowed under
//! rule    what a rule comes to for a set of capabilities
//! abi     the numbers of one architecture as ranges with the same action
//! code    the ranges as a search tree in BPF
//! ```
//!
//! A tree of ranges takes an instruction a range and about eight steps a call, where a list of
//! comparisons takes hundreds of both: installing it would be a third of a container's start.

mod abi;
mod code;
mod rule;
mod table;

use self::code::Code;
pub(crate) use self::rule::Action;
use crate::sys::{self, Instruction};

/// Installs the filter that a program with these capabilities gets.
pub(crate) fn install(capabilities: u64) -> std::io::Result<()> {
    sys::install_filter(&filter(capabilities))
}

/// A filter for this machine's own calls, by ranges of their numbers, each up to the next one's start;
/// the first starts at 0. It lets programs of other kinds do what they like.
pub(crate) fn native(ranges: Vec<(u32, Action)>) -> Vec<Instruction> {
    Code::program(&[
        (&abi::COMPATIBLE, vec![(0, Action::Allow)]),
        (&abi::NATIVE, ranges),
    ])
}

fn filter(capabilities: u64) -> Vec<Instruction> {
    let abis = [&abi::COMPATIBLE, &abi::NATIVE];
    Code::program(&abis.map(|abi| (abi, abi.ranges(capabilities))))
}

#[cfg(test)]
mod tests;
