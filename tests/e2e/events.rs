//! `smidge events`.

use std::io::{BufRead as _, BufReader};

use smidge_tests::InTime as _;

use crate::context::Context;
use crate::fixture::with_busybox;

/// What happened, as `TYPE ACTION NAME`.
fn events(context: &Context, options: &str) -> Vec<String> {
    let line = format!("events --since 1h --until 0s {options} --format");
    let format = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}";
    let shown = context.smidge(line.split_whitespace().chain([format]));
    shown.ok().lines().map(str::to_owned).collect()
}

#[test]
fn the_end_of_a_container_that_two_remove_is_told_once() {
    with_busybox(|context| {
        for name in ["one", "two", "three"] {
            let run = format!("run -d --rm --name {name} busybox sleep 1000");
            context.line(&run).ok();
            context.line(&format!("rm -f {name}")).ok();
            let filter = format!("-f event=destroy -f container={name}");
            let told = format!("container destroy {name}");
            smidge_tests::until("destroy", || !events(context, &filter).is_empty());
            assert_eq!(events(context, &filter), [told]);
        }
    });
}

#[test]
fn what_happens_is_written_down() {
    with_busybox(|context| {
        context
            .line("run --name web -l app=shop busybox sh -c")
            .exits(2);
        context.line("rename web old").ok();
        context.line("run --rm --name gone busybox true").ok();
        context.line("rm old").ok();
        context.line("volume create data").ok();
        context.line("volume rm data").ok();
        context.line("tag busybox other").ok();
        context.line("rmi other").ok();
        let all = "container create web\ncontainer start web\ncontainer die web\ncontainer rename old\n\
                   container create gone\ncontainer start gone\ncontainer die gone\n\
                   container destroy gone\ncontainer destroy old";
        assert_eq!(events(context, "-f type=container").join("\n"), all);
        assert_eq!(
            events(context, "-f event=die -f container=gone"),
            ["container die gone"]
        );
        assert_eq!(
            events(context, "-f label=app=shop -f event=start"),
            ["container start web"]
        );
        assert_eq!(
            events(context, "-f type=image -f event=tag -f event=untag"),
            ["image tag other:latest", "image untag other:latest"]
        );
        assert_eq!(events(context, "-f volume=data").len(), 2);
        let code = "events --since 1h --until 0s -f container=web -f event=die --format json";
        let shown: serde_json::Value = serde_json::from_str(&context.line(code).ok()).unwrap();
        assert_eq!(shown["Actor"]["Attributes"]["exitCode"], "2");
        assert_eq!(shown["Actor"]["Attributes"]["image"], "busybox");
        assert_eq!(shown["from"], "busybox");
        let plain = context
            .line("events --since 1h --until 0s -f event=rename")
            .ok();
        assert!(
            plain.contains("Z container rename ") && plain.contains("oldName=/web"),
            "{plain}"
        );
        assert_eq!(context.line("events --since 2h --until 1h").ok(), "");
        context
            .line("events -f who=me")
            .says(1, &["invalid filter `who`"]);
        context
            .line("events --since soon")
            .says(1, &["`soon` is no time"]);
        context.line("events --format {{").exits(1);
    });
}

#[test]
fn what_is_done_to_a_container_that_runs_is_written_down() {
    with_busybox(|context| {
        let idle = "run -d --name web busybox sleep 1000";
        context.line(idle).ok();
        context.line("exec web true").ok();
        context.line("exec web sh -c nonsense").exits(127);
        let pauses = context.line("pause web").code() == 0;
        if pauses {
            context.line("unpause web").ok();
        }
        context.line("restart web").ok();
        context.line("stop web").ok();
        let expected = [
            "create",
            "start",
            "exec_create: true",
            "exec_start: true",
            "exec_die",
            "exec_create: sh -c nonsense",
            "exec_start: sh -c nonsense",
            "exec_die",
            "pause",
            "unpause",
            "kill",
            "die",
            "stop",
            "start",
            "restart",
            "kill",
            "die",
            "stop",
        ];
        let expected: Vec<String> = expected
            .into_iter()
            .filter(|action| pauses || !action.ends_with("pause"))
            .map(|action| format!("container {action} web"))
            .collect();
        assert_eq!(events(context, "-f type=container"), expected);
        let line = "events --since 1h --until 0s -f event=exec_die --format {{json\u{a0}.Actor.Attributes}}";
        let words: Vec<String> = line
            .split(' ')
            .map(|word| word.replace('\u{a0}', " "))
            .collect();
        let shown = context.smidge(words).ok();
        let codes: Vec<serde_json::Value> = shown
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            (&codes[0]["exitCode"], &codes[1]["exitCode"]),
            (&"0".into(), &"127".into())
        );
        assert_ne!(codes[0]["execID"], codes[1]["execID"]);
    });
}

#[test]
fn what_happens_is_shown_when_it_does() {
    with_busybox(|context| {
        let mut watcher =
            context.spawn(context.line_command("events -f event=start --format {{.ID}}"));
        let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
        // Only what comes after the watcher has begun is shown: tried until it is.
        let (sender, receiver) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || sender.send(lines.next().unwrap().unwrap()));
        let mut ids = Vec::new();
        let shown = loop {
            let id = context.line("create busybox true").ok();
            context.smidge(["start", "-a", id.as_str()]).ok();
            ids.push(id);
            if let Ok(shown) = receiver.try_recv() {
                break shown;
            }
        };
        assert!(ids.contains(&shown), "{shown}");
        reader.join().unwrap().unwrap();
        watcher.kill().unwrap();
        watcher.status_in_time().unwrap();
    });
}
