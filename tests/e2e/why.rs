//! Why a program did not start, and why one has died: told by `run`, `start`, `wait`, `ps` and `inspect`.

use std::path::Path;
use std::process::Command;

use smidge_tests::InTime as _;

use crate::context::{Context, identities, skip};
use crate::fixture::{compiled, dynamic, hello, with_busybox};

/// `run` of a shell script in busybox.
fn script(context: &Context, script: &str) -> crate::context::Ran {
    context.smidge(["run", "--rm", "busybox", "sh", "-c", script])
}

fn state(context: &Context, name: &str, field: &str) -> String {
    let format = format!("{{{{.State.{field}}}}}");
    context.smidge(["inspect", "-f", &format, name]).ok()
}

/// What a program says, the status that it ends with, and what is made of it.
const WORDS: [(&str, i32, &str); 7] = [
    (
        "x509: certificate signed by unknown authority",
        1,
        "note: probably, it checks a certificate, and the image has none to check it against",
    ),
    (
        "open /tmp/a: no such file or directory",
        1,
        "note: probably, it wants `/tmp/a`, and the image has no `/tmp`",
    ),
    (
        "could not look up effective user ID 4242: user does not exist",
        1,
        "note: probably, it asks who it is, and user 4242 is not in the image's `/etc/passwd`",
    ),
    (
        "panic: unknown time zone Europe/Berlin",
        2,
        "note: probably, it wants the time zone `Europe/Berlin`, and the image has none",
    ),
    (
        "/app: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /app)",
        1,
        "hint: build it where it is to run, or start from an image with glibc 2.38 or newer",
    ),
    (
        "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
        1,
        "note: probably, it needs the library `libGL.so.1`, which is not in the image",
    ),
    (
        "unshare: unshare(0x10000000): Operation not permitted",
        1,
        "note: probably, it makes the system call `unshare`, which containers may not make",
    ),
];

#[test]
fn what_a_program_says_is_held_against_its_files() {
    with_busybox(|context| {
        for (text, code, expected) in WORDS {
            let line = format!(
                "rmdir /tmp; echo \"{}\" >&2; exit {code}",
                text.replace('`', "\\`")
            );
            // A number that nobody has, so that the program's directories are its own.
            let user = if text.contains("4242") { "4242" } else { "0" };
            if context.identity().name == "smidge-single" && user != "0" {
                continue;
            }
            let line = line.replace(
                "rmdir /tmp; ",
                if user == "0" { "rmdir /tmp; " } else { "" },
            );
            let ran = context.smidge(["run", "--rm", "-u", user, "busybox", "sh", "-c", &line]);
            ran.says(code, &[text, expected, &format!("its last words: {text}")]);
        }
        // What fits nothing is not explained, and neither is what works.
        for (line, code) in [
            ("echo something else >&2; exit 3", 3),
            ("echo x509: certificate signed by unknown authority", 0),
            (
                "mkdir -p /etc/ssl/certs; echo open /tmp/a: no such file or directory >&2; exit 1",
                1,
            ),
        ] {
            let ran = script(context, line);
            let stderr = ran.exits(code);
            assert!(!stderr.contains("note:"), "{line}: {stderr}");
        }
        // What is made to deceive is not taken up.
        let line =
            "printf 'ImportError: lib$(id).so: cannot open shared object file\\n' >&2; exit 1";
        let stderr = script(context, line).exits(1);
        assert!(!stderr.contains("note:"), "{stderr}");
        // With certificates, the image is not to blame for sure.
        let line = "mkdir -p /etc/ssl/certs; echo x > /etc/ssl/certs/ca-certificates.crt; echo certificate verify failed >&2; exit 1";
        script(context, line).says(
            1,
            &["note: probably, the image's certificates do not vouch"],
        );
    });
}

#[test]
fn shells_that_miss_a_command_are_understood() {
    with_busybox(|context| {
        script(context, "frobnicate").says(
            127,
            &["note: probably, `sh` starts `frobnicate`, which is not in the image"],
        );
        script(context, "echo > /x; /x")
            .says(126, &["note: `/x` cannot start: user 0 may not execute it"]);
    });
}

#[test]
fn a_signal_that_nobody_sent_is_explained() {
    let source = "#include <stdlib.h>\nint main(int c, char **v) { if (c > 1) abort(); *(volatile int *)0 = 1; return 0; }";
    let crashes = compiled("crashes", source, &["-static"]);
    for identity in identities() {
        let context = Context::of(identity);
        context.copy(&crashes, "crashes");
        context.line("build -q -t crashes ./crashes").ok();
        context.line("run --rm crashes").says(
            139,
            &["note: it crashed: it used memory that it does not have (SIGSEGV)"],
        );
        context.line("run --rm --init crashes abort").says(
            134,
            &["note: it, or a program that it started, gave up: it ended itself with SIGABRT"],
        );
        context.line("run -d --name crash crashes").ok();
        context.line("wait crash").says(0, &["note: it crashed"]);
        let shown = context.line("ps -a").ok();
        assert!(
            shown.contains("ago: SIGSEGV: invalid memory access"),
            "{shown}"
        );
        // Docker's words are Docker's alone.
        let status = context.smidge(["ps", "-a", "--format", "{{.Status}}"]).ok();
        assert!(
            status.starts_with("Exited (139) ") && status.ends_with(" ago"),
            "{status}"
        );
        assert_eq!(state(&context, "crash", "Reason.Cause"), "crashed");
        assert_eq!(state(&context, "crash", "Error"), "");
        context
            .line("start -a crash")
            .says(139, &["note: it crashed"]);
    }
}

#[test]
fn an_end_that_was_asked_for_is_not_explained() {
    with_busybox(|context| {
        for (end, code) in [
            ("stop -t 1 idle", "137"),
            ("kill idle", "137"),
            ("kill -s INT idle", "130"),
        ] {
            // It has arranged for signals, and hears none but the last.
            let line = match code {
                "137" => "trap '' TERM; echo ready; while :; do sleep 1; done",
                _ => "echo ready; sleep 100",
            };
            context
                .smidge(["run", "-d", "--name", "idle", "busybox", "sh", "-c", line])
                .ok();
            let log = || context.line("logs idle").stdout();
            smidge_tests::until("it is ready", || log().contains("ready"));
            context.line(end).ok();
            assert_eq!(context.line("wait idle").ok(), code);
            assert_eq!(state(context, "idle", "Reason"), "<no value>", "{end}");
            context.line("rm idle").ok();
        }
        // One that is killed from outside is.
        context
            .smidge(["run", "-d", "--name", "idle", "busybox", "sleep", "100"])
            .ok();
        let pid = state(context, "idle", "Pid");
        context.finish({
            let mut kill = context.program("kill");
            kill.args(["-9", &pid]);
            kill
        });
        context
            .line("wait idle")
            .says(0, &["note: it was killed with SIGKILL, and not by smidge"]);
    });
}

#[test]
fn a_call_that_a_profile_kills_for_is_named() {
    with_busybox(|context| {
        let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["uname"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
        context.write("profile.json", profile);
        context
            .line("run --rm --security-opt seccomp=profile.json busybox uname")
            .says(
                159,
                &[
                    "for the system call `uname`, which a filter forbids (SIGSYS)",
                    "hint: allow the call",
                ],
            );
    });
}

#[test]
fn memory_that_is_used_up_is_named() {
    let context = Context::new();
    if !rustix::process::geteuid().is_root() {
        return skip("only root is sure to have the memory controller");
    }
    let source = "#include <stdlib.h>\n#include <string.h>\nint main() { for (;;) { char *p = malloc(1 << 20); if (p) memset(p, 1, 1 << 20); } }";
    context.copy(&compiled("eats", source, &["-static"]), "eats");
    context.line("build -q -t eats ./eats").ok();
    let ran = context.line("run --name eats -m 20m --memory-swap 20m eats");
    if ran.code() == 1 || ran.code() == 125 {
        return skip("there is no memory controller");
    }
    ran.says(
        137,
        &[
            "note: it was killed, because its memory of 20 MiB was used up",
            "`smidge update --memory 40m eats`",
        ],
    );
    assert_eq!(state(&context, "eats", "OOMKilled"), "true");
    assert_eq!(state(&context, "eats", "Reason.Cause"), "out-of-memory");
}

#[test]
fn a_start_that_failed_is_on_record() {
    with_busybox(|context| {
        context.line("run -d --name lost busybox /nowhere").says(
            127,
            &["error: `/nowhere` cannot start: no such file or directory in the image"],
        );
        assert_eq!(state(context, "lost", "Status"), "created");
        assert_eq!(state(context, "lost", "ExitCode"), "127");
        assert_eq!(state(context, "lost", "Reason.Cause"), "not-found");
        let message = "`/nowhere` cannot start: no such file or directory in the image";
        assert_eq!(state(context, "lost", "Error"), message);
        let shown = context.line("ps -a").ok();
        assert!(shown.contains("Created: no `/nowhere`"), "{shown}");
        let reason = context.smidge(["ps", "-a", "--format", "{{.Status}}|{{.Reason}}"]);
        assert_eq!(reason.ok(), format!("Created|{message}"));
        // What it lacks is brought in, and nothing is left of the fault.
        context.copy(hello(), "nowhere");
        context.line("cp nowhere lost:/nowhere").ok();
        context.line("start -a lost").ok();
        assert_eq!(state(context, "lost", "Error"), "");
        assert_eq!(state(context, "lost", "Reason"), "<no value>");
    });
}

#[test]
fn what_a_user_may_not_execute_is_explained() {
    with_busybox(|context| {
        if context.identity().name == "smidge-single" {
            return;
        }
        let make = |line: &str| {
            context
                .smidge(["run", "--name", "make", "busybox", "sh", "-c", line])
                .ok();
            context.line("commit make made").ok();
            context.line("rm make").ok();
        };
        make(
            "cp /bin/busybox /secret; chmod 700 /secret; mkdir -m 700 /shut; cp /bin/busybox /shut/in",
        );
        context.line("run --rm -u 1000 made /secret").says(
            126,
            &[
                "error: `/secret` cannot start: user 1000 may not execute it",
                "its mode is 0700, its owner 0:0",
            ],
        );
        context
            .line("run --rm -u 1000 made /shut/in")
            .says(126, &["user 1000 may not enter the directory `/shut`"]);
        context
            .line("run --rm -w /secret made true")
            .says(126, &["its working directory `/secret` is not a directory"]);
    });
}

#[test]
fn a_mount_that_executes_nothing_is_named() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can mount");
    }
    let context = Context::new();
    crate::fixture::load_busybox(&context);
    let place = context.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let mount = |program: &str, options: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(options)
            .arg(&place)
            .status_in_time()
            .is_ok_and(|status| status.success())
    };
    if !mount("mount", &["-t", "tmpfs", "-o", "noexec", "tmpfs"]) {
        return skip("nothing can be mounted here");
    }
    std::fs::copy(hello(), place.join("hello")).unwrap();
    let ran = context.line("run --rm -v ./place:/place busybox /place/hello");
    assert!(mount("umount", &[]));
    ran.says(
        126,
        &["error: `/place/hello` cannot start: it is on a file system that is mounted `noexec`"],
    );
}

/// The proof looks at the container as it is, not at its image: at mounts, and at what was copied in.
#[test]
fn a_library_that_is_missing_when_it_runs_is_named() {
    let loader = Path::new("/lib64/ld-linux-x86-64.so.2");
    if !loader.exists() {
        return skip("only known for glibc on x86-64");
    }
    with_busybox(|context| {
        context.copy(dynamic(), "dynamic");
        context.line("create --name dyn busybox /dynamic").ok();
        context.line("cp dynamic dyn:/dynamic").ok();
        context.line("start -a dyn").says(
            1,
            &[
                "its loader is not in the image",
                "ELF x86-64, wants `/lib64/ld-linux-x86-64.so.2`",
            ],
        );
        context.write("lib64/empty", "");
        context.line("cp lib64 dyn:/lib64").ok();
        context
            .line("cp -L /lib64/ld-linux-x86-64.so.2 dyn:/lib64/")
            .ok();
        context.line("start -a dyn").says(
            127,
            &[
                "error while loading shared libraries",
                "note: `/dynamic` cannot start:",
                "libm.so.6",
                "hint: build it with its loader and libraries",
            ],
        );
        assert_eq!(state(context, "dyn", "Reason.Cause"), "no-library");
    });
}

#[test]
fn exec_tells_why_too() {
    with_busybox(|context| {
        context.line("run -d --name idle busybox sleep 100").ok();
        context.line("exec idle frobnicate").says(
            127,
            &[
                "`frobnicate` cannot start: executable file not found in $PATH",
                "`smidge debug idle`",
            ],
        );
        context
            .smidge([
                "exec",
                "idle",
                "sh",
                "-c",
                "echo '#!/bin/none' > /x; chmod +x /x",
            ])
            .ok();
        context.line("exec idle /x").says(
            127,
            &["`/x` cannot start: its interpreter `/bin/none` is not in the image"],
        );
        context.line("rm -f idle").ok();
    });
}
