//! Who the program is and what it may do, as root and as somebody else, mapped and not.

use std::process::Command;
use std::sync::OnceLock;

use crate::cell::{Cell, NOBODY_KNOWN, output};

/// The `Cap…`, `Groups` and `NoNewPrivs` lines of the program's status.
const STATUS: &str = "grep -E 'Cap|Groups|NoNew' /proc/self/status | sed 's/[[:space:]]*$//'";

/// A user with ranges of ids in `/etc/subuid` and `/etc/subgid`, made once.
fn user_with_ranges() -> Option<u32> {
    static USER: OnceLock<Option<u32>> = OnceLock::new();
    *USER.get_or_init(|| {
        let _ = output(Command::new("useradd").args(["--no-create-home", "smidge-test"]));
        let id = output(Command::new("id").args(["-u", "smidge-test"])).ok()?;
        let id = String::from_utf8(id.stdout).ok()?.trim().parse().ok();
        let ranges = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
        if id.is_none() || !ranges.contains("smidge-test:") {
            println!("skipped: no user with ranges of ids can be made");
            return None;
        }
        id
    })
}

#[test]
fn root_holds_dockers_capabilities_and_can_gain_no_more() {
    let Some(cell) = Cell::new() else { return };
    let outcome = cell.sh(STATUS);
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t0",
    ] {
        assert!(outcome.stdout.contains(line), "{line}: {outcome:?}");
    }
}

#[test]
fn other_users_hold_none() {
    let Some(mut cell) = Cell::of_root() else {
        return;
    };
    cell.spec.user.uid = 1000;
    cell.spec.user.gid = 100;
    cell.spec.user.groups = vec![5, 7];
    cell.spec.no_new_privileges = true;
    let outcome = cell.sh(&format!("id; {STATUS}"));
    for line in [
        "uid=1000 gid=100 groups=5,7",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t00000000a80425fb",
        "NoNewPrivs:\t1",
    ] {
        assert!(outcome.stdout.contains(line), "{line}: {outcome:?}");
    }
    // Not even while they are being started.
    let busybox = cell.layer().join("bin/busybox");
    std::fs::set_permissions(busybox, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let outcome = cell.sh("true");
    assert!(outcome.stderr.contains("Permission denied"), "{outcome:?}");
}

#[test]
fn other_users_can_open_their_own_streams() {
    let Some(mut cell) = Cell::of_root() else {
        return;
    };
    cell.spec.user.uid = 1000;
    let outcome = cell.sh("echo out > /dev/stdout; echo err > /dev/stderr");
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn a_user_without_ranges_is_root_inside_and_itself_outside() {
    let Some(cell) = Cell::of_user(NOBODY_KNOWN) else {
        return;
    };
    let outcome =
        cell.sh("id -u; cat /proc/self/uid_map; touch /made; stat -c %u /made /bin; chown 5 /made");
    let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
    assert_eq!(words[..4], ["0", "0", "54321", "1"], "{outcome:?}");
    // The layer's own directories are root's of the host here, which is nobody in the container.
    assert_eq!(words[4..], ["0", "65534"], "{outcome:?}");
    assert!(outcome.stderr.contains("Invalid argument"), "{outcome:?}");
    let made = std::fs::metadata(cell.container().join("upper/made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), NOBODY_KNOWN);
}

#[test]
fn a_user_without_ranges_can_be_anybody_inside() {
    let Some(mut cell) = Cell::of_user(NOBODY_KNOWN) else {
        return;
    };
    cell.spec.user.uid = 1000;
    cell.spec.user.gid = 1001;
    cell.spec.user.groups = vec![5];
    cell.spec.cwd = "/work/here".to_owned();
    let outcome = cell.sh(&format!("id; pwd; touch made; echo > /dev/null; {STATUS}"));
    assert!(
        outcome.stdout.starts_with("uid=1000 gid=1001"),
        "{outcome:?}"
    );
    assert!(outcome.stdout.contains("\n/work/here\n"), "{outcome:?}");
    assert!(
        outcome.stdout.contains("CapEff:\t0000000000000000"),
        "{outcome:?}"
    );
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_user_with_ranges_has_many_users_inside() {
    let Some(uid) = user_with_ranges() else {
        return;
    };
    let Some(mut cell) = Cell::of_user(uid) else {
        return;
    };
    let outcome =
        cell.sh("cat /proc/self/uid_map; touch /made; chown 33:44 /made; stat -c %u:%g /made");
    let map: Vec<&str> = outcome.stdout.split_whitespace().collect();
    assert_eq!(
        map[..3],
        ["0", uid.to_string().as_str(), "1"],
        "{outcome:?}"
    );
    assert_eq!((map[3], map.last()), ("1", Some(&"33:44")), "{outcome:?}");
    cell.spec.cleanup = vec![
        cell.container().join("upper"),
        cell.container().join("work"),
    ];
    let outcome = cell.sh("mkdir /d; touch /d/f; chown -R 33:44 /d; chmod 700 /d");
    assert_eq!(outcome.stderr, "");
    assert_eq!(std::fs::read_dir(cell.container()).unwrap().count(), 0);
    cell.spec.user.uid = 33;
    cell.spec.user.gid = 44;
    cell.spec.user.groups = vec![5];
    assert!(cell.sh("id").stdout.starts_with("uid=33 gid=44 groups=5"));
    cell.spec.user.uid = 4_000_000_000;
    let outcome = cell.sh("id");
    assert!(
        outcome
            .stderr
            .contains("user 4000000000 is not mapped in the container"),
        "{outcome:?}"
    );
}
