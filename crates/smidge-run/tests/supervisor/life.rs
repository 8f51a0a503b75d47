//! Starting, watching, stopping.

use std::fs;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SendFlags, SocketAddrUnix, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use smidge_run::{IdMap, Restart, Status};
use smidge_tests::{InTime as _, until};

use crate::arm64;
use crate::sandbox::{Sandbox, contain, spawn};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

#[test]
fn output_and_exit_status_come_back_and_are_kept() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let spec = sandbox.spec(
        "one",
        &["sh", "-c", "echo out; echo err >&2; printf end; exit 3"],
    );
    let output = sandbox.run(&spec, b"");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        ("out\nend", "err\n")
    );
    let state = sandbox.state("one");
    assert_eq!((state.status, state.exit_code), (Status::Exited, Some(3)));
    assert!(state.finished_at > state.started_at);
    assert_eq!(sandbox.verb("wait", "one", &[]).0, Some(3));
    let (_, log) = sandbox.verb("logs", "one", &[]);
    assert!(
        ["out\n", "err\n", "end"]
            .iter()
            .all(|line| log.contains(line)),
        "{log}"
    );
    assert!(!sandbox.dir("one").join("attach.sock").exists());
}

#[test]
fn a_stopped_container_starts_again_with_its_files_and_its_log() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let spec = sandbox.spec("again", &["sh", "-c", "echo x >> /count; cat /count"]);
    assert_eq!(text(&sandbox.run(&spec, b"").stdout), "x\n");
    assert_eq!(text(&sandbox.run(&spec, b"").stdout), "x\nx\n");
    assert_eq!(sandbox.verb("logs", "again", &[]).1, "x\nx\nx\n");
}

#[test]
fn input_passes_through_unchanged_and_ends() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut spec = sandbox.spec("cat", &["cat"]);
    (spec.stdin, spec.log) = (true, false);
    let input: Vec<u8> = (0..3_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let output = sandbox.run(&spec, &input);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == input);
}

#[test]
fn input_that_nobody_reads_blocks_nothing() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut spec = sandbox.spec("deaf", &["sh", "-c", "seq 100000; head -c 5 >/dev/null"]);
    spec.stdin = true;
    let output = sandbox.run(&spec, &vec![b'x'; 2_000_000]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout).lines().count(), 100_000);
}

#[test]
fn a_program_that_cannot_start_says_why() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let output = sandbox.run(&sandbox.spec("nope", &["/nope"]), b"");
    assert_eq!(output.status.code(), Some(125));
    assert!(
        text(&output.stderr).contains("`/nope`"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(sandbox.state("nope").status, Status::Created);
}

#[test]
fn signals_reach_the_program() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    let mut child =
        spawn(&mut sandbox.start(&sandbox.spec("trap", &["sh", "-c", script]), &["-a"]));
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    kill(child.id(), Signal::TERM);
    output.read_line(&mut line).unwrap();
    assert_eq!(
        (line.as_str(), child.status_in_time().unwrap().code()),
        ("ready\ncaught\n", Some(9))
    );
}

#[test]
fn a_program_without_handlers_ends_at_once_when_asked_to() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    for (init, signal, status) in [(false, "15", 143), (false, "2", 130), (true, "15", 143)] {
        let mut spec = sandbox.spec("plain", &["sleep", "1000"]);
        spec.init = init;
        sandbox.detach(&spec);
        assert_eq!(sandbox.verb("signal", "plain", &[signal]).0, Some(0));
        assert_eq!(
            sandbox.verb("wait", "plain", &[]).0,
            Some(status),
            "{init} {signal}"
        );
    }
}

#[test]
fn an_emulated_program_ends_as_others_do_when_asked_to() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let (Some(emulator), true) = (arm64::emulator(), sandbox.add_foreign()) else {
        return;
    };
    let mut maps = vec![sandbox.spec("map", &[]).id_map];
    if maps[0] == IdMap::None {
        maps.push(IdMap::identity().unwrap());
    }
    for map in maps {
        // The emulator catches every signal, and the program some.
        for (order, signal, status) in
            [("pause", "15", 143), ("pause", "2", 130), ("heed", "15", 9)]
        {
            let mut spec = sandbox.spec("foreign", &["/bin/foreign", order]);
            (spec.emulator, spec.id_map) = (Some(emulator.clone()), map.clone());
            let mut child = spawn(&mut sandbox.start(&spec, &["-a"]));
            let mut output = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            sandbox.verb("signal", "foreign", &[signal]);
            let code = child.status_in_time().unwrap().code();
            assert_eq!(code, Some(status), "{order} {signal} {map:?}");
        }
    }
}

#[test]
fn a_running_container_is_not_started_twice() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let spec = sandbox.spec("twice", &["sleep", "1000"]);
    sandbox.detach(&spec);
    let output = sandbox.run(&spec, b"");
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("container `twice` is running"));
    assert_eq!(sandbox.state("twice").status, Status::Running);
}

#[test]
fn a_thrown_away_container_is_gone_when_its_run_returns() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut spec = sandbox.spec("gone", &["sh", "-c", "echo x > /file"]);
    spec.cleanup = vec![spec.dir.clone()];
    assert_eq!(sandbox.run(&spec, b"").status.code(), Some(0));
    assert!(!sandbox.dir("gone").exists());
}

#[test]
fn the_container_and_its_log_outlive_a_killed_client() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut spec = sandbox.spec("orphan", &["sh", "-c", "echo one; cat; echo two"]);
    spec.stdin = true;
    let mut child = spawn(&mut sandbox.start(&spec, &["-a", "-i"]));
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    child.kill().unwrap();
    child.status_in_time().unwrap();
    assert_eq!(sandbox.verb("wait", "orphan", &[]).0, Some(0));
    assert_eq!(sandbox.verb("logs", "orphan", &[]).1, "one\ntwo\n");
}

#[test]
fn the_program_dies_with_its_supervisor() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    for init in [false, true] {
        let mut spec = sandbox.spec("bereft", &["sleep", "1000"]);
        spec.init = init;
        sandbox.detach(&spec);
        let state = sandbox.state("bereft");
        let pid = Pid::from_raw(state.pid.cast_signed()).unwrap();
        let program = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        kill(state.supervisor.pid, Signal::KILL);
        let mut fds = [rustix::event::PollFd::new(
            &program,
            rustix::event::PollFlags::IN,
        )];
        let patience = rustix::event::Timespec {
            tv_sec: 120,
            tv_nsec: 0,
        };
        assert_eq!(rustix::event::poll(&mut fds, Some(&patience)), Ok(1));
        assert_eq!(sandbox.verb("wait", "bereft", &[]).0, Some(137));
        assert_eq!(sandbox.state("bereft").status, Status::Exited);
    }
}

#[test]
fn a_log_is_followed_to_the_end() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut spec = sandbox.spec("follow", &["cat"]);
    spec.stdin = true;
    let mut client = spawn(&mut sandbox.start(&spec, &["-a", "-i"]));
    let mut input = client.stdin.take().unwrap();
    let write =
        |input: &mut dyn std::io::Write, text: &str| input.write_all(text.as_bytes()).unwrap();
    write(&mut input, "one\n");
    BufReader::new(client.stdout.as_mut().unwrap())
        .read_line(&mut String::new())
        .unwrap();
    let mut follower = contain("logs");
    let mut follower = spawn(follower.arg("-f").arg(sandbox.dir("follow")));
    let mut log = BufReader::new(follower.stdout.take().unwrap());
    for line in ["one\n", "two\n", "three\n"] {
        if line != "one\n" {
            write(&mut input, line);
        }
        let mut read = String::new();
        log.read_line(&mut read).unwrap();
        assert_eq!(read, line);
    }
    drop(input);
    assert!(follower.status_in_time().unwrap().success());
    assert!(client.status_in_time().unwrap().success());
}

#[test]
fn a_client_that_does_not_read_does_not_keep_the_end_from_others() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut client =
        spawn(&mut sandbox.start(&sandbox.spec("stalled", &["sleep", "1000"]), &["-a"]));
    until("it runs", || sandbox.state("stalled").pid != 0);
    kill(client.id(), Signal::STOP);
    assert_eq!(sandbox.verb("signal", "stalled", &["9"]).0, Some(0));
    assert_eq!(sandbox.verb("wait", "stalled", &[]).0, Some(137));
    kill(client.id(), Signal::CONT);
    assert_eq!(client.status_in_time().unwrap().code(), Some(137));
}

/// Somebody who came before the end of a run and speaks after it is heard.
#[test]
fn who_wants_it_to_stay_down_is_heard_between_two_runs() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut spec = sandbox.spec("restless", &["sleep", "1000"]);
    spec.lifetime.restart = Restart::Always;
    sandbox.detach(&spec);
    let address = SocketAddrUnix::new(sandbox.dir("restless").join("attach.sock")).unwrap();
    let socket = net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    net::connect(&socket, &address).unwrap();
    assert_eq!(sandbox.verb("signal", "restless", &["9"]).0, Some(0));
    until("its second run", || {
        let state = sandbox.state("restless");
        (state.status, state.restart_count) == (Status::Running, 1)
    });
    // As `smidge_run::retire` says it.
    net::send(&socket, b"Q", SendFlags::NOSIGNAL).unwrap();
    assert_eq!(sandbox.verb("signal", "restless", &["9"]).0, Some(0));
    assert_eq!(sandbox.verb("wait", "restless", &[]).0, Some(137));
    assert_eq!(sandbox.state("restless").status, Status::Exited);
}

#[test]
fn an_idle_supervisor_is_small() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    sandbox.detach(&sandbox.spec("idle", &["sleep", "1000"]));
    let pid = sandbox.state("idle").supervisor.pid;
    let size = || -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let mut lines = rollup.lines();
        let pss = lines.find_map(|line| line.strip_prefix("Pss:")).unwrap();
        pss.trim().trim_end_matches(" kB").parse().unwrap()
    };
    // It gives back what the start has used when the program has run for a moment.
    let patience = Instant::now() + Duration::from_secs(60);
    // Unoptimised code is large; the release build's figure is a benchmark's business.
    while size() >= 8192 {
        assert!(Instant::now() < patience, "{} kB", size());
        std::thread::sleep(Duration::from_millis(10));
    }
}
