//! Which devices a group's processes may use: version 1's controller, or a program of version 2.
//!
//! Sources: the kernel's `Documentation/admin-guide/cgroup-v1/devices.rst` and `cgroup-v2.rst`
//! ("Device controller"), `linux/bpf.h`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::directory::write;
use crate::error::RunError;
use crate::sys::{self, BpfInstruction};

/// Whether some devices may be used. Of several rules the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DeviceRule {
    /// Whether they may.
    pub(crate) allow: bool,
    /// `c` character devices, `b` block devices, `a` or nothing both.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The first part of their number; all if there is none, or a negative one.
    pub(crate) major: Option<i64>,
    /// The second part of their number.
    pub(crate) minor: Option<i64>,
    /// `r` read, `w` write, `m` make; all if it is empty.
    pub(crate) access: String,
}

impl DeviceRule {
    /// Devices that may be used.
    pub(crate) fn allow(kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> Self {
        Self {
            allow: true,
            kind: kind.to_owned(),
            major,
            minor,
            access: access.to_owned(),
        }
    }

    fn is_for_all(&self) -> bool {
        self.kinds().len() == 2
    }

    /// The numbers that programs have for the kinds.
    fn kinds(&self) -> &'static [i32] {
        match self.kind.as_str() {
            "b" => &[1],
            "c" | "u" => &[2],
            _ => &[1, 2],
        }
    }

    fn access(&self) -> &str {
        match self.access.as_str() {
            "" => "rwm",
            access => access,
        }
    }
}

fn number(number: Option<i64>) -> Option<i32> {
    i32::try_from(number?).ok().filter(|number| *number >= 0)
}

/// Tells version 1's controller.
pub(super) fn write_v1(group: &Path, option: &str, rules: &[DeviceRule]) -> Result<(), RunError> {
    for rule in rules {
        let file = group.join(if rule.allow {
            "devices.allow"
        } else {
            "devices.deny"
        });
        let text = |part| number(part).map_or("*".to_owned(), |part| part.to_string());
        let value = match rule.is_for_all() {
            true => "a".to_owned(),
            false => format!(
                "{} {}:{} {}",
                if rule.kind == "b" { "b" } else { "c" },
                text(rule.major),
                text(rule.minor),
                rule.access()
            ),
        };
        write(&file, &value).map_err(|source| RunError::Limit {
            option: option.to_owned(),
            value,
            path: file,
            source,
        })?;
    }
    Ok(())
}

/// Gives version 2's group a program that decides.
pub(super) fn attach_v2(group: &Path, rules: &[DeviceRule]) -> Result<(), RunError> {
    if rules.is_empty() {
        return Ok(());
    }
    let attach = || -> io::Result<()> {
        let directory = File::open(group)?;
        sys::attach_device_program(directory.as_fd(), &program(rules))
    };
    attach().map_err(|source| RunError::Cgroup {
        step: "restrict the devices of".to_owned(),
        path: group.to_owned(),
        source,
    })
}

/// Instructions of eBPF (`linux/bpf_common.h`, `linux/bpf.h`).
const LOAD_WORD: u8 = 0x61;
const SET: u8 = 0xb7;
const COPY: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const UNLESS_EQUAL: u8 = 0x55;
const IF_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

/// The registers that hold the device's kind, the access, and the two parts of the number.
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> BpfInstruction {
    BpfInstruction {
        code,
        registers: to | from << 4,
        offset,
        value,
    }
}

/// The last rule that fits decides, so it is asked first; with none of them a device may be used, as in
/// version 1.
fn program(rules: &[DeviceRule]) -> Vec<BpfInstruction> {
    // The context: kind and access in a word, then the number (`struct bpf_cgroup_dev_ctx`).
    let mut code = vec![
        instruction(LOAD_WORD, KIND, 1, 0, 0),
        instruction(COPY, ACCESS, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, 1, 4, 0),
        instruction(LOAD_WORD, MINOR, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let decision = decide(rule);
        let is_last = decision.first().is_some_and(|first| first.code == SET);
        code.extend(decision);
        if is_last {
            // It is for everything: the kernel takes no code that is never reached.
            return code;
        }
    }
    code.push(instruction(SET, 0, 0, 0, 1));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

/// What one rule comes to: checks that lead past its end, and an answer.
fn decide(rule: &DeviceRule) -> Vec<BpfInstruction> {
    let mut checks = Vec::new();
    if let [kind] = rule.kinds() {
        checks.push(instruction(UNLESS_EQUAL, KIND, 0, 0, *kind));
    }
    for (register, part) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(part) = number(part).filter(|_| !rule.is_for_all()) {
            checks.push(instruction(UNLESS_EQUAL, register, 0, 0, part));
        }
    }
    let bits = [('m', 1), ('r', 2), ('w', 4)];
    let named = bits
        .iter()
        .filter(|(letter, _)| rule.access().contains(*letter));
    let named: i32 = named.map(|(_, bit)| bit).sum();
    if named != 7 {
        checks.push(instruction(COPY, 0, ACCESS, 0, 0));
        if rule.allow {
            // All that is wanted has to be allowed.
            checks.push(instruction(AND, 0, 0, 0, !named));
            checks.push(instruction(UNLESS_EQUAL, 0, 0, 0, 0));
        } else {
            checks.push(instruction(AND, 0, 0, 0, named));
            checks.push(instruction(IF_EQUAL, 0, 0, 0, 0));
        }
    }
    checks.push(instruction(SET, 0, 0, 0, i32::from(rule.allow)));
    checks.push(instruction(EXIT, 0, 0, 0, 0));
    let end = checks.len();
    for (at, check) in checks.iter_mut().enumerate() {
        if matches!(check.code, UNLESS_EQUAL | IF_EQUAL) {
            check.offset = i16::try_from(end - at - 1).unwrap_or(0);
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program answers, run by hand.
    fn answer(rules: &[DeviceRule], kind: u32, access: u32, number: (u32, u32)) -> i32 {
        let mut registers = [0_i64; 6];
        let code = program(rules);
        let mut at = 0;
        loop {
            let step = code[at];
            let (to, from) = (
                usize::from(step.registers & 15),
                usize::from(step.registers >> 4),
            );
            let value = i64::from(step.value);
            at += 1;
            match step.code {
                LOAD_WORD => {
                    let words = [kind | access << 16, number.0, number.1];
                    registers[to] = words[usize::try_from(step.offset).unwrap() / 4].into();
                }
                SET => registers[to] = value,
                COPY => registers[to] = registers[from],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                UNLESS_EQUAL if registers[to] != value => {
                    at += usize::try_from(step.offset).unwrap()
                }
                IF_EQUAL if registers[to] == value => at += usize::try_from(step.offset).unwrap(),
                EXIT => return i32::try_from(registers[0]).unwrap(),
                _ => (),
            }
        }
    }

    #[test]
    fn the_last_rule_that_fits_decides() {
        let rules = [
            DeviceRule::default(),
            DeviceRule::allow("c", Some(1), Some(3), "rwm"),
            DeviceRule::allow("c", Some(10), None, "r"),
            DeviceRule {
                allow: false,
                ..DeviceRule::allow("c", Some(10), Some(5), "w")
            },
        ];
        let (block, character, make, read, write) = (1, 2, 1, 2, 4);
        for (kind, access, number, expected) in [
            (character, read | write, (1, 3), 1),
            (block, read, (1, 3), 0),
            (character, read, (1, 4), 0),
            (character, read, (10, 7), 1),
            (character, read | write, (10, 7), 0),
            (character, make, (10, 7), 0),
            (character, read, (10, 5), 1),
        ] {
            let answer = answer(&rules, kind, access, number);
            assert_eq!(answer, expected, "{kind} {access} {number:?}");
        }
        assert_eq!(answer(&rules[1..2], block, read, (8, 0)), 1);
    }
}
