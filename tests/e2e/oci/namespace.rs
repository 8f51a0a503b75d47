//! `config-linux.md`, "Namespaces" and "User namespace mappings".

use std::process::{Child, Command};

use serde_json::json;
use smidge_tests::InTime as _;

use super::bundle::{Bundle, each, ours};

/// The names in `/proc/PID/ns` of the kinds.
const KINDS: [(&str, &str); 5] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
];

fn own(file: &str) -> String {
    let link = std::fs::read_link(format!("/proc/self/ns/{file}")).unwrap();
    link.display().to_string()
}

fn without(bundle: &mut Bundle<'_>, kind: &str) {
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|one| one["type"] != kind);
}

#[test]
fn linux_ns_nopath() {
    each(|bundle| {
        for (kind, file) in KINDS {
            let inside = bundle.runs(&format!("readlink /proc/self/ns/{file}"));
            assert_ne!(inside, own(file), "{kind}");
        }
    });
}

#[test]
fn linux_ns_itype() {
    each(|bundle| {
        for (kind, file) in KINDS {
            let before = bundle.config.clone();
            without(bundle, kind);
            if kind == "uts" {
                bundle.config["hostname"] = json!("");
            }
            let inside = bundle.runs(&format!("readlink /proc/self/ns/{file}"));
            assert_eq!(inside, own(file), "{kind}");
            bundle.config = before;
        }
    });
}

/// A process in namespaces of its own.
struct Other(Child);

impl Other {
    fn new() -> Self {
        let unshare = [
            "--net",
            "--ipc",
            "--uts",
            "--cgroup",
            "--pid",
            "--fork",
            "--kill-child",
            "sleep",
            "1000",
        ];
        let other = Self(Command::new("unshare").args(unshare).spawn().unwrap());
        smidge_tests::until("the other's namespaces", || {
            let theirs = std::fs::read_link(other.path("net"));
            theirs.is_ok_and(|theirs| theirs.display().to_string() != own("net"))
                && std::fs::read_link(other.path("pid_for_children")).is_ok()
        });
        other
    }

    fn path(&self, file: &str) -> String {
        format!("/proc/{}/ns/{file}", self.0.id())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.status_in_time();
    }
}

#[test]
fn linux_ns_path() {
    each(|bundle| {
        let other = Other::new();
        for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
            let before = bundle.config.clone();
            without(bundle, kind);
            bundle.config["hostname"] = json!("");
            let path = other.path(file);
            let theirs = std::fs::read_link(&path).unwrap();
            let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.push(json!({"type": kind, "path": path}));
            let inside = bundle.runs(&format!("readlink /proc/self/ns/{file}"));
            assert_eq!(inside, theirs.display().to_string(), "{kind}");
            bundle.config = before;
        }
    });
}

#[test]
fn linux_ns_path_type() {
    each(|bundle| {
        let other = Other::new();
        for (kind, path) in [
            ("network", other.path("ipc")),
            ("ipc", other.path("net")),
            ("uts", "/nowhere".to_owned()),
            ("uts", "/etc/passwd".to_owned()),
        ] {
            let before = bundle.config.clone();
            without(bundle, kind);
            bundle.config["hostname"] = json!("");
            let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.push(json!({"type": kind, "path": path}));
            bundle.script("true");
            assert_ne!(bundle.run().code(), 0, "{kind} {path}");
            bundle.config = before;
        }
    });
}

#[test]
fn a_pid_namespace_is_joined() {
    ours(|bundle| {
        bundle.script("sleep 1000");
        let id = bundle.create();
        let pid = bundle.state(&id)["pid"].clone();
        let path = format!("/proc/{pid}/ns/pid");
        let theirs = std::fs::read_link(&path).unwrap();
        without(bundle, "pid");
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "pid", "path": path}));
        bundle.script("readlink /proc/self/ns/pid; echo $$; ls /proc/1/fd /proc/1/exe; exit 0");
        bundle.save();
        let ran = bundle.line(&format!("run --bundle b {id}-guest"));
        let said = ran.ok();
        assert!(
            said.starts_with(&format!("{}\n", theirs.display())),
            "{said}"
        );
        // Who waits for its start lets nobody look into it: it still is smidge.
        assert!(!said.contains("smidge"), "{said}");
        assert!(
            ran.stderr().to_lowercase().contains("denied"),
            "{}",
            ran.stderr()
        );
    });
}

/// Until it has changed its root, the host's files can be had by way of it.
#[test]
fn who_joins_processes_with_ids_of_its_own_is_hidden_from_the_start() {
    ours(|bundle| {
        bundle.script("sleep 1000");
        let id = bundle.started();
        let path = format!("/proc/{}/ns/pid", bundle.state(&id)["pid"]);
        without(bundle, "pid");
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.extend([
            json!({"type": "pid", "path": path}),
            json!({"type": "user"}),
        ]);
        // Its root is the others' root.
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        bundle.config["linux"]["uidMappings"] = map.clone();
        bundle.config["linux"]["gidMappings"] = map;
        bundle.config["process"]["oomScoreAdj"] = json!(500);
        // It belongs to a user namespace in which this one is nobody.
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/proc");
        let script = "for p in /proc/[0-9]*; do readlink $p/exe; ls $p/root/; done";
        let look = bundle.command(&format!("exec {id} sh -c"));
        let (program, args) = (look.get_program().to_owned(), look.get_args());
        let seen = bundle.context.path().join("seen");
        let mut words: Vec<String> = args.map(|arg| arg.to_str().unwrap().to_owned()).collect();
        words.insert(0, "look".to_owned());
        let call = format!("\"$0\" \"$@\" '{script}' > {} 2>&1; true", seen.display());
        let shell = ["sh".to_owned(), "-c".to_owned(), call];
        let program = [program.to_str().unwrap().to_owned()];
        let args: Vec<String> = shell
            .into_iter()
            .chain(program)
            .chain(words.split_off(1))
            .collect();
        bundle.config["hooks"]["createRuntime"] = json!([{"path": "/bin/sh", "args": args,
            "env": ["PATH=/usr/bin:/bin"]}]);
        bundle.script("id -u");
        bundle.save();
        let said = bundle.line(&format!("run --bundle b {id}-guest")).ok();
        assert_eq!(said, "0");
        let seen = std::fs::read_to_string(seen).unwrap();
        assert!(seen.contains("busybox"), "{seen}");
        assert!(!seen.contains("smidge") && !seen.contains("boot"), "{seen}");
    });
}

#[test]
fn linux_uid_and_gid_mappings() {
    each(|bundle| {
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
        bundle.config["linux"]["uidMappings"] = map.clone();
        bundle.config["linux"]["gidMappings"] = map;
        bundle.config["process"]["user"] = json!({"uid": 5, "gid": 6});
        let said = bundle.runs("id -u; id -g; cat /proc/self/uid_map; cat /proc/self/gid_map");
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(
            words,
            ["5", "6", "0", "100000", "1000", "0", "100000", "1000"]
        );
    });
}

/// Mounts in the caller's own namespace, named or not, are below the container's root, and go with it; the
/// root of all stays what it is. In a namespace that ends with the test.
#[test]
fn mounts_of_the_callers_go_with_the_container() {
    ours(|bundle| {
        if bundle.is_rootless() {
            return crate::context::skip("for the host's root");
        }
        let all = bundle.config["linux"]["namespaces"].clone();
        let id = bundle.id();
        let alone = |bundle: &Bundle<'_>, script: &str| {
            bundle.save();
            let runtime = bundle.command("");
            let mut command = bundle.context.program("unshare");
            command.args(["--mount", "sh", "-c", script, "sh"]);
            command.arg(runtime.get_program()).args(runtime.get_args());
            bundle.context.finish(command)
        };
        let count = format!(
            "grep -c {}/b/rootfs /proc/self/mountinfo",
            bundle.context.path().display()
        );
        for path in ["", "/proc/self/ns/mnt"] {
            bundle.config["linux"]["namespaces"] = all.clone();
            without(bundle, "mount");
            if !path.is_empty() {
                let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.push(json!({"type": "mount", "path": path}));
            }
            bundle.script("sleep 1000");
            let script = format!(
                "test -d /boot && \"$@\" create --bundle b {id} >/dev/null 2>&1 && \
                 \"$@\" start {id} && \"$@\" exec {id} test ! -e /boot && test -d /boot && {count}; \
                 \"$@\" delete --force {id}; {count}; ls b/rootfs/proc"
            );
            let said = alone(bundle, &script).stdout();
            let counts: Vec<usize> = said.lines().map(|line| line.parse().unwrap()).collect();
            assert!(counts[0] > 5 && counts[1..] == [0], "{path}: {said}");
        }
        // Neither is anything left of one that could not be made.
        without(bundle, "mount");
        bundle.config["process"]["args"] = json!(["nosuch"]);
        let script = format!("\"$@\" run --bundle b {id} 2>/dev/null; {count}");
        assert_eq!(alone(bundle, &script).stdout(), "0");
    });
}

/// What its root may not come to is shown to a container all the same, if whoever makes it may.
#[test]
fn a_source_behind_a_shut_directory_is_shown() {
    ours(|bundle| {
        if bundle.is_rootless() {
            return crate::context::skip("for the host's root");
        }
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
        bundle.config["linux"]["uidMappings"] = map.clone();
        bundle.config["linux"]["gidMappings"] = map;
        bundle.context.write("b/shut/shown/file", "content");
        let shut = bundle.context.path().join("b/shut");
        std::os::unix::fs::chown(&shut, Some(1234), Some(1234)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&shut, mode).unwrap();
        std::fs::create_dir(bundle.context.path().join("b/rootfs/m")).unwrap();
        let mount = json!({"destination": "/m", "type": "bind", "source": "shut/shown",
            "options": ["bind", "ro"]});
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        assert_eq!(bundle.runs("cat /m/file"), "content");
        // The container's root, too.
        let root = bundle.context.path().join("b/rootfs");
        std::fs::rename(root, shut.join("rootfs")).unwrap();
        bundle.config["root"]["path"] = json!("shut/rootfs");
        assert_eq!(bundle.runs("cat /m/file; echo inside"), "contentinside");
    });
}

/// A namespace of users needs no root: one id is enough.
#[test]
fn users_without_a_root() {
    ours(|bundle| {
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        for (name, host) in [("uidMappings", 100_000), ("gidMappings", 200_000)] {
            bundle.config["linux"][name] =
                json!([{"containerID": 1000, "hostID": host, "size": 1}]);
        }
        bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        for mount in bundle.config["mounts"].as_array_mut().unwrap() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
        bundle.script("id -u; id -g; sleep 1000");
        let id = bundle.started();
        smidge_tests::until("its answer", || bundle.said().lines().count() == 2);
        assert_eq!(bundle.said(), "1000\n1000");
        let ran = bundle.line(&format!("exec {id} id -u"));
        assert_eq!(ran.ok(), "1000");
    });
}

#[test]
fn hostname_and_domainname() {
    each(|bundle| {
        bundle.config["hostname"] = json!("inside.example");
        assert_eq!(bundle.runs("hostname"), "inside.example");
        without(bundle, "uts");
        bundle.script("true");
        assert_ne!(bundle.run().code(), 0);
    });
    ours(|bundle| {
        bundle.config["domainname"] = json!("nis.example");
        assert_eq!(
            bundle.runs("cat /proc/sys/kernel/domainname"),
            "nis.example"
        );
    });
}
