//! The root file system and what is mounted over it.

use std::fs;
use std::os::unix::fs::symlink;

use smidge_run::Mount;

use crate::cell::Cell;

#[test]
fn the_kernels_secrets_are_hidden_and_its_switches_are_locked() {
    let Some(cell) = Cell::new() else { return };
    for path in [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/interrupts",
    ] {
        let outcome = cell.run(&["cat", path]);
        assert_eq!(outcome.stdout, "", "{path}: {outcome:?}");
    }
    for path in [
        "/proc/acpi",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ] {
        assert_eq!(cell.run(&["ls", "-A", path]).stdout, "", "{path}");
    }
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/swappiness",
        "/sys/kernel/profiling",
    ] {
        let outcome = cell.sh(&format!("echo 1 > {path}"));
        let refused = [
            "Read-only file system",
            "Permission denied",
            "nonexistent directory",
        ];
        assert!(
            refused.iter().any(|why| outcome.stderr.contains(why)),
            "{path}: {outcome:?}"
        );
    }
    let outcome = cell.sh("echo 60 > /proc/sys/vm/swappiness");
    assert!(
        outcome.stderr.contains("Read-only file system"),
        "{outcome:?}"
    );
    assert_eq!(
        cell.sh("echo changed > /proc/self/comm; cat /proc/self/comm")
            .code,
        Some(0)
    );
}

#[test]
fn devices_are_there_and_work() {
    let Some(cell) = Cell::new() else { return };
    let outcome = cell.sh(
        "echo x > /dev/null && cat /dev/null; dd if=/dev/zero bs=4 count=1 2>/dev/null | wc -c; \
         echo x > /dev/full || echo full; dd if=/dev/urandom bs=3 count=1 2>/dev/null | wc -c; \
         for n in fd ptmx stdin; do readlink /dev/$n; done; stat -c %a:%F /dev/shm /dev/random; \
         echo shared > /dev/shm/x && cat /dev/shm/x; echo streamed > /dev/stdout",
    );
    let expected = "4\nfull\n3\n/proc/self/fd\npts/ptmx\n/proc/self/fd/0\n1777:directory\n\
                    666:character special file\nshared\nstreamed\n";
    assert_eq!(outcome.stdout, expected, "{outcome:?}");
    assert_eq!(
        cell.sh("ls /dev/mqueue /dev/pts").stdout,
        "/dev/mqueue:\n\n/dev/pts:\nptmx\n"
    );
}

#[test]
fn an_image_needs_no_directory_at_all() {
    let Some(mut cell) = Cell::new() else { return };
    let bin = cell.layer().join("bin");
    let hosts = cell.outside("etc").join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    cell.spec.layers = Vec::new();
    cell.bind(&bin, "/bin", true);
    cell.bind(&hosts, "/etc/hosts", false);
    cell.spec.cwd = "/some/where".to_owned();
    let outcome = cell.sh("pwd; ls /; cat /etc/hosts; touch /bin/x; echo new > /file && cat /file");
    let expected = "/some/where\nbin\ndev\netc\nproc\nsome\nsys\n127.0.0.1 localhost\nnew\n";
    assert_eq!(outcome.stdout, expected, "{outcome:?}");
    assert!(outcome.stderr.contains("Read-only file system"));
    assert!(cell.container().join("upper/file").exists());
}

#[test]
fn layers_hide_each_other_and_are_not_written_to() {
    let Some(mut cell) = Cell::new() else { return };
    let top = cell.outside("top");
    fs::create_dir(top.join("data")).unwrap();
    fs::write(top.join("data/shown"), "top").unwrap();
    fs::create_dir(cell.layer().join("data")).unwrap();
    fs::write(cell.layer().join("data/shown"), "bottom").unwrap();
    fs::write(cell.layer().join("data/below"), "bottom").unwrap();
    cell.spec.layers.insert(0, top.clone());
    let outcome =
        cell.sh("cat /data/shown /data/below; echo new > /data/below; rm /data/shown; ls /data");
    assert!(outcome.stdout.starts_with("topbottom"), "{outcome:?}");
    assert_eq!(
        fs::read_to_string(cell.layer().join("data/below")).unwrap(),
        "bottom"
    );
    assert_eq!(fs::read_to_string(top.join("data/shown")).unwrap(), "top");
    // The next start of the same container finds what it wrote.
    assert_eq!(cell.sh("cat /data/below").stdout, "new\n");
}

#[test]
fn a_container_to_throw_away_starts_again_even_after_a_crash() {
    let Some(mut cell) = Cell::new() else { return };
    // `minirun` removes the directories when all went well; here something else is listed.
    cell.spec.cleanup = vec![cell.container().join("nothing")];
    assert_eq!(cell.sh("echo kept > /file").code, Some(0));
    let outcome = cell.sh("cat /file");
    assert_eq!(outcome.stdout, "kept\n", "{outcome:?}");
    cell.spec.cleanup = vec![
        cell.container().join("upper"),
        cell.container().join("work"),
    ];
    let outcome = cell.sh("cat /file");
    assert_eq!(outcome.stdout, "kept\n", "{outcome:?}");
    assert_eq!(fs::read_dir(cell.container()).unwrap().count(), 0);
}

#[test]
fn a_read_only_root_is_read_only_and_its_mounts_are_not() {
    let Some(mut cell) = Cell::new() else { return };
    cell.spec.read_only = true;
    let scratch = Mount::tmpfs("/scratch".to_owned(), Some(1 << 16), 0o1777);
    cell.spec.mounts.push(scratch);
    let outcome = cell.sh(
        "touch /x; echo y > /scratch/y && cat /scratch/y; stat -c %a /scratch; echo z > /dev/shm/z; \
         dd if=/dev/zero of=/scratch/big bs=1k count=99 2>&1",
    );
    assert!(
        outcome.stderr.contains("/x: Read-only file system"),
        "{outcome:?}"
    );
    assert!(outcome.stdout.starts_with("y\n1777\n"), "{outcome:?}");
    assert!(
        outcome.stdout.contains("No space left on device"),
        "{outcome:?}"
    );
}

#[test]
fn a_read_only_bind_is_read_only_all_the_way_down() {
    let Some(mut cell) = Cell::of_root() else {
        return;
    };
    let tree = cell.outside("tree");
    let below = cell.outside("tree/below");
    // Mounted in a namespace of the test's own, which the command inherits and which ends with it.
    cell.bind(&tree, "/tree", true);
    let run = cell.command(&[
        "sh",
        "-c",
        "touch /tree/x; touch /tree/below/y; ls /tree/below",
    ]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg("mount -t tmpfs none \"$0\" && touch \"$0/there\" && exec \"$@\"");
    command
        .arg(&below)
        .arg(run.get_program())
        .args(run.get_args());
    let outcome = cell.run_from(&mut command);
    assert_eq!(outcome.stdout, "there\n", "{outcome:?}");
    assert_eq!(
        outcome.stderr.matches("Read-only file system").count(),
        2,
        "{outcome:?}"
    );
}

#[test]
fn mount_points_behind_links_stay_inside() {
    let Some(mut cell) = Cell::new() else { return };
    let outside = cell.outside("outside");
    fs::write(outside.join("mine"), "the host's").unwrap();
    let source = cell.outside("source");
    fs::write(source.join("file"), "bound").unwrap();
    symlink(&outside, cell.layer().join("absolute")).unwrap();
    symlink("../../../../../../../..", cell.layer().join("up")).unwrap();
    symlink("../run/resolv", cell.layer().join("resolv.conf")).unwrap();
    cell.bind(&source, "/absolute", false);
    cell.bind(&source, "/up/up/tmp/x", false);
    cell.bind(&source.join("file"), "/resolv.conf", false);
    let script = format!(
        "cat /absolute/file {}/file /tmp/x/file /run/resolv",
        outside.display()
    );
    let outcome = cell.sh(&script);
    assert_eq!(outcome.stdout, "boundboundboundbound", "{outcome:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_mounted_is_named() {
    let Some(mut cell) = Cell::new() else { return };
    cell.bind("/no/such/source".as_ref(), "/x", false);
    let outcome = cell.sh("true");
    assert!(
        outcome.stderr.contains("cannot open `/no/such/source`"),
        "{outcome:?}"
    );
    cell.spec.mounts.clear();
    cell.spec.layers = vec!["/no/such/layer".into()];
    let outcome = cell.sh("true");
    assert!(outcome.stderr.contains("/no/such/layer"), "{outcome:?}");
}

#[test]
fn programs_are_found_as_a_shell_finds_them() {
    let Some(mut cell) = Cell::new() else { return };
    fs::create_dir_all(cell.layer().join("first/cat")).unwrap();
    fs::write(cell.layer().join("first/id"), "not executable").unwrap();
    smidge_tests::write_program(&cell.layer().join("text"), "no interpreter\n").unwrap();
    cell.spec.env = vec!["PATH=first:/first::/bin".to_owned()];
    for (arguments, expected) in [
        (&["cat", "/proc/self/comm"][..], "cat\n"),
        (&["bin/cat", "/proc/self/comm"], "cat\n"),
        (&["id", "-u"], "0\n"),
    ] {
        assert_eq!(cell.run(arguments).stdout, expected, "{arguments:?}");
    }
    for (arguments, expected) in [
        (
            &["nope"][..],
            "no program `nope` in the container's PATH `first:/first::/bin`",
        ),
        (&[""], "no program ``"),
        (
            &["/nope"],
            "cannot execute `/nope` in the container: No such file",
        ),
        (
            &["/bin"],
            "cannot execute `/bin` in the container: Permission denied",
        ),
        (
            &["/text"],
            "cannot execute `/text` in the container: Exec format error",
        ),
    ] {
        let outcome = cell.run(arguments);
        assert!(
            outcome.stderr.contains(expected),
            "{arguments:?}: {outcome:?}"
        );
    }
}
