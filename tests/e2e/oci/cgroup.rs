//! `config-linux.md`, "Control groups": limits, devices, standing still, processes, changes.

use std::path::Path;

use serde_json::{Value, json};

use super::bundle::{Bundle, each, ours};
use crate::context::skip;

/// What a file of a group says: in version 1's hierarchy of a controller, or in version 2.
fn read(controller: &str, group: &str, files: [&str; 2]) -> Option<String> {
    let v1 = format!("/sys/fs/cgroup/{controller}{group}/{}", files[0]);
    let v2 = format!("/sys/fs/cgroup{group}/{}", files[1]);
    let text = std::fs::read_to_string(v1).or_else(|_| std::fs::read_to_string(v2));
    text.ok().map(|text| text.trim().to_owned())
}

/// Whether groups can be made at all.
fn can() -> bool {
    let can = read("pids", "", ["cgroup.procs", "cgroup.subtree_control"]).is_some();
    if !can {
        skip("there are no control groups");
    }
    can
}

/// A group that no other test has, named from the top.
fn place(bundle: &mut Bundle<'_>) -> String {
    let group = format!("/smidge-oci-test-{}", bundle.id());
    bundle.config["linux"]["cgroupsPath"] = json!(group);
    group
}

#[test]
fn linux_cgroups_memory_cpus_pids() {
    if !can() {
        return;
    }
    each(|bundle| {
        let group = place(bundle);
        bundle.config["linux"]["resources"] = json!({
            "memory": {"limit": 64 << 20, "reservation": 32 << 20},
            "cpu": {"shares": 512, "quota": 50000, "period": 100_000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 30},
        });
        bundle.script("sleep 1000");
        let id = bundle.create();
        for (controller, files, expected) in [
            (
                "memory",
                ["memory.limit_in_bytes", "memory.max"],
                ["67108864", "67108864"],
            ),
            (
                "memory",
                ["memory.soft_limit_in_bytes", "memory.low"],
                ["33554432", "33554432"],
            ),
            ("cpu", ["cpu.shares", "cpu.weight"], ["512", "59"]),
            (
                "cpu",
                ["cpu.cfs_quota_us", "cpu.max"],
                ["50000", "50000 100000"],
            ),
            ("cpuset", ["cpuset.cpus", "cpuset.cpus"], ["0", "0"]),
            ("pids", ["pids.max", "pids.max"], ["30", "30"]),
        ] {
            let value = read(controller, &group, files).unwrap_or_default();
            assert!(expected.contains(&value.as_str()), "{files:?}: {value}");
        }
        let pid = bundle.state(&id)["pid"].to_string();
        let members = read("pids", &group, ["cgroup.procs", "cgroup.procs"]).unwrap();
        assert!(members.lines().any(|line| line == pid), "{members}");
        bundle.line(&format!("delete --force {id}")).exits(0);
        // Nothing of it is left.
        assert_eq!(read("pids", &group, ["cgroup.procs", "cgroup.procs"]), None);
    });
}

#[test]
fn linux_cgroups_relative() {
    if !can() {
        return;
    }
    each(|bundle| {
        let name = format!("smidge-oci-test-{}", bundle.id());
        bundle.config["linux"]["cgroupsPath"] = json!(name);
        bundle.config["linux"]["resources"] = json!({"pids": {"limit": 31}});
        let said =
            bundle.runs("cat /proc/self/cgroup | grep pids; cat /sys/fs/cgroup/pids/pids.max");
        assert!(said.ends_with("31"), "{said}");
    });
}

#[test]
fn linux_cgroups_devices() {
    // One that needs no capability to be opened.
    if !can() || !Path::new("/dev/fuse").exists() {
        return skip("there is no `/dev/fuse`");
    }
    each(|bundle| {
        place(bundle);
        let fuse = json!({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229,
            "fileMode": 0o666});
        bundle.config["linux"]["devices"] = json!([fuse]);
        let script = "(: < /dev/fuse) 2>/dev/null && echo open || echo shut; \
                      (: < /dev/null) && (: > /dev/zero) && (: < /dev/urandom) && echo usual; \
                      (: > /dev/fuse) 2>/dev/null || echo not written";
        assert_eq!(bundle.runs(script), "shut\nusual\nnot written");
        bundle.config["linux"]["resources"]["devices"] = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"},
        ]);
        assert_eq!(bundle.runs(script), "open\nusual\nnot written");
    });
}

/// A description that speaks of no devices allows none but the usual ones.
#[test]
fn devices_that_nobody_speaks_of_are_shut() {
    if !can() || !Path::new("/dev/fuse").exists() {
        return skip("there is no `/dev/fuse`");
    }
    each(|bundle| {
        place(bundle);
        bundle.config["linux"]["devices"] = json!([{"path": "/dev/fuse", "type": "c", "major": 10,
            "minor": 229, "fileMode": 0o666}]);
        bundle.config["linux"]["resources"] = json!({});
        let script = "(: < /dev/fuse) 2>/dev/null && echo open || echo shut; (: < /dev/null)";
        assert_eq!(bundle.runs(script), "shut");
    });
}

/// Where no group can be made, root's containers could use every device: they are refused.
#[test]
fn devices_that_cannot_be_shut_are_an_error() {
    if !can() {
        return;
    }
    ours(|bundle| {
        place(bundle);
        bundle.script("echo ran");
        bundle.save();
        let run = |bundle: &Bundle<'_>, options: &str, each: &str| {
            let without = format!(
                "for h in /sys/fs/cgroup/*/ /sys/fs/cgroup; do {each}; done 2>/dev/null; exec \"$@\""
            );
            let runtime = bundle.command(&format!("{options} run --bundle b {}", bundle.id()));
            let mut command = bundle.context.program("unshare");
            command.args(["--mount", "sh", "-c", &without, "sh"]);
            command.arg(runtime.get_program()).args(runtime.get_args());
            bundle.context.finish(command)
        };
        let read_only = run(bundle, "", "mount -o remount,bind,ro $h").exits(1);
        assert!(read_only.contains("cannot shut devices off"), "{read_only}");
        let gone = run(bundle, "", "umount -l $h").exits(1);
        assert!(gone.contains("`linux.resources.devices` takes"), "{gone}");
        let asked = run(bundle, "--cgroup-manager disabled", "umount -l $h");
        assert_eq!(asked.ok(), "ran");
    });
}

#[test]
fn a_group_with_processes_is_nobody_elses() {
    if !can() {
        return;
    }
    ours(|bundle| {
        place(bundle);
        bundle.script("sleep 1000");
        let id = bundle.create();
        let again = bundle.quietly(&format!("create --bundle b {id}-two"));
        assert!(again.exits(1).contains("has processes"));
        assert_eq!(bundle.state(&id)["status"], "created");
    });
}

/// Killed between making the group and its first process.
#[test]
fn what_a_killed_create_leaves_of_a_group_can_be_removed() {
    if !can() || !crate::context::have("strace") {
        return;
    }
    ours(|bundle| {
        let group = place(bundle);
        bundle.script("true");
        bundle.save();
        let id = bundle.id();
        let runtime = bundle.command(&format!("create --bundle b {id}"));
        let mut command = bundle.context.program("strace");
        command.args(["-o", "trace", "-e", "inject=clone3:signal=KILL:when=1"]);
        command.arg(runtime.get_program()).args(runtime.get_args());
        let ran = bundle.context.finish(command);
        if ran.stderr().contains("PTRACE") || ran.code() == 0 {
            return skip("nothing can be traced here");
        }
        let files = ["cgroup.procs", "cgroup.procs"];
        assert!(read("pids", &group, files).is_some(), "{}", ran.stderr());
        assert_eq!(bundle.state(&id)["status"], "creating");
        bundle.line(&format!("delete --force {id}")).exits(0);
        assert_eq!(read("pids", &group, files), None);
        assert!(bundle.line("list -q").ok().is_empty());
    });
}

/// Its end would be that of whoever is below it.
#[test]
fn a_group_above_others_processes_is_nobody_elses() {
    if !can() {
        return;
    }
    ours(|bundle| {
        let group = place(bundle);
        bundle.config["linux"]["cgroupsPath"] = json!(format!("{group}/below"));
        bundle.script("sleep 1000");
        let id = bundle.create();
        bundle.config["linux"]["cgroupsPath"] = json!(group);
        bundle.save();
        let above = bundle.quietly(&format!("create --bundle b {id}-two"));
        assert!(above.exits(1).contains("has processes"));
        assert_eq!(bundle.state(&id)["status"], "created");
        bundle.line(&format!("delete --force {id}")).exits(0);
        // The way there is left, as it was made by nobody's container.
        for entry in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let _ = std::fs::remove_dir(entry.path().join(&group[1..]));
        }
        let _ = std::fs::remove_dir(format!("/sys/fs/cgroup{group}"));
    });
}

#[test]
fn devices_are_kept_from_user_namespaces_as_well() {
    if !can() || !Path::new("/dev/fuse").exists() {
        return skip("there is no `/dev/fuse`");
    }
    ours(|bundle| {
        if bundle.is_rootless() {
            return skip("for the host's root");
        }
        place(bundle);
        let (ids, linux) = (
            json!([{"containerID": 0, "hostID": 0, "size": 65536}]),
            &mut bundle.config["linux"],
        );
        (linux["uidMappings"], linux["gidMappings"]) = (ids.clone(), ids);
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        linux["devices"] = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229,
            "fileMode": 0o666}]);
        linux["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}]);
        let script = "(: < /dev/fuse) 2>/dev/null && echo open || echo shut; (: < /dev/null)";
        assert_eq!(bundle.runs(script), "shut");
    });
}

#[test]
fn pause_and_resume() {
    if !can() {
        return;
    }
    each(|bundle| {
        bundle.script("while :; do sleep 0.05; done");
        let id = bundle.started();
        assert_ne!(bundle.line(&format!("resume {id}")).code(), 0);
        bundle.line(&format!("pause {id}")).exits(0);
        assert_eq!(bundle.state(&id)["status"], "paused");
        assert_ne!(bundle.line(&format!("exec {id} true")).code(), 0);
        bundle.line(&format!("resume {id}")).exits(0);
        assert_eq!(bundle.state(&id)["status"], "running");
        bundle.line(&format!("exec {id} true")).exits(0);
        // One that stands still can be killed.
        bundle.line(&format!("pause {id}")).exits(0);
        bundle.line(&format!("kill {id} KILL")).exits(0);
        bundle.line(&format!("resume {id}")).code();
        bundle.until(&id, "stopped");
    });
}

#[test]
fn update_ps_and_events() {
    if !can() {
        return;
    }
    each(|bundle| {
        let group = place(bundle);
        bundle.script("sleep 1000 & wait");
        let id = bundle.started();
        bundle
            .line(&format!("update --pids-limit 40 --memory 50331648 {id}"))
            .exits(0);
        let pids = read("pids", &group, ["pids.max", "pids.max"]).unwrap();
        assert_eq!(pids, "40");
        let memory = ["memory.limit_in_bytes", "memory.max"];
        assert_eq!(read("memory", &group, memory).unwrap(), "50331648");
        bundle
            .context
            .write("r.json", json!({"pids": {"limit": 41}}).to_string());
        bundle
            .line(&format!("update --resources r.json {id}"))
            .exits(0);
        assert_eq!(
            read("pids", &group, ["pids.max", "pids.max"]).unwrap(),
            "41"
        );
        smidge_tests::until("two processes", || {
            let said = bundle.line(&format!("ps --format json {id}")).ok();
            let pids: Vec<u32> = serde_json::from_str(&said).unwrap();
            pids.len() == 2
        });
        let stats = bundle.line(&format!("events --stats {id}")).ok();
        let stats: Value = serde_json::from_str(&stats).unwrap();
        assert_eq!(stats["type"], "stats");
        assert_eq!(stats["data"]["pids"]["current"], 2);
        for (interval, code) in [("100ms", 0), ("2", 0), ("1m0s", 0), ("never", 1), ("0s", 1)] {
            let ran = bundle.line(&format!("events --interval {interval} --stats {id}"));
            assert!(
                ran.code() == code || !bundle.is_ours(),
                "{interval}: {}",
                ran.stderr()
            );
        }
        let listed: Value = serde_json::from_str(&bundle.line("list --format json").ok()).unwrap();
        assert_eq!(listed[0]["id"], json!(id));
        assert_eq!(bundle.line("list --quiet").ok(), id);
        bundle.line(&format!("kill --all {id} KILL")).exits(0);
        bundle.until(&id, "stopped");
    });
}

/// What an update does not speak of stays, though the kernel is told both in one line (version 2).
#[test]
fn update_leaves_alone_what_it_does_not_speak_of() {
    if !can() {
        return;
    }
    each(|bundle| {
        let group = place(bundle);
        bundle.config["linux"]["resources"]["cpu"] = json!({"quota": 20000, "period": 50000});
        bundle.script("sleep 1000");
        let id = bundle.create();
        bundle.line(&format!("start {id}")).exits(0);
        let has = || {
            let read = |v1| read("cpu", &group, [v1, "cpu.max"]).unwrap();
            let (quota, period) = (read("cpu.cfs_quota_us"), read("cpu.cfs_period_us"));
            match quota == period {
                true => quota,
                false => format!("{quota} {period}"),
            }
        };
        for (option, expected) in [
            ("--cpu-period 40000", "20000 40000"),
            ("--cpu-quota 30000", "30000 40000"),
            ("--pids-limit 50", "30000 40000"),
        ] {
            bundle.line(&format!("update {option} {id}")).exits(0);
            assert_eq!(has(), expected, "{option}");
        }
    });
}

/// Others mount below the directory of groups, as Podman does for systemd; then it is read-only.
#[test]
fn something_is_mounted_beside_the_groups() {
    if !can() {
        return;
    }
    each(|bundle| {
        place(bundle);
        let mount =
            json!({"destination": "/sys/fs/cgroup/more", "type": "tmpfs", "source": "tmpfs"});
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        let said = bundle.runs(
            "touch /sys/fs/cgroup/more/x && echo written; \
                                mkdir /sys/fs/cgroup/pids/x 2>/dev/null || echo fixed",
        );
        assert_eq!(said, "written\nfixed");
        if bundle.is_ours() {
            let script = "mkdir /sys/fs/cgroup/x 2>/dev/null || echo fixed";
            assert_eq!(bundle.runs(script), "fixed");
        }
    });
}

#[test]
fn exec_enters_groups_below() {
    if !can() || !Path::new("/sys/fs/cgroup/pids").exists() {
        return skip("version 1 has no controller `pids` here");
    }
    each(|bundle| {
        let group = place(bundle);
        bundle.script("sleep 1000");
        let id = bundle.started();
        let below = format!("/sys/fs/cgroup/pids{group}/below");
        std::fs::create_dir(&below).unwrap();
        let line = format!("exec --cgroup pids:below {id} cat /proc/self/cgroup");
        let said = bundle.line(&line).ok();
        assert!(
            said.contains("pids:/below") && said.contains("memory:/\n"),
            "{said}"
        );
        for wrong in ["pids:nowhere", "pids:../..", "nosuch:/", ".."] {
            let line = format!("exec --cgroup {wrong} {id} true");
            assert_ne!(bundle.line(&line).code(), 0, "{wrong}");
        }
        bundle.line(&format!("exec --cgroup / {id} true")).exits(0);
        bundle.line(&format!("delete --force {id}")).exits(0);
        assert!(!Path::new(&below).exists());
    });
}

/// Where version 2 lets nobody in beside those that controllers were handed on to, the first process's group
/// is the one.
#[test]
fn exec_finds_a_group_that_takes_it() {
    let tops = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let controllers = |top: &str| std::fs::read_to_string(format!("{top}/cgroup.controllers"));
    let there = tops.into_iter().find_map(|top| {
        let name = controllers(top).ok()?.split_whitespace().next()?.to_owned();
        // These may be handed on beside processes.
        (!matches!(name.as_str(), "cpu" | "cpuset" | "pids" | "perf_event")).then_some((top, name))
    });
    let Some((top, controller)) = there else {
        return skip("version 2 has no controller that is handed on here");
    };
    ours(|bundle| {
        let group = format!("{top}{}", place(bundle));
        bundle.script("sleep 1000");
        let id = bundle.started();
        std::fs::create_dir(format!("{group}/below")).unwrap();
        let pid = bundle.state(&id)["pid"].to_string();
        std::fs::write(format!("{group}/below/cgroup.procs"), pid).unwrap();
        let handed = format!("+{controller}");
        std::fs::write(format!("{group}/cgroup.subtree_control"), handed).unwrap();
        let said = bundle
            .line(&format!("exec {id} grep 0:: /proc/self/cgroup"))
            .ok();
        assert_eq!(said, "0::/below");
        assert_ne!(bundle.line(&format!("exec --cgroup / {id} true")).code(), 0);
        bundle.line(&format!("delete --force {id}")).exits(0);
        assert!(!Path::new(&group).exists());
    });
}

/// Who shares the host's PIDs may outlive the first process, and hears signals all the same.
#[test]
fn what_outlives_its_first_process_can_be_killed() {
    if !can() {
        return;
    }
    ours(|bundle| {
        let group = place(bundle);
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|one| one["type"] != "pid");
        bundle.script("sleep 1000 & echo $!");
        let id = bundle.started();
        bundle.until(&id, "stopped");
        let member = bundle.said();
        let members = || read("pids", &group, ["cgroup.procs", "cgroup.procs"]).unwrap();
        assert_eq!(members(), member);
        bundle.line(&format!("kill {id} KILL")).exits(0);
        smidge_tests::until("its end", || members().is_empty());
        bundle.line(&format!("kill {id} KILL")).exits(1);
        bundle.line(&format!("delete {id}")).exits(0);
    });
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_where_that_is_asked_for() {
    if !can() {
        return;
    }
    ours(|bundle| {
        let group = place(bundle);
        bundle.config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}});
        bundle.script(
            "dd if=/dev/zero of=/tmp/full bs=1M count=16 2>/dev/null; echo written; sleep 1000",
        );
        let mount = json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"});
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        let id = bundle.started();
        smidge_tests::until("what is in use", || bundle.said() == "written");
        let limit = json!({"memory": {"limit": 8 << 20, "checkBeforeUpdate": true}});
        bundle.context.write("r.json", limit.to_string());
        let refused = bundle.line(&format!("update --resources r.json {id}"));
        assert!(refused.exits(1).contains("in use"));
        let memory = ["memory.limit_in_bytes", "memory.max"];
        assert_eq!(
            read("memory", &group, memory).unwrap(),
            (64 << 20).to_string()
        );
    });
}

/// Where version 2 has no controllers, it still decides about devices, and makes processes stand still.
#[test]
fn version_2_alone_decides_about_devices() {
    let v2 = Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists()
        || Path::new("/sys/fs/cgroup/cgroup.subtree_control").exists();
    if !v2 || !Path::new("/dev/fuse").exists() {
        return skip("there is no version 2, or no `/dev/fuse`");
    }
    ours(|bundle| {
        place(bundle);
        let fuse = json!({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229,
            "fileMode": 0o666});
        bundle.config["linux"]["devices"] = json!([fuse]);
        bundle.script(
            "(: < /dev/fuse) 2>/dev/null && echo open || echo shut; \
             (: < /dev/null) && (: > /dev/zero) && (: < /dev/urandom) && echo usual; \
             (: > /dev/fuse) 2>/dev/null || echo not written",
        );
        let run = |bundle: &Bundle<'_>| {
            bundle.save();
            let hide = "for h in /sys/fs/cgroup/*; do case $h in */unified) ;; \
                        *) umount $h 2>/dev/null ;; esac; done; exec \"$@\"";
            let runtime = bundle.command(&format!("run --bundle b {}", bundle.id()));
            let mut command = bundle.context.program("unshare");
            command.args(["--mount", "sh", "-c", hide, "sh"]);
            command.arg(runtime.get_program()).args(runtime.get_args());
            bundle.context.finish(command).ok()
        };
        assert_eq!(run(bundle), "shut\nusual\nnot written");
        bundle.config["linux"]["resources"]["devices"] = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"},
        ]);
        assert_eq!(run(bundle), "open\nusual\nnot written");
    });
}
