//! Containers that mean harm, and what published break-outs of runtimes come to here.

use std::os::unix::fs::symlink;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use smidge_tests::InTime as _;

use super::bundle::{Bundle, ours};
use crate::context::skip;

/// CVE-2019-5736: a program that leads back to the runtime's own binary.
#[test]
fn the_runtimes_own_binary_is_not_reachable() {
    ours(|bundle| {
        let root = bundle.context.path().join("b/rootfs");
        symlink("/proc/self/exe", root.join("bin/self")).unwrap();
        bundle
            .context
            .write("b/rootfs/bin/script", "#!/proc/self/exe\n");
        let script = root.join("bin/script");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(script, mode).unwrap();
        for program in ["/proc/self/exe", "/bin/self", "self", "/bin/script"] {
            bundle.config["process"]["args"] = json!([program]);
            let fault = bundle.run().exits(1);
            assert!(fault.contains("refusing to execute"), "{program}: {fault}");
        }
        bundle.script("sleep 1000");
        let id = bundle.started();
        for program in ["/proc/self/exe", "/bin/self", "/bin/script"] {
            let ran = bundle.line(&format!("exec {id} {program}"));
            assert!(ran.exits(255).contains("refusing to execute"), "{program}");
        }
        // Who waits to be started, or enters, cannot be looked into.
        let inside = "for p in /proc/[0-9]*; do readlink $p/exe; done";
        let mut command = bundle.command("exec");
        command.arg(&id).args(["sh", "-c", inside]);
        let said = bundle.context.finish(command).stdout();
        assert!(
            !said.contains("smidge") && !said.contains("runtime"),
            "{said}"
        );
    });
}

/// The same by way of a container's first process, which is smidge until it is started: for who may trace.
#[test]
fn who_may_trace_does_not_find_the_runtimes_binary() {
    ours(|bundle| {
        bundle.script("sleep 1000");
        let usual = bundle.config.clone();
        let id = bundle.create();
        let line = format!("exec --cap CAP_SYS_PTRACE {id} readlink /proc/1/exe");
        let refused = bundle.line(&line).exits(255);
        assert!(refused.contains("CAP_SYS_PTRACE"), "{refused}");
        bundle.line(&format!("delete --force {id}")).exits(0);
        bundle.config = usual;
        for set in ["bounding", "effective", "permitted"] {
            let set = &mut bundle.config["process"]["capabilities"][set];
            set.as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
        }
        let id = bundle.create();
        let said = bundle.line(&format!("exec {id} readlink /proc/1/exe"));
        assert_eq!(said.ok(), "/memfd:smidge (deleted)");
    });
}

/// Nobody inside may be able to change the host's `/dev/null`: neither by a stream, nor by what hides a file.
#[test]
fn the_hosts_null_device_is_out_of_reach() {
    use std::os::unix::fs::MetadataExt as _;
    let host = std::fs::metadata("/dev/null").unwrap();
    ours(|bundle| {
        bundle.config["linux"]["maskedPaths"] = json!(["/proc/keys"]);
        let script = "stat -L -c %d:%i /dev/stdin /dev/null; \
                      grep ' /proc/keys ' /proc/self/mountinfo | cut -d ' ' -f 6";
        let streams = |said: String| {
            let lines: Vec<String> = said.lines().map(str::to_owned).collect();
            assert_eq!(lines[0], lines[1]);
            assert_ne!(lines[0], format!("{}:{}", host.dev(), host.ino()));
            lines
        };
        let said = streams(bundle.runs(script));
        assert!(said[2].split(',').any(|option| option == "ro"), "{said:?}");
        bundle.script("sleep 1000");
        let id = bundle.create();
        bundle.line(&format!("start {id}")).exits(0);
        let exec = format!("exec {id} stat -L -c %d:%i /dev/stdin /dev/null");
        streams(bundle.line(&exec).ok());
        bundle.line(&format!("delete --force {id}")).exits(0);
        // Where there is none inside.
        let dev = bundle.context.path().join("empty");
        std::fs::create_dir(&dev).unwrap();
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.push(json!({"destination": "/dev", "source": dev, "options": ["bind"]}));
        bundle.config["linux"]["maskedPaths"] = json!([]);
        let said = bundle.runs("stat -L -c '%d:%i %F' /proc/self/fd/0; cat /proc/self/fd/0");
        assert!(said.ends_with(" character special file"), "{said}");
        assert_ne!(
            said.split(' ').next().unwrap(),
            format!("{}:{}", host.dev(), host.ino())
        );
        let fixed = "chmod 600 /proc/self/fd/0 2>/dev/null || echo fixed";
        let is_hosts = said.starts_with(&format!("{}:", host.dev()));
        assert!(is_hosts || bundle.runs(fixed) == "fixed");
    });
}

/// Where the host's `/proc` stays mounted below the root, the kernel would show a whole one to whoever makes a
/// user namespace inside.
#[test]
fn what_is_hidden_stays_hidden_without_pivot_root() {
    ours(|bundle| {
        let unshare = bundle.context.path().join("b/rootfs/bin/unshare");
        symlink("busybox", unshare).unwrap();
        // Its root may not map its id without a capability.
        bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        let nested = "unshare -U -r -m -p -f mount -t proc proc /tmp 2>/dev/null \
                      && echo mounted || echo refused";
        let run = |bundle: &mut Bundle<'_>, option: &str| {
            bundle.script(nested);
            bundle.save();
            let line = format!("run {option} --bundle b {}", bundle.id());
            bundle.line(&line).ok()
        };
        let hidden = bundle.config["linux"].clone();
        for property in ["maskedPaths", "readonlyPaths"] {
            bundle.config["linux"][property] = json!([]);
        }
        if run(bundle, "") != "mounted" {
            return skip("nobody mounts a `/proc` in a user namespace here");
        }
        assert_eq!(run(bundle, "--no-pivot"), "mounted");
        bundle.config["linux"] = hidden;
        for option in ["", "--no-pivot"] {
            assert_eq!(run(bundle, option), "refused", "{option}");
        }
        let host = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(host.contains(" /proc proc "), "{host}");
    });
}

/// CVE-2024-21626: descriptors of the host's, and working directories that lead to them.
#[test]
fn nothing_of_the_host_is_open_inside() {
    ours(|bundle| {
        let said =
            bundle.runs("ls -l /proc/self/fd | sed 's/.* //' | grep -v /proc | sort -u | head -5");
        assert!(
            !said.contains("state") && !said.contains("smidge"),
            "{said}"
        );
        let said = bundle.runs("ls /proc/1/fd; true");
        assert_eq!(said, "0\n1\n2");
        for number in 3..12 {
            bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
            bundle.script("ls /proc/self/cwd/");
            assert_ne!(bundle.run().code(), 0, "{number}");
        }
        bundle.config["process"]["cwd"] = json!("/");
        bundle.script("sleep 1000");
        let id = bundle.started();
        for number in 3..12 {
            let line = format!("exec --cwd /proc/self/fd/{number} {id} ls ../../../..");
            assert_ne!(bundle.line(&line).code(), 0, "{number}");
        }
    });
}

/// CVE-2021-30465, CVE-2019-16884: mount points that are links out of the root, or into `/proc`.
#[test]
fn mount_points_stay_inside_the_root() {
    ours(|bundle| {
        let outside = bundle.context.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let root = bundle.context.path().join("b/rootfs");
        symlink(&outside, root.join("link")).unwrap();
        symlink("../../../../../../../..", root.join("up")).unwrap();
        symlink("/proc/self", root.join("self")).unwrap();
        for destination in ["/link", "/up/made"] {
            let mount = json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"});
            bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        }
        bundle.context.write("b/rootfs/up-is-here", "");
        let said = bundle.runs("ls / | grep made; grep -c tmpfs /proc/mounts");
        assert!(said.starts_with("made\n"), "{said}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(outside.to_str().unwrap()));
        let mount = json!({"destination": "/self/attr", "type": "tmpfs", "source": "tmpfs"});
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        bundle.script("true");
        assert!(bundle.run().exits(1).contains("/self/attr"));
    });
}

/// What hides parts of `/proc` and `/sys` does so by name: they are mounted nowhere else.
#[test]
fn proc_and_sysfs_are_where_their_names_say() {
    ours(|bundle| {
        let root = bundle.context.path().join("b/rootfs");
        for name in ["proc", "sys"] {
            std::fs::remove_dir(root.join(name)).unwrap();
            std::fs::create_dir(root.join("elsewhere")).unwrap();
            symlink("elsewhere", root.join(name)).unwrap();
            bundle.script("true");
            let fault = bundle.run().exits(1);
            assert!(fault.contains(&format!("/{name}")), "{fault}");
            std::fs::remove_file(root.join(name)).unwrap();
            std::fs::rename(root.join("elsewhere"), root.join(name)).unwrap();
        }
        assert_eq!(bundle.runs("echo ran"), "ran");
    });
}

/// CVE-2025-31133: what hides a file is the host's `null`, whatever the container's `/dev/null` is.
/// CVE-2025-52565: the console is a terminal of a devpts, whatever `/dev/console` and `/dev/pts` are.
/// CVE-2025-52881: settings go to a `/proc` that is one.
#[test]
fn what_the_container_brings_stands_for_nothing_of_the_runtimes() {
    ours(|bundle| {
        let root = bundle.context.path().join("b/rootfs");
        // No `/dev` of its own: the root's, with traps in it.
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        std::fs::create_dir_all(root.join("dev")).unwrap();
        symlink("/proc/sysrq-trigger", root.join("dev/null")).unwrap();
        bundle.script("true");
        let fault = bundle.run().exits(1);
        assert!(fault.contains("/dev/null"), "{fault}");
        std::fs::remove_file(root.join("dev/null")).unwrap();
        bundle.context.write("b/rootfs/secret", "secret");
        bundle.config["linux"]["maskedPaths"] = json!(["/secret"]);
        assert_eq!(bundle.runs("cat /secret; stat -c %t:%T /secret"), "1:3");
        // A terminal: `/dev/pts` is a directory like any other.
        bundle.config["process"]["terminal"] = json!(true);
        std::fs::create_dir_all(root.join("dev/pts")).unwrap();
        std::fs::write(root.join("dev/pts/ptmx"), "").unwrap();
        bundle.save();
        let listener = bundle.context.path().join("console");
        let _listener = std::os::unix::net::UnixListener::bind(&listener).unwrap();
        let line = format!("create --bundle b --console-socket console {}", bundle.id());
        assert!(bundle.quietly(&line).exits(1).contains("terminal"));
        bundle.config["process"]["terminal"] = json!(false);
        // `/proc` is a directory like any other, where settings would be written.
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/proc");
        bundle
            .context
            .write("b/rootfs/proc/sys/net/ipv4/ip_forward", "unchanged");
        bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        bundle.config["linux"]["readonlyPaths"] = json!([]);
        bundle.config["linux"]["maskedPaths"] = json!([]);
        assert_eq!(
            bundle.runs("cat /proc/sys/net/ipv4/ip_forward"),
            "unchanged"
        );
    });
}

/// A killed `create` leaves nothing that cannot be removed, and nobody who waits for ever.
#[test]
fn what_a_killed_create_leaves_can_be_removed() {
    ours(|bundle| {
        let hook = bundle.context.path().join("hook");
        let script = format!("echo $$ > {}; exec sleep 1000", hook.display());
        bundle.config["hooks"]["createRuntime"] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        bundle.script("sleep 1000");
        bundle.save();
        let id = bundle.id();
        let file = || std::fs::File::create(bundle.context.path().join("out")).unwrap();
        let mut command = bundle.command(&format!("create --bundle b {id}"));
        let mut child = command.stdout(file()).stderr(file()).spawn().unwrap();
        let state = bundle
            .context
            .path()
            .join("state")
            .join(&id)
            .join("state.json");
        let mut pid = 0;
        smidge_tests::until("its first process", || {
            let text = std::fs::read_to_string(&state).unwrap_or_default();
            let record: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            pid = record["process"]["pid"].as_u64().unwrap_or(0);
            pid != 0
        });
        // Its root may still be the host's.
        assert_eq!(bundle.state(&id)["status"], "creating");
        let entered = bundle.line(&format!("exec {id} true"));
        assert!(entered.exits(255).contains("being made"));
        let told = || std::fs::read_to_string(&hook).unwrap_or_default();
        smidge_tests::until("the hook", || told().ends_with('\n'));
        child.kill().unwrap();
        child.status_in_time().unwrap();
        smidge_tests::until("its end", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
        bundle.line(&format!("delete {id}")).exits(0);
        assert!(bundle.line("list -q").ok().is_empty());
        // A hook is a program of the host's, and nobody's when its caller is killed.
        let hook = Pid::from_raw(told().trim().parse().unwrap()).unwrap();
        kill_process(hook, Signal::KILL).unwrap();
    });
}
