//! `config.md` and `config-linux.md`: the root, mounts, devices, paths, settings, the filter.

use serde_json::json;

use super::bundle::{each, ours};

#[test]
fn root_readonly() {
    each(|bundle| {
        for (read_only, expected) in [(true, "no"), (false, "yes")] {
            bundle.config["root"]["readonly"] = json!(read_only);
            let said = bundle.runs("touch /written 2>/dev/null && echo yes || echo no");
            assert_eq!(said, expected);
        }
        bundle.config["root"]["path"] = json!("nowhere");
        assert_ne!(bundle.run().code(), 0);
    });
}

#[test]
fn mounts() {
    each(|bundle| {
        bundle.context.write("b/source/file", "content");
        bundle.context.write("b/rootfs/copied/file", "copied");
        bundle.context.write("b/rootfs/covered/file", "covered");
        let source = bundle.context.path().join("b/source");
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.extend([
            json!({"destination": "/bind", "type": "bind", "source": source, "options": ["rbind", "rw"]}),
            json!({"destination": "/ro", "type": "none", "source": "source",
                   "options": ["bind", "ro", "nosuid", "nodev", "noexec"]}),
            json!({"destination": "/single", "source": source.join("file"), "options": ["bind"]}),
            json!({"destination": "/covered", "type": "tmpfs", "source": "tmpfs",
                   "options": ["size=64k", "mode=700", "noexec"]}),
            json!({"destination": "/copied", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}),
        ]);
        let said = bundle.runs(
            "cat /bind/file; echo; echo more > /bind/new && echo written; touch /ro/x 2>/dev/null || \
             echo read-only; cat /single; echo; ls /covered; \
             cat /copied/file; echo; grep ' /ro ' /proc/mounts | sed 's/.* \\(ro[^ ]*\\) .*/\\1/'; \
             grep ' /covered ' /proc/mounts",
        );
        let expected = "content\nwritten\nread-only\ncontent\ncopied\nro,nosuid,nodev,noexec";
        assert!(said.starts_with(expected), "{said}");
        assert!(said.contains("size=64k"), "{said}");
        let new = bundle.context.path().join("b/source/new");
        assert_eq!(std::fs::read_to_string(new).unwrap(), "more\n");
    });
}

/// Devices are made before their directory is read-only.
#[test]
fn a_read_only_dev_has_its_devices() {
    each(|bundle| {
        for mount in bundle.config["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/dev" {
                mount["options"].as_array_mut().unwrap().push(json!("ro"));
            }
        }
        let said =
            bundle.runs("echo > /dev/null && echo null; touch /dev/x 2>/dev/null || echo fixed");
        assert_eq!(said, "null\nfixed");
    });
}

/// As runc has it: what a tmpfs covers says who may use it, where its options do not.
#[test]
fn a_tmpfs_has_the_mode_of_what_it_covers() {
    each(|bundle| {
        let directory = bundle.context.path().join("b/rootfs/covered");
        std::fs::create_dir(&directory).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(&directory, mode).unwrap();
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        for (place, options) in [
            ("covered", json!([])),
            ("new", json!([])),
            ("named", json!(["mode=750"])),
        ] {
            let destination = format!("/{place}");
            mounts.push(
                json!({"destination": format!("{destination}-up"), "type": "tmpfs",
                "source": "tmpfs", "options": ["tmpcopyup", "mode=1777"]}),
            );
            mounts.push(
                json!({"destination": destination, "type": "tmpfs", "source": "tmpfs",
                "options": options}),
            );
        }
        assert_eq!(
            bundle.runs("stat -c %a /covered /new /named /covered-up /new-up"),
            "711\n1777\n750\n1777\n1777"
        );
    });
}

#[test]
fn mounts_below_are_read_only_too_where_that_is_asked_for() {
    ours(|bundle| {
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.extend([
            json!({"destination": "/outer", "type": "tmpfs", "source": "tmpfs"}),
            json!({"destination": "/outer/inner", "type": "tmpfs", "source": "tmpfs"}),
            json!({"destination": "/shown", "type": "bind", "source": "/dev", "options": ["rbind", "rro"]}),
        ]);
        let said = bundle.runs("touch /shown/shm/x 2>/dev/null || echo read-only");
        assert_eq!(said, "read-only");
    });
}

#[test]
fn mounts_with_other_owners() {
    ours(|bundle| {
        bundle.context.write("b/source/file", "");
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
        let mount = json!({"destination": "/mapped", "type": "bind", "source": "source",
            "options": ["bind"], "uidMappings": map, "gidMappings": map});
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        bundle.script("stat -c %u /mapped/file");
        let ran = bundle.run();
        if ran.stderr().contains("Invalid argument") {
            return crate::context::skip("the file system maps no owners");
        }
        assert_eq!(ran.ok(), "1000");
    });
}

#[test]
fn nothing_is_mounted_over_what_keeps_the_container_in() {
    ours(|bundle| {
        let mount = json!({"destination": "/proc/self/attr", "type": "tmpfs", "source": "tmpfs"});
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        bundle.script("true");
        assert_ne!(bundle.run().code(), 0);
    });
}

#[test]
fn linux_devices() {
    each(|bundle| {
        bundle.config["linux"]["devices"] = json!([
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4},
            {"path": "/dev/deep/block", "type": "b", "major": 7, "minor": 100, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
        ]);
        let said = bundle.runs(
            "stat -c '%a %u %g %F %t %T' /dev/mine /dev/deep/block /dev/pipe; \
             for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; \
             for l in fd stdin ptmx; do readlink /dev/$l; done",
        );
        assert!(
            said.contains("640 3 4 character special file 1 5"),
            "{said}"
        );
        assert!(said.contains("600 0 0 block special file 7 64"), "{said}");
        assert!(said.contains("622 0 0 fifo"), "{said}");
        assert!(
            said.ends_with("/proc/self/fd\n/proc/self/fd/0\npts/ptmx"),
            "{said}"
        );
    });
}

#[test]
fn linux_masked_and_readonly_paths() {
    each(|bundle| {
        bundle.context.write("b/rootfs/secret", "secret");
        bundle.context.write("b/rootfs/directory/secret", "secret");
        bundle.context.write("b/rootfs/fixed/file", "as it was");
        bundle.config["linux"]["maskedPaths"] =
            json!(["/secret", "/directory", "/not/there", "/proc/keys"]);
        bundle.config["linux"]["readonlyPaths"] =
            json!(["/fixed", "/fixed/file", "/neither", "/proc/sys"]);
        let said = bundle.runs(
            "cat /secret; ls /directory; cat /proc/keys; \
             (echo x > /fixed/file) 2>/dev/null || echo read-only; \
             (echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo read-only; cat /fixed/file",
        );
        assert_eq!(said, "read-only\nread-only\nas it was");
    });
}

/// A working directory below a read-only path is that path's, not what lies under it.
#[test]
fn a_working_directory_leads_under_no_cover() {
    each(|bundle| {
        bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
        bundle.config["process"]["cwd"] = json!("/proc/sys");
        let said = bundle.runs("(echo x > kernel/hostname) 2>/dev/null || echo refused; hostname");
        assert!(said.starts_with("refused\n"), "{said}");
        bundle.context.write("b/rootfs/hidden/secret", "secret");
        bundle.config["linux"]["maskedPaths"] = json!(["/hidden"]);
        bundle.config["process"]["cwd"] = json!("/hidden");
        assert_eq!(bundle.runs("ls; echo end"), "end");
    });
}

#[test]
fn linux_sysctl() {
    each(|bundle| {
        bundle.config["linux"]["sysctl"] =
            json!({"net.ipv4.ip_forward": "1", "kernel.shmmni": "100"});
        let said = bundle.runs("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni");
        assert_eq!(said, "1\n100");
        // The host's own is not the container's to set.
        bundle.config["linux"]["sysctl"] = json!({"vm.swappiness": "1"});
        assert_ne!(bundle.run().code(), 0);
    });
}

#[test]
fn linux_rootfs_propagation() {
    ours(|bundle| {
        for (propagation, expected) in [
            ("private", ""),
            ("rprivate", ""),
            ("slave", "master"),
            ("shared", "shared"),
            ("unbindable", "unbindable"),
        ] {
            bundle.config["linux"]["rootfsPropagation"] = json!(propagation);
            let said = bundle.runs("grep ' / / \\| /[^ ]* / ' /proc/self/mountinfo | head -1");
            // What is no slave of anything stays private.
            let fits = expected.is_empty() || expected == "master" || said.contains(expected);
            assert!(fits, "{propagation}: {said}");
            assert!(
                !expected.is_empty() || !said.contains("shared:"),
                "{propagation}: {said}"
            );
        }
        bundle.config["linux"]["rootfsPropagation"] = json!("sideways");
        assert_ne!(bundle.run().code(), 0);
    });
}

#[test]
fn linux_seccomp() {
    each(|bundle| {
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                {"names": ["kill"], "action": "SCMP_ACT_ERRNO",
                 "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]},
            ],
        });
        for privileges in [true, false] {
            bundle.config["process"]["noNewPrivileges"] = json!(privileges);
            let said = bundle.runs(
                "mkdir /tmp/x 2>&1; kill -10 $$ 2>&1 | head -1; kill -0 $$ && echo allowed; \
                 grep Seccomp: /proc/self/status | tr '\\t' ' '",
            );
            assert!(said.contains("Function not implemented"), "{said}");
            assert!(said.contains("allowed\nSeccomp: 2"), "{said}");
        }
        bundle.config["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_MAYBE");
        assert_ne!(bundle.run().code(), 0);
    });
}

#[test]
fn linux_seccomp_flags() {
    ours(|bundle| {
        let mut says = |flags: serde_json::Value| {
            bundle.config["linux"]["seccomp"] =
                json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags});
            bundle.script("grep Seccomp_filters: /proc/self/status | tr '\\t' ' '");
            bundle.run()
        };
        let known = ["LOG", "TSYNC", "SPEC_ALLOW"].map(|n| format!("SECCOMP_FILTER_FLAG_{n}"));
        assert_eq!(says(json!(known)).ok(), "Seccomp_filters: 1");
        let unknown = says(json!(["SECCOMP_FILTER_FLAG_NO_SUCH"])).exits(1);
        assert!(unknown.contains("SECCOMP_FILTER_FLAG_NO_SUCH"), "{unknown}");
        let alone = says(json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])).exits(1);
        assert!(alone.contains("answers calls"), "{alone}");
        let features: serde_json::Value =
            serde_json::from_str(&bundle.line("features").ok()).unwrap();
        let supported = &features["linux"]["seccomp"]["supportedFlags"];
        assert_eq!(supported.as_array().unwrap().len(), known.len());
    });
}

#[test]
fn a_filter_that_lets_no_helper_through_works_too() {
    ours(|bundle| {
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["execveat"], "action": "SCMP_ACT_KILL_PROCESS"}],
        });
        bundle.config["process"]["args"] = json!(["/bin/echo", "alive"]);
        assert_eq!(bundle.run().ok(), "alive");
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/somebody",
        });
        assert!(bundle.run().exits(1).contains("listenerPath"));
    });
}

/// What engines write that asks for nothing.
#[test]
fn what_asks_for_nothing_is_no_request() {
    each(|bundle| {
        for (name, value) in [
            ("network", json!({"classID": 0, "priorities": []})),
            (
                "memory",
                json!({"limit": 0, "reservation": 0, "swap": 0, "kernel": 0, "useHierarchy": true}),
            ),
            ("blockIO", json!({"leafWeight": 0, "weightDevice": []})),
            ("hugepageLimits", json!([])),
        ] {
            bundle.config["linux"]["resources"][name] = value;
        }
        assert_eq!(bundle.runs("echo ran"), "ran");
    });
}

#[test]
fn processes_are_not_saved() {
    ours(|bundle| {
        for verb in ["checkpoint --image-path x", "restore --bundle b"] {
            let fault = bundle.line(&format!("{verb} {}", bundle.id())).exits(1);
            assert!(fault.contains("neither saved nor brought back"), "{fault}");
        }
    });
}

/// Properties, values that nothing comes of, and a word of what is said then.
const PROMISES: [(&str, &str, &str); 26] = [
    ("/linux/intelRdt", r#"{"closID": "x"}"#, "intelRdt"),
    (
        "/linux/timeOffsets",
        r#"{"boottime": {"secs": 1}}"#,
        "timeOffsets",
    ),
    ("/linux/cgroupsPath", r#""system.slice:a:b""#, "systemd"),
    (
        "/linux/resources/hugepageLimits",
        r#"[{"pageSize": "3MB", "limit": 0}]"#,
        "hugepage",
    ),
    (
        "/process/scheduler",
        r#"{"policy": "SCHED_NO_SUCH"}"#,
        "scheduler",
    ),
    ("/process/selinuxLabel", r#""a:b:c""#, "SELinux"),
    (
        "/process/execCPUAffinity",
        r#"{"initial": "zero"}"#,
        "execCPUAffinity",
    ),
    (
        "/process/ioPriority",
        r#"{"class": "IOPRIO_CLASS_BE", "priority": 9}"#,
        "ioPriority",
    ),
    (
        "/process/ioPriority",
        r#"{"class": "IOPRIO_CLASS_X"}"#,
        "IOPRIO_CLASS_X",
    ),
    ("/process/oomScoreAdj", "-2147483648", "oomScoreAdj"),
    ("/vm", r#"{"kernel": {"path": "/k"}}"#, "vm"),
    ("/linux/netDevices", r#"{"eth0": {}}"#, "netDevices"),
    (
        "/linux/memoryPolicy",
        r#"{"mode": "MPOL_BIND"}"#,
        "memoryPolicy",
    ),
    (
        "/linux/personality",
        r#"{"domain": "LINUX", "flags": ["X"]}"#,
        "no `X`",
    ),
    ("/linux/personality", r#"{"domain": "WINDOWS"}"#, "WINDOWS"),
    (
        "/linux/resources/memory",
        r#"{"useHierarchy": false}"#,
        "useHierarchy",
    ),
    ("/linux/maskedPaths", r#"["relative"]"#, "relative"),
    (
        "/linux/resources/blockIO",
        r#"{"leafWeight": 10}"#,
        "leafWeight",
    ),
    ("/linux/resources/network", r#"{"classID": 1}"#, "network"),
    (
        "/linux/resources/rdma",
        r#"{"mlx5_1": {"hcaHandles": 1}}"#,
        "rdma",
    ),
    (
        "/linux/resources/unified",
        r#"{"../memory.max": "1"}"#,
        "memory.max",
    ),
    (
        "/hooks",
        r#"{"poststop": [{"path": "/bin/true", "timeout": 0}]}"#,
        "timeout",
    ),
    ("/hooks", r#"{"poststart": [{"path": "true"}]}"#, "absolute"),
    (
        "/mounts",
        r#"[{"destination": "/m", "source": "/tmp", "options": ["bind", "size=1k"]}]"#,
        "size",
    ),
    (
        "/mounts",
        r#"[{"destination": "/m", "source": "/tmp", "options": ["bind", "tmpcopyup"]}]"#,
        "tmpcopyup",
    ),
    (
        "/mounts",
        r#"[{"destination": "/m", "type": "tmpfs", "options": ["remount"]}]"#,
        "remount",
    ),
];

#[test]
fn what_cannot_be_kept_is_no_promise() {
    ours(|bundle| {
        for (pointer, value, says) in PROMISES {
            let before = bundle.config.clone();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let value: serde_json::Value = serde_json::from_str(value).unwrap();
            bundle.config.pointer_mut(parent).unwrap()[name] = value;
            bundle.script("true");
            let fault = bundle.run().exits(1);
            assert!(fault.contains(says), "{pointer}: {fault}");
            bundle.config = before;
        }
    });
}
