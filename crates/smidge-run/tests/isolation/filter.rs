//! System calls that are refused, as seen by the program that makes them.

use std::process::Command;

use rustix::thread::CapabilitySet;

use crate::cell::{Cell, output};

const EPERM: &str = "1";
const ENOSYS: &str = "38";

/// A cell with the program that makes system calls.
fn cell() -> Option<Cell> {
    let cell = Cell::new()?;
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/isolation/syscall.c");
    let program = cell.layer().join("bin/syscall");
    let mut compiler = Command::new("cc");
    let compiled = output(compiler.args(["-static", "-o"]).arg(program).arg(source));
    if compiled.is_ok_and(|output| output.status.success()) {
        return Some(cell);
    }
    println!("skipped: no C compiler that links statically");
    None
}

fn answers(cell: &Cell, calls: &[(i64, &[u64], &str)]) {
    for (number, arguments, expected) in calls {
        let words: Vec<String> = std::iter::once(number.to_string())
            .chain(arguments.iter().map(u64::to_string))
            .collect();
        let mut line = vec!["syscall"];
        line.extend(words.iter().map(String::as_str));
        let outcome = cell.run(&line);
        assert_eq!(
            outcome.stdout.trim_end(),
            *expected,
            "{line:?}: {outcome:?}"
        );
    }
}

#[test]
fn the_kernels_dangerous_corners_are_out_of_reach() {
    let Some(cell) = cell() else { return };
    let new_user_namespace = 0x1000_0000;
    let calls: &[(i64, &[u64], &str)] = &[
        (libc::SYS_mount, &[], EPERM),
        (libc::SYS_umount2, &[], EPERM),
        (libc::SYS_pivot_root, &[], EPERM),
        (libc::SYS_unshare, &[new_user_namespace], EPERM),
        (libc::SYS_setns, &[], EPERM),
        (libc::SYS_clone, &[new_user_namespace], EPERM),
        (libc::SYS_clone3, &[], ENOSYS),
        (libc::SYS_bpf, &[], EPERM),
        (libc::SYS_keyctl, &[], EPERM),
        (libc::SYS_add_key, &[], EPERM),
        (libc::SYS_io_uring_setup, &[], EPERM),
        (libc::SYS_userfaultfd, &[], EPERM),
        (libc::SYS_perf_event_open, &[], EPERM),
        (libc::SYS_open_by_handle_at, &[], EPERM),
        (libc::SYS_init_module, &[], EPERM),
        (libc::SYS_kexec_load, &[], EPERM),
        (libc::SYS_personality, &[0x0040_0000], EPERM),
        (libc::SYS_personality, &[0xffff_ffff], "ok"),
        (libc::SYS_socket, &[libc::AF_UNIX as u64, 1], "ok"),
        (libc::SYS_socket, &[libc::AF_ALG as u64, 5], EPERM),
        (libc::SYS_socket, &[libc::AF_VSOCK as u64, 1], EPERM),
        // The kernel would look at the lower half only.
        (
            libc::SYS_socket,
            &[1 << 32 | libc::AF_VSOCK as u64, 1],
            EPERM,
        ),
        (libc::SYS_getpid, &[], "ok"),
        // Newer than anything that is known.
        (1000, &[], ENOSYS),
    ];
    answers(&cell, calls);
}

#[test]
fn capabilities_open_the_calls_that_need_them() {
    let Some(mut cell) = cell() else { return };
    cell.spec.capabilities |= CapabilitySet::SYS_ADMIN.bits();
    answers(
        &cell,
        &[
            (libc::SYS_unshare, &[libc::CLONE_NEWUTS as u64], "ok"),
            // EFAULT: the kernel has looked for the path.
            (libc::SYS_umount2, &[0, 0], "14"),
            (libc::SYS_keyctl, &[], EPERM),
        ],
    );
}

#[test]
fn the_filter_can_be_left_out() {
    let Some(mut cell) = cell() else { return };
    cell.spec.seccomp = false;
    assert!(
        cell.sh("grep ^Seccomp: /proc/self/status")
            .stdout
            .ends_with("0\n")
    );
    answers(&cell, &[(libc::SYS_personality, &[0x0040_0000], "ok")]);
}
