//! `debug`: a shell and tools beside containers that have none; `top`: their processes.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use smidge_tests::InTime as _;

use crate::context::{Context, have, identities, skip};
use crate::fixture::{compiled, hello, load_busybox};

const SOURCE: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }";

/// A container `bare` whose image is one program, for every identity.
fn with_bare(body: impl Fn(&Context)) {
    if !have("busybox") {
        return;
    }
    static IDLE: LazyLock<PathBuf> = LazyLock::new(|| compiled("idle", SOURCE, &["-static"]));
    for identity in identities() {
        println!("as {}", identity.name);
        let context = Context::of(identity);
        context.copy(&IDLE, "idle");
        context.line("build -q -t bare ./idle").ok();
        context
            .line("run -d --name bare --hostname inner bare")
            .ok();
        body(&context);
    }
}

fn debug(context: &Context, name: &str, script: &str) -> crate::context::Ran {
    context.smidge(["debug", name, "sh", "-c", script])
}

#[test]
fn tools_stand_beside_a_program_that_has_none() {
    with_bare(|context| {
        // Its processes, its names, its files.
        assert_eq!(
            debug(context, "bare", "tr '\\0' ' ' < /proc/1/cmdline; hostname").ok(),
            "/idle inner"
        );
        assert_eq!(
            debug(context, "bare", "ls /target/idle /proc/1/root/idle").ok(),
            "/proc/1/root/idle\n/target/idle"
        );
        assert_eq!(context.line("debug -w / bare pwd").ok(), "/");
        assert_eq!(context.line("debug bare pwd").ok(), "/target");
        assert_eq!(
            context
                .smidge(["debug", "-e", "A=b", "bare", "sh", "-c", "echo $A"])
                .ok(),
            "b"
        );
        assert_eq!(debug(context, "bare", "exit 7").code(), 7);
        // What is written is written there; the tools and what is mounted for them are not.
        debug(
            context,
            "bare",
            "echo x > /target/written; echo y > /tmp/mine; ! touch /mine",
        )
        .ok();
        assert_eq!(context.line("diff bare").ok(), "A /written");
        let mounts = debug(context, "bare", "cat /proc/1/mounts").ok();
        assert!(!mounts.contains("/target"), "{mounts}");
        // Nothing of it is left.
        assert_eq!(
            debug(context, "bare", "set -- /proc/[0-9]*; echo $#").ok(),
            "2"
        );
    });
}

#[test]
fn a_shell_takes_its_input() {
    with_bare(|context| {
        let mut child = context.spawn(context.line_command("debug bare"));
        child
            .stdin
            .take()
            .unwrap()
            .write_all(b"cat /proc/1/comm\nexit 5\n")
            .unwrap();
        let output = child.output_in_time().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "idle\n");
        assert_eq!(output.status.code(), Some(5));
    });
}

#[test]
fn its_end_ends_the_tools() {
    with_bare(|context| {
        let mut sleeping = context.spawn(context.line_command("debug bare sleep 1000"));
        smidge_tests::until("it sleeps", || {
            let all = context.line("top bare -o pid,args").ok();
            all.contains("sleep 1000")
        });
        context.line("kill bare").ok();
        assert_eq!(sleeping.status_in_time().unwrap().code(), Some(137));
    });
}

#[test]
fn files_of_what_does_not_run_are_shown() {
    with_bare(|context| {
        debug(context, "bare", "echo x > /target/written").ok();
        context.line("stop -t 0 bare").ok();
        assert_eq!(
            debug(context, "bare", "cat /target/written; ls /target/idle").ok(),
            "x\n/target/idle"
        );
        debug(context, "bare", "echo y > /target/more").says(1, &["Read-only file system"]);
        // An image's.
        assert_eq!(
            context.line("debug bare:latest ls /target/idle").ok(),
            "/target/idle"
        );
        // Neither leaves anything.
        assert_eq!(context.line("ps -aq").ok().lines().count(), 1);
        assert_eq!(context.line("diff bare").ok(), "A /written");
        // Until it is started, a container has its image's files.
        context.line("create --name fresh bare").ok();
        assert_eq!(
            context.line("debug fresh ls /target/idle").ok(),
            "/target/idle"
        );
    });
}

#[test]
fn tools_come_from_an_image_or_a_directory() {
    with_bare(|context| {
        load_busybox(context);
        assert_eq!(
            context
                .smidge(["debug", "--image", "busybox", "bare", "cat", "/proc/1/comm"])
                .ok(),
            "idle"
        );
        assert_eq!(
            context
                .smidge([
                    "debug",
                    "--image",
                    "busybox",
                    "bare",
                    "ls",
                    "/target/idle",
                    "/home"
                ])
                .ok(),
            "/target/idle\n\n/home:\napp"
        );
        context.copy(hello(), "kit/bin/greet");
        assert_eq!(
            context.line("debug --tools kit bare greet you").ok(),
            "hello you"
        );
        context
            .line("debug --tools nowhere bare greet")
            .says(1, &["cannot use the tools in"]);
        context
            .line("debug --image nothing bare sh")
            .says(1, &["smidge pull nothing"]);
        context
            .line("debug --tools kit bare sh")
            .says(127, &["no program `sh`", "looked for among the tools"]);
    });
}

#[test]
fn what_is_missing_is_said() {
    with_bare(|context| {
        context
            .line("debug nothing")
            .says(1, &["No such container: nothing", "smidge pull nothing"]);
        context
            .line("debug -u app bare ls")
            .says(1, &["`app` is no user"]);
        // Who becomes another user first needs a PATH for that.
        if context.identity().ids.is_some() {
            return;
        }
        let mut command = context.line_command("debug bare ls");
        command.env("PATH", context.path());
        context.finish(command).says(
            1,
            &["`busybox` is not on the PATH", "busybox-static", "--image"],
        );
        let dynamic = crate::fixture::dynamic();
        context.copy(dynamic, "bin/busybox");
        let mut command = context.line_command("debug bare ls");
        command.env("PATH", context.path().join("bin"));
        context
            .finish(command)
            .says(1, &["it is dynamically linked"]);
    });
}

#[test]
fn a_user_may_be_chosen() {
    with_bare(|context| {
        if context.identity().name == "smidge-single" {
            return skip("one id is mapped");
        }
        assert_eq!(context.line("debug -u 12:34 bare id -u").ok(), "12");
        assert_eq!(context.line("debug -u 12:34 bare id -g").ok(), "34");
    });
}

#[test]
fn processes_are_listed_as_ps_lists_them() {
    with_bare(|context| {
        let text = context.line("top bare").ok();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[0],
            ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
        );
        assert_eq!((lines.len(), lines[1][7]), (2, "/idle"));
        let pid = context
            .smidge(["inspect", "-f", "{{.State.Pid}}", "bare"])
            .ok();
        assert_eq!(lines[1][1], pid);
        let some = context.line("container top bare -o pid,comm").ok();
        assert_eq!(
            some.split_whitespace().collect::<Vec<_>>(),
            ["PID", "COMMAND", &pid, "idle"]
        );
        for options in [
            "-ef",
            "-eF",
            "aux",
            "-eo pid,pgid,sid,tty,stat,ni,nlwp,start,bsdtime,cmd",
        ] {
            as_ps(context, options, &pid);
        }
        context
            .line("top bare -o comm")
            .says(1, &["Couldn't find PID field in ps output"]);
        context
            .line("top bare -o pid,nonsense")
            .says(1, &["no field `nonsense`"]);
        // A program beside its own is there, too.
        let mut beside = context.spawn(context.line_command("debug bare sleep 1000"));
        smidge_tests::until("it sleeps", || {
            context.line("top bare").ok().contains("sleep 1000")
        });
        context.line("stop -t 0 bare").ok();
        let _ = beside.status_in_time();
        context
            .line("top bare")
            .says(1, &["container `bare` is not running"]);
        context
            .line("top nothing")
            .says(1, &["No such container: nothing"]);
    });
}

/// What `ps` itself shows of a process, but for names that it cuts and figures that change.
fn as_ps(context: &Context, options: &str, pid: &str) {
    if !have("ps") {
        return;
    }
    let mut ps = context.program("ps");
    ps.args(options.split(' ')).env("TZ", "UTC");
    let of_all = context.finish(ps).ok();
    let of_all: Vec<Vec<&str>> = of_all
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let column = of_all[0].iter().position(|header| *header == "PID");
    let top = context.line(&format!("top bare {options}")).ok();
    let top: Vec<Vec<&str>> = top
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(top[0], of_all[0]);
    let row = of_all.iter().find(|row| row[column.unwrap()] == pid);
    let digits = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "0");
    for (index, header) in top[0].iter().enumerate() {
        let (shown, expected) = (top[1][index], row.unwrap()[index]);
        match *header {
            "UID" | "USER" | "C" | "%CPU" | "%MEM" | "RSS" | "PSR" => {}
            // Both guess the second from when the machine was started.
            "STIME" | "START" | "STARTED" => {
                assert_eq!(digits(shown), digits(expected), "{options}")
            }
            _ => assert_eq!(shown, expected, "{options}: {header}"),
        }
    }
}

#[test]
fn drafts_that_nobody_finishes_are_removed() {
    with_bare(|context| {
        let place = context.store().join("cache/tools");
        let mut make = context.program("mkdir");
        make.arg("-p").arg(place.join("busybox-1-2.77/bin"));
        context.finish(make).ok();
        debug(context, "bare", "true").ok();
        let kept: Vec<String> = std::fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(
            kept.len() == 2 && kept.iter().all(|name| !name.contains('.')),
            "{kept:?}"
        );
    });
}
