//! Classic BPF, as `seccomp(2)` takes it.
//!
//! All jumps lead forward, so the code is written from its end to its start: where a jump leads is
//! known when it is written, and whatever has the same end shares it.

use super::rule::{Action, Case, Comparison, Condition, DENY};
use crate::sys::Instruction;

/// Opcodes of `linux/bpf_common.h`.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
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

/// What is decided about one architecture's calls.
#[derive(Debug)]
pub(super) struct Section {
    /// As in [`Abi`](super::abi::Abi).
    pub(super) architecture: u32,
    /// As there.
    pub(super) extra_bit: u32,
    /// Actions by numbers, each up to the next one's start; the first starts at 0.
    pub(super) ranges: Vec<(u32, Action)>,
}

/// Code that is being written, the last instruction first.
#[derive(Debug, Default)]
pub(super) struct Code {
    reversed: Vec<Instruction>,
    /// Where an action is taken that has been written already.
    actions: Vec<(Action, Place)>,
    /// What [`Action::Cases`] numbers: the cases, and what is returned if there is none.
    cases: Vec<(Vec<Case>, u32)>,
}

/// An instruction, by its distance from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(usize);

impl Code {
    /// The whole program. A call that no architecture claims has no business here. `cases` is what
    /// [`Action::Cases`] numbers: cases, and what is returned if none fits.
    pub(super) fn program(sections: &[Section], cases: Vec<(Vec<Case>, u32)>) -> Vec<Instruction> {
        let mut code = Self {
            cases,
            ..Self::default()
        };
        let mut next = code.statement(RETURN, KILL);
        for section in sections {
            let claimed = code.calls(section);
            next = code.branch(IF_EQUAL, section.architecture, claimed, next);
        }
        code.statement(LOAD, ARCHITECTURE);
        code.reversed.reverse();
        code.reversed
    }

    /// Decides about one architecture's calls.
    fn calls(&mut self, section: &Section) -> Place {
        let search = self.search(&section.ranges);
        if section.extra_bit != 0 {
            let search = self.jump_if_far(search);
            let strip = self.statement(AND, !section.extra_bit);
            self.branch(IF_AT_LEAST, section.extra_bit, strip, search);
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
            Action::Return(value) => self.statement(RETURN, value),
            Action::Cases(number) => self.decide(number),
            Action::WithoutBits(bits) => {
                let (deny, allow) = (self.take(DENY), self.take(Action::Allow));
                self.branch(IF_ANY_BIT, bits, deny, allow);
                self.statement(LOAD, ARGUMENT_LOW)
            }
        };
        self.actions.push((action, place));
        place
    }

    /// Goes through cases, the first of which that fits decides.
    fn decide(&mut self, number: usize) -> Place {
        let (cases, otherwise) = self.cases.get(number).cloned().unwrap_or_default();
        let mut next = self.take(Action::Return(otherwise));
        next = self.jump_if_far(next);
        for case in cases.iter().rev() {
            let fits = self.take(Action::Return(case.value));
            let mut then = fits;
            for condition in case.conditions.iter().rev() {
                then = self.check(*condition, then, next);
            }
            next = self.jump_if_far(then);
        }
        next
    }

    /// Compares all 64 bits of an argument.
    fn check(&mut self, condition: Condition, fits: Place, otherwise: Place) -> Place {
        let (yes, no) = match condition.negated {
            false => (fits, otherwise),
            true => (otherwise, fits),
        };
        let half = |value: u64| (value as u32, (value >> 32) as u32);
        let ((low, high), (low_mask, high_mask)) = (half(condition.value), half(condition.mask));
        let at = 8 * condition.argument;
        let compare = match condition.comparison {
            Comparison::Equal => IF_EQUAL,
            Comparison::AtLeast => IF_AT_LEAST,
            Comparison::Greater => IF_GREATER,
        };
        self.branch(compare, low, yes, no);
        let load = self.load(ARGUMENT_LOW + at, low_mask);
        let same = self.branch(IF_EQUAL, high, load, no);
        if condition.comparison != Comparison::Equal {
            self.branch(IF_GREATER, high, yes, same);
        }
        self.load(ARGUMENT_HIGH + at, high_mask)
    }

    /// Loads a part of an argument, as far as its bits count.
    fn load(&mut self, place: u32, mask: u32) -> Place {
        if mask != u32::MAX {
            self.statement(AND, mask);
        }
        self.statement(LOAD, place)
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
