//! Nothing of the host's processes, names, network and open files is seen.

use std::fs;

use smidge_run::Network;

use crate::cell::Cell;

#[test]
fn every_namespace_is_the_containers_own() {
    let Some(mut cell) = Cell::new() else { return };
    let kinds = ["mnt", "pid", "uts", "ipc", "net", "cgroup"];
    let script = format!(
        "cd /proc/self/ns; for n in {}; do readlink $n; done",
        kinds.join(" ")
    );
    let inside = cell.sh(&script).stdout;
    for (kind, inside) in kinds.iter().zip(inside.lines()) {
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(host.to_str(), Some(inside));
        assert!(inside.starts_with(kind), "{inside}");
    }
    cell.spec.network = Network::Host;
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(
        cell.sh("readlink /proc/self/ns/net").stdout.trim_end(),
        host.to_str().unwrap()
    );
}

#[test]
fn the_program_is_pid_1_of_its_own_session_with_its_own_name() {
    let Some(cell) = Cell::new() else { return };
    let outcome = cell.sh("echo $$; hostname; sed 's/.*) //' /proc/1/stat; umask; pwd");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!((lines[0], lines[1]), ("1", "cell"), "{outcome:?}");
    // State, parent, process group, session.
    assert!(
        lines[2].starts_with("S 0 1 1 ") || lines[2].starts_with("R 0 1 1 "),
        "{}",
        lines[2]
    );
    assert_eq!((lines[3], lines[4]), ("0022", "/"));
}

#[test]
fn the_loopback_device_is_up_and_low_ports_are_free() {
    let Some(cell) = Cell::new() else { return };
    let script = "ip addr show lo; ip link; cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let outcome = cell.sh(script);
    assert!(outcome.stdout.contains("inet 127.0.0.1/8"), "{outcome:?}");
    assert!(
        !outcome.stdout.contains("eth0") && outcome.stdout.ends_with("\n0\n"),
        "{outcome:?}"
    );
}

#[test]
fn ignored_signals_and_open_files_do_not_come_along() {
    let Some(cell) = Cell::new() else { return };
    // The shell ignores signals and opens files that the sandbox knows nothing about.
    let run = |arguments: &[&str]| {
        let run = cell.command(arguments);
        let mut command = std::process::Command::new("sh");
        let script = "trap '' HUP PIPE TERM; exec 7</ 8<>/dev/null; exec \"$0\" \"$@\"";
        command
            .args(["-c", script])
            .arg(run.get_program())
            .args(run.get_args());
        cell.run_from(&mut command).stdout
    };
    // 3 is the directory that `ls` reads.
    assert_eq!(run(&["ls", "/proc/self/fd"]), "0\n1\n2\n3\n");
    let signals = run(&["grep", "-E", "SigIgn|SigBlk", "/proc/self/status"]);
    assert_eq!(
        signals.matches("\t0000000000000000\n").count(),
        2,
        "{signals}"
    );
}

#[test]
fn a_reaping_pid_1_passes_signals_and_the_exit_status_on() {
    let Some(mut cell) = Cell::new() else { return };
    cell.spec.init = true;
    assert_eq!(cell.sh("test $$ -ne 1 && (true &) ; exit 7").code, Some(7));
    assert_eq!(cell.sh("kill -9 $$").code, Some(137));
    let outcome = cell.sh("trap 'echo got it; exit 3' USR1; kill -USR1 1; while :; do :; done");
    assert_eq!(
        (outcome.code, outcome.stdout.as_str()),
        (Some(3), "got it\n"),
        "{outcome:?}"
    );
    // The host's binary is not to be had through it.
    let outcome = cell.sh("cat /proc/1/exe | dd bs=1 count=4");
    assert_eq!(outcome.stdout, "", "{outcome:?}");
    assert_eq!(cell.run(&["/missing"]).code, Some(125));
}

#[test]
fn a_terminal_is_the_containers_own_and_controls_the_session() {
    let Some(mut cell) = Cell::new() else { return };
    cell.spec.tty = true;
    let outcome =
        cell.sh("tty; echo seen > /dev/tty; test -c /dev/console && test -t 0 && ps -o tty");
    assert!(
        outcome.stdout.starts_with("/dev/pts/0\r\nseen\r\n"),
        "{outcome:?}"
    );
    assert!(outcome.stdout.contains("136,0"), "{outcome:?}");
}
