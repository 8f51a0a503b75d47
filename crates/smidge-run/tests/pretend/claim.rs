//! What is left on disk.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use smidge_image::Claim;

use crate::room::Room;

#[test]
fn claims_say_what_the_disk_cannot() {
    let Some(room) = Room::new() else { return };
    let outcome = room.sh(
        "touch plain owned back; chown 33:44 owned back; chown 0:0 back; mkdir d; chown 5:6 d
         chmod 4711 owned; mknod c c 1 3; mknod b b 259 70000; chown 9:10 b; mv owned renamed",
    );
    assert_eq!(outcome.lines(), [""; 0]);
    for (path, expected) in [
        ("plain", None),
        ("back", None),
        ("renamed", Some("33 44 - -")),
        ("d", Some("5 6 - -")),
        ("c", Some("0 0 - c 1 3")),
        ("b", Some("9 10 - b 259 70000")),
    ] {
        assert_eq!(room.claim(path).as_deref(), expected, "{path}");
    }
    let mode = |path| {
        std::fs::metadata(room.upper(path))
            .unwrap()
            .permissions()
            .mode()
    };
    assert_eq!(mode("renamed") & 0o7777, 0o4711);
}

#[test]
fn claims_of_layers_are_believed() {
    let Some(room) = Room::new() else { return };
    for (name, mode, claim) in [
        ("shadow", 0o640, "0 42 - -"),
        ("secret", 0o400, "7 8 0 -"),
        ("kept", 0o755, "7 8 4711 -"),
        ("device", 0o600, "0 6 - b 8 1"),
        ("odd", 0o644, "nonsense"),
    ] {
        let path = room.layer().join("etc").join(name);
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let none = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&path, Claim::ATTRIBUTE, claim.as_bytes(), none).unwrap();
    }
    room.give_away();
    let outcome = room.sh(
        "cd etc; stat -c '%n %u:%g %a %F' shadow secret kept device odd
         chmod 644 secret; chown 9 kept; stat -c '%n %u:%g %a' secret kept",
    );
    let expected = [
        "shadow 0:42 640 regular file",
        "secret 7:8 0 regular file",
        // Somebody has changed the mode since: the disk is right.
        "kept 7:8 755 regular file",
        "device 0:6 600 block special file",
        "odd 0:0 644 regular file",
        "secret 7:8 644",
        "kept 9:8 755",
    ];
    assert_eq!(outcome.lines(), expected);
    assert_eq!(room.claim("etc/secret").as_deref(), Some("7 8 - -"));
}

#[test]
fn owners_of_links_are_told_at_the_end() {
    let Some(room) = Room::new() else { return };
    symlink("somewhere", room.layer().join("etc/lower")).unwrap();
    room.give_away();
    let outcome = room.sh(
        "ln -s x made; chown -h 33:44 made; mv made moved; chown -h 5:6 /etc/lower; mkfifo pipe
         chown 7 pipe; ln -s x gone; chown -h 9 gone; rm gone; for n in 1 2 3 4; do ln -s x new$n; done
         ln -s x plain; chown -h 3 plain; chown -h 0:0 plain; stat -c %u:%g /etc/lower new1 new4",
    );
    assert_eq!(outcome.lines(), ["5:6", "0:0", "0:0"]);
    let told = |path: &str| {
        let file = std::fs::symlink_metadata(room.upper(path)).unwrap();
        let start = format!("({}, {}) ", file.dev(), file.ino());
        let line = outcome
            .stderr
            .lines()
            .find_map(|line| line.strip_prefix(&start));
        line.map(str::to_owned)
    };
    assert_eq!(told("moved").as_deref(), Some("(33, 44)"));
    assert_eq!(told("etc/lower").as_deref(), Some("(5, 6)"), "{outcome:?}");
    assert_eq!(told("pipe").as_deref(), Some("(7, 0)"));
    for path in ["new1", "new2", "new3", "new4", "plain"] {
        assert_eq!(told(path), None, "{path}: {outcome:?}");
    }
}
