//! A program for arm64, and what runs it on other machines.

use std::path::Path;
use std::process::Command;

use smidge_run::Emulator;

/// Debian's package qemu-user-static has it.
pub(crate) const QEMU: &str = "/usr/bin/qemu-aarch64-static";

/// What runs programs for arm64; `None`, with the reason on standard output, if there is nothing.
pub(crate) fn emulator() -> Option<Emulator> {
    if !cfg!(target_arch = "x86_64") {
        println!("skipped: arm64 may be no other machine here");
        return None;
    }
    let Ok(path) = Path::new(QEMU).canonicalize() else {
        println!("skipped: there is no `{QEMU}`");
        return None;
    };
    let mut mask = vec![0xff; 20];
    (mask[7], mask[16]) = (0, 0xfe);
    Some(Emulator {
        path,
        magic: b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0".to_vec(),
        mask,
    })
}

/// What makes the program `foreign` at a path.
pub(crate) fn compiler(program: &Path) -> Command {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/arm64/foreign.c");
    let mut compiler = Command::new("aarch64-linux-gnu-gcc");
    compiler.args(["-Os", "-static", "-nostdlib", "-ffreestanding"]);
    compiler.args(["-fno-stack-protector", "-o"]);
    compiler.arg(program).arg(source);
    compiler
}
