//! What is cut off is not missed: stripped programs run as before.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use smidge_tests::InTime as _;
use smidge_trim::{Elf, StripPlan, StripRefusal, strip};

use crate::handmade::Handmade;
use crate::lab::{Lab, has, start};

fn apply(mut bytes: Vec<u8>, plan: &StripPlan) -> Vec<u8> {
    bytes.truncate(plan.size.try_into().unwrap());
    for (at, patch) in &plan.patches {
        let at = usize::try_from(*at).unwrap();
        bytes[at..at + patch.len()].copy_from_slice(patch);
    }
    bytes
}

fn stripped(file: &Path) -> Vec<u8> {
    let bytes = fs::read(file).unwrap();
    let plan = strip(&bytes).unwrap_or_else(|refusal| panic!("{file:?}: {refusal}"));
    let small = apply(bytes.clone(), &plan);
    let again = strip(&small).unwrap();
    assert_eq!(
        again,
        StripPlan {
            size: plan.size,
            patches: Vec::new()
        },
        "{file:?}"
    );
    assert_eq!(
        Elf::parse(&small).unwrap(),
        Elf::parse(&bytes).unwrap(),
        "{file:?}"
    );
    small
}

fn said(output: Output) -> (Option<i32>, Vec<u8>, Vec<u8>) {
    (output.status.code(), output.stdout, output.stderr)
}

#[test]
fn stripped_programs_run_as_before() {
    for (compiler, options) in [
        ("gcc", ["-g", "-O0"]),
        ("gcc", ["-g", "-static"]),
        ("gcc", ["-g", "-static-pie"]),
        ("gcc", ["-g", "-no-pie"]),
        ("gcc", ["-g", "-Wl,-z,noseparate-code"]),
        ("gcc", ["-s", "-O2"]),
        ("musl-gcc", ["-g", "-static"]),
        ("musl-gcc", ["-g", "-O2"]),
    ] {
        let Some(lab) = Lab::new(compiler) else {
            continue;
        };
        let file = lab.program("p", &options);
        let small = stripped(&file);
        let before = fs::metadata(&file).unwrap().len();
        assert!((small.len() as u64) < before, "{compiler} {options:?}");
        let file_small = lab.install("small/p", &small);
        let (old, new) = (said(start(&file, &[])), said(start(&file_small, &[])));
        assert_eq!(old, new, "{compiler} {options:?}");
        assert_eq!(new.0, Some(7));

        assert!(
            Command::new("strip")
                .arg(&file)
                .status_in_time()
                .unwrap()
                .success()
        );
        assert!(small.len() as u64 <= fs::metadata(&file).unwrap().len());
        println!("{compiler} {options:?}: {before} to {} bytes", small.len());
    }
}

#[test]
fn programs_of_the_machine_run_as_before() {
    let Some(lab) = Lab::new("gcc") else { return };
    for (name, argument) in [
        ("ls", "--version"),
        ("bash", "--version"),
        ("gcc", "--version"),
    ] {
        let file = Path::new("/usr/bin").join(name);
        if !file.exists() {
            continue;
        }
        let small = lab.install(name, &stripped(&file.canonicalize().unwrap()));
        let output = start(&small, &[argument]);
        let first = |output: &[u8]| {
            String::from_utf8_lossy(output)
                .lines()
                .next()
                .map(str::to_owned)
        };
        assert_eq!(
            first(&output.stdout),
            first(&start(&file, &[argument]).stdout)
        );
    }
}

#[test]
fn a_payload_is_not_cut_off() {
    let Some(lab) = Lab::new("gcc") else { return };
    let file = lab.program("p", &["-g"]);
    let bytes = fs::read(&file).unwrap();
    let mut appended = bytes.clone();
    appended.extend(b"hsqs an AppImage's file system");
    let refusal = strip(&appended).unwrap_err();
    let StripRefusal::Payload { offset, size } = refusal else {
        panic!("{refusal}")
    };
    assert_eq!((offset, size), (bytes.len() as u64, 30));

    // The same behind a file that has no section headers any more.
    let mut small = stripped(&file);
    small.extend(b"payload");
    assert!(matches!(
        strip(&small),
        Err(StripRefusal::Payload { size: 7, .. })
    ));

    let mut padded = bytes.clone();
    padded.resize(padded.len() + 512, 0);
    assert_eq!(strip(&padded).unwrap(), strip(&bytes).unwrap());
    padded.resize(padded.len() + 65_536, 0);
    assert!(matches!(strip(&padded), Err(StripRefusal::Payload { .. })));
}

#[test]
fn a_section_that_a_program_may_read_is_not_cut_off() {
    let Some(lab) = Lab::new("gcc").filter(|_| has("objcopy", "--version")) else {
        return;
    };
    let file = lab.program("p", &["-g"]);
    let data = lab.write("data", "MEI\x0c\x0b\x0a\x0b\x0e");
    let add = |section: &str| {
        let packed = lab.path("packed");
        let section = format!("{section}={}", data.display());
        let arguments = ["--add-section", section.as_str()];
        let status = Command::new("objcopy")
            .args(arguments)
            .args([&file, &packed])
            .status_in_time();
        assert!(status.unwrap().success());
        strip(&fs::read(&packed).unwrap())
    };
    let refusal = add("pydata").unwrap_err();
    let StripRefusal::UnknownSection { name, size } = &refusal else {
        panic!("{refusal}")
    };
    assert_eq!((name.as_str(), *size), ("pydata", 8));
    assert!(add(".debug_more").is_ok());
    assert!(add(".dep-v0").is_ok());
}

#[test]
fn what_is_no_program_stays_as_it_is() {
    let of_kind = |kind| {
        Handmade {
            kind,
            ..Handmade::program(None, &[])
        }
        .bytes()
    };
    assert!(matches!(strip(&of_kind(1)), Err(StripRefusal::Relocatable)));
    assert!(matches!(strip(&of_kind(4)), Err(StripRefusal::Core)));
    assert!(matches!(
        strip(&of_kind(9)),
        Err(StripRefusal::UnknownType(9))
    ));
    assert!(matches!(
        strip(&b"#!/bin/sh\n".to_vec()),
        Err(StripRefusal::Elf(_))
    ));
    let mut empty = of_kind(2);
    empty[56..58].fill(0);
    assert!(matches!(strip(&empty), Err(StripRefusal::NoProgramHeaders)));
}
