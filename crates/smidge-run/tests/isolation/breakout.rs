//! The ways that containers of other runtimes were broken out of.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::cell::Cell;

fn refused(cell: &Cell, program: &str) {
    let outcome = cell.run(&[program]);
    assert!(
        outcome
            .stderr
            .contains("leads to the binary that starts the container"),
        "{program}: {outcome:?}"
    );
}

/// CVE-2019-5736: an image makes the runtime execute itself, then writes to its binary.
#[test]
fn cve_2019_5736_the_runtime_does_not_execute_itself() {
    let Some(cell) = Cell::new() else { return };
    symlink("/proc/self/exe", cell.layer().join("link")).unwrap();
    let script = |name: &str, interpreter: &str| {
        let path = cell.layer().join(name);
        fs::write(&path, format!("#! {interpreter} argument\n")).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    };
    script("script", "/proc/self/exe");
    script("twice", "/script");
    // A dynamic program whose loader it is.
    let mut elf = vec![0; 64 + 56];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[32] = 64; // e_phoff
    elf[54] = 56; // e_phentsize
    elf[56] = 1; // e_phnum
    elf[64] = 3; // PT_INTERP
    elf[64 + 8] = 120; // p_offset
    elf[64 + 32] = 15; // p_filesz
    elf.extend_from_slice(b"/proc/self/exe\0");
    fs::write(cell.layer().join("dynamic"), elf).unwrap();
    fs::set_permissions(cell.layer().join("dynamic"), Permissions::from_mode(0o755)).unwrap();
    for program in ["/proc/self/exe", "/link", "/script", "/twice", "/dynamic"] {
        refused(&cell, program);
    }
}

/// CVE-2021-30465: two containers share a volume; one swaps a mount point for a link while the other
/// starts. Whatever is found is resolved inside and held by descriptor: see also `mount`'s tests.
#[test]
fn cve_2021_30465_mount_points_are_resolved_inside() {
    let Some(mut cell) = Cell::new() else { return };
    let volume = cell.outside("volume");
    let victim = cell.outside("victim");
    symlink(&victim, volume.join("point")).unwrap();
    let source = cell.outside("source");
    fs::write(source.join("file"), "").unwrap();
    cell.bind(&volume, "/volume", false);
    cell.bind(&source, "/volume/point", false);
    let outcome = cell.sh("touch /volume/point/made; ls /volume/point/");
    assert!(outcome.stdout.contains("file"), "{outcome:?}");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
}

/// CVE-2022-0492: new namespaces and a cgroup mount, to set the release agent.
#[test]
fn cve_2022_0492_no_new_namespace_to_mount_cgroups_in() {
    let Some(cell) = Cell::new() else { return };
    symlink("busybox", cell.layer().join("bin/unshare")).unwrap();
    for script in [
        "unshare -r -m true",
        "mkdir /c && mount -t cgroup -o rdma cgroup /c",
    ] {
        let outcome = cell.sh(script);
        assert_ne!(outcome.code, Some(0), "{script}: {outcome:?}");
    }
}

/// CVE-2024-21626: a working directory, or a program, reached through a descriptor of the runtime.
#[test]
fn cve_2024_21626_no_descriptor_of_the_host_is_left() {
    let Some(mut cell) = Cell::new() else { return };
    for number in 3..12 {
        cell.spec.cwd = format!("/proc/self/fd/{number}");
        let run = cell.command(&["sh", "-c", "cat proc/version etc/passwd ../etc/passwd"]);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "exec 7</ 8</etc; exec \"$0\" \"$@\""]);
        command.arg(run.get_program()).args(run.get_args());
        let outcome = cell.run_from(&mut command);
        assert!(!outcome.stdout.contains("root:"), "{number}: {outcome:?}");
    }
    cell.spec.cwd = "/".to_owned();
    for number in 3..12 {
        let outcome = cell.run(&[&format!("/proc/self/fd/{number}/bin/busybox"), "true"]);
        assert_eq!(outcome.code, Some(125), "{number}: {outcome:?}");
    }
}

/// CVE-2025-31133 and CVE-2025-52881: an image's own `/dev/null` or `/proc` instead of the kernel's
/// as the source of masks, or as what settings are written to.
#[test]
fn cve_2025_31133_masks_are_not_made_of_the_images_files() {
    let Some(cell) = Cell::new() else { return };
    fs::create_dir_all(cell.layer().join("dev")).unwrap();
    symlink(
        "/proc/sys/kernel/core_pattern",
        cell.layer().join("dev/null"),
    )
    .unwrap();
    fs::create_dir_all(cell.layer().join("real")).unwrap();
    symlink("/real", cell.layer().join("proc")).unwrap();
    let outcome =
        cell.sh("stat -c %F /dev/null; grep -c proc /real/mounts; readlink /proc; cat /proc/kcore");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[0], "character special file", "{outcome:?}");
    assert_eq!(lines.get(2..), Some(&["/real"][..]), "{outcome:?}");
    assert_eq!(fs::read_dir(cell.layer().join("real")).unwrap().count(), 0);
}

/// CVE-2025-52565: the console is bound from whatever lies at the terminal's path.
#[test]
fn cve_2025_52565_the_console_is_the_containers_terminal() {
    let Some(mut cell) = Cell::new() else { return };
    cell.spec.tty = true;
    fs::create_dir_all(cell.layer().join("dev/pts")).unwrap();
    symlink("/proc/sysrq-trigger", cell.layer().join("dev/pts/0")).unwrap();
    symlink("/etc/target", cell.layer().join("dev/console")).unwrap();
    let outcome = cell.sh("stat -c %t:%T /dev/console /dev/pts/0; ls /etc/target");
    assert!(
        outcome.stdout.starts_with("88:0\r\n88:0\r\n"),
        "{outcome:?}"
    );
}

/// Root inside may make nodes, as in Docker; none of them opens a device of the host, wherever it is
/// made, and those of the container's own do.
#[test]
fn a_node_that_root_makes_opens_no_device() {
    let Some(mut cell) = Cell::of_root() else {
        return;
    };
    symlink("busybox", cell.layer().join("bin/mknod")).unwrap();
    let volume = cell.outside("volume");
    cell.bind(&volume, "/volume", false);
    // `/dev/zero` under another name: what opens it here would open a disk elsewhere.
    for place in [
        "/node",
        "/dev/node",
        "/volume/node",
        "/dev/shm/node",
        "/tmp/node",
    ] {
        let outcome = cell.sh(&format!(
            "mkdir -p /tmp; mknod {place} c 1 5 && dd if={place} of=/out bs=1 count=1"
        ));
        assert!(
            outcome.stderr.contains("can't open") && outcome.stderr.contains("Permission denied"),
            "{place}: {outcome:?}"
        );
    }
    let outcome = cell.sh("dd if=/dev/zero bs=1 count=3 2>/dev/null | wc -c; echo x > /dev/null");
    assert_eq!(outcome.stdout.trim(), "3", "{outcome:?}");
    // What becomes of the container's nodes is no concern of the host's.
    let outcome = cell.sh("chmod 600 /dev/full && stat -c %a /dev/full");
    assert_eq!(outcome.stdout.trim(), "600", "{outcome:?}");
    let host = fs::metadata("/dev/full").unwrap().permissions().mode();
    assert_eq!(host & 0o777, 0o666);
}
