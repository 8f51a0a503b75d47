//! Programs of another machine, through an emulator of the host's: for a user namespace, and without.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use smidge_run::IdMap;

use crate::arm64::{self, QEMU};
use crate::cell::{Cell, NOBODY_KNOWN, Outcome, output};

/// A cell with a program for arm64, and what runs it.
fn cell(made: Option<Cell>) -> Option<Cell> {
    let mut cell = made?;
    cell.spec.emulator = Some(arm64::emulator()?);
    let program = cell.layer().join("bin/foreign");
    let compiled = output(&mut arm64::compiler(&program));
    if !compiled.is_ok_and(|output| output.status.success()) {
        println!("skipped: no C compiler for arm64");
        return None;
    }
    let script = cell.layer().join("bin/script");
    smidge_tests::write_program(&script, "#!/bin/foreign one two\n").unwrap();
    Some(cell)
}

/// Cells whose user namespace is told of the emulator: root's, and an ordinary user's.
fn told() -> Vec<Cell> {
    let mut cells = Vec::new();
    if let Some(mut cell) = cell(Cell::of_root()) {
        cell.spec.id_map = IdMap::identity().unwrap();
        cells.push(cell);
    }
    if rustix::process::geteuid().is_root() {
        cells.extend(cell(Cell::of_user(NOBODY_KNOWN)));
    } else {
        cells.extend(cell(Cell::new()));
    }
    cells
}

fn has_own_formats() -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|word| word.parse().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(7))
        && std::fs::read_to_string("/proc/filesystems")
            .unwrap()
            .contains("binfmt_misc")
}

#[track_caller]
fn said(outcome: &Outcome, code: i32, stdout: &str) {
    assert_eq!(
        (outcome.code, outcome.stdout.replace(" \n", "\n").trim_end()),
        (Some(code), stdout),
        "{outcome:?}"
    );
}

#[test]
fn the_kernel_starts_the_emulator_for_children_and_scripts_too() {
    for cell in told() {
        if !has_own_formats() {
            println!("skipped: user namespaces have no binfmt_misc of their own before Linux 6.7");
            continue;
        }
        let child = cell.run(&["foreign", "exec", "/bin/foreign"]);
        said(&child, 7, "/bin/foreign");
        said(&cell.run(&["foreign", "a", ""]), 7, "foreign a");
        said(
            &cell.run(&["foreign", "exec", "/bin/script", "x"]),
            7,
            "/bin/foreign one two /bin/script x",
        );
        said(
            &cell.sh("foreign; echo $?; script; true"),
            0,
            "foreign\n7\n/bin/foreign one two /bin/script",
        );
        said(&cell.run(&["foreign", "exec", "/nope"]), 1, "2");
        // What was mounted for it can be seen, and not be changed.
        let outcome = cell.sh("echo -1 > /proc/sys/fs/binfmt_misc/status");
        assert!(
            outcome.stderr.contains("Read-only file system"),
            "{outcome:?}"
        );
    }
}

#[test]
fn without_a_user_namespace_the_first_program_is_emulated() {
    let Some(cell) = cell(Cell::of_root()) else {
        return;
    };
    said(&cell.run(&["foreign", "a", ""]), 7, "foreign a");
    said(&cell.run(&["/bin/foreign", "b"]), 7, "/bin/foreign b");
    said(
        &cell.run(&["script", "x"]),
        7,
        "/bin/foreign one two /bin/script x",
    );
    // ENOEXEC: nobody but the host's administrator may tell the host's kernel.
    said(&cell.run(&["foreign", "exec", "/bin/foreign"]), 1, "8");
    // Programs of this machine are the kernel's.
    said(
        &cell.run(&["foreign", "exec", "/bin/busybox", "echo", "native"]),
        0,
        "native",
    );
    said(&cell.run(&["busybox", "echo", "native"]), 0, "native");
}

#[test]
fn what_may_not_be_executed_is_not_emulated() {
    let Some(mut cell) = cell(Cell::of_root()) else {
        return;
    };
    for map in [IdMap::None, IdMap::identity().unwrap()] {
        cell.spec.id_map = map;
        let program = cell.layer().join("bin/foreign");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o644)).unwrap();
        let outcome = cell.run(&["/bin/foreign"]);
        assert!(outcome.stderr.contains("Permission denied"), "{outcome:?}");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    cell.spec.id_map = IdMap::None;
    let pipe = cell.layer().join("bin/pipe");
    output(Command::new("mkfifo").args(["-m", "755"]).arg(pipe)).unwrap();
    let outcome = cell.run(&["/bin/pipe"]);
    assert!(outcome.stderr.contains("Permission denied"), "{outcome:?}");
    let outcome = cell.run(&["/bin/nope"]);
    assert!(outcome.stderr.contains("No such file"), "{outcome:?}");
}

#[test]
fn the_emulator_cannot_be_changed_from_inside() {
    let Some(mut cell) = cell(Cell::of_root()) else {
        return;
    };
    let mode = || std::fs::metadata(QEMU).unwrap().permissions().mode();
    let before = mode();
    for map in [IdMap::None, IdMap::identity().unwrap()] {
        cell.spec.id_map = map;
        // EROFS: what the kernel calls the program's file is the emulator's.
        said(&cell.run(&["foreign", "chmod", "/proc/self/exe"]), 0, "30");
        assert_eq!(mode(), before);
    }
}
