//! Classic BPF, as `seccomp(2)` takes it.

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
const ALLOW: u32 = 0x7fff_0000;

/// The whole program: an architecture's code is for its calls only; others do not exist.
pub(super) fn program(
    (native, native_code): (&Abi, Vec<Instruction>),
    (compatible, compatible_code): (&Abi, Vec<Instruction>),
) -> Vec<Instruction> {
    let mut native_code = select(native, native_code);
    let mut program = vec![statement(LOAD, ARCHITECTURE)];
    program.append(&mut unless_equal(native.architecture, native_code.len()));
    program.append(&mut native_code);
    let mut compatible_code = select(compatible, compatible_code);
    program.append(&mut unless_equal(
        compatible.architecture,
        compatible_code.len(),
    ));
    program.append(&mut compatible_code);
    program.push(statement(RETURN, KILL));
    program
}

/// Loads the call's number for the code that decides by it.
fn select(abi: &Abi, mut code: Vec<Instruction>) -> Vec<Instruction> {
    let mut selected = vec![statement(LOAD, NUMBER)];
    if abi.extra_bit != 0 {
        selected.push(jump(IF_AT_LEAST, abi.extra_bit, 0, 1));
        selected.push(statement(AND, !abi.extra_bit));
    }
    selected.append(&mut code);
    selected
}

/// Decides by the loaded number, in a search over ranges; each reaches up to the next one's start.
pub(super) fn tree(ranges: &[(u32, Action)]) -> Vec<Instruction> {
    match ranges {
        [] => decide(DENY),
        [(_, action)] => decide(*action),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let start = high.first().map_or(0, |(start, _)| *start);
            let mut below = tree(low);
            let mut code = match u8::try_from(below.len()) {
                Ok(length) => vec![jump(IF_AT_LEAST, start, length, 0)],
                Err(_) => vec![jump(IF_AT_LEAST, start, 0, 1), skip(below.len())],
            };
            code.append(&mut below);
            code.append(&mut tree(high));
            code
        }
    }
}

fn decide(action: Action) -> Vec<Instruction> {
    match action {
        Action::Allow => vec![statement(RETURN, ALLOW)],
        Action::Refuse(errno) => vec![statement(RETURN, ERROR | u32::from(errno))],
        Action::ByValue(ranges) => {
            // All 64 bits count: the kernel must not see another value than the filter.
            let mut code = vec![statement(LOAD, ARGUMENT_HIGH), jump(IF_EQUAL, 0, 1, 0)];
            code.append(&mut decide(DENY));
            code.push(statement(LOAD, ARGUMENT_LOW));
            code.append(&mut tree(ranges));
            code
        }
        Action::WithoutBits(bits) => {
            let mut code = vec![statement(LOAD, ARGUMENT_LOW), jump(IF_ANY_BIT, bits, 1, 0)];
            code.append(&mut decide(Action::Allow));
            code.append(&mut decide(DENY));
            code
        }
    }
}

/// Skips `length` instructions unless the loaded value is `value`.
fn unless_equal(value: u32, length: usize) -> Vec<Instruction> {
    match u8::try_from(length) {
        Ok(length) => vec![jump(IF_EQUAL, value, 0, length)],
        Err(_) => vec![jump(IF_EQUAL, value, 1, 0), skip(length)],
    }
}

fn skip(length: usize) -> Instruction {
    // The kernel takes no program that is longer.
    statement(JUMP, u32::try_from(length).unwrap_or(u32::MAX))
}

fn statement(code: u16, operand: u32) -> Instruction {
    jump(code, operand, 0, 0)
}

fn jump(code: u16, operand: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction {
        code,
        if_true,
        if_false,
        operand,
    }
}
