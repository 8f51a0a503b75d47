//! `exec`: programs beside a container's own, as every identity the machine offers.

use std::io::{Read as _, Write as _};

use smidge_tests::InTime as _;

use crate::context::{Context, Ran, have};
use crate::fixture::with_busybox;

const NAMESPACES: &str =
    "for n in user mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done";

/// A container that waits, by the name `box`.
fn start(context: &Context, options: &str) {
    let mut command = context.line_command(&format!("run -d --name box {options} busybox sh -c"));
    let waits = "trap 'exit 3' TERM; touch /tmp/up; while :; do sleep 0.1; done";
    command.arg(format!("{NAMESPACES} > /dev/shm/namespaces; {waits}"));
    context.finish(command).ok();
    let mut wait = context.line_command("exec box sh -c");
    wait.arg("until test -e /tmp/up; do sleep 0.1; done");
    context.finish(wait).ok();
}

/// `smidge exec OPTIONS box sh -c SCRIPT`.
fn shell(context: &Context, options: &str, script: &str) -> Ran {
    let mut command = context.line_command(&format!("exec {options} box sh -c"));
    command.arg(script);
    context.finish(command)
}

#[test]
fn exec_joins_a_container() {
    with_busybox(|context| {
        for option in ["", "--init"] {
            start(context, &format!("-h inside -e FROM=run {option}"));
            let inside = "hostname; echo $FROM $MORE $HOME; pwd; ls /tmp";
            let ran = shell(context, "-e MORE=exec -w /bin", inside);
            assert_eq!(ran.ok(), "inside\nrun exec /root\n/bin\nup", "{option}");
            let namespaces = format!("{NAMESPACES} | cmp - /dev/shm/namespaces");
            assert_eq!(shell(context, "", &namespaces).ok(), "", "{option}");
            context.line("rm -f box").ok();
        }
    });
}

#[test]
fn exec_is_shut_in_as_the_container_is() {
    with_busybox(|context| {
        start(context, "");
        let status = "grep -E '^(Cap(Bnd|Eff|Inh|Amb)|NoNewPrivs|Seccomp|Groups):' /proc/$1/status";
        let own = shell(context, "", &format!("set -- 1; {status}")).ok();
        let ours = shell(context, "", &format!("set -- self; {status}")).ok();
        assert_eq!(own, ours);
        assert!(ours.contains("CapEff:\t00000000a80425fb"), "{ours}");
        let all = shell(context, "--privileged", "grep CapEff /proc/self/status").ok();
        let all = u64::from_str_radix(all.split_whitespace().last().unwrap(), 16).unwrap();
        assert_ne!(all & 1 << 21, 0, "no CAP_SYS_ADMIN in {all:x}");
        let user = "id -u; grep CapEff /proc/self/status";
        if context.identity().name != "smidge-single" {
            let ran = shell(context, "-u app", user).ok();
            assert_eq!(ran, "1000\nCapEff:\t0000000000000000");
        }
        shell(context, "-u nobody-there", "true").says(126, &["unable to find user"]);
        context.line("rm -f box").ok();
    });
}

#[test]
fn exec_shows_nothing_of_the_host() {
    with_busybox(|context| {
        start(context, "");
        let fds = shell(context, "", "(ls /proc/$$/fd); true").ok();
        assert_eq!(fds, "0\n1\n2");
        assert_eq!(
            shell(context, "", "readlink /proc/$$/exe").ok(),
            "/bin/busybox"
        );
        // CVE-2019-5736: what the container has in the program's place leads to whoever executes it.
        context
            .line("exec box /proc/self/exe")
            .says(126, &["refusing to execute `/proc/self/exe`"]);
        shell(
            context,
            "",
            "printf '#!/proc/self/exe\\n' > /bin/trap; chmod +x /bin/trap",
        )
        .ok();
        context
            .line("exec box trap")
            .says(126, &["refusing to execute"]);
        // CVE-2024-21626: the working directory is looked up inside, whatever it names.
        for number in 3..10 {
            let ran = context.line(&format!("exec -w /proc/self/fd/{number} box pwd"));
            assert_ne!(ran.code(), 0, "{number}: {}", ran.stdout());
        }
        context.line("rm -f box").ok();
    });
}

/// A container that exchanges its programs and looks at every new process while smidge enters it.
#[test]
fn exec_withstands_a_container_that_lies_in_wait() {
    with_busybox(|context| {
        let mut command = context.line_command("run -d --name box busybox sh -c");
        command.arg(
            "touch /tmp/up; while :; do
                ln -sf /proc/self/exe /bin/lure; ln -sf /bin/true /bin/lure;
                for p in /proc/[0-9]*; do
                    readlink $p/exe | grep smidge >> /tmp/seen; readlink $p/cwd | grep smidge >> /tmp/seen
                done
            done 2> /dev/null",
        );
        context.finish(command).ok();
        for _ in 0..20 {
            // Refused, missing for a moment, or executed; never smidge's own binary.
            let ran = context.line("exec box lure --version");
            assert!(!ran.stdout().contains("smidge"), "{}", ran.stdout());
        }
        assert_eq!(shell(context, "", "cat /tmp/seen").stdout(), "");
        context.line("rm -f box").ok();
    });
}

#[test]
fn exec_exit_codes_are_dockers() {
    with_busybox(|context| {
        start(context, "");
        assert_eq!(shell(context, "", "exit 7").code(), 7);
        assert_eq!(shell(context, "", "kill -9 $$").code(), 137);
        context.line("exec box nope").says(
            127,
            &["`nope` cannot start: executable file not found in $PATH"],
        );
        context.line("exec box /nope").says(
            127,
            &["`/nope` cannot start: no such file or directory in the image"],
        );
        context
            .line("exec box /etc")
            .says(126, &["`/etc` cannot start: it is a directory"]);
        context
            .line("exec -w /nope box ls")
            .says(127, &["working directory `/nope`"]);
        context.line("exec nobody ls").says(1, &["nobody"]);
        assert_eq!(context.line("exec --no-such-flag box ls").code(), 125);
        context.line("stop box").ok();
        context
            .line("exec box ls")
            .says(1, &["container `box` is not running", "smidge start box"]);
    });
}

#[test]
fn exec_passes_streams_on() {
    with_busybox(|context| {
        start(context, "");
        let mut child = context.spawn(context.line_command("exec -i box cat"));
        let mut input = child.stdin.take().unwrap();
        let text = vec![b'x'; 1 << 20];
        let sent = text.clone();
        let writer = std::thread::spawn(move || input.write_all(&sent));
        let mut output = Vec::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut output)
            .unwrap();
        writer.join().unwrap().unwrap();
        assert!(output == text, "{} bytes", output.len());
        assert!(child.status_in_time().unwrap().success());
        let both = shell(context, "", "echo out; echo err >&2");
        assert_eq!(
            (both.stdout().as_str(), both.stderr().as_str()),
            ("out", "err")
        );
        assert_eq!(shell(context, "", "cat").ok(), "", "no input without -i");
        context.line("rm -f box").ok();
    });
}

#[test]
fn exec_gives_a_terminal() {
    if !have("script") {
        return;
    }
    with_busybox(|context| {
        start(context, "");
        let smidge = crate::context::smidge_binary().display();
        let mut script = context.program("script");
        let inside = "tty; stty size; test -t 0 && test -t 1 && echo terminal; exit 5";
        let line = format!("stty rows 33 cols 101; {smidge} exec -ti box sh -c '{inside}'");
        script.args(["-qec", &line, "/dev/null"]);
        let ran = context.finish(script);
        assert_eq!(ran.code(), 5, "{}", ran.stdout());
        let said = ran.stdout().replace('\r', "");
        for text in ["/dev/pts/", "33 101", "terminal"] {
            assert!(said.contains(text), "no `{text}` in {said}");
        }
        context.line("exec -ti box sh").says(1, &["not a TTY"]);
        context.line("rm -f box").ok();
    });
}

#[test]
fn exec_outlives_its_caller_and_ends_with_the_container() {
    with_busybox(|context| {
        start(context, "");
        assert_eq!(shell(context, "-d", "sleep 0.2; touch /tmp/done").ok(), "");
        shell(context, "", "until test -e /tmp/done; do sleep 0.1; done").ok();
        let long = "touch /tmp/long; exec sleep 1000";
        let mut command = context.line_command("exec box sh -c");
        command.arg(long);
        let mut child = context.spawn(command);
        shell(context, "", "until test -e /tmp/long; do sleep 0.1; done").ok();
        context.line("stop box").ok();
        assert_eq!(child.status_in_time().unwrap().code(), Some(137));
    });
}
