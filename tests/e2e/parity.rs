//! Options of many verbs that Docker's users know: small things, each as there.

use smidge_tests::{InTime as _, until};

use crate::context::Context;
use crate::fixture::with_busybox;

fn inspected(context: &Context, format: &str, name: &str) -> String {
    context.smidge(["inspect", "--format", format, name]).ok()
}

#[test]
fn sizes_are_added_up_where_they_are_asked_for() {
    with_busybox(|context| {
        let script = "head -c 2000000 /dev/zero > /big";
        let run = ["run", "--name", "big", "busybox", "sh", "-c", script];
        context.smidge(run).ok();
        let table = context.line("ps -a --size").ok();
        assert!(
            table.contains("SIZE") && table.contains("MB (virtual "),
            "{table}"
        );
        assert!(!context.line("ps -a").ok().contains("SIZE"));
        let column = context.line("ps -a --format {{.Size}}").ok();
        assert!(
            column.starts_with("2") && column.contains("MB (virtual "),
            "{column}"
        );
        let bytes: u64 = context
            .line("inspect -s --format {{.SizeRw}} big")
            .ok()
            .parse()
            .unwrap();
        assert!((2_000_000..2_100_000).contains(&bytes), "{bytes}");
        let all = context
            .line("inspect --size --type container --format {{.SizeRootFs}} big")
            .ok();
        assert!(all.parse::<u64>().unwrap() > bytes);
        let without = context.line("inspect --format {{.SizeRw}} big");
        assert_eq!(without.ok(), "<nil>");
    });
}

#[test]
fn there_are_no_tasks() {
    with_busybox(|context| {
        context.line("create --name one busybox true").ok();
        let listed = |value: &str| {
            let line = format!("ps -a --format {{{{.Names}}}} -f is-task={value}");
            context.line(&line).ok()
        };
        assert_eq!(listed("false"), "one");
        assert_eq!(listed("true"), "");
        let bad = context.line("ps -a -f is-task=maybe");
        assert!(bad.exits(1).contains("expected true or false"));
    });
}

#[test]
fn logs_tell_what_their_options_have_named() {
    with_busybox(|context| {
        let options = "--log-opt labels=tier,zone --log-opt env=COLOUR -l tier=gold\u{a0}x -e COLOUR=deep&blue";
        let line = format!("run --name told {options} busybox echo hello");
        let words: Vec<String> = line
            .split(' ')
            .map(|word| word.replace('\u{a0}', " "))
            .collect();
        context.smidge(words).ok();
        let plain = context.line("logs told").ok();
        assert_eq!(plain, "hello");
        let details = context.line("logs --details told").ok();
        assert_eq!(details, "COLOUR=deep%26blue,tier=gold+x hello");
        let timed = context.line("logs --details -t told").ok();
        assert!(
            timed.ends_with("Z COLOUR=deep%26blue,tier=gold+x hello"),
            "{timed}"
        );
        context.line("run --name quiet busybox echo hello").ok();
        let details = context.line("logs --details quiet").stdout();
        assert!(details.starts_with(" hello"), "as in Docker: {details}");
    });
}

/// The supervisor of a container that runs does what `update --restart` says from then on.
#[test]
fn policies_are_changed_while_a_container_runs() {
    with_busybox(|context| {
        context.line("run -d --name one busybox sleep 1000").ok();
        context.line("update --restart always one").ok();
        let policy = || inspected(context, "{{.HostConfig.RestartPolicy.Name}}", "one");
        let count = || inspected(context, "{{.RestartCount}}", "one");
        assert_eq!(policy(), "always");
        // One that it does not hear, and that is not the one it is stopped with.
        context.line("kill -s HUP one").ok();
        until("it is started again", || count() == "1");
        until("it runs", || {
            inspected(context, "{{.State.Status}}", "one") == "running"
        });
        context.line("update --restart no one").ok();
        assert_eq!(policy(), "no");
        context.line("kill -s HUP one").ok();
        until("it has ended", || {
            inspected(context, "{{.State.Status}}", "one") == "exited"
        });
        context
            .line("run -d --rm --name gone busybox sleep 1000")
            .ok();
        let refused = context.line("update --restart always gone");
        assert!(refused.exits(1).contains("it is removed when it ends"));
        let bad = context.line("update --restart sometimes one");
        assert!(bad.exits(1).contains("invalid restart policy"));
        let nothing = context.line("update one");
        assert!(nothing.exits(1).contains("one or more flags"));
        context.line("rm -f gone").ok();
    });
}

#[test]
fn a_container_that_is_thrown_away_survives_a_restart() {
    with_busybox(|context| {
        context
            .line("run -d --rm --name one busybox sleep 1000")
            .ok();
        let id = || inspected(context, "{{.Id}} {{.State.Running}}", "one");
        let first = id();
        context
            .smidge(["exec", "one", "sh", "-c", "echo kept > /file"])
            .ok();
        context.line("restart -t 0 one").ok();
        assert_eq!(id(), first);
        assert_eq!(context.line("exec one cat /file").ok(), "kept");
        context.line("stop -t 0 one").ok();
        until("it is removed", || context.line("ps -aq").ok().is_empty());
    });
}

/// `--sig-proxy=false`: a signal is for the command, and the container goes on.
#[test]
fn signals_are_passed_on_unless_the_caller_keeps_them() {
    with_busybox(|context| {
        let start = |name: &str, option: &str| {
            let line = format!("run --name {name} {option} busybox sleep 1000");
            let child = context.spawn(context.line_command(&line));
            until("it runs", || {
                let shown = ["inspect", "--format", "{{.State.Status}}", name];
                let shown = context.smidge(shown);
                shown.code() == 0 && shown.stdout().trim() == "running"
            });
            // It takes window sizes from then on.
            until("the command listens for signals", || {
                let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
                let status = status.unwrap_or_default();
                let mut lines = status.lines();
                let blocked = lines.find_map(|line| line.strip_prefix("SigBlk:"));
                let blocked = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
                blocked.is_some_and(|mask| mask & (1 << 27) != 0)
            });
            child
        };
        for (name, option, stays) in [("kept", "--sig-proxy=false", true), ("passed", "", false)] {
            let mut child = start(name, option);
            let signal = std::process::Command::new("kill")
                .args(["-TERM", &child.id().to_string()])
                .status_in_time();
            assert!(signal.unwrap().success());
            child.status_in_time().unwrap();
            if !stays {
                until("it has ended", || {
                    inspected(context, "{{.State.Running}}", name) == "false"
                });
            }
            let running = inspected(context, "{{.State.Running}}", name);
            assert_eq!(running, stays.to_string(), "{name}");
        }
        context.line("rm -f kept").ok();
    });
}

#[test]
fn images_are_listed_by_their_age() {
    with_busybox(|context| {
        // It was made in 1970.
        let listed = |until: &str| context.line(&format!("images -q -f until={until}")).ok();
        assert!(!listed("1h").is_empty());
        assert!(listed("1969-12-31T00:00:00Z").is_empty());
        let bad = context.line("images -f until=soon");
        assert!(bad.exits(1).contains("`soon` is no time"));
        assert!(
            context
                .line("rm --link a")
                .exits(1)
                .contains("there are no links")
        );
    });
}

/// What cannot be met says why.
#[test]
fn refusals_name_their_reasons() {
    with_busybox(|context| {
        for (options, expected) in [
            (
                "--device-cgroup-rule c\u{a0}42:*\u{a0}rmw",
                "give them the device",
            ),
            ("--gpus all", "does not set up GPUs"),
            ("--runtime runc", "smidge is the runtime"),
            ("--storage-opt size=1G", "no quota"),
            ("--link other", "links are Docker's past"),
            ("--isolation hyperv", "Windows"),
        ] {
            let words = format!("run --rm {options} busybox true");
            let words = words.split(' ').map(|word| word.replace('\u{a0}', " "));
            let stderr = context.smidge(words.collect::<Vec<_>>()).exits(125);
            assert!(stderr.contains(expected), "{options}: {stderr}");
        }
    });
}

/// As in Docker: what is counted is what meets the conditions.
#[test]
fn the_newest_are_those_that_are_meant() {
    with_busybox(|context| {
        for (name, tier) in [("one", "a"), ("two", "a"), ("three", "b"), ("four", "b")] {
            let create = format!("create --name {name} -l tier={tier} busybox true");
            context.line(&create).ok();
        }
        context.line("run -d --name five busybox sleep 1000").ok();
        for (options, expected) in [
            ("", "five"),
            ("-n 2", "five four"),
            ("--last 3", "five four three"),
            ("-n 1 -f label=tier=a", "two"),
            ("--last=9 -f label=tier=a", "two one"),
            ("-l", "five"),
            ("--latest", "five"),
            ("-l -f label=tier=b", "four"),
            ("-l -f name=one", "one"),
            ("-n 0", "five"),
            ("-n -1", "five"),
            ("-l -n 2", "five four"),
            ("-a -n -1", "five four three two one"),
            ("-n 2 -f status=running", "five"),
        ] {
            let line = format!("ps --format {{{{.Names}}}} {options}");
            let shown = context.line(&line).ok().replace('\n', " ");
            assert_eq!(shown, expected, "{options}");
        }
        context.line("ps -n x").says(125, &["x"]);
    });
}

/// What scripts ask for, with the types that Docker's documentation gives.
const ASKED: &[(&str, &str)] = &[
    ("{{.Name}}", "/box"),
    ("{{.Path}} {{.Args}}", "sleep [1000]"),
    (
        "{{.State.Running}} {{.State.Paused}} {{.State.Dead}} {{.State.ExitCode}}",
        "true false false 0",
    ),
    ("{{(index .State.Health.Log 0).ExitCode}}", "0"),
    ("{{.Config.Env}}", "[A=b]"),
    (
        "{{.Config.Cmd}} {{.Config.Image}} {{.Config.Tty}}",
        "[sleep 1000] busybox false",
    ),
    (
        "{{json .Config.Healthcheck.Test}}",
        "[\"CMD-SHELL\",\"true\"]",
    ),
    (
        "{{.HostConfig.CapAdd}} {{.HostConfig.Dns}} {{.HostConfig.ExtraHosts}}",
        "[] [] []",
    ),
    (
        "{{len .HostConfig.Devices}} {{len .HostConfig.Ulimits}} {{len .HostConfig.VolumesFrom}}",
        "0 0 0",
    ),
    (
        "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.AutoRemove}}",
        "no false",
    ),
    (
        "{{.HostConfig.LogConfig.Type}} {{.HostConfig.Memory}}",
        "json-file 0",
    ),
    (
        "{{.HostConfig.CgroupnsMode}} {{.HostConfig.Privileged}}",
        "private false",
    ),
    (
        "{{json .HostConfig.MaskedPaths}}",
        r#"["/proc/acpi","/proc/asound","/proc/interrupts","/proc/kcore","/proc/keys","/proc/latency_stats","/proc/sched_debug","/proc/scsi","/proc/timer_list","/proc/timer_stats","/sys/devices/virtual/powercap","/sys/firmware"]"#,
    ),
    (
        "{{json .HostConfig.ReadonlyPaths}} {{json .HostConfig.DeviceRequests}}",
        r#"["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"] null"#,
    ),
    (
        "{{range .Mounts}}{{if .Name}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{end}}{{end}}",
        "volume data /d true",
    ),
    (
        "{{.NetworkSettings.IPAddress}}|{{.NetworkSettings.MacAddress}}",
        "|",
    ),
    (
        "{{json .NetworkSettings.Ports}} {{.AppArmorProfile}}{{.MountLabel}}",
        "{} ",
    ),
];

#[test]
fn containers_are_inspected_as_scripts_expect() {
    with_busybox(|context| {
        let run = "run -d --name box --network none -e A=b -v data:/d --tmpfs /t --health-cmd true --health-interval 50ms busybox sleep 1000";
        let id = context.line(run).ok();
        until("its health", || {
            inspected(context, "{{.State.Health.Status}}", "box") == "healthy"
        });
        let pid = inspected(context, "{{.State.Pid}}", "box");
        let sandbox = format!("/proc/{pid}/ns/net");
        let own = [
            ("{{.Id}}", id),
            (
                "{{.NetworkSettings.SandboxKey}}|{{.NetworkSettings.Bridge}}",
                format!("{sandbox}|"),
            ),
        ];
        for (format, expected) in own {
            assert_eq!(inspected(context, format, "box"), expected, "{format}");
        }
        for (format, expected) in ASKED {
            assert_eq!(inspected(context, format, "box"), *expected, "{format}");
        }
        context.line("kill box").ok();
        let after = "{{.State.Status}} {{.State.Running}} {{.State.ExitCode}} {{.State.Pid}}|{{.NetworkSettings.SandboxKey}}";
        assert_eq!(inspected(context, after, "box"), "exited false 137 0|");
    });
}

#[test]
fn volumes_that_nobody_named_go_with_their_containers() {
    with_busybox(|context| {
        for name in ["one", "two", "three"] {
            context
                .line(&format!("create --name {name} -v /d busybox true"))
                .ok();
        }
        context
            .line("create --name four --volumes-from one busybox true")
            .ok();
        let volumes = || context.line("volume ls -q").ok().lines().count();
        assert_eq!(volumes(), 3);
        context.line("rm -v one two").ok();
        // One of them is another container's, too.
        assert_eq!(volumes(), 2);
        context.line("rm -v three").ok();
        assert_eq!(volumes(), 1);
    });
}
