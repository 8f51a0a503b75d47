//! `smidge events`.

use std::io::{BufRead as _, BufReader};

use smidge_tests::{InTime as _, until};

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
            until("destroy", || !events(context, &filter).is_empty());
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
        let all = "container create web\ncontainer attach web\ncontainer start web\ncontainer die web\n\
                   container rename old\ncontainer create gone\ncontainer attach gone\n\
                   container start gone\ncontainer die gone\ncontainer destroy gone\n\
                   container destroy old";
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
            .line("events --since 1h --until 2h")
            .says(1, &["`--since` cannot be after `--until`"]);
        // Without a beginning: all that there is, as in Docker.
        let since = context.line("events --since 1h --until 0s").ok();
        assert!(context.line("events --until 0s").ok().starts_with(&since));
        assert_eq!(context.line("events --until 1h").ok(), "");
        context
            .line("events -f who=me")
            .says(1, &["invalid filter 'who'"]);
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

/// Without those of the image that the test starts from.
fn all(context: &Context) -> Vec<String> {
    let all = events(context, "").into_iter();
    let rest = all.filter(|line| !line.starts_with("image import"));
    rest.map(|line| line.replace("<no value>", "")).collect()
}

#[test]
fn volumes_come_and_go_on_every_network() {
    with_busybox(|context| {
        for network in ["bridge", "none", "host"] {
            let name = format!("on-{network}");
            let run = format!("run --name {name} --network {network} -v data:/d busybox true");
            context.line(&run).ok();
            context.line(&format!("wait {name}")).ok();
        }
        let seen = all(context).into_iter();
        let mounts = seen.filter(|line| line.starts_with("volume mount"));
        assert_eq!(mounts.count(), 3);
    });
}

#[test]
fn networks_and_volumes_come_and_go_with_their_containers() {
    with_busybox(|context| {
        context.line("network create net").ok();
        context.line("network create other").ok();
        let run = "run -d --name web --network net -v data:/d -v data:/e:ro busybox sleep 1000";
        let id = context.line(run).ok();
        context.line("network connect other web").ok();
        context.line("kill web").ok();
        let expected = [
            "network create net",
            "network create other",
            "volume create ",
            "container create web",
            "network connect net",
            "volume mount ",
            "volume mount ",
            "container start web",
            "network connect other",
            "container kill web",
            "container die web",
            "network disconnect net",
            "network disconnect other",
            "volume unmount ",
            "volume unmount ",
        ];
        assert_eq!(all(context), expected);
        let shown = |filter: &str, format: &str| {
            let line = format!("events --until 0s -f {filter} --format");
            context.smidge(line.split_whitespace().chain([format])).ok()
        };
        let format = "{{.Actor.Attributes.container}} {{.Actor.Attributes.type}}";
        assert_eq!(
            shown("network=net", format).lines().nth(1),
            Some(&*format!("{id} bridge"))
        );
        let format =
            "{{.ID}} {{.Actor.Attributes.destination}} {{index .Actor.Attributes \"read/write\"}}";
        assert_eq!(shown("event=mount", format), "data /d true\ndata /e false");
        context.line("rm web").ok();
        context.line("volume prune -af").ok();
        context.line("container prune -f").ok();
        context.line("image prune -f").ok();
        context.line("network prune -f").ok();
        let expected = [
            "container destroy web",
            "volume destroy ",
            "volume prune ",
            "container prune ",
            "image prune ",
            "network destroy net",
            "network destroy other",
            "network prune ",
        ];
        let mut last = all(context).split_off(15);
        // `bridge` is made at need, and goes with the others.
        last.retain(|line| line != "network destroy bridge");
        assert_eq!(last, expected);
        let format = "{{.Actor.ID}}{{.Actor.Attributes.reclaimed}}";
        assert_eq!(shown("event=prune", format).lines().count(), 4);
    });
}

#[test]
fn what_is_looked_at_and_copied_is_written_down() {
    with_busybox(|context| {
        context.line("run -d --name box busybox sleep 1000").ok();
        context.line("top box").ok();
        context.line("cp box:/etc/passwd passwd").ok();
        context.line("cp passwd box:/tmp").ok();
        context.line("update --restart no box").ok();
        context.line("save -o saved.tar busybox").ok();
        context.line("load -i saved.tar").ok();
        context.line("rm -f box").ok();
        let all = events(context, "");
        let shown: Vec<&str> = all
            .iter()
            .map(|line| line.split_whitespace().nth(1).unwrap())
            .collect();
        let expected = [
            "import",
            "create",
            "start",
            "top",
            "archive-path",
            "extract-to-dir",
            "update",
            "save",
            "load",
            "die",
            "destroy",
        ];
        assert_eq!(shown, expected);
    });
}

#[test]
fn health_is_told_when_it_changes() {
    with_busybox(|context| {
        let mut run =
            context.line_command("run -d --name box --health-interval 50ms --health-retries 1");
        let script = "while :; do sleep 0.05; done";
        run.args([
            "--health-cmd",
            "test -e /tmp/well",
            "busybox",
            "sh",
            "-c",
            script,
        ]);
        context.finish(run).ok();
        let told = || events(context, "-f event=health_status");
        until("bad health", || told().len() == 1);
        context.line("exec box touch /tmp/well").ok();
        until("good health", || told().len() == 2);
        let expected = [
            "container health_status: unhealthy box",
            "container health_status: healthy box",
        ];
        assert_eq!(told(), expected);
        context.line("rm -f box").ok();
    });
}

#[test]
fn days_that_are_full_go_on_in_another_file() {
    with_busybox(|context| {
        context.line("volume create first").ok();
        let directory = context.store().join("events");
        let files = || {
            let paths = std::fs::read_dir(&directory)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let mut paths: Vec<_> = paths.collect();
            paths.sort();
            paths
        };
        let line = b"{\"kind\":\"volume\",\"action\":\"noise\",\"id\":\"x\",\"time\":1}\n";
        let mut noise = std::fs::read(&files()[0]).unwrap();
        noise.extend(line.repeat((4 << 20) / line.len() + 1));
        std::fs::write(&files()[0], noise).unwrap();
        context.line("volume create second").ok();
        context.line("volume create third").ok();
        assert_eq!(files().len(), 2);
        let line = "events --until 0s -f type=volume -f event=create --format {{.ID}}";
        assert_eq!(context.line(line).ok(), "first\nsecond\nthird");
    });
}
