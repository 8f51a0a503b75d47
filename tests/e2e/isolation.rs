//! How far containers are shut in, and the options that change it.

use crate::context::{Context, identities, skip};
use crate::fixture::{load_busybox, with_busybox};

/// The words of a line, in which `\t` stands for a space within a word.
fn words(line: &str) -> Vec<String> {
    line.split(' ')
        .map(|word| word.replace('\t', " "))
        .collect()
}

fn run(context: &Context, line: &str) -> String {
    context.smidge(words(&format!("run --rm {line}"))).ok()
}

/// The bounding set of a container that was started with some options.
fn bounding(context: &Context, options: &str) -> u64 {
    let line = run(
        context,
        &format!("{options} busybox grep CapBnd /proc/self/status"),
    );
    let digits = line.split_whitespace().last().unwrap().to_owned();
    u64::from_str_radix(&digits, 16).unwrap()
}

#[test]
fn capabilities_are_added_and_dropped() {
    with_busybox(|context| {
        let usual = bounding(context, "--name usual");
        assert_eq!(usual, 0xa804_25fb, "Docker's");
        let admin = 1 << 12;
        assert_eq!(bounding(context, "--cap-add NET_ADMIN"), usual | admin);
        assert_eq!(
            bounding(context, "--cap-drop ALL --cap-add cap_net_admin"),
            admin
        );
        assert_eq!(bounding(context, "--cap-drop chown"), usual & !1);
        let odd = context.line("run --rm --cap-add NOPE busybox true");
        assert!(odd.exits(125).contains("unknown capability"));
        // What a capability is for works: an address of its own for the loopback device.
        let script = "ip\ta\tadd\t10.9.8.7/32\tdev\tlo\t&&\tip\ta|grep\t-c\t10.9.8.7";
        assert_eq!(
            run(
                context,
                &format!("--cap-add NET_ADMIN busybox sh -c {script}")
            ),
            "1"
        );
    });
}

#[test]
fn security_options_do_what_they_say() {
    with_busybox(|context| {
        let new = |options: &str| {
            run(
                context,
                &format!("{options} busybox grep NoNewPrivs /proc/self/status"),
            )
        };
        assert!(new("--name usual").ends_with('1'));
        assert!(new("--security-opt no-new-privileges=false").ends_with('0'));
        let filtered = |options: &str| {
            run(
                context,
                &format!("{options} busybox grep Seccomp: /proc/self/status"),
            )
        };
        assert!(filtered("--name usual").ends_with('2'));
        assert!(filtered("--security-opt seccomp=unconfined").ends_with('0'));
        let writable = "test\t-w\t/proc/sysrq-trigger\t&&\techo\tw;\tmount|grep\t-c\t/proc/";
        let masked = run(context, &format!("busybox sh -c {writable}"));
        assert_ne!(masked.lines().last(), Some("0"));
        let open = "--security-opt systempaths=unconfined busybox";
        let script = "mount|grep\t-c\t/proc/;\ttrue";
        assert_eq!(run(context, &format!("{open} sh -c {script}")), "0");
        let odd = context.line("run --rm --security-opt magic busybox true");
        assert!(odd.exits(125).contains("there is no such option"));
    });
}

/// Root of the host's own ids could change the host's, for everybody.
#[test]
fn a_null_device_among_the_streams_is_the_containers() {
    with_busybox(|context| {
        let stat = "stat -L -c %d:%i /dev/stdin /dev/null";
        let is_own = |said: String| {
            let (stream, own) = said.split_once('\n').unwrap();
            assert_eq!(stream, own);
        };
        is_own(run(context, &format!("busybox {stat}")));
        context
            .line("run -d --name one busybox sleep 1000")
            .exits(0);
        is_own(context.line(&format!("exec one {stat}")).ok());
        context.line("rm -f one").exits(0);
    });
}

/// A filter of the user's, in Docker's words, is in force, and no more than that.
#[test]
fn profiles_of_the_users_are_taken() {
    with_busybox(|context| {
        let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22},
            {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO",
                "includes": {"caps": ["CAP_SYS_TIME"]}}]}"#;
        context.write("profile.json", profile);
        let options = "--security-opt seccomp=profile.json";
        let script = "mkdir\t/x\t2>&1;\tchmod\t700\t/tmp\t&&\techo\tfine";
        let output = run(context, &format!("{options} busybox sh -c {script}"));
        assert!(
            output.contains("Invalid argument") && output.ends_with("fine"),
            "{output}"
        );
        let output = context.smidge(words(&format!(
            "run --rm --cap-add SYS_TIME {options} busybox chmod 700 /tmp"
        )));
        assert!(output.exits(1).contains("Operation not permitted"));
        // It is kept with the container.
        context
            .smidge(words(&format!(
                "create --name kept {options} busybox mkdir /x"
            )))
            .ok();
        std::fs::remove_file(context.path().join("profile.json")).unwrap();
        assert_eq!(context.line("start -a kept").code(), 1);
        context.write("broken.json", "{\"defaultAction\": 1}");
        let broken = context.line("run --rm --security-opt seccomp=broken.json busybox true");
        assert!(broken.exits(125).contains("invalid seccomp profile"));
    });
}

#[test]
fn settings_of_namespaces_are_set() {
    with_busybox(|context| {
        let line = "--sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward";
        assert_eq!(run(context, line), "1");
        let line = "--sysctl kernel.shm_rmid_forced=1 busybox cat /proc/sys/kernel/shm_rmid_forced";
        assert_eq!(run(context, line), "1");
        for (bad, expected) in [
            (
                "kernel.core_pattern=|/x",
                "not in a separate kernel namespace",
            ),
            ("net.ipv4.no_such=1", "cannot set `net/ipv4/no_such` to `1`"),
        ] {
            let refused = context.smidge(["run", "--rm", "--sysctl", bad, "busybox", "true"]);
            let stderr = refused.exits(125);
            assert!(stderr.contains(expected), "{bad}: {stderr}");
        }
    });
}

#[test]
fn devices_are_given() {
    with_busybox(|context| {
        let line = "--device /dev/zero:/dev/nil busybox sh -c head\t-c\t2\t/dev/nil|wc\t-c";
        assert_eq!(run(context, line).trim(), "2");
        let line = "--device /dev/null:/srv/deep/null busybox sh -c echo\tx>/srv/deep/null";
        run(context, line);
        let missing = context.line("run --rm --device /dev/no-such busybox true");
        assert!(
            missing
                .exits(125)
                .contains("invalid `--device /dev/no-such`")
        );
    });
}

#[test]
fn groups_limits_and_shared_memory_are_as_asked_for() {
    for identity in identities() {
        let context = Context::of(identity);
        load_busybox(&context);
        let limit = run(
            &context,
            "--ulimit nofile=77:99 busybox sh -c ulimit\t-n;ulimit\t-Hn",
        );
        assert_eq!(limit, "77\n99");
        let script = "df\t-k\t/dev/shm|tail\t-1|awk\t'{print\t$2}'";
        let size = run(&context, &format!("--shm-size 1m busybox sh -c {script}"));
        assert_eq!(size, "1024");
        let groups = context.line("run --rm --group-add extra --group-add 4 busybox id -G");
        if identity.name == "smidge-single" {
            assert!(groups.exits(125).contains("a single id"));
            continue;
        }
        let groups = groups.ok();
        let has = |id: &str| groups.split(' ').any(|group| group == id);
        assert!(has("2000") && has("4"), "{groups}");
        let odd = context.line("run --rm --group-add no-such busybox true");
        assert!(odd.exits(125).contains("unable to find group no-such"));
    }
}

/// `--privileged`: everything that whoever starts it has.
#[test]
fn privileged_containers_are_hardly_shut_in() {
    with_busybox(|context| {
        let script = "grep\t-c\tSeccomp:.*0\t/proc/self/status;\tmount|grep\t-c\t/proc/;\t\
                      mkdir\t/m;\tmount\t-t\ttmpfs\tnone\t/m\t&&\techo\tmounted";
        let output = run(context, &format!("--privileged busybox sh -c {script}"));
        assert_eq!(output, "1\n0\nmounted");
        let devices = run(context, "--privileged busybox sh -c ls\t/dev|wc\t-l");
        let usual = run(context, "busybox sh -c ls\t/dev|wc\t-l");
        let count = |text: &str| text.trim().parse::<u32>().unwrap();
        assert!(count(&devices) > count(&usual), "{devices} {usual}");
        context
            .line("create --name free --privileged busybox true")
            .ok();
        let shown = context
            .line("inspect --format {{.HostConfig.Privileged}}/{{.HostConfig.MaskedPaths}} free")
            .ok();
        assert_eq!(shown, "true/[]");
    });
}

/// As root, a node that is made inside opens no device of the host: nowhere.
#[test]
fn nodes_that_are_made_inside_open_nothing() {
    if !rustix::process::geteuid().is_root() {
        return skip("an ordinary user's containers can make no nodes");
    }
    let context = Context::new();
    load_busybox(&context);
    context.write("v/.keep", "");
    let script = "for\tat\tin\t/a\t/dev/a\t/v/a\t/t/a;\tdo\tmknod\t$at\tc\t1\t5\t&&\t\
                  head\t-c\t1\t$at\t2>&1;\tdone;\ttrue";
    let line = format!("-v ./v:/v --tmpfs /t busybox sh -c {script}");
    let output = run(&context, &line);
    assert_eq!(output.matches("Permission denied").count(), 4, "{output}");
}

#[test]
fn namespaces_are_shared_with_the_host_where_that_is_asked_for() {
    with_busybox(|context| {
        let host = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let inside = |options: &str, name: &str| {
            run(
                context,
                &format!("{options} busybox readlink /proc/self/ns/{name}"),
            )
        };
        assert_eq!(inside("--uts host", "uts"), host("uts").to_str().unwrap());
        assert_ne!(
            inside("--uts private", "uts"),
            host("uts").to_str().unwrap()
        );
        assert_eq!(inside("--ipc host", "ipc"), host("ipc").to_str().unwrap());
        assert_ne!(
            inside("--ipc private", "ipc"),
            host("ipc").to_str().unwrap()
        );
        let name = run(context, "--uts host busybox hostname");
        let hosts = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(name, hosts.trim());
        let conflict = context.line("run --rm --uts host -h box busybox true");
        assert!(conflict.exits(125).contains("conflicting options"));
        let script = "ls\t-d\t/dev/shm\t2>/dev/null\t||\techo\tnone";
        assert_eq!(
            run(context, &format!("--ipc none busybox sh -c {script}")),
            "none"
        );
        let file = tempfile::Builder::new()
            .prefix("smidge-e2e-")
            .tempfile_in("/dev/shm")
            .unwrap();
        let name = file.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(
            run(context, &format!("--ipc host busybox ls /dev/shm/{name}")),
            file.path().to_str().unwrap()
        );
        let refused = context.line("run --rm --ipc host --sysctl kernel.shmmax=1 busybox true");
        assert!(refused.exits(125).contains("leave `--ipc host` away"));
        for flag in ["hostname", "domainname"] {
            let name = |length| format!("create --{flag} {} busybox true", "x".repeat(length));
            context.line(&name(64)).ok();
            context
                .line(&name(65))
                .says(125, &["the kernel takes 64 bytes at most"]);
        }
        context
            .line("create --name shared --ipc host --uts host busybox true")
            .ok();
        let shown = "inspect --format {{.HostConfig.IpcMode}}/{{.HostConfig.UTSMode}} shared";
        assert_eq!(context.line(shown).ok(), "host/host");
    });
}

#[test]
fn control_groups_are_seen_from_inside_or_from_outside() {
    with_busybox(|context| {
        let groups = |mode: &str| {
            let run = format!("run --rm {mode} busybox cat /proc/self/cgroup");
            context.line(&run).ok()
        };
        let own = groups("--cgroupns private");
        assert!(own.lines().all(|line| line.ends_with(":/")), "{own}");
        assert_eq!(groups(""), own);
        let outside = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        assert_eq!(
            groups("--cgroupns host").lines().count(),
            outside.lines().count()
        );
        context
            .line("run --rm --cgroupns own busybox true")
            .says(125, &["own"]);
    });
}
