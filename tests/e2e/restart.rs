//! Restart policies, `restart`, `attach`, and what `stop` does to programs that do not listen.

use smidge_tests::InTime as _;

use crate::context::Context;
use crate::fixture::with_busybox;

/// `smidge run -d --name box OPTIONS busybox sh -c SCRIPT`.
fn start(context: &Context, options: &str, script: &str) {
    let mut command = context.line_command(&format!("run -d --name box {options} busybox sh -c"));
    command.arg(script);
    context.finish(command).ok();
}

fn shown(context: &Context, format: &str) -> String {
    let mut command = context.line_command("inspect box --format");
    command.arg(format);
    context.finish(command).ok()
}

/// Asks until the answer is as expected.
fn until(context: &Context, format: &str, expected: &str) {
    smidge_tests::until(expected, || {
        let now = shown(context, format);
        println!("{now}");
        now == expected
    });
}

#[test]
fn a_program_that_fails_is_started_again_so_often() {
    with_busybox(|context| {
        start(context, "--restart on-failure:2", "echo once more; exit 4");
        until(
            context,
            "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}",
            "exited 2 4",
        );
        assert_eq!(
            context.line("logs box").ok(),
            "once more\nonce more\nonce more"
        );
        assert_eq!(
            shown(
                context,
                "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}"
            ),
            "on-failure 2"
        );
        context.line("rm box").ok();
        start(context, "--restart on-failure", "exit 0");
        until(context, "{{.State.Status}} {{.RestartCount}}", "exited 0");
        context.line("rm box").ok();
    });
}

#[test]
fn stop_ends_a_container_that_is_always_started_again() {
    with_busybox(|context| {
        for policy in ["always", "unless-stopped"] {
            start(context, &format!("--restart {policy}"), "exit 1");
            until(
                context,
                "{{.State.Restarting}} {{.State.Running}}",
                "true true",
            );
            // It may be about to run each time.
            smidge_tests::until("it is listed so", || {
                context.line("ps").ok().contains("Restarting (1) ")
            });
            smidge_tests::until("it is refused so", || {
                let refused = context.line("exec box true").stderr();
                refused.contains("is restarting")
            });
            context.line("stop box").ok();
            assert_eq!(shown(context, "{{.State.Status}}"), "exited");
            context.line("start box").ok();
            context.line("rm -f box").ok();
        }
        start(
            context,
            "--restart always",
            "trap 'exit 0' TERM; while :; do sleep 0.1; done",
        );
        let first = shown(context, "{{.State.Pid}}");
        // Whoever ends it without smidge's knowing ends this run alone.
        let script = "kill -KILL $(cat /proc/1/task/1/children); kill -TERM 1";
        let mut command = context.line_command("exec box sh -c");
        command.arg(script);
        context.finish(command);
        until(context, "{{.RestartCount}} {{.State.Status}}", "1 running");
        assert_ne!(shown(context, "{{.State.Pid}}"), first);
        context.line("kill box").ok();
        assert_eq!(
            shown(context, "{{.State.Status}} {{.State.ExitCode}}"),
            "exited 137"
        );
        context.line("rm box").ok();
    });
}

#[test]
fn published_ports_lead_to_every_new_start() {
    with_busybox(|context| {
        start(
            context,
            "--restart always -p 127.0.0.1::8000",
            "echo again | nc -l -p 8000",
        );
        let address = context.line("port box 8000").ok();
        for _ in 0..3 {
            smidge_tests::until("the answer", || {
                let mut answer = String::new();
                if let Ok(mut stream) = smidge_tests::connect(&address) {
                    // Whoever comes when the program has had its one client is turned away.
                    match std::io::Read::read_to_string(&mut stream, &mut answer) {
                        Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock),
                        Ok(_) => println!("{answer:?}"),
                    }
                }
                answer == "again\n"
            });
        }
        context.line("rm -f box").ok();
    });
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let context = Context::new();
    for policy in ["sometimes", "always:3", "on-failure:x"] {
        let ran = context.line(&format!("create --pull never --restart {policy} nothing"));
        assert_ne!(ran.code(), 0);
    }
    with_busybox(|context| {
        context
            .line("run --rm --restart always busybox true")
            .says(125, &["cannot specify both --restart and --rm"]);
        context
            .line("run --restart sometimes busybox true")
            .says(125, &["invalid restart policy 'sometimes'"]);
        assert_eq!(context.line("ps -aq").ok(), "");
    });
}

#[test]
fn restart_is_stop_and_start() {
    with_busybox(|context| {
        start(
            context,
            "",
            "echo up; trap 'echo down; exit 0' TERM; while :; do sleep 0.1; done",
        );
        until(context, "{{.State.Status}}", "running");
        heard(context, "up");
        let first = shown(context, "{{.State.Pid}}");
        assert_eq!(context.line("restart box").ok(), "box");
        assert_ne!(
            shown(context, "{{.State.Pid}} {{.RestartCount}}"),
            format!("{first} 0")
        );
        heard(context, "up\ndown\nup");
        context.line("restart -s KILL -t 5 box").ok();
        context.line("stop box").ok();
        assert_eq!(
            context.line("container restart box").ok(),
            "box",
            "one that has ended"
        );
        context.line("restart nobody").says(1, &["nobody"]);
        context.line("rm -f box").ok();
    });
}

#[test]
fn stop_takes_effect_at_once_and_says_so() {
    with_busybox(|context| {
        start(context, "", "sleep 1000; true");
        let ran = context.line("stop -t -1 box");
        assert_eq!(ran.ok(), "box");
        assert!(
            ran.stderr()
                .contains("the program of `box` does not handle SIGTERM: it was ended at once"),
            "{}",
            ran.stderr()
        );
        context.line("rm box").ok();
        start(context, "--init=false", "sleep 1000; true");
        let ran = context.line("stop -t 0 box");
        assert_eq!((ran.ok().as_str(), ran.stderr().as_str()), ("box", ""));
        assert_eq!(
            shown(context, "{{.State.ExitCode}}"),
            "137",
            "the kernel drops the signal"
        );
        context.line("rm box").ok();
    });
}

/// Images have what they have: Docker takes its own signal then.
#[test]
fn a_container_whose_stop_signal_is_none_is_stopped_all_the_same() {
    with_busybox(|context| {
        let script = "trap 'echo heard; exit 3' TERM; echo ready; while true; do sleep 0.01; done";
        start(context, "--stop-signal SIGUSR1", script);
        heard(context, "ready");
        let id = shown(context, "{{.Id}}");
        let record = context.store().join(format!("containers/{id}/config.json"));
        let text = std::fs::read_to_string(&record).unwrap();
        assert!(text.contains("SIGUSR1"), "{text}");
        std::fs::write(&record, text.replace("SIGUSR1", "SIGNOPE")).unwrap();
        context.line("stop box").ok();
        assert_eq!(shown(context, "{{.State.ExitCode}}"), "3");
        context.line("stop box").ok();
        context.line("restart -t 0 box").ok();
        context
            .line("stop -s SIGNOPE box")
            .says(1, &["invalid signal: SIGNOPE"]);
        context.line("rm -f box").ok();
    });
}

#[test]
fn attach_joins_a_running_container() {
    with_busybox(|context| {
        start(context, "-i", "read line; echo heard $line; exit 6");
        let mut child = context.spawn(context.line_command("attach box"));
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"this\n").unwrap();
        let output = child.output_in_time().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "heard this\n");
        assert_eq!(output.status.code(), Some(6));
        context
            .line("attach box")
            .says(1, &["cannot attach to a stopped container, start it first"]);
        context.line("rm box").ok();

        start(
            context,
            "",
            "trap 'exit 9' INT; while :; do sleep 0.1; done",
        );
        let mut child =
            context.spawn(context.line_command("attach --sig-proxy=false --no-stdin box"));
        let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        smidge_tests::until("it waits", || {
            let waits = std::fs::read_to_string(format!("/proc/{}/wchan", child.id()));
            !waits.is_ok_and(|waits| !waits.contains("poll"))
        });
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&child.status_in_time().unwrap()),
            Some(2)
        );
        assert_eq!(
            shown(context, "{{.State.Status}}"),
            "running",
            "the signal was for the client alone"
        );
        context.line("rm -f box").ok();
    });
}

#[test]
fn the_time_to_end_is_the_containers_own() {
    with_busybox(|context| {
        let deaf = "trap 'echo heard' USR1; trap '' TERM; echo ready; while :; do sleep 0.1; done";
        start(context, "--stop-timeout 1", deaf);
        assert_eq!(shown(context, "{{.Config.StopTimeout}}"), "1");
        heard(context, "ready");
        context.line("stop box").ok();
        assert_eq!(shown(context, "{{.State.ExitCode}}"), "137");
        context.line("rm box").ok();
        start(context, "--stop-timeout 1", deaf);
        heard(context, "ready");
        context.line("stop -s USR1 -t 1 box").ok();
        heard(context, "heard");
        context.line("rm box").ok();
    });
}

/// Waits until the container has said something.
fn heard(context: &Context, what: &str) {
    smidge_tests::until(what, || context.line("logs box").ok().contains(what));
}

#[test]
fn a_restart_that_is_refused_changes_nothing() {
    with_busybox(|context| {
        start(context, "--rm", "sleep 1000");
        context.line("restart -s NOSUCH box").says(1, &["NOSUCH"]);
        context.line("stop -t 0 box").ok();
        assert_eq!(context.line("ps -aq").ok(), "");
    });
}

#[test]
fn who_comes_second_leaves_the_first_ones_container_alone() {
    with_busybox(|context| {
        context
            .line("create --rm --name box busybox sleep 1000")
            .ok();
        let starts: Vec<_> = (0..4)
            .map(|_| context.spawn(context.line_command("start box")))
            .collect();
        for start in starts {
            start.output_in_time().unwrap();
        }
        assert_eq!(shown(context, "{{.State.Running}}"), "true");
        assert_eq!(context.line("exec box echo there").ok(), "there");
        context.line("rm -f box").ok();
    });
}
