//! The filter's code, executed, against the profile's rules, read one by one.

use rustix::thread::CapabilitySet;

use super::abi::{Abi, COMPATIBLE, NATIVE};
use super::rule::Rule;
use super::table::CALLS;
use super::{Instruction, filter};
use crate::capability;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x5_0001;
const ENOSYS: u32 = 0x5_0026;

/// A call as a filter sees it.
#[derive(Clone, Copy, Debug)]
struct Call {
    number: u32,
    architecture: u32,
    argument: u64,
}

/// Executes a filter, with the few instructions that it may consist of, and counts its steps.
fn execute(program: &[Instruction], call: Call) -> (u32, usize) {
    let mut accumulator = 0;
    let mut at = 0;
    for steps in 1.. {
        let Instruction {
            code,
            if_true,
            if_false,
            operand,
        } = program[at];
        at += 1;
        let mut branch = |taken: bool| at += usize::from(if taken { if_true } else { if_false });
        match code {
            0x20 => {
                accumulator = match operand {
                    0 => call.number,
                    4 => call.architecture,
                    16 => call.argument as u32,
                    20 => (call.argument >> 32) as u32,
                    other => panic!("load from {other}"),
                }
            }
            0x54 => accumulator &= operand,
            0x05 => at += operand as usize,
            0x15 => branch(accumulator == operand),
            0x35 => branch(accumulator >= operand),
            0x45 => branch(accumulator & operand != 0),
            0x06 => return (operand, steps),
            other => panic!("instruction {other:#x}"),
        }
    }
    unreachable!()
}

/// What the profile says.
fn model(column: usize, capabilities: u64, number: u32, argument: u64) -> u32 {
    let admin = capabilities & CapabilitySet::SYS_ADMIN.bits() != 0;
    let calls = || {
        CALLS
            .iter()
            .flat_map(|(rule, calls)| calls.iter().map(move |call| (rule, call)))
    };
    let is_it = |numbers: &[i16; 4]| i64::from(numbers[column]) == i64::from(number);
    let Some((rule, (_, _))) = calls().find(|(_, (_, numbers))| is_it(numbers)) else {
        let highest = calls()
            .map(|(_, (_, numbers))| numbers[column])
            .max()
            .unwrap();
        return if i64::from(number) > i64::from(highest) {
            ENOSYS
        } else {
            EPERM
        };
    };
    let allowed = match *rule {
        Rule::Always => true,
        Rule::Capability(any) => capabilities & any != 0,
        Rule::Socket => {
            argument < 12
                || [
                    13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39,
                ]
                .contains(&argument)
                || (41..=45).contains(&argument)
        }
        Rule::Personality => [0, 8, 0x20000, 0x20008, 0xffff_ffff].contains(&argument),
        Rule::Clone => admin || argument & 0x7e02_0000 == 0,
        Rule::Clone3 if admin => true,
        Rule::Clone3 => return ENOSYS,
    };
    if allowed { ALLOW } else { EPERM }
}

const ARGUMENTS: [u64; 24] = [
    0,
    1,
    2,
    8,
    9,
    11,
    12,
    13,
    19,
    20,
    34,
    38,
    39,
    40,
    41,
    45,
    46,
    0x20000,
    0x20008,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0028,
    0x1000_0000,
    u64::MAX,
];

#[test]
fn the_filter_does_what_the_profile_says() {
    let columns = if cfg!(target_arch = "x86_64") {
        [0, 1]
    } else {
        [2, 3]
    };
    let abis: [(&Abi, usize); 2] = [(&NATIVE, columns[0]), (&COMPATIBLE, columns[1])];
    let whole = [0, capability::DEFAULT, capability::ALL].map(|set| (set, &ARGUMENTS[..]));
    let single = (0..41).map(|number| (1_u64 << number, &ARGUMENTS[..1]));
    for (capabilities, arguments) in whole.into_iter().chain(single) {
        let program = filter(capabilities);
        for (abi, column) in abis {
            // Above lie the numbers of x32 and arm of their own.
            for number in 0..512 {
                for &argument in arguments {
                    let call = Call {
                        number,
                        architecture: abi.architecture,
                        argument,
                    };
                    let expected = model(column, capabilities, number, argument);
                    assert_eq!(
                        execute(&program, call).0,
                        expected,
                        "{call:?} with {capabilities:#x}"
                    );
                }
            }
            for number in (600..1024).chain([0x3fff_ffff, 0x8000_0000, u32::MAX]) {
                let call = Call {
                    number,
                    architecture: abi.architecture,
                    argument: 0,
                };
                assert_eq!(execute(&program, call).0, ENOSYS, "{call:?}");
            }
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn x32_programs_have_the_same_calls_and_their_own() {
    let program = filter(capability::DEFAULT);
    let run = |number: u32| {
        let number = number | 0x4000_0000;
        execute(
            &program,
            Call {
                number,
                architecture: NATIVE.architecture,
                argument: 0,
            },
        )
        .0
    };
    for number in 0..512 {
        assert_eq!(
            run(number),
            model(0, capability::DEFAULT, number, 0),
            "{number}"
        );
    }
    for number in 512..548 {
        let expected = if number == 528 || number == 533 {
            EPERM
        } else {
            ALLOW
        };
        assert_eq!(run(number), expected, "{number}");
    }
    assert_eq!(run(548), ENOSYS);
}

#[test]
fn other_architectures_do_not_exist() {
    let program = filter(capability::DEFAULT);
    let call = Call {
        number: 0,
        architecture: 0x1234,
        argument: 0,
    };
    assert_eq!(execute(&program, call).0, 0x8000_0000);
}

#[test]
fn the_filter_is_small_and_its_paths_are_short() {
    let program = filter(capability::DEFAULT);
    let longest = (0..1024)
        .map(|number| Call {
            number,
            architecture: NATIVE.architecture,
            argument: 0,
        })
        .map(|call| execute(&program, call).1)
        .max();
    assert!(program.len() < 256, "{}", program.len());
    assert!(longest < Some(20), "{longest:?}");
}

#[test]
fn the_table_has_the_kernels_numbers() {
    #[cfg(target_arch = "x86_64")]
    let column = 0;
    #[cfg(target_arch = "aarch64")]
    let column = 2;
    let number = |name: &str| {
        let mut calls = CALLS.iter().flat_map(|(_, calls)| calls.iter());
        calls
            .find(|(known, _)| *known == name)
            .map(|(_, numbers)| i64::from(numbers[column]))
    };
    for (name, expected) in [
        ("read", libc::SYS_read),
        ("socket", libc::SYS_socket),
        ("clone", libc::SYS_clone),
        ("clone3", libc::SYS_clone3),
        ("personality", libc::SYS_personality),
        ("mount", libc::SYS_mount),
        ("bpf", libc::SYS_bpf),
        ("openat2", libc::SYS_openat2),
        ("faccessat2", libc::SYS_faccessat2),
        ("renameat2", libc::SYS_renameat2),
        ("setns", libc::SYS_setns),
        ("unshare", libc::SYS_unshare),
        ("ptrace", libc::SYS_ptrace),
        ("rseq", libc::SYS_rseq),
        ("newfstatat", libc::SYS_newfstatat),
        ("statx", libc::SYS_statx),
        ("epoll_pwait2", libc::SYS_epoll_pwait2),
        ("futex_waitv", libc::SYS_futex_waitv),
        ("mseal", libc::SYS_mseal),
    ] {
        assert_eq!(number(name), Some(expected), "{name}");
    }
    for name in [
        "keyctl",
        "add_key",
        "io_uring_setup",
        "userfaultfd",
        "kexec_load",
        "swapon",
    ] {
        assert_eq!(number(name), None, "{name}");
    }
}
