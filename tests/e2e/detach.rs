//! Leaving a program on a terminal by keys, and what goes on then.

use std::io::{Read as _, Write as _};
use std::process::Child;

use smidge_tests::InTime as _;

use crate::context::{Context, have, smidge_binary};
use crate::fixture::with_busybox;

/// `smidge LINE` on a terminal.
fn on_terminal(context: &Context, line: &str) -> Child {
    let mut script = context.program("script");
    let command = format!("{} {line}", smidge_binary().display());
    script.args(["-qec", &command, "/dev/null"]);
    script.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
    context.spawn(script)
}

fn write(terminal: &mut Child, keys: &[u8]) {
    terminal.stdin.as_mut().unwrap().write_all(keys).unwrap();
}

/// Types a command whose output does not look like itself, and waits for that.
fn says(terminal: &mut Child, word: &str) {
    let (first, rest) = word.split_at(1);
    write(terminal, format!("echo {first}''{rest}\n").as_bytes());
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains(word) {
        let mut byte = [0];
        let read = terminal.stdout.as_mut().unwrap().read(&mut byte).unwrap();
        let so_far = String::from_utf8_lossy(&said);
        assert_ne!(read, 0, "no `{word}` in {so_far}");
        said.push(byte[0]);
    }
}

/// Types keys that end the session, and gives its exit status.
fn leave(mut terminal: Child, keys: &[u8]) -> Option<i32> {
    write(&mut terminal, keys);
    terminal.output_in_time().unwrap().status.code()
}

fn running(context: &Context) -> String {
    context.line("inspect -f {{.State.Running}} box").ok()
}

#[test]
fn keys_leave_a_container_alone() {
    if !have("script") {
        return;
    }
    with_busybox(|context| {
        let mut terminal = on_terminal(context, "run -it --name box busybox sh");
        says(&mut terminal, "first");
        assert_eq!(leave(terminal, b"\x10\x11"), Some(0));
        assert_eq!(running(context), "true");
        let mut terminal = on_terminal(context, "attach --detach-keys ctrl-x,q box");
        says(&mut terminal, "second");
        // The usual keys go to the program now.
        write(&mut terminal, b"\x10\x11\x15");
        says(&mut terminal, "third");
        assert_eq!(leave(terminal, b"\x18q"), Some(0));
        assert_eq!(running(context), "true");
        let mut terminal = on_terminal(context, "attach box");
        assert_eq!(leave_by_exit(&mut terminal), Some(3));
        assert_eq!(running(context), "false");
        let mut terminal = on_terminal(context, "start -ai --detach-keys ctrl-a box");
        says(&mut terminal, "fourth");
        assert_eq!(leave(terminal, b"\x01"), Some(0));
        assert_eq!(running(context), "true");
        let told = "events --until 0s -f event=attach -f event=detach --format {{.Action}}";
        let ends = ["attach", "detach"].join("\n");
        let expected = format!("{ends}\n{ends}\nattach\n{ends}");
        assert_eq!(context.line(told).ok(), expected);
        context.line("rm -f box").ok();
    });
}

/// Lets the program end by itself.
fn leave_by_exit(terminal: &mut Child) -> Option<i32> {
    says(terminal, "last");
    write(terminal, b"exit 3\n");
    terminal.status_in_time().unwrap().code()
}

#[test]
fn keys_leave_a_command_in_a_container_alone() {
    if !have("script") {
        return;
    }
    with_busybox(|context| {
        context.line("run -d --name box busybox sleep 1000").ok();
        let mut terminal = on_terminal(context, "exec -it --detach-keys ctrl-e,e box sh");
        says(&mut terminal, "there");
        write(
            &mut terminal,
            b"until test -e /tmp/go; do sleep 0.1; done; touch /tmp/gone\n",
        );
        assert_eq!(leave(terminal, b"\x05e"), Some(0));
        context.line("exec box touch /tmp/go").ok();
        let mut wait = context.line_command("exec box sh -c");
        wait.arg("until test -e /tmp/gone; do sleep 0.1; done");
        context.finish(wait).ok();
        let told = "events --until 0s -f event=exec_detach --format {{.Action}}";
        assert_eq!(context.line(told).ok(), "exec_detach");
        context.line("rm -f box").ok();
    });
}

#[test]
fn keys_that_are_none_are_refused() {
    with_busybox(|context| {
        for keys in ["ctrl-", "ctrl-aa", "ab", "ctrl-1"] {
            context
                .line(&format!("run --rm --detach-keys {keys} busybox true"))
                .says(125, &[keys]);
        }
    });
}

#[test]
fn tools_have_a_terminal_where_one_is_asked_for() {
    if !have("script") || !have("busybox") {
        return;
    }
    with_busybox(|context| {
        context.line("run -d --name box busybox sleep 1000").ok();
        context.line("create --name still busybox true").ok();
        for name in ["box", "still", "busybox"] {
            let mut terminal = on_terminal(context, &format!("debug -t {name} sh"));
            says(&mut terminal, "there");
            write(
                &mut terminal,
                b"ls /target/bin/busybox && test -t 0 && test -t 1 && exit 7\n",
            );
            assert_eq!(
                terminal.output_in_time().unwrap().status.code(),
                Some(7),
                "{name}"
            );
            let mut terminal = on_terminal(context, &format!("debug -t {name} sh"));
            says(&mut terminal, "again");
            assert_eq!(leave(terminal, b"\x10\x11"), Some(0), "{name}");
        }
        context.line("rm -f box").ok();
    });
}
