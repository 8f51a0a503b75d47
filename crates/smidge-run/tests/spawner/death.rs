//! Ends that nobody has prepared: whoever is killed, nothing stays behind.

use std::time::Duration;

use rustix::process::Signal;

use crate::stage::{Stage, send};

/// Two containers of several processes, which end only if they are killed.
fn long(stage: &Stage) -> Vec<smidge_run::Spec> {
    ["one", "two"]
        .map(|id| {
            let script =
                "sleep 1000 & sleep 1000 & trap '' TERM INT HUP; echo up; sleep 1000; wait";
            stage.sh(id, script)
        })
        .to_vec()
}

#[test]
fn programs_are_killed_on_demand() {
    let Some(stage) = Stage::new() else { return };
    let mut play = stage.start(&long(&stage));
    play.expect("up");
    play.expect("up");
    play.tell("kill");
    let lines = play.finish();
    for id in ["one", "two"] {
        let line = format!("{id}: status 137, signal 9");
        assert!(lines.contains(&line), "{lines:?}");
    }
    stage.assert_deserted();
}

#[test]
fn programs_end_with_their_caller() {
    let Some(stage) = Stage::new() else { return };
    let mut play = stage.start(&long(&stage));
    play.expect("up");
    play.expect("up");
    play.kill();
    stage.assert_deserted();
}

#[test]
fn programs_end_with_the_spawner() {
    let Some(stage) = Stage::new() else { return };
    let mut play = stage.start(&long(&stage));
    play.expect("up");
    play.expect("up");
    let [spawner] = stage.named("smidge-spawner")[..] else {
        panic!("{:?}", stage.processes());
    };
    send(spawner, Signal::KILL);
    // The keepers outlive it by as long as it takes to kill and to tell.
    let lines = play.finish();
    assert!(
        lines.contains(&"one: status 137, signal 9".to_owned()),
        "{lines:?}"
    );
    stage.assert_deserted();
}

#[test]
fn a_program_ends_with_its_keeper() {
    let Some(stage) = Stage::new() else { return };
    let mut play = stage.start(&long(&stage));
    play.expect("up");
    play.expect("up");
    let keepers = stage.named("smidge-keeper");
    assert_eq!(keepers.len(), 2, "{:?}", stage.processes());
    for keeper in keepers {
        send(keeper, Signal::KILL);
    }
    let lines = play.finish();
    let line = "two: the supervisor of container `two` was killed".to_owned();
    assert!(lines.contains(&line), "{lines:?}");
    stage.assert_deserted();
}

#[test]
fn programs_end_with_the_spawners_owner() {
    let Some(stage) = Stage::new() else { return };
    let mut play = stage.start(&long(&stage));
    play.expect("up");
    play.expect("up");
    play.tell("drop");
    let lines = play.finish();
    assert!(
        lines.contains(&"two: status 137, signal 9".to_owned()),
        "{lines:?}"
    );
    stage.assert_deserted();
}

#[test]
fn ctrl_c_is_for_the_caller_alone() {
    let Some(stage) = Stage::new() else { return };
    let mut play = stage.start(&long(&stage));
    play.expect("up");
    play.expect("up");
    // What a terminal would reach is a group of processes.
    for (id, name) in stage.processes() {
        let Some(id) = rustix::process::Pid::from_raw(id) else {
            continue;
        };
        let group = rustix::process::getpgid(Some(id)).unwrap();
        let own = rustix::process::getpgid(rustix::process::Pid::from_raw(play.id())).unwrap();
        assert_eq!(
            group == own,
            id.as_raw_nonzero().get() == play.id(),
            "{name}"
        );
    }
    send(play.id(), Signal::INT);
    assert!(!play.finish().iter().any(|line| line.contains("panicked")));
    stage.assert_deserted();
}

#[test]
fn nothing_stays_whenever_the_caller_is_killed() {
    let Some(stage) = Stage::new() else { return };
    for round in 0..24 {
        let specs: Vec<_> = (0..3)
            .map(|number| stage.sh(&format!("r{round}-{number}"), "sleep 1000 & sleep 1000"))
            .collect();
        let play = stage.start(&specs);
        // From before the first fork to behind the last start.
        std::thread::sleep(Duration::from_micros(700 * round));
        play.kill();
        stage.assert_deserted();
    }
}

#[test]
fn who_emulates_ids_ends_with_the_rest() {
    let Some(stage) = Stage::new() else { return };
    let script = "sleep 1000 & chown 5:6 /bin; echo up; while :; do chown 1:1 /bin; done";
    for name in ["spawn", "smidge-spawner", "smidge-keeper", "smidge-pretend"] {
        let specs = ["one", "two"].map(|id| stage.pretender(id, script));
        let mut play = stage.start(&specs);
        play.expect("up");
        play.expect("up");
        let victims = stage.named(name);
        assert!(!victims.is_empty(), "{name}: {:?}", stage.processes());
        for victim in victims {
            send(victim, Signal::KILL);
        }
        let lines = play.finish();
        if name == "smidge-pretend" {
            let told = "one: cannot go on emulating ids: its process was killed".to_owned();
            assert!(lines.contains(&told), "{lines:?}");
        }
        stage.assert_deserted();
    }
}
