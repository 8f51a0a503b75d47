//! The filter's code, executed, against the profile's rules, read one by one.

use rustix::thread::CapabilitySet;

use super::abi::{Abi, COMPATIBLE, NATIVE};
use super::rule::Rule;
use super::table::CALLS;
use super::{Instruction, Profile, asking, asking_of_all, filter};
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
                    // Every call has the number 7 for its second argument.
                    24 => 7,
                    28 => 0,
                    other => panic!("load from {other}"),
                }
            }
            0x54 => accumulator &= operand,
            0x05 => at += operand as usize,
            0x15 => branch(accumulator == operand),
            0x25 => branch(accumulator > operand),
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

/// The default profile, as Docker writes it.
fn dockers_words() -> String {
    let names = |calls: &[super::table::Call]| -> Vec<String> {
        calls.iter().map(|(name, _)| (*name).to_owned()).collect()
    };
    let allow = |names: &[String], args: serde_json::Value, caps: &[&str]| {
        serde_json::json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": args,
            "includes": {"caps": caps}})
    };
    let equal = |value: u64| serde_json::json!([{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]);
    let none = serde_json::Value::Null;
    let admin = ["CAP_SYS_ADMIN"];
    let mut rules = Vec::new();
    for (rule, calls) in CALLS {
        let names = names(calls);
        match rule {
            Rule::Always => rules.push(allow(&names, none.clone(), &[])),
            Rule::Capability(any) => {
                let holders = (0..41).filter(|number| any & (1 << number) != 0);
                for number in holders {
                    let name = capability::name(number).unwrap();
                    rules.push(allow(&names, none.clone(), &[name]));
                }
            }
            Rule::Socket => {
                let less = serde_json::json!([{"index": 0, "value": 12, "op": "SCMP_CMP_LT"}]);
                rules.push(allow(&names, less, &[]));
                let more =
                    (13..46).filter(|family| ![19, 20, 23, 25, 34, 37, 38, 40].contains(family));
                rules.extend(more.map(|family| allow(&names, equal(family), &[])));
            }
            Rule::Personality => {
                let known = [0, 8, 0x20000, 0x20008, 0xffff_ffff];
                rules.extend(known.map(|persona| allow(&names, equal(persona), &[])));
            }
            Rule::Clone => {
                rules.push(allow(&names, none.clone(), &admin));
                rules.push(
                    serde_json::json!({"names": names, "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": 0x7e02_0000, "valueTwo": 0,
                        "op": "SCMP_CMP_MASKED_EQ"}],
                    "excludes": {"caps": admin, "arches": ["s390x"]}}),
                );
            }
            Rule::Clone3 => {
                rules.push(allow(&names, none.clone(), &admin));
                rules.push(
                    serde_json::json!({"names": names, "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 38, "excludes": {"caps": admin}}),
                );
            }
        }
    }
    serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": rules,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64",
            "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ]})
    .to_string()
}

#[test]
fn dockers_profile_as_a_file_does_what_the_default_does() {
    let profile = Profile::parse(&dockers_words()).unwrap();
    let column = usize::from(!cfg!(target_arch = "x86_64")) * 2;
    for capabilities in [0, capability::DEFAULT, capability::ALL, 1 << 21] {
        let program = profile.filter(capabilities);
        for (abi, column) in [(&NATIVE, column), (&COMPATIBLE, column + 1)] {
            for number in 0..467 {
                for argument in ARGUMENTS {
                    let call = Call {
                        number,
                        architecture: abi.architecture,
                        argument,
                    };
                    let expected = model(column, capabilities, number, argument);
                    assert_eq!(execute(&program, call).0, expected, "{call:?}");
                }
            }
            let newer = Call {
                number: 1000,
                architecture: abi.architecture,
                argument: 0,
            };
            assert_eq!(execute(&program, newer).0, ENOSYS);
        }
    }
}

#[test]
fn arguments_are_compared_as_numbers_of_64_bits() {
    let big = 0x1_0000_0002_u64;
    for (op, value, two, fits) in [
        ("EQ", big, 0_u64, [false, false, true, false]),
        ("NE", big, 0, [true, true, false, true]),
        ("LT", big, 0, [true, true, false, false]),
        ("LE", big, 0, [true, true, true, false]),
        ("GE", big, 0, [false, false, true, true]),
        ("GT", big, 0, [false, false, false, true]),
        (
            "MASKED_EQ",
            0x1_0000_0000,
            0x1_0000_0000,
            [false, false, true, false],
        ),
    ] {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"name": "read",
                "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [
                {{"index": 0, "op": "SCMP_CMP_{op}", "value": {value}, "valueTwo": {two}}},
                {{"index": 1, "op": "SCMP_CMP_EQ", "value": 7}}]}}]}}"#
        );
        let program = Profile::parse(&text).unwrap().filter(0);
        let arguments = [2, 0xffff_fff0, big, 0x2_0000_0001];
        for (argument, fits) in arguments.into_iter().zip(fits) {
            let call = Call {
                number: libc::SYS_read as u32,
                architecture: NATIVE.architecture,
                argument,
            };
            let expected = if fits { 0x5_0005 } else { ALLOW };
            assert_eq!(execute(&program, call).0, expected, "{op} {argument:#x}");
        }
        let other = Call {
            number: libc::SYS_write as u32,
            architecture: NATIVE.architecture,
            argument: big,
        };
        assert_eq!(execute(&program, other).0, ALLOW, "{op}");
        // Programs of other kinds are not meant.
        let foreign = Call {
            architecture: COMPATIBLE.architecture,
            ..other
        };
        assert_eq!(execute(&program, foreign).0, 0x8000_0000, "{op}");
    }
}

#[test]
fn profiles_that_cannot_be_met_are_refused() {
    for (text, expected) in [
        ("", "EOF"),
        ("{}", "missing field `defaultAction`"),
        (
            r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#,
            "unknown variant `SCMP_ACT_MAYBE`",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"}"#,
            "listenerPath",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW"]}"#,
            "unknown variant `SECCOMP_FILTER_FLAG_NEW`",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
            "needs a program",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_LOG"}]}"#,
            "needs either",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"],
                "action": "SCMP_ACT_LOG", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#,
            "`read`: a call has no argument 6",
        ),
    ] {
        let fault = Profile::parse(text).unwrap_err();
        assert!(fault.contains(expected), "{text}: {fault}");
    }
}

#[test]
fn a_filter_is_installed_as_its_flags_say() {
    for (flags, expected) in [
        ("", 4),
        (r#", "flags": null"#, 4),
        (r#", "flags": []"#, 0),
        (
            r#", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]"#,
            3,
        ),
        (r#", "flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]"#, 4),
    ] {
        let text = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW"{flags}}}"#);
        assert_eq!(Profile::parse(&text).unwrap().flags(), expected, "{flags}");
    }
}

#[test]
fn sockets_that_see_networks_are_asked_about_and_nothing_else_changes() {
    const NOTIFY: u32 = 0x7fc0_0000;
    let plain = filter(capability::DEFAULT);
    let both = asking(capability::DEFAULT);
    let of_all = asking_of_all();
    let number = |abi: &Abi, name: &str| {
        let calls = CALLS.iter().flat_map(|(_, calls)| *calls);
        let mut known = calls.filter(|(known, _)| *known == name);
        known.find_map(|(_, numbers)| u32::try_from(numbers[abi.column]).ok())
    };
    for abi in [&NATIVE, &COMPATIBLE] {
        let (socket, old) = (number(abi, "socket"), number(abi, "socketcall"));
        for call in 0..600 {
            for argument in 0..50 {
                let families = [2, 10, 16, 17];
                let asks = Some(call) == socket && families.contains(&argument)
                    || Some(call) == old && argument == 1;
                let made = |program: &[Instruction], bit: u32| {
                    let call = Call {
                        number: call | bit,
                        architecture: abi.architecture,
                        argument,
                    };
                    execute(program, call).0
                };
                let expected = if asks { NOTIFY } else { made(&plain, 0) };
                assert_eq!(made(&both, 0), expected, "{call} {argument:#x}");
                let expected = if asks { NOTIFY } else { ALLOW };
                assert_eq!(made(&of_all, 0), expected, "{call} {argument}");
                if abi.extra_bit != 0 && asks {
                    assert_eq!(made(&both, abi.extra_bit), NOTIFY, "{call}");
                }
            }
        }
    }
}
