//! The system call filter, equal in effect to Docker's default profile.
//!
//! ```text
//! table   which calls the profile names, by the rule that they are allowed under
//! rule    what a rule comes to for a set of capabilities
//! abi     the numbers of one architecture as ranges with the same action
//! code    the ranges as a search tree in BPF
//! ```
//!
//! A tree of ranges takes a few dozen instructions and about eight steps a call, where a list of
//! comparisons takes hundreds of both: installing it would be a third of a container's start.

mod abi;
mod code;
mod rule;
mod table;

use crate::sys::{self, Instruction};

/// Installs the filter that a program with these capabilities gets.
pub(crate) fn install(capabilities: u64) -> std::io::Result<()> {
    sys::install_filter(&filter(capabilities))
}

fn filter(capabilities: u64) -> Vec<Instruction> {
    let native = code::tree(&abi::NATIVE.ranges(capabilities));
    let compatible = code::tree(&abi::COMPATIBLE.ranges(capabilities));
    code::program((&abi::NATIVE, native), (&abi::COMPATIBLE, compatible))
}

#[cfg(test)]
mod tests;
