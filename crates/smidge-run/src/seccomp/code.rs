//! Classic BPF, as `seccomp(2)` takes it.
//!
//! All jumps lead forward, so the code is written from its end to its start: where a jump leads is
//! known when it is written, and whatever has the same end shares it.

use super::abi::Abi;
use super::rule::{Action, DENY};
use crate::sys::Instruction;

/// Opcodes of `linux/bpf_common.h`.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Places in `struct seccomp_data` (`linux/seccomp.h`), of little-endian machines.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENT_LOW: u32 = 16;
const ARGUMENT_HIGH: u32 = 20;

/// What a filter returns (`seccomp(2)`).
const KILL: u32 = 0x8000_0000;
const ERROR: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const ALLOW: u32 = 0x7fff_0000;

/// Code that is being written, the last instruction first.
#[derive(Debug, Default)]
pub(super) struct Code {
    reversed: Vec<Instruction>,
    /// Where an action is taken that has been written already.
    actions: Vec<(Action, Place)>,
}

/// An instruction, by its distance from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(usize);

impl Code {
    /// The whole program. A call that no architecture claims has no business here.
    pub(super) fn program(abis: &[(&Abi, Vec<(u32, Action)>)]) -> Vec<Instruction> {
        let mut code = Self::default();
        let mut next = code.statement(RETURN, KILL);
        for (abi, ranges) in abis {
            let claimed = code.calls(abi, ranges);
            next = code.branch(IF_EQUAL, abi.architecture, claimed, next);
        }
        code.statement(LOAD, ARCHITECTURE);
        code.reversed.reverse();
        code.reversed
    }

    /// Decides about one architecture's calls.
    fn calls(&mut self, abi: &Abi, ranges: &[(u32, Action)]) -> Place {
        let search = self.search(ranges);
        if abi.extra_bit != 0 {
            let search = self.jump_if_far(search);
            let strip = self.statement(AND, !abi.extra_bit);
            self.branch(IF_AT_LEAST, abi.extra_bit, strip, search);
        } else {
            self.jump_if_far(search);
        }
        self.statement(LOAD, NUMBER)
    }

    /// Decides by the loaded value, in a search over ranges; each reaches up to the next one's start.
    fn search(&mut self, ranges: &[(u32, Action)]) -> Place {
        match ranges {
            [] => self.take(DENY),
            [(_, action)] => self.take(*action),
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let start = high.first().map_or(0, |(start, _)| *start);
                let high = self.search(high);
                let low = self.search(low);
                self.branch(IF_AT_LEAST, start, high, low)
            }
        }
    }

    /// Takes an action.
    fn take(&mut self, action: Action) -> Place {
        if let Some((_, place)) = self.actions.iter().find(|(known, _)| *known == action) {
            return *place;
        }
        let place = match action {
            Action::Allow => self.statement(RETURN, ALLOW),
            Action::Refuse(errno) => self.statement(RETURN, ERROR | u32::from(errno)),
            Action::ByValue(ranges) => {
                // All 64 bits count: the kernel must not see another value than the filter.
                let deny = self.take(DENY);
                let search = self.search(ranges);
                self.jump_if_far(search);
                let load = self.statement(LOAD, ARGUMENT_LOW);
                self.branch(IF_EQUAL, 0, load, deny);
                self.statement(LOAD, ARGUMENT_HIGH)
            }
            Action::Notify => self.statement(RETURN, NOTIFY),
            Action::NotifyOnBits(argument, bits) => {
                let (notify, allow) = (self.take(Action::Notify), self.take(Action::Allow));
                self.branch(IF_ANY_BIT, bits, notify, allow);
                self.statement(LOAD, ARGUMENT_LOW + 8 * argument)
            }
            Action::WithoutBits(bits) => {
                let (deny, allow) = (self.take(DENY), self.take(Action::Allow));
                self.branch(IF_ANY_BIT, bits, deny, allow);
                self.statement(LOAD, ARGUMENT_LOW)
            }
        };
        self.actions.push((action, place));
        place
    }

    /// Writes an instruction that what was written last follows.
    fn statement(&mut self, code: u16, operand: u32) -> Place {
        self.write(Instruction {
            code,
            if_true: 0,
            if_false: 0,
            operand,
        })
    }

    /// Writes a jump to one of two places.
    fn branch(&mut self, code: u16, operand: u32, yes: Place, no: Place) -> Place {
        // A jump on the way costs an instruction of distance itself; `no` may end up just at reach.
        let yes = if self.distance(yes) < usize::from(u8::MAX) {
            yes
        } else {
            self.jump(yes)
        };
        let no = if self.distance(no) <= usize::from(u8::MAX) {
            no
        } else {
            self.jump(no)
        };
        let near = |distance: usize| u8::try_from(distance).unwrap_or(u8::MAX);
        let (if_true, if_false) = (near(self.distance(yes)), near(self.distance(no)));
        self.write(Instruction {
            code,
            if_true,
            if_false,
            operand,
        })
    }

    /// Makes sure that what is written next is followed by `place`.
    fn jump_if_far(&mut self, place: Place) -> Place {
        if self.distance(place) == 0 {
            place
        } else {
            self.jump(place)
        }
    }

    fn jump(&mut self, place: Place) -> Place {
        // The kernel takes no program that is as long as this could fail.
        self.statement(
            JUMP,
            u32::try_from(self.distance(place)).unwrap_or(u32::MAX),
        )
    }

    /// How many instructions the next one would skip to reach `place`.
    fn distance(&self, Place(place): Place) -> usize {
        self.reversed.len() - 1 - place
    }

    fn write(&mut self, instruction: Instruction) -> Place {
        self.reversed.push(instruction);
        Place(self.reversed.len() - 1)
    }
}
