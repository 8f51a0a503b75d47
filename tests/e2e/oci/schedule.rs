//! When, where and by which clocks programs run; what they are given where nothing is said.

use std::path::Path;

use serde_json::json;

use super::bundle::{Bundle, each, everybody, ours};
use crate::context::skip;

/// Fields of `/proc/self/stat` (proc_pid_stat(5)): the nice value and the policy.
const STAT: &str = "sed 's/.*) //' /proc/self/stat | while read -r a b c d e f g h i j k l m n o p nice \
                    r s t u v w x y z aa ab ac ad ae af ag ah ai aj ak al policy rest; do \
                    echo $nice $policy; done";

#[test]
fn programs_are_scheduled_as_it_is_asked_for() {
    everybody(|bundle| {
        bundle.config["process"]["scheduler"] =
            json!({"policy": "SCHED_BATCH", "priority": 0, "nice": 19});
        bundle.script(&format!("{STAT}; sleep 1000"));
        let id = bundle.started();
        smidge_tests::until("its answer", || !bundle.said().is_empty());
        // `SCHED_BATCH` is 3 (sched(7)).
        assert_eq!(bundle.said(), "19 3");
        let process = json!({"args": ["/bin/sh", "-c", STAT], "cwd": "/", "env": ["PATH=/bin"],
            "scheduler": {"policy": "SCHED_IDLE"}});
        bundle.context.write("process.json", process.to_string());
        let ran = bundle.line(&format!("exec --process process.json {id}"));
        assert!(ran.ok().ends_with(" 5"), "{}", ran.stdout());
    });
}

#[test]
fn a_deadline_is_the_kernels_to_refuse() {
    ours(|bundle| {
        bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_DEADLINE",
            "flags": ["SCHED_FLAG_RESET_ON_FORK"], "runtime": 42000, "deadline": 100_000, "period": 10});
        bundle.script("true");
        assert!(bundle.run().exits(1).contains("set the scheduler"));
        for (name, value) in [
            ("policy", json!("SCHED_X")),
            ("flags", json!(["X"])),
            ("nice", json!(20)),
        ] {
            bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", name: value});
            assert!(
                bundle.run().exits(1).contains("process.scheduler"),
                "{name}"
            );
        }
    });
}

/// The processors of this machine that a process of the tests' own may use.
fn processors() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

#[test]
fn programs_run_on_the_processors_that_are_asked_for() {
    let all = processors();
    if all != "0-1" && !all.starts_with("0-") {
        return skip("there is one processor");
    }
    ours(|bundle| {
        bundle.script("sleep 1000");
        bundle.config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "1"});
        let id = bundle.started();
        let own = "grep Cpus_allowed_list /proc/self/status";
        let said = bundle.line(&format!("exec {id} {own}")).ok();
        assert!(said.ends_with("\t1"), "{said}");
        let said = bundle.line(&format!("exec {id} grep Cpus_allowed_list /proc/1/status"));
        assert!(
            said.ok().ends_with(&format!("\t{all}")),
            "{}",
            said.stdout()
        );
        bundle.line(&format!("delete --force {id}")).exits(0);
        // Whatever the caller is bound to.
        bundle.config["process"]["args"] =
            json!(["/bin/grep", "Cpus_allowed_list", "/proc/self/status"]);
        bundle.save();
        let runtime = bundle.command("--cgroup-manager disabled run --bundle b");
        let mut command = bundle.context.program("taskset");
        command.args(["-c", "0"]).arg(runtime.get_program());
        command.args(runtime.get_args()).arg(bundle.id());
        let said = bundle.context.finish(command).ok();
        assert!(said.ends_with(&format!("\t{all}")), "{said}");
    });
}

#[test]
fn clocks_are_ahead() {
    if !Path::new("/proc/self/timens_offsets").exists() {
        return skip("the kernel has no time namespaces");
    }
    everybody(|bundle| {
        let offsets = json!({"monotonic": {"secs": 7881, "nanosecs": 2_718_281},
            "boottime": {"secs": 1337, "nanosecs": 3_141_519}});
        bundle.config["linux"]["timeOffsets"] = offsets.clone();
        bundle.script("true");
        assert!(bundle.run().exits(1).contains("timeOffsets"));
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "time"}));
        let words = |said: &str| {
            let said: Vec<&str> = said.split_whitespace().collect();
            said.join(" ")
        };
        let expected = "monotonic 7881 2718281 boottime 1337 3141519";
        assert_eq!(
            words(&bundle.runs("cat /proc/self/timens_offsets")),
            expected
        );
        bundle.script("sleep 1000");
        let id = bundle.started();
        let line = format!("exec {id} cat /proc/self/timens_offsets");
        assert_eq!(words(&bundle.line(&line).ok()), expected);
        bundle.line(&format!("delete --force {id}")).exits(0);
        bundle.config["linux"]["timeOffsets"] = json!({"realtime": {"secs": 1}});
        bundle.script("true");
        assert!(bundle.run().exits(1).contains("realtime"));
        bundle.config["linux"]["timeOffsets"] = json!({});
        let said = bundle.runs("cat /proc/self/timens_offsets");
        assert_eq!(words(&said), "monotonic 0 0 boottime 0 0");
    });
}

#[test]
fn processors_time_is_saved_up_or_left_over() {
    let has = |file: &str| Path::new("/sys/fs/cgroup/cpu").join(file).exists();
    if !has("cpu.idle") || !has("cpu.cfs_burst_us") {
        return skip("version 1 has no `cpu.idle` or `cpu.cfs_burst_us` here");
    }
    ours(|bundle| {
        let group = format!("/smidge-oci-test-{}", bundle.id());
        bundle.config["linux"]["cgroupsPath"] = json!(group);
        let said = |file: &str| {
            let path = format!("/sys/fs/cgroup/cpu{group}/{file}");
            std::fs::read_to_string(path).unwrap().trim().to_owned()
        };
        bundle.config["linux"]["resources"] =
            json!({"cpu": {"quota": 20000, "period": 100_000, "burst": 5000}});
        bundle.script("sleep 1000");
        let id = bundle.create();
        assert_eq!(said("cpu.cfs_burst_us"), "5000");
        bundle
            .line(&format!("update --cpu-burst 4000 {id}"))
            .exits(0);
        assert_eq!(said("cpu.cfs_burst_us"), "4000");
        bundle.line(&format!("update --cpu-idle 1 {id}")).exits(0);
        assert_eq!(said("cpu.idle"), "1");
    });
}

/// What no controller can keep is no promise: devices of this kind are nowhere in tests.
#[test]
fn remote_memory_that_is_not_there_is_refused() {
    ours(|bundle| {
        bundle.config["linux"]["resources"]["rdma"] = json!({"mlx5_1": {"hcaHandles": 3}});
        bundle.script("true");
        assert!(bundle.run().exits(1).contains("rdma"));
        bundle.config["linux"]["resources"] = json!({"rdma": {"a b": {"hcaHandles": 3}}});
        assert!(bundle.run().exits(1).contains("no name"));
    });
}

/// `HOME` is the user's, by the container's own list.
#[test]
fn a_home_is_set_where_none_is_named() {
    let users = "root:x:0:0::/root-home:/bin/sh\nuser:x:5:5::/user-home:/bin/sh\n";
    each(|bundle| {
        bundle.context.write("b/rootfs/etc/passwd", users);
        bundle.config["process"]["env"] = json!(["A=1", "PATH=/bin", "A=2"]);
        bundle.config["process"]["args"] = json!(["/bin/sh", "-c", "echo $HOME $A; sleep 1000"]);
        let id = bundle.started();
        smidge_tests::until("its answer", || !bundle.said().is_empty());
        assert_eq!(bundle.said(), "/root-home 2");
        let home = |bundle: &Bundle<'_>, options: &str| {
            let mut command = bundle.command(&format!("exec {options}"));
            command.arg(&id).args(["sh", "-c", "echo $HOME"]);
            bundle.context.finish(command).ok()
        };
        assert_eq!(home(bundle, "--user 5"), "/user-home");
        assert_eq!(home(bundle, "--env HOME=/named"), "/named");
        assert_eq!(home(bundle, "--user 99"), "/");
        assert_eq!(home(bundle, "--user 99 --env HOME="), "/");
    });
}

/// A list of users that has no end keeps nobody waiting.
#[test]
fn a_home_is_looked_for_in_files_alone() {
    ours(|bundle| {
        let passwd = bundle.context.path().join("b/rootfs/etc/passwd");
        std::fs::remove_file(&passwd).unwrap();
        let (fifo, mode) = (
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
        );
        rustix::fs::mknodat(rustix::fs::CWD, &passwd, fifo, mode, 0).unwrap();
        assert_eq!(bundle.runs("echo $HOME"), "/");
    });
}
