//! What containers may use: limits, standing still, and what they do use.
//!
//! The tests run as root see the hierarchies that the machine has, of whichever version; ordinary users
//! see that nothing is delegated to them.

use std::path::{Path, PathBuf};

use crate::context::{Context, SELF, have, skip, smidge_binary};
use crate::fixture::{load_busybox, with_busybox};

/// Directories of containers' groups that are there for a container's id.
fn groups(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = rest.pop() {
        for entry in std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name() == id {
                found.push(entry.path());
            }
            rest.push(entry.path());
        }
    }
    found
}

/// Whether a controller can be had here by root, in either version.
fn has_controller(name: &str) -> bool {
    let v1 = Path::new("/sys/fs/cgroup").join(name).join("cgroup.procs");
    let v2 = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let found = v1.exists() || v2.split_whitespace().any(|word| word == name);
    let root = rustix::process::geteuid().is_root();
    if !(found && root) {
        skip(&format!("root and the controller `{name}` are not there"));
    }
    found && root
}

/// As root, if a controller is there.
fn as_root(controllers: &[&str], body: impl Fn(&Context)) {
    if !controllers.iter().all(|name| has_controller(name)) || !Path::new("/bin/busybox").exists() {
        return;
    }
    let context = Context::of(SELF);
    load_busybox(&context);
    body(&context);
}

/// The first of several files that is there, in the container's view of its groups.
fn seen(context: &Context, options: &str, files: &[&str]) -> String {
    let mut run: Vec<&str> = vec!["run", "--rm"];
    run.extend(options.split_whitespace());
    let script = files
        .iter()
        .map(|file| format!("cat /sys/fs/cgroup/{file} 2>/dev/null"))
        .collect::<Vec<_>>()
        .join(" || ");
    run.extend(["busybox", "sh", "-c", &script]);
    context.smidge(run).ok()
}

#[test]
fn limits_reach_the_kernel_and_are_seen_inside() {
    as_root(&["memory", "cpu", "pids", "cpuset"], |context| {
        for (options, files, expected) in [
            (
                "-m 64m",
                ["memory/memory.limit_in_bytes", "memory.max"],
                ["67108864", "67108864"],
            ),
            (
                "--memory 64m --memory-reservation 32m",
                ["memory/memory.soft_limit_in_bytes", "memory.low"],
                ["33554432", "33554432"],
            ),
            (
                "--pids-limit 20",
                ["pids/pids.max", "pids.max"],
                ["20", "20"],
            ),
            (
                "--cpus 0.5",
                ["cpu/cpu.cfs_quota_us", "cpu.max"],
                ["50000", "50000 100000"],
            ),
            (
                "--cpu-quota 30000 --cpu-period 60000",
                ["cpu/cpu.cfs_period_us", "cpu.max"],
                ["60000", "30000 60000"],
            ),
            ("-c 512", ["cpu/cpu.shares", "cpu.weight"], ["512", "59"]),
            (
                "--cpuset-cpus 0 --cpuset-mems 0",
                ["cpuset/cpuset.cpus", "cpuset.cpus"],
                ["0", "0"],
            ),
        ] {
            let value = seen(context, options, &files);
            assert!(expected.contains(&value.as_str()), "{options}: {value}");
        }
    });
}

#[test]
fn limits_of_the_first_version_alone_reach_the_kernel() {
    if !Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists() {
        return skip("control groups of version 1 are not there");
    }
    as_root(&["memory", "cpu"], |context| {
        for (options, file, expected) in [
            (
                "-m 64m --memory-swappiness 7",
                "memory/memory.swappiness",
                "7",
            ),
            (
                "-m 64m --oom-kill-disable",
                "memory/memory.oom_control",
                "oom_kill_disable 1",
            ),
            (
                "--cpu-rt-runtime 1000 --cpu-rt-period 500000",
                "cpu/cpu.rt_runtime_us",
                "1000",
            ),
        ] {
            let value = seen(context, options, &[file]);
            assert_eq!(value.lines().next(), Some(expected), "{options}");
        }
    });
}

/// A disk of this machine, and its number.
fn disk() -> Option<(String, String)> {
    let disks = std::fs::read_dir("/sys/block").ok()?.flatten();
    let mut found = disks.filter_map(|disk| {
        let path = format!("/dev/{}", disk.file_name().to_str()?);
        let number = std::fs::read_to_string(disk.path().join("dev")).ok()?;
        let number = number.trim().to_owned();
        Path::new(&path).exists().then_some((path, number))
    });
    found.next()
}

#[test]
fn rates_of_disks_reach_the_kernel() {
    as_root(&["blkio"], |context| {
        let Some((path, number)) = disk() else {
            return skip("no disk is there");
        };
        for (option, rate, file) in [
            ("--device-read-bps", "1m", "read_bps"),
            ("--device-write-bps", "1m", "write_bps"),
            ("--device-read-iops", "70", "read_iops"),
            ("--device-write-iops", "70", "write_iops"),
        ] {
            let options = format!("{option} {path}:{rate}");
            let file = format!("blkio/blkio.throttle.{file}_device");
            let value = seen(context, &options, &[&file]);
            let rate = if rate == "1m" { "1048576" } else { rate };
            assert_eq!(value, format!("{number} {rate}"), "{options}");
        }
    });
}

#[test]
fn the_weight_of_a_disk_is_set_or_refused() {
    as_root(&["blkio"], |context| {
        let Some((path, _)) = disk() else {
            return skip("no disk is there");
        };
        // Whether there are weights depends on the disk's scheduler.
        let run = context.line(&format!(
            "run --rm --blkio-weight-device {path}:100 busybox true"
        ));
        if run.code() != 0 {
            run.says(125, &["cannot set `--blkio-weight-device`"]);
        }
    });
}

#[test]
fn a_limit_is_kept() {
    as_root(&["memory", "pids"], |context| {
        let forks = "i=0; while [ $i -lt 30 ]; do sleep 1000 & i=$((i+1)); done";
        let run = [
            "run",
            "--rm",
            "--pids-limit",
            "10",
            "busybox",
            "sh",
            "-c",
            forks,
        ];
        context.smidge(run).says(2, &["can't fork"]);
        // What fills a variable fills memory.
        let fill = "x=0123456789; while true; do x=$x$x; done";
        let run = [
            "run",
            "--name",
            "full",
            "-m",
            "20m",
            "--memory-swap",
            "20m",
            "busybox",
        ];
        let ran = context.smidge(run.into_iter().chain(["sh", "-c", fill]));
        assert_eq!(ran.code(), 137, "{}", ran.stderr());
        let state = context.line("inspect -f {{.State.OOMKilled}} full").ok();
        assert_eq!(state, "true");
        let told = "events --until 0s -f event=oom --format {{.Actor.Attributes.name}}";
        assert_eq!(context.line(told).ok(), "full");
        context.line("run --name other -m 64m busybox true").ok();
        let state = context.line("inspect -f {{.State.OOMKilled}} other").ok();
        assert_eq!(state, "false");
    });
}

#[test]
fn a_group_goes_with_its_container() {
    as_root(&["memory", "pids"], |context| {
        let run = "run -d --name web -m 64m --pids-limit 100 busybox sleep 1000";
        let id = context.line(run).ok();
        assert!(!groups(&id).is_empty());
        context.line("stop -t 0 web").ok();
        assert_eq!(groups(&id), Vec::<PathBuf>::new());
        context.line("start web").ok();
        assert!(!groups(&id).is_empty());
        // Its supervisor is killed, and can clear nothing away.
        let state = context
            .store()
            .join("containers")
            .join(&id)
            .join("state.json");
        let state: serde_json::Value =
            serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
        let supervisor = state["supervisor"]["pid"].as_i64().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(supervisor).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        smidge_tests::until("its end", || {
            context.line("inspect -f {{.State.Running}} web").ok() != "true"
        });
        assert_eq!(groups(&id), Vec::<PathBuf>::new());
        // One that cannot start leaves nothing either.
        let failed = context.line("run -m 64m --name failed busybox /nowhere");
        assert_eq!(failed.code(), 127);
        let id = context.line("inspect -f {{.Id}} failed").ok();
        assert_eq!(groups(&id), Vec::<PathBuf>::new());
        // And without a limit there is no group at all.
        let id = context.line("run -d busybox sleep 1000").ok();
        assert_eq!(groups(&id), Vec::<PathBuf>::new());
    });
}

#[test]
fn a_parent_is_taken_and_left() {
    as_root(&["pids"], |context| {
        let name = format!("smidge-test-{}", std::process::id());
        let run = format!("run -d --cgroup-parent {name}/inner busybox sleep 1000");
        let id = context.line(&run).ok();
        let found = groups(&id);
        assert!(found.iter().any(|group| group.join("pids.max").exists()));
        let parents: Vec<&Path> = found.iter().filter_map(|group| group.parent()).collect();
        let inner = format!("{name}/inner");
        assert!(
            parents.iter().all(|parent| parent.ends_with(&inner)),
            "{found:?}"
        );
        context.line(&format!("rm -f {id}")).ok();
        for parent in parents {
            std::fs::remove_dir(parent).unwrap();
            std::fs::remove_dir(parent.parent().unwrap()).unwrap();
        }
        let run = "run --rm --cgroup-parent a/../../b --pids-limit 9 busybox true";
        context.line(run).says(125, &["leads out of its hierarchy"]);
    });
}

#[test]
fn whoever_has_no_controllers_is_told() {
    with_busybox(|context| {
        if context.identity() == SELF {
            return;
        }
        let ran = context.line("run --rm -m 64m busybox true");
        ran.says(125, &["`--memory` takes the cgroup controller `memory`"]);
        ran.says(125, &["systemd-run --user --scope"]);
        let ran = context.line("run --rm --pids-limit 20 busybox true");
        ran.says(125, &["`--pids-limit` takes the cgroup controller `pids`"]);
        // An ordinary user may only make it likelier.
        let run = "run --rm --oom-score-adj 300 busybox cat /proc/self/oom_score_adj";
        assert_eq!(context.line(run).ok(), "300");
        let run = "run --rm --oom-score-adj -300 busybox true";
        context
            .line(run)
            .says(125, &["cannot set `--oom-score-adj`"]);
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    with_busybox(|context| {
        for (options, text) in [
            ("-m 1m", "Minimum memory limit allowed is 6MB"),
            ("-m x", "no size"),
            ("--memory-swap 64m", "always set the Memory limit"),
            (
                "-m 64m --memory-swap 32m",
                "should be larger than memory limit",
            ),
            ("--cpus 1000", "Range of CPUs is from 0.01 to"),
            ("--cpus 1 --cpu-quota 5000", "cannot both be set"),
            ("--cpuset-cpus 4000", "are not available"),
            ("--cpuset-cpus x", "Invalid value x for CPUs"),
            ("--blkio-weight 5", "from 10 to 1000"),
            ("--device-read-bps /dev/null:1m", "no block device"),
            ("--kernel-memory 5m", "given up"),
            ("--oom-score-adj 2000", "[-1000, 1000]"),
        ] {
            let run = format!("run --rm {options} busybox true");
            context.line(&run).says(125, &[text]);
        }
    });
}

#[test]
fn inspect_shows_what_was_asked_for() {
    with_busybox(|context| {
        context
            .line("create --name web -m 64m --cpus 1.5 --pids-limit 7 --cpu-shares 3 busybox true")
            .ok();
        let format = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} \
                      {{.HostConfig.PidsLimit}} {{.HostConfig.CpuShares}}";
        let shown = context.smidge(["inspect", "-f", format, "web"]).ok();
        assert_eq!(shown, "67108864 134217728 1500000000 7 3");
    });
}

/// Processor time of a process, in ticks: fields 14 and 15 of proc_pid_stat(5).
fn worked(pid: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_paused_container_stands_still() {
    as_root(&["pids"], |context| {
        let busy = [
            "run",
            "-d",
            "--name",
            "busy",
            "busybox",
            "sh",
            "-c",
            "while :; do :; done",
        ];
        let id = context.smidge(busy).ok();
        let pid = context.line("inspect -f {{.State.Pid}} busy").ok();
        let status = "ps --format {{.State}}={{.Status}}";
        assert_eq!(context.line("pause busy").ok(), "busy");
        let shown = context.line(status).ok();
        assert!(
            shown.starts_with("paused=Up ") && shown.ends_with(" (Paused)"),
            "{shown}"
        );
        let state = "inspect -f {{.State.Status}},{{.State.Paused}},{{.State.Running}} busy";
        assert_eq!(context.line(state).ok(), "paused,true,true");
        assert_eq!(context.line("ps -q --filter status=running").ok(), "");
        let before = worked(&pid);
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(worked(&pid), before);
        context.line("pause busy").says(1, &["is already paused"]);
        context
            .line("exec busy true")
            .says(1, &["it is paused", "smidge unpause busy"]);
        context.line("start busy").says(1, &["it is paused"]);
        context.line("unpause busy").ok();
        smidge_tests::until("it works again", || worked(&pid) != before);
        context.line("unpause busy").says(1, &["is not paused"]);
        context.line("exec busy true").ok();
        // It hears what is to end it, though it stands still.
        context.line("pause busy").ok();
        context.line("stop busy").ok();
        assert_eq!(groups(&id), Vec::<PathBuf>::new());
        context.line("pause busy").says(1, &["is not running"]);
        context.line("start busy").ok();
        context.line("pause busy").ok();
        context.line("rm -f busy").ok();
        assert_eq!(groups(&id), Vec::<PathBuf>::new());
    });
}

#[test]
fn without_a_freezer_nothing_is_paused() {
    with_busybox(|context| {
        if context.identity() == SELF {
            return;
        }
        context.line("run -d --name web busybox sleep 1000").ok();
        let ran = context.line("pause web");
        ran.says(1, &["`pause` takes the cgroup controller `freezer`"]);
        assert_eq!(
            context.line("inspect -f {{.State.Paused}} web").ok(),
            "false"
        );
    });
}

#[test]
fn an_ordinary_user_limits_what_is_delegated() {
    as_root(&["pids"], |_| {
        let v1 = ["pids", "unified"].map(|name| Path::new("/sys/fs/cgroup").join(name));
        if !v1
            .iter()
            .all(|hierarchy| hierarchy.join("cgroup.procs").exists())
        {
            return skip("the hierarchies are not the ones that this test delegates");
        }
        with_busybox(|context| {
            let Some((uid, gid)) = context.identity().ids else {
                return;
            };
            let name = format!("smidge-delegated-{}-{uid}", std::process::id());
            let delegated = v1.clone().map(|hierarchy| hierarchy.join(&name));
            let mut enter = String::new();
            for group in &delegated {
                std::fs::create_dir(group).unwrap();
                for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
                    let _ = std::os::unix::fs::chown(group.join(file), Some(uid), Some(gid));
                }
                enter += &format!("echo 0 > {}/cgroup.procs; ", group.display());
            }
            let inside = |line: &str| {
                let command = context.line_command(line);
                let mut shell = std::process::Command::new("sh");
                shell.args(["-c", &format!("{enter} exec \"$@\""), "sh"]);
                shell.arg(command.get_program()).args(command.get_args());
                for (key, value) in command.get_envs() {
                    match value {
                        Some(value) => shell.env(key, value),
                        None => shell.env_remove(key),
                    };
                }
                shell
                    .current_dir(context.path())
                    .stdin(std::process::Stdio::null());
                context.finish(shell)
            };
            let run = "run --rm --pids-limit 9 busybox cat /sys/fs/cgroup/pids/pids.max";
            assert_eq!(inside(run).ok(), "9");
            inside("run -d --name web busybox sleep 1000").ok();
            inside("pause web").ok();
            assert_eq!(inside("ps --format {{.State}}").ok(), "paused");
            inside("unpause web").ok();
            inside("rm -f web").ok();
            for group in &delegated {
                std::fs::remove_dir(group).unwrap();
            }
        });
    });
}

#[test]
fn limits_change_while_a_container_runs() {
    as_root(&["memory", "pids"], |context| {
        let id = context.line("run -d --name web busybox sleep 1000").ok();
        assert_eq!(
            context.line("update -m 64m --pids-limit 50 web").ok(),
            "web"
        );
        let first = |files: [&str; 2]| {
            let read = |group: &PathBuf| {
                files
                    .iter()
                    .find_map(|file| std::fs::read_to_string(group.join(file)).ok())
            };
            groups(&id).iter().find_map(read).unwrap()
        };
        let memory = || first(["memory.limit_in_bytes", "memory.max"]);
        assert_eq!(memory().trim(), "67108864");
        assert_eq!(first(["pids.max", "pids.max"]).trim(), "50");
        let processes = first(["cgroup.procs", "cgroup.procs"]);
        let pid = context.line("inspect -f {{.State.Pid}} web").ok();
        assert!(processes.lines().any(|line| line == pid), "{processes}");
        // Up, past what memory and swap were together; and down again.
        for size in ["256m", "32m"] {
            context.line(&format!("update --memory {size} web")).ok();
        }
        assert_eq!(memory().trim(), "33554432");
        context.line("update --pids-limit -1 web").ok();
        assert_eq!(first(["pids.max", "pids.max"]).trim(), "max");
        let shown = "inspect -f {{.HostConfig.Memory}},{{.HostConfig.PidsLimit}} web";
        assert_eq!(context.line(shown).ok(), "33554432,<nil>");
        context.line("update web").says(1, &["one or more flags"]);
        context
            .line("update -m 1m web")
            .says(1, &["Minimum memory limit"]);
        assert_eq!(memory().trim(), "33554432");
        // Kept for the next start.
        context.line("stop -t 0 web").ok();
        context.line("update --pids-limit 7 web").ok();
        context.line("start web").ok();
        assert_eq!(first(["pids.max", "pids.max"]).trim(), "7");
    });
}

#[test]
fn a_terminal_shows_what_is_used_from_its_top_on() {
    if !have("script") {
        return skip("no `script`");
    }
    with_busybox(|context| {
        context.line("run -d --name web busybox sleep 1000").ok();
        let mut command = context.program("sh");
        let smidge = smidge_binary().display();
        // It ends with the last container that it was asked for.
        let line = format!(
            "script -qec '{smidge} stats web' /dev/null | (head -c 6; {smidge} rm -f web >&2)"
        );
        command.args(["-c", &line]);
        let shown = context.finish(command).stdout();
        assert_eq!(shown, "\x1b[H\x1b[J");
    });
}

/// While it waits to be started again there is nobody whom the limit could hold.
#[test]
fn limits_that_change_between_two_runs_are_those_of_the_next() {
    as_root(&["pids"], |context| {
        let script =
            "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2> /dev/null; exit 1";
        let line = "run -d --name web --pids-limit 50 --restart always busybox sh -c";
        let id = context.smidge(line.split_whitespace().chain([script])).ok();
        let said = |limit: &str| {
            smidge_tests::until(limit, || {
                let logs = context.line("logs --tail 1 web").ok();
                logs.trim() == limit
            });
        };
        for limit in ["60", "70"] {
            // It waits for longer and longer.
            smidge_tests::until("it waits", || {
                let shown = "inspect -f {{.State.Restarting}}";
                context.line(&format!("{shown} {id}")).ok() == "true"
            });
            let line = format!("update --pids-limit {limit} web");
            context.line(&line).ok();
            said(limit);
        }
        context.line("rm -f web").ok();
    });
}

#[test]
fn stats_show_what_containers_use() {
    with_busybox(|context| {
        context.line("run -d --name web busybox sleep 1000").ok();
        context.line("create --name idle busybox true").ok();
        let table = context.line("stats --no-stream").ok();
        let header = table.lines().next().unwrap();
        assert_eq!(
            header.split_whitespace().collect::<Vec<_>>().join(" "),
            "CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS"
        );
        assert!(!table.contains("idle"), "{table}");
        let format = "{{.Name}} {{.PIDs}} {{.MemUsage}} {{.NetIO}}";
        let shown = context
            .smidge(["stats", "--no-stream", "-a", "--format", format])
            .ok();
        let mut lines: Vec<&str> = shown.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines[0], "idle 0 0B / 0B 0B / 0B");
        assert!(
            lines[1].starts_with("web 1 ") && !lines[1].contains(" 0B /  "),
            "{shown}"
        );
        let memory = lines[1].split_whitespace().nth(2).unwrap();
        assert!(memory.ends_with("iB") && memory != "0B", "{shown}");
        context
            .line("stats --no-stream nobody")
            .says(1, &["nobody"]);
    });
}
