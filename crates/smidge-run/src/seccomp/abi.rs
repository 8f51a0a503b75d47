//! The system call numbers of one architecture.

use super::code::Section;
use super::rule::{ASKING_CALLS, Action, DENY, UNKNOWN};
use super::table::CALLS;

/// One way to call the kernel: an architecture and its numbers.
#[derive(Debug)]
pub(super) struct Abi {
    /// `AUDIT_ARCH_*`, as the kernel tells it to filters.
    pub(super) architecture: u32,
    /// A bit that numbers may have on top, or 0.
    pub(super) extra_bit: u32,
    /// For each number, the place of its rule in [`CALLS`], counted from 1; 0 if it is not named.
    rules: [u8; NUMBERS],
    /// Its column in the table.
    pub(super) column: usize,
    /// Actions for numbers outside the table: first number, one past the last, which of them to deny.
    beyond: &'static [(u32, u32, &'static [u32])],
}

/// More than any number in the table.
const NUMBERS: usize = 512;

/// Columns of the table.
#[cfg(target_arch = "x86_64")]
const COLUMNS: [usize; 2] = [0, 1];
#[cfg(target_arch = "aarch64")]
const COLUMNS: [usize; 2] = [2, 3];

/// What 64-bit programs use.
#[cfg(target_arch = "x86_64")]
pub(super) static NATIVE: Abi = Abi {
    architecture: 0xc000_003e,
    // x32: the same numbers with this bit, but for some of its own, which programs without the bit
    // cannot reach. Allowed are all of these but `kexec_load` and `move_pages`.
    extra_bit: 0x4000_0000,
    rules: rules(COLUMNS[0]),
    column: COLUMNS[0],
    beyond: &[(512, 548, &[528, 533])],
};
#[cfg(target_arch = "aarch64")]
pub(super) static NATIVE: Abi = Abi {
    architecture: 0xc000_00b7,
    extra_bit: 0,
    rules: rules(COLUMNS[0]),
    column: COLUMNS[0],
    beyond: &[],
};

/// What 32-bit programs use.
#[cfg(target_arch = "x86_64")]
pub(super) static COMPATIBLE: Abi = Abi {
    architecture: 0x4000_0003,
    extra_bit: 0,
    rules: rules(COLUMNS[1]),
    column: COLUMNS[1],
    beyond: &[],
};
#[cfg(target_arch = "aarch64")]
pub(super) static COMPATIBLE: Abi = Abi {
    architecture: 0x4000_0028,
    extra_bit: 0,
    rules: rules(COLUMNS[1]),
    column: COLUMNS[1],
    // Arm's own: `breakpoint`, `cacheflush`, `set_tls`.
    beyond: &[(0xf_0001, 0xf_0003, &[]), (0xf_0005, 0xf_0006, &[])],
};

impl Abi {
    /// What is decided about its calls.
    pub(super) fn section(&self, ranges: Vec<(u32, Action)>) -> Section {
        Section {
            architecture: self.architecture,
            extra_bit: self.extra_bit,
            ranges,
        }
    }

    /// Ranges in which the calls that make sockets ask, for the families that say so; the others' actions stay.
    pub(super) fn asking(
        &self,
        ranges: Vec<(u32, Action)>,
        families: &'static [(u32, Action)],
    ) -> Vec<(u32, Action)> {
        let mut asking = ranges;
        for (name, action) in [
            ("socket", Action::ByValue(families)),
            ("socketcall", Action::ByValue(ASKING_CALLS)),
        ] {
            let calls = CALLS.iter().flat_map(|(_, calls)| *calls);
            let number = calls
                .filter(|(known, _)| *known == name)
                .find_map(|(_, numbers)| u32::try_from(numbers[self.column]).ok());
            if let Some(number) = number {
                let at = asking.partition_point(|(start, _)| *start <= number);
                let Some((start, before)) = at.checked_sub(1).map(|last| asking[last]) else {
                    continue;
                };
                let ends = asking.get(at).is_some_and(|(next, _)| *next == number + 1);
                let rest = (!ends).then_some((number + 1, before));
                let own = [(number, action)].into_iter().chain(rest);
                let from = at - usize::from(start == number);
                asking.splice(from..at, own);
            }
        }
        asking
    }

    /// The numbers' actions as ranges, each up to the next one's start; the first starts at 0.
    pub(super) fn ranges(&self, capabilities: u64) -> Vec<(u32, Action)> {
        let mut ranges: Vec<(u32, Action)> = Vec::with_capacity(128);
        let mut push = |start: u32, action: Action| match ranges.last() {
            Some((_, last)) if *last == action => (),
            _ => ranges.push((start, action)),
        };
        let known = self
            .rules
            .iter()
            .rposition(|rule| *rule != 0)
            .map_or(0, |last| last + 1);
        for (number, rule) in (0..).zip(&self.rules[..known]) {
            let rule = usize::from(*rule)
                .checked_sub(1)
                .and_then(|place| CALLS.get(place));
            push(
                number,
                rule.map_or(DENY, |(rule, _)| rule.action(capabilities)),
            );
        }
        // Newer than the profile: programs take "unknown" for an answer, "denied" often not.
        push(u32::try_from(known).unwrap_or(u32::MAX), UNKNOWN);
        for (first, end, denied) in self.beyond {
            for number in *first..*end {
                push(
                    number,
                    if denied.contains(&number) {
                        DENY
                    } else {
                        Action::Allow
                    },
                );
            }
            push(*end, UNKNOWN);
        }
        ranges
    }
}

/// Reads one column of the table, when smidge is compiled.
const fn rules(column: usize) -> [u8; NUMBERS] {
    let mut rules = [0; NUMBERS];
    let mut place = 0;
    while place < CALLS.len() {
        let (_, calls) = CALLS[place];
        let mut call = 0;
        while call < calls.len() {
            let (_, numbers) = calls[call];
            if numbers[column] >= 0 {
                rules[numbers[column].cast_unsigned() as usize] = place as u8 + 1;
            }
            call += 1;
        }
        place += 1;
    }
    rules
}
