//! `exec`, terminals, descriptors, what the runtime says of itself.

use std::io::{IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use smidge_tests::InTime as _;

use super::bundle::{each, everybody, ours};

#[test]
fn exec() {
    each(|bundle| {
        bundle.config["process"]["env"] = json!(["PATH=/bin", "FROM=config"]);
        bundle.script("sleep 1000");
        let id = bundle.started();
        let exec = |words: &[&str], process: &str| {
            let mut command = bundle.command("exec");
            command.args(words).arg(&id).args(["sh", "-c", process]);
            bundle.context.finish(command)
        };
        let ran = exec(
            &["--env", "A=b", "--cwd", "/etc"],
            "echo $A $FROM; readlink /proc/self/cwd; exit 6",
        );
        assert_eq!(ran.stdout(), "b config\n/etc");
        ran.exits(6);
        let ran = exec(
            &["--user", "5:6", "--additional-gids", "7"],
            "id -u; id -g; grep Groups /proc/self/status",
        );
        assert!(ran.ok().starts_with("5\n6\n"));
        let process = json!({"args": ["/bin/sh", "-c", "echo $0; grep CapEff /proc/self/status", "zero"],
            "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}});
        bundle.context.write("process.json", process.to_string());
        let said = bundle
            .line(&format!("exec --process process.json {id}"))
            .ok();
        assert!(said.contains("0000000000000020"), "{said}");
        let missing = bundle.line(&format!("exec {id} nosuch"));
        assert_ne!(missing.code(), 0);
        assert!(
            missing.stderr().contains("executable file not found"),
            "{}",
            missing.stderr()
        );
        bundle.line(&format!("kill {id} KILL")).exits(0);
        bundle.until(&id, "stopped");
        let late = bundle.line(&format!("exec {id} true"));
        assert!(
            late.stderr().contains("stopped container"),
            "{}",
            late.stderr()
        );
    });
}

/// What fails before the program runs is told from how programs end.
#[test]
fn exec_that_fails_ends_with_255() {
    each(|bundle| {
        bundle.script("sleep 1000");
        let id = bundle.started();
        for line in [
            format!("exec {id} nosuch"),
            format!("exec {id} /etc/passwd"),
            format!("exec --cwd /nowhere {id} true"),
            "exec nobody true".to_owned(),
        ] {
            bundle.line(&line).exits(255);
        }
        bundle
            .line(&format!("exec --process-label= {id} true"))
            .exits(0);
    });
}

#[test]
fn exec_takes_what_its_program_may_not() {
    each(|bundle| {
        bundle.config["process"]["noNewPrivileges"] = false.into();
        bundle.script("sleep 1000");
        let id = bundle.started();
        for (option, expected) in [("", "NoNewPrivs:\t0"), ("--no-new-privs", "NoNewPrivs:\t1")] {
            let line = format!("exec {option} {id} grep NoNewPrivs /proc/self/status");
            assert_eq!(bundle.line(&line).ok(), expected, "{option}");
        }
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
        if !enabled.is_ok_and(|enabled| enabled.starts_with(b"Y")) {
            // Nothing runs without the profile that was asked for.
            let refused = bundle.line(&format!("exec --apparmor profile {id} true"));
            refused.exits(255);
        }
    });
}

#[test]
fn programs_have_a_keyring_of_their_own_if_they_are_to() {
    each(|bundle| {
        bundle.config["linux"]["maskedPaths"] = json!([]);
        bundle.script("cat /proc/keys");
        bundle.save();
        // In this order: a keyring stays a while after its last user.
        for (option, has) in [("--no-new-keyring", false), ("", true)] {
            let id = bundle.id();
            let keys = bundle.line(&format!("run {option} --bundle b {id}")).ok();
            assert_eq!(
                keys.contains(&format!("_ses.{id}")),
                has,
                "{option}: {keys}"
            );
        }
    });
}

#[test]
fn exec_in_what_stands_still_goes_on_with_it() {
    if !std::path::Path::new("/sys/fs/cgroup")
        .join("freezer")
        .exists()
        && !std::path::Path::new("/sys/fs/cgroup/cgroup.subtree_control").exists()
    {
        return crate::context::skip("nothing can be made to stand still");
    }
    each(|bundle| {
        bundle.script("sleep 1000");
        let id = bundle.started();
        bundle.line(&format!("pause {id}")).exits(0);
        assert_ne!(bundle.line(&format!("exec {id} true")).code(), 0);
        let script =
            format!("\"$@\" exec --ignore-paused {id} echo inside & \"$@\" resume {id}; wait");
        let runtime = bundle.command("");
        let mut command = bundle.context.program("sh");
        command
            .args(["-c", &script, "sh"])
            .arg(runtime.get_program());
        command.args(runtime.get_args());
        assert_eq!(bundle.context.finish(command).ok(), "inside");
    });
}

/// What is not as it was asked for is told: in the log if there is one, for standard error is the program's.
#[test]
fn warnings_are_logged() {
    each(|bundle| {
        let sets = &mut bundle.config["process"]["capabilities"]["bounding"];
        sets.as_array_mut().unwrap().push(json!("CAP_TEST"));
        bundle.script("true");
        bundle.save();
        let id = bundle.id();
        let mut command = bundle.command("--log log --log-format json run --bundle b");
        command.arg(&id);
        let ran = bundle.context.finish(command);
        ran.exits(0);
        assert_eq!(ran.stderr(), "");
        let log = std::fs::read_to_string(bundle.context.path().join("log")).unwrap();
        let first: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        assert_eq!(first["level"], "warning");
        assert!(first["msg"].as_str().unwrap().contains("CAP_TEST"), "{log}");
    });
}

#[test]
fn exec_leaves_the_program_alone() {
    everybody(|bundle| {
        bundle.script("sleep 1000");
        let id = bundle.started();
        let line = format!("exec --detach --pid-file pid {id} sleep 1001");
        bundle.quietly(&line).exits(0);
        let pid = std::fs::read_to_string(bundle.context.path().join("pid")).unwrap();
        let theirs = std::fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
        assert_ne!(theirs, std::fs::read_link("/proc/self/ns/pid").unwrap());
        bundle.line(&format!("delete --force {id}")).exits(0);
        smidge_tests::until("its end", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
    });
}

/// The terminal that somebody sends to a listening socket.
fn receive(listener: &UnixListener) -> std::fs::File {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    smidge_tests::until("the terminal", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let mut socket = accepted.unwrap().0;
    let patience = Some(smidge_tests::PATIENCE);
    socket.set_read_timeout(patience).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 100];
    let mut parts = [IoSliceMut::new(&mut text)];
    recvmsg(&mut socket, &mut parts, &mut ancillary, RecvFlags::empty()).unwrap();
    let file = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let file: OwnedFd = file.unwrap();
    file.into()
}

fn heard(mut terminal: std::fs::File, until: &str) -> String {
    let mut said = Vec::new();
    let mut buffer = [0; 1000];
    while let Ok(length) = terminal.read(&mut buffer) {
        said.extend_from_slice(&buffer[..length]);
        if length == 0 || String::from_utf8_lossy(&said).contains(until) {
            break;
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    each(|bundle| {
        bundle.config["process"]["terminal"] = json!(true);
        bundle.config["process"]["consoleSize"] = json!({"height": 33, "width": 77});
        let script = "readlink /proc/self/fd/0; test -c /dev/console && echo console; \
                      test -t 1 && echo end; sleep 1000";
        bundle.script(script);
        bundle.save();
        let id = bundle.id();
        // Without anybody who listens it is refused.
        assert_ne!(bundle.quietly(&format!("create --bundle b {id}")).code(), 0);
        let path = bundle.context.path().join("console");
        let listener = UnixListener::bind(&path).unwrap();
        let line = format!("create --bundle b --console-socket {} {id}", path.display());
        bundle.quietly(&line).exits(0);
        let terminal = receive(&listener);
        let size = rustix::termios::tcgetwinsize(&terminal).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (33, 77));
        bundle.line(&format!("start {id}")).exits(0);
        let said = heard(terminal, "end");
        assert!(said.contains("/dev/pts/0\r\nconsole\r\nend"), "{said}");
        let mut command = bundle.command("exec --tty --detach --console-socket");
        command.arg(&path).arg(&id).args([
            "sh",
            "-c",
            "readlink /proc/self/fd/0; echo end; sleep 1",
        ]);
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        assert!(command.status_in_time().unwrap().success());
        let said = heard(receive(&listener), "end");
        assert!(said.contains("/dev/pts/1\r\nend"), "{said}");
    });
}

/// A handle that is sent to a socket is the process's own.
#[test]
fn handles_go_to_the_pidfd_socket() {
    ours(|bundle| {
        bundle.script("sleep 1000");
        bundle.save();
        let id = bundle.id();
        let path = bundle.context.path().join("pidfd");
        let listener = UnixListener::bind(&path).unwrap();
        let line = format!("create --bundle b --pidfd-socket {} {id}", path.display());
        bundle.quietly(&line).exits(0);
        let number = |handle: std::fs::File| {
            use std::os::fd::AsRawFd as _;
            let info = format!("/proc/self/fdinfo/{}", handle.as_raw_fd());
            let info = std::fs::read_to_string(info).unwrap();
            let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
            pid.unwrap().trim().to_owned()
        };
        assert_eq!(
            number(receive(&listener)),
            bundle.state(&id)["pid"].to_string()
        );
        bundle.line(&format!("start {id}")).exits(0);
        let options = format!("--detach --pid-file pid --pidfd-socket {}", path.display());
        bundle
            .quietly(&format!("exec {options} {id} sleep 1000"))
            .exits(0);
        let pid = std::fs::read_to_string(bundle.context.path().join("pid")).unwrap();
        assert_eq!(number(receive(&listener)), pid);
    });
}

#[test]
fn who_listens_for_a_terminal_that_is_none_is_told() {
    each(|bundle| {
        bundle.script("true");
        bundle.save();
        let path = bundle.context.path().join("console");
        let _listener = UnixListener::bind(&path).unwrap();
        let line = format!("create --bundle b --console-socket console {}", bundle.id());
        assert_ne!(bundle.quietly(&line).code(), 0);
    });
}

/// Nobody would know of it who could end it.
#[test]
fn a_program_whose_number_cannot_be_told_does_not_run() {
    everybody(|bundle| {
        bundle.script("sleep 1000");
        let id = bundle.started();
        let marker = crate::process::marker();
        for pid_file in ["nowhere/pid", "b/config.json/pid"] {
            let line = format!("exec --detach --pid-file {pid_file} {id} sleep {marker}");
            assert!(bundle.quietly(&line).exits(255).contains(pid_file));
            assert_eq!(crate::process::running(&marker), 0);
        }
    });
}

/// Whoever does not read what is typed keeps nobody from ending the program.
#[test]
fn a_program_that_does_not_read_can_be_ended() {
    everybody(|bundle| {
        bundle.config["process"]["terminal"] = json!(true);
        bundle.script("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done");
        bundle.save();
        let typed = bundle.context.write("typed", "typed\n".repeat(100_000));
        let file = |name: &str| std::fs::File::create(bundle.context.path().join(name)).unwrap();
        let mut command = bundle.command(&format!("run --bundle b {}", bundle.id()));
        command.stdin(std::fs::File::open(typed).unwrap());
        let mut child = command
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        smidge_tests::until("its first word", || bundle.said().contains("ready"));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut ended = None;
        smidge_tests::until("its end", || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        });
        assert_eq!(ended.unwrap().code(), Some(5));
    });
}

#[test]
fn descriptors_are_handed_on_where_that_is_asked_for() {
    each(|bundle| {
        bundle.context.write("handed", "handed on");
        bundle.script("cat <&3; cat <&4; ls /proc/self/fd | tr '\\n' ' '");
        bundle.save();
        let id = bundle.id();
        let script = format!(
            "exec 3<handed 4<handed 5<handed; exec \"$@\" run --bundle b --preserve-fds 2 {id}"
        );
        let runtime = bundle.command("");
        let mut command = bundle.context.program("sh");
        command
            .args(["-c", &script, "sh"])
            .arg(runtime.get_program())
            .args(runtime.get_args());
        let said = bundle.context.finish(command).ok();
        // The last one is the directory that is listed.
        assert_eq!(said, "handed onhanded on0 1 2 3 4 5 ");
    });
}

#[test]
fn descriptors_that_are_not_open_are_no_promise() {
    ours(|bundle| {
        bundle.script("true");
        bundle.save();
        let line = format!("run --preserve-fds 1 --bundle b {}", bundle.id());
        let script = format!("exec 3<&-; exec \"$@\" {line}");
        let runtime = bundle.command("");
        let mut command = bundle.context.program("sh");
        command
            .args(["-c", &script, "sh"])
            .arg(runtime.get_program());
        command.args(runtime.get_args());
        let fault = bundle.context.finish(command).exits(1);
        assert!(fault.contains("--preserve-fds"), "{fault}");
    });
}

#[test]
fn errors_are_logged_in_either_form() {
    each(|bundle| {
        let mut command = bundle.command("");
        command.args(["--log", "log", "--log-format", "json", "state", "nobody"]);
        assert_ne!(bundle.context.finish(command).code(), 0);
        let log = std::fs::read_to_string(bundle.context.path().join("log")).unwrap();
        let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "error");
        assert!(
            last["msg"].as_str().unwrap().contains("does not exist"),
            "{log}"
        );
    });
}

#[test]
fn what_it_says_of_itself() {
    ours(|bundle| {
        let features: Value = serde_json::from_str(&bundle.line("features").ok()).unwrap();
        assert_eq!(features["ociVersionMax"], "1.2.0");
        let options = features["mountOptions"].as_array().unwrap();
        assert!(options.contains(&json!("rro")) && options.contains(&json!("rbind")));
        assert!(bundle.line("--version").ok().contains("spec: 1.2.0"));
        let again = bundle.line("spec --bundle b");
        assert!(
            again.exits(1).contains("config.json"),
            "it replaces nobody's work"
        );
        assert!(bundle.line("").exits(1).contains("no command"));
        assert!(
            bundle
                .line("--systemd-cgroup create --bundle b x")
                .exits(1)
                .contains("cgroupfs")
        );
    });
}
