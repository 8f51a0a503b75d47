//! `config.md`, "Process": user, capabilities, limits, environment, directory.

use serde_json::json;

use super::bundle::{each, everybody, ours};

#[test]
fn process() {
    each(|bundle| {
        bundle.config["process"]["env"] = json!(["PATH=/bin", "A=b c"]);
        bundle.config["process"]["cwd"] = json!("/made/here");
        let said = bundle.runs("echo \"$A\"; readlink /proc/self/cwd");
        assert_eq!(said, "b c\n/made/here");
        bundle.config["process"]["args"] = json!(["nosuch"]);
        let missing = bundle.run();
        assert_eq!(missing.code(), 1);
        assert!(missing.stderr().contains("executable file not found"));
        bundle.config["process"]["args"] = json!(["/etc/passwd"]);
        let denied = bundle.run();
        assert_eq!(denied.code(), 1);
        assert!(denied.stderr().to_lowercase().contains("permission denied"));
    });
}

#[test]
fn process_user() {
    each(|bundle| {
        bundle.config["process"]["user"] =
            json!({"uid": 10, "gid": 20, "additionalGids": [30, 40], "umask": 0o27});
        let script = "id -u; id -g; grep Groups /proc/self/status | tr '\\t' ' '; umask; \
                      grep CapEff /proc/self/status | tr '\\t' ' '; : > /dev/null; readlink /proc/self/fd/0";
        let said = bundle.runs(script);
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        assert_eq!(lines[..2], ["10", "20"]);
        assert!(lines[2].ends_with("30 40"), "{said}");
        assert_eq!(lines[3], "0027");
        assert_eq!(lines[4], "CapEff: 0000000000000000");
    });
}

#[test]
fn process_capabilities() {
    each(|bundle| {
        bundle.config["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN"],
            "inheritable": ["CAP_KILL"],
            "ambient": ["CAP_KILL"],
        });
        // An unprivileged user keeps by execve(2) what is ambient.
        bundle.config["process"]["user"] = json!({"uid": 7, "gid": 7});
        let said = bundle.runs("grep Cap /proc/self/status | tr '\\t' ' '");
        let kill = "0000000000000020";
        for expected in [
            format!("CapInh: {kill}"),
            format!("CapPrm: {kill}"),
            format!("CapEff: {kill}"),
            "CapBnd: 0000000000002021".to_owned(),
            format!("CapAmb: {kill}"),
        ] {
            assert!(said.contains(&expected), "{expected}\n{said}");
        }
        bundle.config["process"]["noNewPrivileges"] = json!(true);
        let said = bundle.runs("grep NoNewPrivs /proc/self/status | tr '\\t' ' '");
        assert_eq!(said, "NoNewPrivs: 1");
    });
}

#[test]
fn process_rlimits() {
    each(|bundle| {
        bundle.config["process"]["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096},
        ]);
        assert_eq!(
            bundle.runs("ulimit -Sn; ulimit -Hn; ulimit -Sc"),
            "100\n200\n0"
        );
        bundle.config["process"]["rlimits"] =
            json!([{"type": "RLIMIT_TEST", "soft": 1, "hard": 1}]);
        assert_ne!(bundle.run().code(), 0);
    });
}

#[test]
fn process_rlimits_twice() {
    ours(|bundle| {
        let limit = json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1});
        bundle.config["process"]["rlimits"] = json!([limit, limit]);
        assert!(bundle.run().exits(1).contains("twice"));
    });
}

#[test]
fn process_oom_score_adj() {
    each(|bundle| {
        bundle.config["process"]["oomScoreAdj"] = json!(500);
        assert_eq!(bundle.runs("cat /proc/self/oom_score_adj"), "500");
    });
}

/// Files in `/proc` of who hides are the host's root's alone.
#[test]
fn process_oom_score_adj_without_root() {
    everybody(|bundle| {
        bundle.config["process"]["oomScoreAdj"] = json!(500);
        bundle.script("cat /proc/self/oom_score_adj; sleep 1000");
        let id = bundle.started();
        smidge_tests::until("its score", || bundle.said() == "500");
        let ran = bundle.line(&format!("exec {id} cat /proc/self/oom_score_adj"));
        assert_eq!(ran.ok(), "500");
    });
}

/// The kernel takes a label from the process alone that it is for.
#[test]
fn labels_are_the_programs_own() {
    ours(|bundle| {
        if !std::path::Path::new("/proc/self/attr/exec").exists() {
            return crate::context::skip("the kernel has no security modules");
        }
        bundle.script("sleep 1000");
        bundle.save();
        let id = bundle.id();
        bundle
            .quietly(&format!("--cgroup-manager disabled create --bundle b {id}"))
            .exits(0);
        bundle.line(&format!("start {id}")).exits(0);
        let process =
            json!({"args": ["/bin/true"], "cwd": "/", "selinuxLabel": "no:such:label:s0"});
        bundle.context.write("process.json", process.to_string());
        // What shows that SELinux is there.
        let script = "mount -t tmpfs tmpfs /sys/fs && mkdir /sys/fs/selinux && \
                      : > /sys/fs/selinux/enforce && exec \"$@\"";
        let runtime = bundle.command(&format!("exec --process process.json {id}"));
        let mut command = bundle.context.program("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]);
        command.arg(runtime.get_program()).args(runtime.get_args());
        let fault = bundle.context.finish(command).exits(255);
        assert!(fault.contains("label the program"), "{fault}");
        assert!(fault.contains("Invalid argument"), "{fault}");
    });
}

#[test]
fn a_container_without_root() {
    everybody(|bundle| {
        let said = bundle.runs(
            "id -u; cat /proc/self/uid_map; mkdir /tmp/x; echo > /dev/null; \
                                hostname; ls /proc/1/fd",
        );
        assert!(said.starts_with("0\n"), "{said}");
        assert!(said.contains("smidge\n0\n1\n2"), "{said}");
    });
}
