//! What programs see.

use crate::room::Room;

#[test]
fn files_have_the_owners_and_modes_that_they_were_given() {
    let Some(room) = Room::new() else { return };
    let outcome = room.sh(r#"
        set -e
        say() { stat -c '%n %u:%g %a' "$@"; }
        echo text > f; chown 33:44 f; say f
        chown 34 f; say f; chgrp 45 f; say f; chown 0:0 f; say f; chown 33:44 f
        cp -p f copy; mv f moved; say copy moved; ln moved hard; chown 9 hard; say moved
        mkdir -p d/e; chown -R 5:6 d; say d d/e
        ln -s moved link; chown -h 7:8 link; say link; stat -Lc %u:%g link; mv link link2; say link2
        chmod 6755 copy; say copy; chown 35 copy; say copy
        chmod 2745 copy; chown 36 copy; say copy
        chmod 000 copy; say copy; cat copy
        tar cf t.tar moved d; mkdir out; tar xf t.tar -C out; say out/moved out/d out/d/e
        mknod null c 1 3; mknod disk b 7 2; mkfifo pipe; chown 1:2 pipe null
        stat -c '%n %F %t,%T %u:%g %s' null disk pipe
        chown 3 /dev/null /proc/version
        stat -c %u /dev/null /proc/version
    "#);
    let expected = [
        "f 33:44 644",
        "f 34:44 644",
        "f 34:45 644",
        "f 0:0 644",
        "copy 33:44 644",
        "moved 33:44 644",
        "moved 9:44 644",
        "d 5:6 755",
        "d/e 5:6 755",
        "link 7:8 777",
        "9:44",
        "link2 7:8 777",
        "copy 33:44 6755",
        "copy 35:44 755",
        // Without the group's right to execute, the bit means something else.
        "copy 36:44 2745",
        "copy 36:44 0",
        "text",
        "out/moved 9:44 644",
        "out/d 5:6 755",
        "out/d/e 5:6 755",
        "null character special file 1,3 1:2 0",
        "disk block special file 7,2 0:0 0",
        "pipe fifo 0,0 1:2 0",
        "3",
        "3",
    ];
    assert_eq!(outcome.lines(), expected, "{outcome:?}");
}

#[test]
fn a_program_of_the_kernels_rules_finds_them_kept() {
    let Some(room) = Room::new().and_then(Room::with_believer) else {
        return;
    };
    let outcome = room.run(&["believer"]);
    assert_eq!(outcome.lines(), ["done"], "{outcome:?}");
}

#[test]
fn calls_by_lot_give_what_the_kernel_gives_to_a_real_root() {
    let Some(room) = Room::new().and_then(|room| room.with_program("differ")) else {
        return;
    };
    let lot = ["differ", "7", "200"];
    let Some(real) = room.run_really(&lot) else {
        return;
    };
    let believed = room.run(&lot);
    assert_eq!((real.code, believed.code), (Some(0), Some(0)));
    assert!(real.lines().len() > 10_000);
    let mut process = "";
    for (expected, found) in real.stdout.lines().zip(believed.stdout.lines()) {
        if expected.starts_with("process") {
            process = expected;
        }
        assert_eq!(found, expected, "{process}");
    }
    assert_eq!(real.stdout.len(), believed.stdout.len());
}

#[test]
fn programs_are_whom_the_spec_says() {
    let Some(mut room) = Room::new() else { return };
    room.spec.user.uid = 1000;
    room.spec.user.gid = 1001;
    room.spec.user.groups = vec![5, 7];
    let outcome = room.sh(
        "id; touch f; mkdir d; ln -s f l; mkfifo p; stat -c '%u:%g' f d l p; chown 0 f; chown 1000:7 f;
         stat -c '%u:%g' f; mknod c c 1 3; chmod 600 /bin; mount -t tmpfs none /d",
    );
    let expected = [
        "uid=1000 gid=1001 groups=5,7",
        "1000:1001",
        "1000:1001",
        "1000:1001",
        "1000:1001",
        "1000:7",
    ];
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), expected);
    for refused in ["chown: f:", "mknod: c:", "chmod: /bin:", "mount: "] {
        assert!(outcome.stderr.contains(refused), "{refused} {outcome:?}");
    }
}

#[test]
fn users_are_switched_to() {
    let Some(room) = Room::new() else { return };
    let etc = room.layer().join("etc");
    std::fs::write(
        etc.join("passwd"),
        "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(etc.join("group"), "root:x:0:\nweb:x:34:\nstaff:x:50:web\n").unwrap();
    room.give_away();
    let outcome = room.sh(
        "su web -c 'id; touch mine; (umask 077; mkdir dir); su root -c id </dev/null'; id -u
         stat -c '%U:%G %a' mine dir",
    );
    let expected = [
        "uid=33(web) gid=34(web) groups=34(web),50(staff)",
        "0",
        "web:web 644",
        "web:web 700",
    ];
    assert_eq!(
        outcome.stdout.lines().collect::<Vec<_>>(),
        expected,
        "{outcome:?}"
    );
}

#[test]
fn set_id_programs_run_as_their_owners() {
    let Some(mut room) = Room::new().and_then(Room::with_believer) else {
        return;
    };
    let outcome = room.sh("cp /bin/believer /set; chown 77:78 /set; chmod 4755 /set");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    room.spec.user.uid = 1000;
    let script = "/set 1000 77 && /bin/believer 1000 1000 && (set -e; /set 1000 77)";
    assert_eq!(room.sh(script).code, Some(0));
    assert_eq!(room.run(&["/bin/believer", "1000"]).code, Some(0));
}

#[test]
fn groups_are_passed_on_by_directories() {
    let Some(room) = Room::new() else { return };
    let outcome = room.sh(
        "mkdir d; chown 5:50 d; chmod 2775 d; touch d/f; mkdir d/e; ln -s x d/l; touch d/e/g
         stat -c '%n %u:%g %a' d/f d/e d/l d/e/g",
    );
    let expected = [
        "d/f 0:50 644",
        "d/e 0:50 2755",
        "d/l 0:50 777",
        "d/e/g 0:50 644",
    ];
    assert_eq!(outcome.lines(), expected);
}

#[test]
fn another_root_directory_is_the_callers_own() {
    let Some(room) = Room::new() else { return };
    let outcome = room.sh(
        "mkdir -p jail/bin; cp /bin/busybox jail/bin; echo > jail/f; echo > f; chown 1 f; ln -s /f jail/l
         chroot jail /bin/busybox chown 2 /l; chroot jail /bin/busybox stat -Lc %u /l
         stat -c %u f jail/f",
    );
    assert_eq!(outcome.lines(), ["2", "1", "2"], "{outcome:?}");
}

#[test]
fn the_containers_end_is_the_emulations() {
    let Some(room) = Room::new() else { return };
    let outcome = room.sh(
        "for i in 1 2 3 4; do while :; do stat / > /dev/null; chown 3 /bin; done & done
         sleep 0.3; exit 7",
    );
    assert_eq!(outcome.code, Some(7), "{outcome:?}");
    assert_eq!(room.run(&["/missing"]).code, Some(125));
    assert_eq!(room.run(&["true"]).code, Some(0));
}

#[test]
fn the_name_of_oneself_leads_nowhere_outside() {
    let Some(room) = Room::new() else { return };
    let outside = room.outside("outside");
    let path = outside.display();
    let outcome = room.sh(&format!(
        r#"
        echo user:x:1000:1000::/:/bin/sh > /etc/passwd
        mkdir -m 777 /open && cd /open
        su user -c '
            for own in /proc/self /proc/thread-self /dev/fd; do
                for up in ../.. ../../.. fd/../../../..; do
                    to=$own/$up{path}
                    touch $to/file; mkdir $to/dir; ln -s x $to/link; mkfifo $to/pipe
                done
            done 2> /dev/null
            touch /proc/self/cwd/a
            exec 5< /open
            touch /dev/fd/5/c; mkdir /proc/self/root/open/d
        '
        stat -c '%n %u' *
    "#
    ));
    assert_eq!(
        outcome.lines(),
        ["a 1000", "c 1000", "d 1000"],
        "{outcome:?}"
    );
    let made: Vec<_> = outside.read_dir().unwrap().collect();
    assert!(made.is_empty(), "{made:?}");
}
