//! Running containers: each test as every identity the machine offers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use smidge_tests::InTime as _;

use crate::context::{Context, have, identities};
use crate::fixture::{self, with_busybox};

/// `smidge run --rm OPTIONS busybox sh -c SCRIPT`.
fn shell(context: &Context, options: &str, script: &str) -> crate::context::Ran {
    let mut command = context.line_command(&format!("run --rm {options} busybox sh -c"));
    command.arg(script);
    context.finish(command)
}

#[test]
fn run_exit_status_comes_back() {
    for identity in identities() {
        let context = Context::of(identity);
        context.copy(fixture::exits(), "exits");
        context.line("build -q -t exits exits").ok();
        for (argument, status) in [("0", 0), ("7", 7), ("255", 255), ("-9", 137), ("-15", 143)] {
            // PID 1 cannot be killed from inside: the program runs below `--init`.
            let ran = context.line(&format!("run --rm --init exits {argument}"));
            assert_eq!(ran.code(), status, "{argument}: {}", ran.stderr());
        }
        assert_eq!(context.line("ps -aq").ok(), "", "`--rm` leaves nothing");
    }
}

#[test]
fn run_works_in_an_image_without_any_directory() {
    for identity in identities() {
        let context = Context::of(identity);
        context.copy(fixture::hello(), "hello");
        context.line("build -q -t bare hello").ok();
        assert_eq!(context.line("run --rm bare a b").ok(), "hello a b");
        assert_eq!(context.line("run --rm --read-only bare").ok(), "hello");
        assert_eq!(context.line("run --rm -w /some/where bare").ok(), "hello");
    }
}

#[test]
fn run_supplies_what_programs_expect() {
    with_busybox(|context| {
        let shown = shell(
            context,
            "-h box",
            "hostname; cat /etc/hostname; id -u; pwd; echo $PATH $HOME $HOSTNAME",
        );
        assert_eq!(
            shown.ok(),
            "box\nbox\n0\n/\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /root box"
        );
        let hosts = shell(
            context,
            "",
            "cat /etc/hosts; test -s /etc/resolv.conf && echo resolv",
        )
        .ok();
        assert!(
            hosts.contains("127.0.0.1") && hosts.contains("localhost"),
            "{hosts}"
        );
        assert!(hosts.contains("resolv"), "{hosts}");
        for node in ["null", "zero", "full", "random", "urandom", "tty"] {
            shell(context, "", &format!("test -c /dev/{node}")).ok();
        }
        let dev = "test -d /dev/shm && test -d /dev/pts && test -h /dev/fd && test -h /dev/stdout && echo x >/dev/null && head -c1 /dev/zero | wc -c";
        assert_eq!(shell(context, "", dev).ok(), "1");
    });
}

#[test]
fn run_isolates() {
    with_busybox(|context| {
        assert_eq!(
            shell(context, "", "set -- /proc/[0-9]*; echo $#").ok(),
            "1",
            "its own process alone"
        );
        let links = shell(
            context,
            "",
            "ls /sys/class/net; cat /proc/net/dev | grep -c :",
        )
        .ok();
        assert_eq!(links, "lo\n1");
        shell(context, "", "ip link show lo | grep -q UP").ok();
        for forbidden in [
            "mount -t tmpfs none /tmp",
            "echo 1 > /proc/sys/kernel/panic",
            "echo b > /proc/sysrq-trigger",
            "cat /proc/kcore | head -c1 | grep .",
            "ls /proc/acpi/* ",
            "unshare -U true",
            "chroot / mount -o remount,rw /proc/sys",
            "mknod /tmp/sda b 8 0 && cat /tmp/sda",
        ] {
            assert_ne!(shell(context, "", forbidden).code(), 0, "{forbidden}");
        }
        let status = shell(
            context,
            "",
            "grep -E '^(CapBnd|CapEff|CapInh|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status",
        )
        .ok();
        let words = status.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            words,
            "CapInh: 0000000000000000 CapEff: 00000000a80425fb CapBnd: 00000000a80425fb \
             CapAmb: 0000000000000000 NoNewPrivs: 1 Seccomp: 2"
        );
    });
}

#[test]
fn run_open_files_do_not_leak() {
    with_busybox(|context| {
        let listing = shell(context, "", "(ls /proc/1/fd); true").ok();
        assert_eq!(listing, "0\n1\n2", "whatever the caller had open");
        assert_eq!(shell(context, "", "ls /proc/self/fd").ok(), "0\n1\n2\n3");
    });
}

#[test]
fn run_as_another_user() {
    with_busybox(|context| {
        let ids = |options: &str| shell(context, options, "id -u; id -g; id -G");
        assert_eq!(ids("-u 1000").ok().lines().next(), Some("1000"));
        assert_eq!(ids("-u app").ok().lines().next(), Some("1000"));
        assert_eq!(shell(context, "-u app", "echo $HOME").ok(), "/home/app");
        if context.identity().name != "smidge-single" {
            assert_eq!(ids("-u app").ok(), "1000\n1000\n1000 2000");
            assert_eq!(ids("-u 5:6").ok(), "5\n6\n6");
        }
        let caps = shell(context, "-u 1000", "grep CapEff /proc/self/status").ok();
        assert!(caps.ends_with("0000000000000000"), "{caps}");
        ids("-u nobody-here").says(125, &["nobody-here"]);
    });
}

#[test]
fn run_environment_and_directory() {
    with_busybox(|context| {
        context.write("env", "# a comment\nFROM_FILE=1 2\nFROM_HERE\nEMPTY=\n");
        let mut command = context
            .line_command("run --rm -e A=b -e TAKEN --env-file env -w /deep/er busybox sh -c");
        command
            .arg("pwd; env")
            .env("TAKEN", "yes")
            .env("FROM_HERE", "there");
        let shown = context.finish(command).ok();
        for line in [
            "/deep/er",
            "A=b",
            "TAKEN=yes",
            "FROM_FILE=1 2",
            "FROM_HERE=there",
            "EMPTY=",
        ] {
            assert!(
                shown.lines().any(|shown| shown == line),
                "no `{line}` in\n{shown}"
            );
        }
        let entry = context
            .line("run --rm --entrypoint /bin/echo busybox x y")
            .ok();
        assert_eq!(entry, "x y");
    });
}

#[test]
fn run_reads_standard_input() {
    with_busybox(|context| {
        let mut child = context.spawn(context.line_command("run --rm -i busybox tr a-z A-Z"));
        child.stdin.take().unwrap().write_all(b"shout").unwrap();
        let output = child.output_in_time().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "SHOUT");
        // Without -i the program sees the end of input at once.
        assert_eq!(context.line("run --rm busybox wc -c").ok(), "0");
    });
}

#[test]
fn run_output_is_kept_apart_and_whole() {
    with_busybox(|context| {
        let ran = shell(context, "", "echo out; echo err >&2");
        assert_eq!(
            (ran.ok(), ran.stderr()),
            ("out".to_owned(), "err".to_owned())
        );
        let ran = shell(context, "", "dd if=/dev/zero bs=1M count=20 2>/dev/null");
        assert_eq!(ran.bytes().len(), 20 << 20);
    });
}

#[test]
fn run_with_volumes() {
    with_busybox(|context| {
        context.write("host/file", "from host");
        let source = context.path().join("host").display().to_string();
        assert_eq!(
            shell(context, &format!("-v {source}:/data:ro"), "cat /data/file").ok(),
            "from host"
        );
        let refused = shell(
            context,
            &format!("-v {source}:/data:ro"),
            "echo x > /data/file",
        );
        assert!(
            refused.stderr().contains("Read-only"),
            "{}",
            refused.stderr()
        );
        shell(
            context,
            &format!("-v {source}:/deep/in/side"),
            "echo new > /deep/in/side/made",
        )
        .ok();
        assert_eq!(
            std::fs::read_to_string(context.path().join("host/made")).unwrap(),
            "new\n"
        );
        shell(context, "-v named:/keep", "echo kept > /keep/it").ok();
        assert_eq!(
            shell(context, "-v named:/other", "cat /other/it").ok(),
            "kept"
        );
        shell(context, "-v relative/path:/x", "true").exits(125);
    });
}

#[test]
fn run_read_only_root() {
    with_busybox(|context| {
        assert_ne!(shell(context, "--read-only", "echo x > /file").code(), 0);
        assert_ne!(shell(context, "--read-only", "mkdir /tmp/x").code(), 0);
        shell(context, "--read-only", "echo x > /dev/null").ok();
    });
}

#[test]
fn run_life_of_a_container() {
    with_busybox(|context| {
        let id = context.line("run -d --name life busybox sleep 1000").ok();
        assert_eq!(id.len(), 64);
        let listed = context.line("ps --no-trunc").ok();
        for part in [id.as_str(), "busybox", "Up ", "life"] {
            assert!(listed.contains(part), "no `{part}` in\n{listed}");
        }
        context
            .line("run -d --name life busybox true")
            .says(125, &["life", &id[..12]]);
        context.line("rm life").exits(1);
        context.line("rmi busybox").exits(1);
        assert_eq!(context.line("kill -s KILL life").ok(), "life");
        assert_eq!(context.line("wait life").ok(), "137");
        assert!(context.line("ps -a").ok().contains("Exited (137)"));
        assert_eq!(context.line("ps -q").ok(), "");
        assert_eq!(context.line("start life").ok(), "life");
        assert_eq!(context.line("ps -q").ok(), id[..12]);
        assert_eq!(context.line("stop -t 0 life").ok(), "life");
        assert_eq!(context.line("rm life").ok(), "life");
        assert_eq!(context.line("ps -aq").ok(), "");
    });
}

#[test]
fn run_stop_asks_first() {
    with_busybox(|context| {
        let mut run = context.line_command("run -d --name polite busybox sh -c");
        run.arg("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
        context.finish(run).ok();
        wait_for_log(context, "polite", "ready");
        context.line("stop polite").ok();
        assert_eq!(context.line("wait polite").ok(), "3");
        assert_eq!(context.line("logs polite").ok(), "ready\nbye");
    });
}

/// Follows a container's log until a line appears.
fn wait_for_log(context: &Context, name: &str, wanted: &str) {
    let mut child = context.spawn(context.line_command(&format!("logs -f {name}")));
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.map_while(Result::ok).any(|line| line == wanted),
        "`{wanted}` never came"
    );
    child.kill().unwrap();
    child.status_in_time().unwrap();
}

#[test]
fn run_logs_are_kept() {
    with_busybox(|context| {
        let mut run = context.line_command("run --name log busybox sh -c");
        run.arg("for n in 1 2 3 4 5; do echo line $n; done; echo bad >&2");
        context.finish(run).ok();
        let all = context.line("logs log");
        assert_eq!(all.ok(), "line 1\nline 2\nline 3\nline 4\nline 5");
        assert_eq!(all.stderr(), "bad");
        assert_eq!(context.line("logs --tail 2 log").ok(), "line 5");
        assert_eq!(
            context.line("logs -f log").ok().lines().count(),
            5,
            "ends when the program has"
        );
        let stamped = context.line("logs -t --tail 3 log").ok();
        assert!(
            stamped
                .lines()
                .all(|line| line.split(' ').next().unwrap().ends_with('Z')),
            "{stamped}"
        );
        assert_eq!(
            context
                .line("logs --since 2001-01-01T00:00:00Z log")
                .ok()
                .lines()
                .count(),
            5
        );
        assert_eq!(
            context.line("logs --since 2999-01-01T00:00:00Z log").ok(),
            ""
        );
        context.line("logs nobody").exits(1);
    });
}

#[test]
fn run_signals_reach_the_program() {
    with_busybox(|context| {
        let mut run = context.line_command("run --rm --name sig busybox sh -c");
        run.arg("trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done");
        let mut child = context.spawn(run);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "got");
        assert_eq!(child.status_in_time().unwrap().code(), Some(5));
    });
}

#[test]
fn run_init_reaps() {
    with_busybox(|context| {
        let script = "(sleep 0.01 &) ; sleep 0.2; ps | grep -c '\\[sleep\\]'";
        assert_eq!(shell(context, "--init", script).stdout(), "0");
        assert_ne!(shell(context, "--init", "echo $$").ok(), "1");
        assert_eq!(shell(context, "--init", "exit 9").code(), 9);
    });
}

#[test]
fn run_port_in_use_is_named() {
    with_busybox(|context| {
        let port = smidge_tests::free_ports(1);
        let holder = std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
        let refused = context.line(&format!("run --rm -p {port}:80 busybox true"));
        refused.says(125, &[&port.to_string(), "already in use"]);
        drop(holder);
        context
            .line(&format!(
                "run -d --name holds -p {port}:80 busybox sleep 1000"
            ))
            .ok();
        let refused = context.line(&format!("run --rm -p {port}:80 busybox true"));
        refused.says(125, &[&port.to_string(), "holds"]);
        assert_eq!(
            context.line("ps -aq").ok().lines().count(),
            1,
            "nothing half-made is left"
        );
    });
}

#[test]
fn run_published_ports_carry_bytes() {
    with_busybox(|context| {
        context
            .line("run -d --name echo -p 127.0.0.1:0:7 busybox nc -ll -p 7 -e cat")
            .ok();
        let format = r#"{{(index (index .NetworkSettings.Ports "7/tcp") 0).HostPort}}"#;
        let port: u16 = context
            .smidge(["inspect", "-f", format, "echo"])
            .ok()
            .parse()
            .unwrap();
        let mut stream = smidge_tests::connect(("127.0.0.1", port)).unwrap();
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let copy = sent.clone();
        let mut writer = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        sending.join().unwrap();
        assert!(
            received == sent,
            "{} of {} bytes",
            received.len(),
            sent.len()
        );
    });
}

#[test]
fn run_host_network() {
    with_busybox(|context| {
        // The namespace itself: what is in it changes while other tests run.
        let here = std::fs::read_link("/proc/self/ns/net").unwrap();
        let inside = shell(context, "--network host", "readlink /proc/self/ns/net").ok();
        assert_eq!(inside, here.to_string_lossy());
        assert_eq!(
            shell(context, "--network none", "ls /sys/class/net").ok(),
            "lo"
        );
    });
}

#[test]
fn run_cannot_start_is_explained() {
    for identity in identities() {
        let context = Context::of(identity);
        let dockerfile = "FROM scratch\nCOPY --chmod=755 text /text\nCOPY --chmod=755 script /script\nCOPY --chmod=755 arm /arm\nCOPY --chmod=644 plain /plain\n";
        context.write("bad/text", "just words\n");
        context.write("bad/script", "#!/bin/bash -e\necho\n");
        context.copy(fixture::hello(), "bad/plain");
        let mut arm = std::fs::read(fixture::hello()).unwrap();
        arm[18] = 183;
        context.write("bad/arm", arm);
        context.write("bad/Dockerfile", dockerfile);
        context.line("build -q -t bad bad").ok();
        for (program, code, part) in [
            ("/text", 126, "#!"),
            ("/script", 127, "/bin/bash"),
            ("/arm", 126, "aarch64"),
            ("/plain", 126, "not executable"),
            ("/missing", 127, "/missing"),
            ("missing", 127, "missing"),
            ("/", 126, "directory"),
        ] {
            context
                .line(&format!("run --rm bad {program}"))
                .says(code, &[part]);
        }
        context.line("run --rm bad").exits(125);
    }
}

#[test]
fn run_terminal_is_real() {
    if !have("script") {
        return;
    }
    with_busybox(|context| {
        let mut script = context.program("script");
        let line = format!(
            "stty cols 91 rows 33; {} run --rm -ti busybox sh -c 'tty; stty size; test -t 0 && echo terminal'",
            crate::context::smidge_binary().display()
        );
        script.args(["-q", "-e", "-c", &line, "/dev/null"]);
        let shown = context.finish(script).ok();
        for part in ["/dev/", "33 91", "terminal"] {
            assert!(shown.contains(part), "no `{part}` in {shown:?}");
        }
    });
}

#[test]
fn run_many_at_once() {
    with_busybox(|context| {
        let children: Vec<_> = (0..20)
            .map(|n| context.spawn(context.line_command(&format!("run --rm busybox echo {n}"))))
            .collect();
        for (n, child) in children.into_iter().enumerate() {
            let output = child.output_in_time().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{n}\n"));
        }
        assert_eq!(context.line("ps -aq").ok(), "");
    });
}

#[test]
fn run_of_an_image_for_another_machine_is_explained() {
    let context = Context::new();
    let mut arm = std::fs::read(fixture::hello()).unwrap();
    arm[18] = 183;
    context.write("arm", arm);
    context.line("build -q -t foreign arm").ok();
    // With an emulator on the PATH it would start.
    let mut command = context.line_command("run --rm foreign");
    command.env("PATH", "/nowhere");
    context
        .finish(command)
        .says(126, &["`/arm` cannot start", "linux/arm64", "hint:"]);
}
