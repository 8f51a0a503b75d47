//! Programs that start, and end by themselves.

use crate::stage::Stage;

#[test]
fn programs_run_side_by_side_and_tell_their_ends() {
    let Some(stage) = Stage::new() else { return };
    let specs: Vec<_> = (0..8)
        .map(|number| {
            stage.sh(
                &format!("p{number}"),
                &format!("echo said {number}; exit {number}"),
            )
        })
        .collect();
    let lines = stage.run(&specs);
    for number in 0..8 {
        for line in [
            format!("said {number}"),
            format!("p{number}: runs"),
            format!("p{number}: status {number}"),
        ] {
            assert!(lines.contains(&line), "{line}: {lines:?}");
        }
    }
    stage.assert_deserted();
}

#[test]
fn what_keeps_a_program_from_starting_is_told_as_it_is() {
    let Some(stage) = Stage::new() else { return };
    let mut elsewhere = stage.spec("cwd", &["true"]);
    elsewhere.cwd = "/bin/busybox".to_owned();
    let specs = [
        stage.spec("missing", &["nope"]),
        stage.spec("absent", &["/nope"]),
        stage.spec("none", &[]),
        elsewhere,
    ];
    assert_eq!(
        stage.run(&specs),
        [
            "absent: cannot execute `/nope` in the container: No such file or directory (os error 2)",
            "cwd: cannot enter the working directory `/bin/busybox`: Not a directory (os error 20)",
            "missing: no program `nope` in the container's PATH `/bin`",
            "none: container `none` has no program to run",
        ]
    );
}

#[test]
fn a_program_takes_what_it_has_started_with_it() {
    let Some(stage) = Stage::new() else { return };
    // One keeps the streams open, one has none; neither is waited for.
    let script = "sleep 1000 & (sleep 1000 </dev/null >/dev/null 2>&1 &) ; exit 4";
    let mut play = stage.start(&[stage.sh("parent", script), stage.sh("other", "sleep 1000")]);
    play.expect("parent: status 4");
    // At once: not after a while.
    let path = stage.path("parent");
    let path = path.to_string_lossy();
    for (id, name) in stage.processes() {
        let mounts = std::fs::read_to_string(format!("/proc/{id}/mountinfo")).unwrap_or_default();
        assert!(!mounts.contains(&*path), "{name} is left, in:\n{mounts}");
    }
    play.tell("kill");
    let lines = play.finish();
    assert!(
        lines.contains(&"other: status 137, signal 9".to_owned()),
        "{lines:?}"
    );
    stage.assert_deserted();
}

#[test]
fn a_program_gets_nothing_of_its_callers_files() {
    let Some(stage) = Stage::new() else { return };
    let specs: Vec<_> = (0..4)
        .map(|number| {
            stage.sh(
                &format!("p{number}"),
                "ls /proc/self/fd | grep -vx 3; ls /proc/1/fd; true",
            )
        })
        .collect();
    let lines = stage.run(&specs);
    // `ls` has the directory open that it lists.
    let files: Vec<_> = lines.iter().filter(|line| line.len() == 1).collect();
    assert!(
        files
            .iter()
            .all(|file| ["0", "1", "2"].contains(&file.as_str())),
        "{lines:?}"
    );
    assert!(lines.contains(&"p3: status 0".to_owned()), "{lines:?}");
}

#[test]
fn specs_may_be_large() {
    let Some(stage) = Stage::new() else { return };
    let mut spec = stage.sh("large", "echo ${#V9}");
    for number in 0..10 {
        spec.env.push(format!("V{number}={}", "v".repeat(100_000)));
    }
    let lines = stage.run(&[spec]);
    assert_eq!(lines, ["100000", "large: runs", "large: status 0"]);
}

#[test]
fn programs_with_one_id_believe_in_all_and_links_are_told() {
    let Some(stage) = Stage::new() else { return };
    let script = "echo x >/f; chown 5:6 /f; stat -c %u:%g /f; ln -s f /l; chown -h 7:8 /l; \
                  stat -c %u:%g /l; sleep 1000 </dev/null >/dev/null 2>&1 & exit 3";
    let specs: Vec<_> = (0..3)
        .map(|number| stage.pretender(&format!("p{number}"), script))
        .collect();
    let lines = stage.run(&specs);
    for line in [
        "5:6",
        "7:8",
        "p0: status 3, a link of 7:8",
        "p2: status 3, a link of 7:8",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
    }
    stage.assert_deserted();
}
