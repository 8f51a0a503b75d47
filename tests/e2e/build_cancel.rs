//! Builds that are broken off: by Ctrl-C, by a signal, by `kill -9` at any point. Nothing of them runs on,
//! nothing is half tagged, and the store is as good as before.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use smidge_tests::{InTime as _, until};

use crate::context::{Context, have, smidge_binary};
use crate::fixture::with_busybox;
use crate::process::{marker, running};
use crate::proxy::{Fault, Proxy};
use crate::registry::Registry;

/// How a build is ended, and what its exit status is as a shell sees it.
const ENDS: [(Signal, i32); 4] = [
    (Signal::INT, 130),
    (Signal::TERM, 143),
    (Signal::HUP, 129),
    (Signal::KILL, 137),
];

/// `smidge build` with the words of a line, as the leader of a process group of its own: a job of a shell's.
fn job(context: &Context, line: &str) -> Child {
    let mut command = context.line_command(&format!("build {line}"));
    command.process_group(0);
    context.spawn(command)
}

/// Ends a build as a terminal does, with all that belongs to it, or itself alone.
fn end(build: Child, signal: Signal) -> (i32, String) {
    use std::os::unix::process::ExitStatusExt as _;
    let pid = Pid::from_child(&build);
    match signal {
        Signal::INT | Signal::HUP => kill_process_group(pid, signal).unwrap(),
        _ => kill_process(pid, signal).unwrap(),
    }
    let output = build.output_in_time().unwrap();
    let status = output.status;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap());
    (code, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Nothing is left of a build: no name, no mount, and after `prune` no file.
fn assert_gone(context: &Context, name: &str) {
    assert_eq!(context.line(&format!("images -q {name}")).ok(), "");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&context.store().display().to_string()));
    context.line("prune -f").ok();
    assert_eq!(left(context), Vec::<String>::new());
}

/// What is in the store's `tmp/`.
fn left(context: &Context) -> Vec<String> {
    let entries = std::fs::read_dir(context.store().join("tmp")).unwrap();
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.flatten().map(name).collect()
}

#[test]
fn nothing_runs_on_whatever_ends_a_build() {
    with_busybox(|context| {
        for (signal, code) in ENDS {
            let (one, two) = (marker(), marker());
            // Two stages at work, and what they have left in the background.
            let dockerfile = format!(
                "FROM busybox AS one\nRUN sleep {one} & sleep {one}\n\
                 FROM busybox AS two\nRUN mkdir -m 0 /closed; setsid sleep {two} & sleep {two}\n\
                 FROM busybox\nCOPY --from=one /bin/sh /1\nCOPY --from=two /bin/sh /2\n"
            );
            context.write("two/Dockerfile", dockerfile);
            let build = job(context, "-t two two");
            until("both stages run", || {
                // As many as there are, each with its shell.
                running(&one) >= 2 && running(&two) >= 2
            });
            let (ended, said) = end(build, signal);
            assert_eq!(ended, code, "{signal:?}: {said}");
            until("all is quiet", || running(&one) + running(&two) == 0);
            assert_gone(context, "two");
        }
        let quick = "FROM busybox\nRUN echo there > /is\nCMD [\"cat\", \"/is\"]\n";
        context.write("two/Dockerfile", quick);
        context.line("build -q -t two two").ok();
        assert_eq!(context.line("run --rm two").ok(), "there");
    });
}

#[test]
fn ctrl_c_on_a_terminal_ends_a_build() {
    if !have("script") {
        return;
    }
    with_busybox(|context| {
        let one = marker();
        context.write("c/Dockerfile", format!("FROM busybox\nRUN sleep {one}\n"));
        let mut script = context.program("script");
        let command = format!("{} build -t ended c", smidge_binary().display());
        script.args(["-q", "-e", "-c", &command, "/dev/null"]);
        script.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        let mut terminal = context.spawn(script);
        until("the program runs", || running(&one) == 1);
        terminal.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
        let status = terminal.output_in_time().unwrap().status;
        assert_eq!(status.code(), Some(130));
        until("all is quiet", || running(&one) == 0);
        assert_gone(context, "ended");
    });
}

#[test]
fn the_next_build_takes_away_what_a_killed_one_left() {
    with_busybox(|context| {
        let one = marker();
        let dockerfile = format!(
            "FROM busybox\nRUN mkdir -p /a/b && touch /a/b/c && chmod 0 /a/b /a && sleep {one}\n"
        );
        context.write("c/Dockerfile", dockerfile);
        let build = job(context, "-t ended c");
        until("the program runs", || running(&one) >= 1);
        end(build, Signal::KILL);
        until("all is quiet", || running(&one) == 0);
        assert_ne!(left(context), Vec::<String>::new());
        context.write("c/Dockerfile", "FROM busybox\nLABEL a=b\n");
        context.line("build -q -t done c").ok();
        assert_eq!(left(context), Vec::<String>::new());
    });
}

#[test]
fn builds_are_ended_while_files_are_copied() {
    with_busybox(|context| {
        for number in 0..600 {
            let text = number.to_string().repeat(2000);
            context.write(&format!("c/many/{}/{number}", number % 30), text);
        }
        let dockerfile = "FROM busybox\nCOPY many /many\nRUN cat /many/7/7 > /seven\n";
        context.write("c/Dockerfile", dockerfile);
        for (signal, code) in ENDS {
            let build = job(context, "--no-cache -t copied c");
            until("something is written", || {
                left(context).len() > 2
                    || context.store().join("layers").read_dir().unwrap().count() > 1
            });
            let (ended, said) = end(build, signal);
            // It may have been faster.
            assert!(ended == code || ended == 0, "{signal:?}: {ended}: {said}");
            let _ = context.line("rmi copied").code();
            assert_gone(context, "copied");
        }
        context.line("build -q -t copied c").ok();
        assert_eq!(
            context.line("run --rm copied cat /seven").ok(),
            "7".repeat(2000)
        );
    });
}

/// A server that answers with the beginning of a file, and no more.
fn endless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in smidge_tests::incoming(&listener) {
            let _ = stream.read(&mut [0; 4096]);
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbeginning");
            open.push(stream);
        }
    });
    format!("http://{address}/file")
}

#[test]
fn builds_are_ended_while_a_url_is_fetched() {
    let context = Context::new();
    let url = endless();
    context.write("c/Dockerfile", format!("FROM scratch\nADD {url} /file\n"));
    for (signal, code) in ENDS {
        let build = job(&context, "-t fetched c");
        let arrived = || {
            let find = [
                "-c",
                "find store/tmp -name file -size +0 2>/dev/null | grep -q .",
            ];
            context.finish(shell(&context, &find)).code() == 0
        };
        until("the beginning is here", arrived);
        let (ended, said) = end(build, signal);
        assert_eq!(ended, code, "{said}");
        assert_gone(&context, "fetched");
    }
}

fn shell(context: &Context, args: &[&str]) -> Command {
    let mut shell = context.program("sh");
    shell.args(args);
    shell
}

#[test]
fn builds_are_ended_while_a_base_is_pulled() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let image = crate::craft::hello();
    registry.put("hello", "latest", &image);
    let proxy = Proxy::before(&registry);
    let context = Context::new();
    let name = format!("{}/hello", proxy.host());
    context.write("c/Dockerfile", format!("FROM {name}\nLABEL a=b\n"));
    for (signal, code) in ENDS {
        proxy.fault(("GET", "/blobs/"), usize::MAX, Fault::Trickle(1));
        let build = job(&context, "-t pulled c");
        until("the pull has begun", || {
            left_if_any(&context)
                .iter()
                .any(|name| name.starts_with("partial-"))
        });
        let (ended, said) = end(build, signal);
        assert_eq!(ended, code, "{said}");
        assert_gone(&context, "pulled");
    }
    assert_eq!(context.line("images -q").ok(), "");
}

fn left_if_any(context: &Context) -> Vec<String> {
    match context.store().join("tmp").exists() {
        true => left(context),
        false => Vec::new(),
    }
}

#[test]
fn a_hundred_kills_at_any_moment_leave_a_good_store() {
    with_busybox(|context| {
        let rounds = match context.identity().ids {
            None => 60,
            Some(_) => 20,
        };
        let dockerfile = "FROM busybox AS one\nRUN echo one > /one; chmod 0 /one\n\
             FROM busybox\nCOPY Dockerfile /copied\nRUN echo two > /two\n\
             COPY --from=one /one /one\nRUN cat /one /two /copied | wc -l > /lines\n\
             CMD [\"cat\", \"/lines\"]\n";
        context.write("c/Dockerfile", dockerfile);
        for round in 0..rounds {
            // From the first instructions to the end of a build that takes some tens of milliseconds.
            let moment = Duration::from_micros(round * round * 90_000 / (rounds * rounds) * 2);
            let build = job(context, "--no-cache -q -t killed c");
            std::thread::sleep(moment);
            end(build, Signal::KILL);
            // All of a name, or none.
            if context.line("images -q killed").ok() != "" {
                assert_eq!(
                    context.line("run --rm killed").ok(),
                    "10",
                    "after {moment:?}"
                );
                context.line("rmi killed").ok();
            }
        }
        context.line("build -q -t killed c").ok();
        assert_eq!(context.line("run --rm killed").ok(), "10");
        context.line("rmi killed").ok();
        context.line("builder prune -a -f").ok();
        assert_gone(context, "killed");
        // What is left are the base and nothing else.
        let layers = context.store().join("layers").read_dir().unwrap();
        assert!(layers.count() <= 2);
    });
}
