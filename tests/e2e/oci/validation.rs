//! The cases of the specification's own suite (opencontainers/runtime-tools, `validation/`), by its names: what
//! they expect, tried with smidge, and with crun and runc where these are. `docs/oci-runtime.md` has the list.
//!
//! The other files here look closer, and elsewhere too; this one is the table.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use smidge_tests::InTime as _;

use super::bundle::{Bundle, Program, with};
use crate::context::skip;

/// The suite's name of a case, and what it expects.
type Case = (&'static str, fn(&mut Bundle<'_>));

/// Runs cases with every runtime, and tells how each took it: smidge has to pass all.
fn try_all(cases: &[Case]) {
    if !rustix::process::geteuid().is_root() {
        return skip("for root alone, as the suite is");
    }
    let mut failed = Vec::new();
    for (name, case) in cases {
        let mut told = format!("{name}:");
        for program in Program::all() {
            let passed = catch_unwind(AssertUnwindSafe(|| with(program, *case))).is_ok();
            told += &format!(" {program:?} {}", if passed { "passes" } else { "fails" });
            if program == Program::Smidge && !passed {
                failed.push(*name);
            }
        }
        println!("{told}");
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn the_life_of_a_container() {
    try_all(&LIFE);
}

#[test]
fn hooks() {
    try_all(&HOOKS);
}

#[test]
fn the_process() {
    try_all(&PROCESS);
}

#[test]
fn namespaces_files_and_filters() {
    try_all(&LINUX);
}

#[test]
fn control_groups() {
    try_all(&GROUPS);
}

#[test]
fn the_page_lists_every_case() {
    let page = include_str!("../../../docs/oci-runtime.md");
    let all = [&LIFE[..], &HOOKS, &PROCESS, &LINUX, &GROUPS];
    for (name, _) in all.into_iter().flatten() {
        assert!(page.contains(&format!("| `{name}` |")), "{name}");
    }
}

fn starts(bundle: &Bundle<'_>, id: &str) {
    bundle.line(&format!("start {id}")).exits(0);
}

/// Runs a script to its end by the verbs that engines use.
fn lives(bundle: &mut Bundle<'_>, script: &str) {
    bundle.script(script);
    let id = bundle.create();
    starts(bundle, &id);
    bundle.until(&id, "stopped");
    bundle.line(&format!("delete {id}")).exits(0);
}

fn refused(bundle: &Bundle<'_>, line: &str) {
    assert_ne!(bundle.quietly(line).code(), 0, "{line}");
}

fn refuses_to_run(bundle: &mut Bundle<'_>) {
    bundle.script("true");
    assert_ne!(bundle.run().code(), 0);
}

fn inside(bundle: &Bundle<'_>, path: &str) -> PathBuf {
    bundle.context.path().join("b/rootfs").join(path)
}

const LIFE: [Case; 12] = [
    ("create", |bundle| {
        bundle.script("ls");
        bundle.save();
        refused(bundle, "create --bundle b");
        let id = bundle.create();
        assert_eq!(bundle.state(&id)["id"], json!(id));
        refused(bundle, &format!("create --bundle b {id}"));
    }),
    ("start", |bundle| {
        bundle.script("echo called >> /output");
        refused(bundle, "start");
        refused(bundle, "start nobody");
        let id = bundle.create();
        assert!(!inside(bundle, "output").exists());
        starts(bundle, &id);
        bundle.until(&id, "stopped");
        refused(bundle, &format!("start {id}"));
        let said = std::fs::read_to_string(inside(bundle, "output")).unwrap();
        assert_eq!(said, "called\n");
    }),
    ("state", |bundle| {
        refused(bundle, "state");
        refused(bundle, "state nobody");
        bundle.script("true");
        let id = bundle.create();
        let state = bundle.state(&id);
        for name in ["ociVersion", "id", "status", "pid", "bundle"] {
            assert!(!state[name].is_null(), "{name}: {state}");
        }
    }),
    ("kill", |bundle| {
        refused(bundle, "kill");
        refused(bundle, "kill nobody KILL");
        for (script, runs) in [("true", false), ("sleep 1000", true)] {
            bundle.script(script);
            let id = bundle.create();
            if runs {
                starts(bundle, &id);
            }
            bundle.line(&format!("kill {id} KILL")).exits(0);
            bundle.until(&id, "stopped");
            refused(bundle, &format!("kill {id} KILL"));
            bundle.line(&format!("delete {id}")).exits(0);
        }
    }),
    ("kill_no_effect", |bundle| {
        bundle.script("true");
        let id = bundle.create();
        starts(bundle, &id);
        bundle.until(&id, "stopped");
        let before = bundle.state(&id);
        refused(bundle, &format!("kill {id} KILL"));
        assert_eq!(bundle.state(&id), before);
    }),
    ("killsig", |bundle| {
        for signal in ["TERM", "USR1", "USR2"] {
            bundle.script(&format!(
                "trap 'touch /{signal}; exit' {signal}; echo ready; while :; do sleep 0.05; done"
            ));
            let id = bundle.create();
            starts(bundle, &id);
            smidge_tests::until("its trap", || bundle.said() == "ready");
            bundle.line(&format!("kill {id} {signal}")).exits(0);
            bundle.until(&id, "stopped");
            assert!(inside(bundle, signal).exists(), "{signal}");
            bundle.line(&format!("delete {id}")).exits(0);
        }
    }),
    ("delete", |bundle| {
        refused(bundle, "delete");
        refused(bundle, "delete nobody");
        bundle.script("sleep 1000");
        let id = bundle.create();
        starts(bundle, &id);
        refused(bundle, &format!("delete {id}"));
        bundle.line(&format!("kill {id} KILL")).exits(0);
        bundle.until(&id, "stopped");
        bundle.line(&format!("delete {id}")).exits(0);
        lives(bundle, "true");
    }),
    ("delete_resources", |bundle| {
        let Some(group) = group(bundle, json!({"pids": {"limit": 1000}})) else {
            return;
        };
        lives(bundle, "true");
        assert!(!Path::new(&format!("/sys/fs/cgroup/pids{group}")).exists());
    }),
    ("delete_only_create_resources", |bundle| {
        if !has("pids") {
            return;
        }
        let others = Path::new("/sys/fs/cgroup/pids").join(format!("{}-others", bundle.id()));
        std::fs::create_dir(&others).unwrap();
        bundle.script("true");
        let id = bundle.create();
        let pid = bundle.state(&id)["pid"].to_string();
        std::fs::write(others.join("cgroup.procs"), pid).unwrap();
        starts(bundle, &id);
        bundle.until(&id, "stopped");
        bundle.line(&format!("delete {id}")).exits(0);
        std::fs::remove_dir(others).expect("it is still there");
    }),
    ("config_updates_without_affect", |bundle| {
        bundle.script("echo before");
        let id = bundle.create();
        bundle.script("echo after");
        bundle.save();
        starts(bundle, &id);
        bundle.until(&id, "stopped");
        assert_eq!(bundle.said(), "before");
    }),
    ("misc_props", |bundle| {
        bundle.config["annotations"] = json!({"org.unknown": ""});
        bundle.config["unknown"] = json!("unknown");
        lives(bundle, "true");
        // Which runc takes.
        if bundle.is_ours() {
            bundle.config["ociVersion"] = json!("invalid");
            refuses_to_run(bundle);
        }
    }),
    ("pidfile", |bundle| {
        bundle.script("true");
        bundle.save();
        let id = bundle.id();
        let path = bundle.context.path().join("pid");
        let line = format!("create --bundle b --pid-file {} {id}", path.display());
        bundle.quietly(&line).exits(0);
        let pid = std::fs::read_to_string(path).unwrap();
        assert_eq!(bundle.state(&id)["pid"].to_string(), pid);
    }),
];

/// Hooks that fail, or write their name down.
fn hook(bundle: &Bundle<'_>, name: &str) -> Value {
    let log = bundle.context.path().join("hooks");
    let script = format!(
        "cat > /dev/null; echo {name} >> {}; test {name} != fails",
        log.display()
    );
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

fn called(bundle: &Bundle<'_>) -> String {
    let log = bundle.context.path().join("hooks");
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.replace('\n', " ")
}

const HOOKS: [Case; 8] = [
    ("hooks", |bundle| {
        for kind in ["prestart", "poststart", "poststop"] {
            let two = [
                hook(bundle, &format!("{kind}1")),
                hook(bundle, &format!("{kind}2")),
            ];
            bundle.config["hooks"][kind] = json!(two);
        }
        lives(bundle, "true");
        let expected = "prestart1 prestart2 poststart1 poststart2 poststop1 poststop2 ";
        assert_eq!(called(bundle), expected);
    }),
    ("hooks_stdin", |bundle| {
        let path = |kind: &str| bundle.context.path().join(kind);
        let kinds = ["prestart", "poststart", "poststop"];
        let all = kinds.map(|kind| {
            let script = format!("cat > {}", path(kind).display());
            (
                kind,
                json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]),
            )
        });
        for (kind, hooks) in all {
            bundle.config["hooks"][kind] = hooks;
        }
        lives(bundle, "true");
        for kind in kinds {
            let text = std::fs::read(bundle.context.path().join(kind)).unwrap();
            let state: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(state["id"], json!(bundle.id()), "{kind}");
            assert_eq!(
                state["bundle"],
                json!(bundle.context.path().join("b")),
                "{kind}"
            );
        }
    }),
    ("prestart", |bundle| {
        bundle.config["hooks"]["prestart"] = json!([hook(bundle, "prestart")]);
        lives(bundle, "true");
        assert_eq!(called(bundle), "prestart ");
    }),
    ("prestart_fail", |bundle| {
        bundle.config["hooks"]["prestart"] = json!([hook(bundle, "fails")]);
        bundle.script("touch /output");
        assert_ne!(bundle.run().code(), 0);
        assert!(!inside(bundle, "output").exists());
        refused(bundle, &format!("state {}", bundle.id()));
    }),
    ("poststart", |bundle| {
        bundle.config["hooks"]["poststart"] = json!([hook(bundle, "poststart")]);
        bundle.script("true");
        let id = bundle.create();
        assert_eq!(called(bundle), "");
        starts(bundle, &id);
        assert_eq!(called(bundle), "poststart ");
    }),
    // The suite only notes what it sees: versions of the specification want either. As the later ones do.
    ("poststart_fail", |bundle| {
        bundle.config["hooks"]["poststart"] = json!([hook(bundle, "fails")]);
        bundle.script("sleep 1000");
        let id = bundle.create();
        refused(bundle, &format!("start {id}"));
        bundle.until(&id, "stopped");
    }),
    ("poststop", |bundle| {
        bundle.config["hooks"]["poststop"] = json!([hook(bundle, "poststop")]);
        bundle.script("true");
        let id = bundle.create();
        starts(bundle, &id);
        bundle.until(&id, "stopped");
        assert_eq!(called(bundle), "");
        bundle.line(&format!("delete {id}")).exits(0);
        assert_eq!(called(bundle), "poststop ");
    }),
    ("poststop_fail", |bundle| {
        let hooks = [hook(bundle, "fails"), hook(bundle, "poststop")];
        bundle.config["hooks"]["poststop"] = json!(hooks);
        bundle.script("true");
        let id = bundle.create();
        starts(bundle, &id);
        bundle.until(&id, "stopped");
        bundle.line(&format!("delete {id}")).code();
        refused(bundle, &format!("state {id}"));
    }),
];

const PROCESS: [Case; 9] = [
    ("process", |bundle| {
        bundle.config["process"]["cwd"] = json!("/test");
        bundle.config["process"]["env"] = json!(["PATH=/bin", "testa=valuea", "testb=123"]);
        assert_eq!(bundle.runs("pwd; echo $testa $testb"), "/test\nvaluea 123");
    }),
    ("linux_process", |bundle| {
        bundle.config["process"]["noNewPrivileges"] = json!(true);
        let script = "grep NoNewPrivs /proc/self/status | tr '\\t' ' '; echo $0 $1";
        bundle.config["process"]["args"] = json!(["/bin/sh", "-c", script, "zero", "one"]);
        assert_eq!(bundle.run().ok(), "NoNewPrivs: 1\nzero one");
    }),
    ("process_user", |bundle| {
        bundle.config["process"]["user"] =
            json!({"uid": 10, "gid": 10, "additionalGids": [5], "umask": 0o027});
        let said = bundle.runs("id -u; id -g; id -G; umask");
        assert_eq!(said.lines().collect::<Vec<_>>()[..2], ["10", "10"]);
        assert!(said.contains('5') && said.ends_with("0027"), "{said}");
    }),
    ("process_capabilities", |bundle| {
        let sets = &mut bundle.config["process"]["capabilities"];
        for set in [
            "bounding",
            "effective",
            "permitted",
            "inheritable",
            "ambient",
        ] {
            sets[set] = json!(["CAP_NET_RAW"]);
        }
        let said = bundle.runs("grep -c 0000000000002000 /proc/self/status");
        assert_eq!(said, "5");
    }),
    // The suite wants an error; the specification since 1.0.2 a warning, and no error.
    ("process_capabilities_fail", |bundle| {
        let bounding = bundle.config["process"]["capabilities"]["bounding"].as_array_mut();
        bounding.unwrap().push(json!("CAP_TEST"));
        bundle.script("echo ran");
        let ran = bundle.run();
        assert_eq!(ran.stdout(), "ran");
        assert!(ran.stderr().contains("CAP_TEST"), "{}", ran.stderr());
    }),
    ("process_rlimits", |bundle| {
        bundle.config["process"]["rlimits"] = json!([
            {"type": "RLIMIT_AS", "soft": 1_u64 << 30, "hard": 2_u64 << 30},
            {"type": "RLIMIT_CORE", "soft": 3_u64 << 30, "hard": 4_u64 << 30},
            {"type": "RLIMIT_DATA", "soft": 5_u64 << 30, "hard": 6_u64 << 30},
            {"type": "RLIMIT_FSIZE", "soft": 7_u64 << 30, "hard": 8_u64 << 30},
            {"type": "RLIMIT_NOFILE", "soft": 3000, "hard": 4000},
            {"type": "RLIMIT_STACK", "soft": 9_u64 << 30, "hard": 10_u64 << 30},
        ]);
        bundle.config["process"]["args"] = json!(["/bin/cat", "/proc/self/limits"]);
        let said = bundle.run().ok();
        let words = |name: &str| {
            let line = said
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            line.split_whitespace()
                .take(2)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words("Max open files"), ["3000", "4000"]);
        assert_eq!(words("Max address space"), ["1073741824", "2147483648"]);
        assert_eq!(words("Max stack size"), ["9663676416", "10737418240"]);
    }),
    ("process_rlimits_fail", |bundle| {
        bundle.config["process"]["rlimits"] =
            json!([{"type": "RLIMIT_TEST", "soft": 1024, "hard": 1024}]);
        refuses_to_run(bundle);
    }),
    ("process_oom_score_adj", |bundle| {
        bundle.config["process"]["oomScoreAdj"] = json!(500);
        assert_eq!(bundle.runs("cat /proc/self/oom_score_adj"), "500");
    }),
    ("linux_process_apparmor_profile", |bundle| {
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
        if enabled.is_ok_and(|text| text.starts_with(b"Y")) {
            return skip("for machines without AppArmor");
        }
        bundle.config["process"]["apparmorProfile"] = json!("acme_secure_profile");
        refuses_to_run(bundle);
    }),
];

/// The namespaces of a process, by the names of their files.
fn namespaces(pid: &str) -> Vec<PathBuf> {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
    let link = |kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    kinds.map(link).into()
}

/// Files and directories below each other, all of them to be covered.
fn covered(bundle: &mut Bundle<'_>, property: &str) {
    let paths = ["dir", "file", "dir/sub", "dir/file", "dir/sub/file"];
    for path in ["file", "dir/file", "dir/sub/file"] {
        bundle.context.write(&format!("b/rootfs/{path}"), "secret");
    }
    bundle.config["linux"][property] = json!(paths.map(|path| format!("/{path}")));
}

/// What is no file, and no link to any, for a property that covers paths.
fn covers_what_is_no_file(bundle: &mut Bundle<'_>, property: &str) {
    for (name, words) in [("b", "b 0 0"), ("c", "c 0 0"), ("p", "p")] {
        let path = inside(bundle, name);
        let mut mknod = std::process::Command::new("mknod");
        mknod.arg(path).args(words.split(' '));
        assert!(mknod.status_in_time().unwrap().success());
        bundle.config["linux"][property] = json!([format!("/{name}")]);
        assert_eq!(bundle.runs("echo ran"), "ran");
    }
    std::os::unix::fs::symlink("../link", inside(bundle, "link")).unwrap();
    bundle.config["linux"][property] = json!(["/link"]);
    refuses_to_run(bundle);
}

const LINUX: [Case; 17] = [
    ("default", |bundle| {
        let said = bundle.runs(
            "for d in null zero full random urandom tty ptmx; do test -c /dev/$d || echo no $d; done; \
             for l in fd stdin stdout stderr; do readlink /dev/$l; done; \
             for m in /proc /dev /dev/pts /dev/shm /dev/mqueue /sys; do \
             grep -q \" $m \" /proc/mounts || echo no $m; done; hostname",
        );
        let links = "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2";
        assert_eq!(said, format!("{links}\nsmidge"));
    }),
    ("hostname", |bundle| {
        bundle.config["hostname"] = json!("hostname-specific");
        assert_eq!(bundle.runs("hostname"), "hostname-specific");
    }),
    ("root_readonly_true", |bundle| {
        bundle.config["root"]["readonly"] = json!(true);
        assert_eq!(bundle.runs("touch /x 2>/dev/null || echo fixed"), "fixed");
    }),
    ("mounts", |bundle| {
        let mount = json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=1k"]});
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        let said = bundle.runs("grep ' /tmp ' /proc/mounts");
        assert!(said.starts_with("tmpfs /tmp tmpfs "), "{said}");
        assert!(
            said.contains("nosuid") && said.contains("mode=755"),
            "{said}"
        );
        assert!(!said.contains("relatime"), "{said}");
    }),
    ("linux_devices", |bundle| {
        bundle.config["linux"]["devices"] = json!([
            {"path": "/dev/test1", "type": "c", "major": 10, "minor": 666, "fileMode": 0o432, "uid": 0, "gid": 0},
            {"path": "/dev/test2", "type": "b", "major": 8, "minor": 666, "fileMode": 0o432, "uid": 0, "gid": 0},
            {"path": "/dev/test3", "type": "p", "fileMode": 0o432, "uid": 0, "gid": 0},
        ]);
        let said = bundle.runs("stat -c '%a %u %g %F %t %T' /dev/test1 /dev/test2 /dev/test3");
        let expected =
            "432 0 0 character special file a 29a\n432 0 0 block special file 8 29a\n432 0 0 fifo";
        assert!(said.starts_with(expected), "{said}");
    }),
    ("linux_masked_paths", |bundle| {
        covered(bundle, "maskedPaths");
        let said = bundle.runs("cat /file; ls /dir; test -e /dir/sub || echo hidden");
        assert_eq!(said, "hidden");
        covers_what_is_no_file(bundle, "maskedPaths");
    }),
    ("linux_readonly_paths", |bundle| {
        covered(bundle, "readonlyPaths");
        let script = "for p in /file /dir/file /dir/sub/file /dir/new; do \
                      (echo x > $p) 2>/dev/null && echo $p; done; echo end";
        assert_eq!(bundle.runs(script), "end");
        covers_what_is_no_file(bundle, "readonlyPaths");
    }),
    ("linux_mount_label", |bundle| {
        if Path::new("/sys/fs/selinux/enforce").exists() {
            return skip("for machines without SELinux");
        }
        let label = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811";
        bundle.config["linux"]["mountLabel"] = json!(label);
        assert_eq!(bundle.runs("echo ran"), "ran");
    }),
    ("linux_rootfs_propagation", |bundle| {
        for (mode, expected) in [
            ("shared", "shared:"),
            ("slave", ""),
            ("private", ""),
            ("unbindable", "unbindable"),
        ] {
            bundle.config["linux"]["rootfsPropagation"] = json!(mode);
            let said = bundle.runs("grep ' / / \\| /[^ ]* / ' /proc/self/mountinfo | head -1");
            assert!(said.contains(expected), "{mode}: {said}");
            assert!(mode != "private" || !said.contains("shared:"), "{said}");
        }
    }),
    ("linux_sysctl", |bundle| {
        bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        assert_eq!(bundle.runs("cat /proc/sys/net/ipv4/ip_forward"), "1");
    }),
    ("linux_seccomp", |bundle| {
        bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"}]});
        bundle.config["process"]["args"] = json!(["/bin/sh", "-c", "cd /tmp; echo ran"]);
        assert_eq!(bundle.run().stdout(), "ran");
        bundle.config["linux"]["seccomp"]["syscalls"][0]["names"] = json!(["mkdir", "mkdirat"]);
        assert_eq!(
            bundle.runs("mkdir /x 2>/dev/null || echo refused"),
            "refused"
        );
    }),
    ("linux_uid_mappings", |bundle| maps(bundle, "uid")),
    ("linux_gid_mappings", |bundle| maps(bundle, "gid")),
    ("linux_ns_nopath", |bundle| {
        bundle.script("true");
        let id = bundle.create();
        let pid = bundle.state(&id)["pid"].to_string();
        let pairs = namespaces(&pid).into_iter().zip(namespaces("self"));
        for (theirs, ours) in pairs.filter(|(one, _)| !one.starts_with("user")) {
            // Asked for are all but users.
            let is_user = theirs.display().to_string().starts_with("user");
            assert_eq!(theirs == ours, is_user, "{}", theirs.display());
        }
    }),
    ("linux_ns_itype", |bundle| {
        // Mounts would be the machine's: in a namespace that ends with the case.
        bundle.config["linux"]["namespaces"] = json!([]);
        bundle.config["hostname"] = json!("");
        bundle.config["process"]["args"] = json!(["/bin/sh", "-c", "ls -l /proc/self/ns"]);
        bundle.save();
        let (kinds, mounts) = ("cgroup ipc mnt net pid user uts", bundle.context.path());
        let script = format!(
            "umount /sys/fs/cgroup/unified 2>/dev/null; \
             for k in {kinds}; do readlink /proc/self/ns/$k; done > ours; \
             \"$@\" run --bundle b {} > theirs || exit 3; \
             while read n; do grep -qF \"$n\" theirs || echo $n; done < ours; \
             grep -c {}/b/rootfs /proc/self/mountinfo; exit 0",
            bundle.id(),
            mounts.display(),
        );
        let runtime = bundle.bare("");
        let mut command = bundle.context.program("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]);
        command.arg(runtime.get_program()).args(runtime.get_args());
        let said = bundle.context.finish(command).ok();
        let expected = if bundle.is_ours() { "0" } else { &said };
        assert_eq!(said, expected);
        assert!(!said.contains('['), "{said}");
    }),
    ("linux_ns_path", |bundle| {
        for (kind, file, option) in [
            ("ipc", "ipc", "--ipc"),
            ("mount", "mnt", "--mount"),
            ("network", "net", "--net"),
            ("pid", "pid", "--pid"),
            ("uts", "uts", "--uts"),
        ] {
            joins(bundle, (kind, file, option), None);
        }
    }),
    ("linux_ns_path_type", |bundle| {
        for (kind, file, option) in [
            ("ipc", "net", "--net"),
            ("network", "ipc", "--ipc"),
            ("uts", "ipc", "--ipc"),
        ] {
            joins(bundle, (kind, file, option), Some("another kind"));
        }
    }),
];

fn maps(bundle: &mut Bundle<'_>, which: &str) {
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 2000}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    let said = bundle.runs(&format!("cat /proc/self/{which}_map"));
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["0", "1000", "2000"]);
}

/// Names the path of a namespace.
fn place(bundle: &mut Bundle<'_>, kind: &str, path: &str) {
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|one| one["type"] != kind);
    namespaces.push(json!({"type": kind, "path": path}));
    bundle.config["hostname"] = json!("");
}

/// Lets a container join another's namespace, or fail to.
fn joins(bundle: &mut Bundle<'_>, (kind, file, option): (&str, &str, &str), fault: Option<&str>) {
    let before = bundle.config.clone();
    let mut unshare = std::process::Command::new("unshare");
    unshare.args([option, "--fork", "--kill-child", "sleep", "1000"]);
    let mut other = unshare.spawn().unwrap();
    let link = if file == "pid" {
        "pid_for_children"
    } else {
        file
    };
    let path = format!("/proc/{}/ns/{link}", other.id());
    let ours = std::fs::read_link(format!("/proc/self/ns/{file}")).unwrap();
    let theirs = || {
        std::fs::read_link(&path)
            .ok()
            .filter(|theirs| *theirs != ours)
    };
    smidge_tests::until("the other's namespace", || theirs().is_some());
    place(bundle, kind, &path);
    let ran = match fault {
        Some(_) => catch_unwind(AssertUnwindSafe(|| refuses_to_run(bundle))),
        None => catch_unwind(AssertUnwindSafe(|| {
            let said = bundle.runs(&format!("readlink /proc/self/ns/{file}"));
            assert_eq!(said, theirs().unwrap().display().to_string());
        })),
    };
    let _ = other.kill();
    let _ = other.status_in_time();
    bundle.config = before;
    assert!(ran.is_ok(), "{kind}");
}

/// Whether there is a controller of version 1, which is the one that the suite knows.
fn has(controller: &str) -> bool {
    let has = Path::new("/sys/fs/cgroup")
        .join(controller)
        .join("cgroup.procs")
        .exists();
    if !has {
        skip(&format!("version 1 has no controller `{controller}` here"));
    }
    has
}

/// Gives a container a group of its own with these limits; none where there is no version 1.
fn group(bundle: &mut Bundle<'_>, resources: Value) -> Option<String> {
    let controller = resources
        .as_object()
        .unwrap()
        .keys()
        .next()
        .unwrap()
        .clone();
    let controller = match controller.as_str() {
        "blockIO" => "blkio",
        other => other,
    };
    let group = format!("/smidge-oci-test-{}", bundle.id());
    bundle.config["linux"]["cgroupsPath"] = json!(group);
    bundle.config["linux"]["resources"] = resources;
    has(controller).then_some(group)
}

/// What a container's group says of limits: absolute, then below the caller's.
fn limited(bundle: &mut Bundle<'_>, resources: &Value, files: &[(&str, &str)]) {
    let Some(group) = group(bundle, resources.clone()) else {
        return;
    };
    for relative in [false, true] {
        if relative {
            bundle.config["linux"]["cgroupsPath"] = json!(group.trim_start_matches('/'));
        }
        bundle.script("sleep 1000");
        let id = bundle.create();
        let pid = bundle.state(&id)["pid"].to_string();
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        for (file, expected) in files {
            let controller = file.split(['.', '/']).next().unwrap();
            let own = groups.lines().find_map(|line| {
                let (names, path) = line.split_once(':')?.1.split_once(':')?;
                names
                    .split(',')
                    .any(|name| name == controller)
                    .then_some(path)
            });
            let own = own.expect("it is in a group").trim_start_matches('/');
            let path = Path::new("/sys/fs/cgroup")
                .join(controller)
                .join(own)
                .join(file);
            let said = std::fs::read_to_string(&path).unwrap();
            assert_eq!(said.trim(), *expected, "{}", path.display());
        }
        bundle.line(&format!("delete --force {id}")).exits(0);
    }
}

const GROUPS: [Case; 6] = [
    ("linux_cgroups_blkio", |bundle| {
        let devices = std::fs::read_to_string("/proc/diskstats").unwrap_or_default();
        let whole = devices.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let disk = Path::new("/sys/block")
                .join(words.get(2)?)
                .join("device")
                .exists();
            disk.then(|| {
                (
                    words[0].parse::<u32>().unwrap(),
                    words[1].parse::<u32>().unwrap(),
                )
            })
        });
        let Some((major, minor)) = whole else {
            return skip("there is no disk");
        };
        let rate = json!([{"major": major, "minor": minor, "rate": 102_400}]);
        let said = format!("{major}:{minor} 102400");
        let mut resources = json!({"blockIO": {}});
        for kind in ["ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"] {
            resources["blockIO"][format!("throttle{kind}Device")] = rate.clone();
        }
        let files = ["read_bps", "write_bps", "read_iops", "write_iops"];
        let files = files.map(|kind| format!("blkio.throttle.{kind}_device"));
        let files = files.each_ref().map(|file| (file.as_str(), said.as_str()));
        limited(bundle, &resources, &files);
    }),
    ("linux_cgroups_cpus", |bundle| {
        for (shares, period, quota) in [("1024", "100000", "50000"), ("2048", "500000", "200000")] {
            let number = |text: &str| text.parse::<u64>().unwrap();
            let cpu = json!({"shares": number(shares), "period": number(period),
                "quota": number(quota), "cpus": "0", "mems": "0"});
            limited(
                bundle,
                &json!({"cpu": cpu}),
                &[
                    ("cpu.shares", shares),
                    ("cpu.cfs_period_us", period),
                    ("cpu.cfs_quota_us", quota),
                    ("cpuset.cpus", "0"),
                    ("cpuset.mems", "0"),
                ],
            );
        }
        limited(bundle, &json!({"cpu": {}}), &[("cpu.shares", "1024")]);
    }),
    ("linux_cgroups_devices", |bundle| {
        let device = |allow, kind: &str, major: u32, minor: u32, access: &str| json!({"allow": allow, "type": kind, "major": major, "minor": minor, "access": access});
        let rules = json!([
            {"allow": false, "access": "rwm"},
            device(true, "c", 10, 229, "rwm"),
            device(true, "b", 8, 20, "rw"),
            device(true, "b", 10, 200, "r"),
        ]);
        let Some(_) = group(bundle, json!({"devices": rules})) else {
            return;
        };
        bundle.script("sleep 1000");
        let id = bundle.create();
        let pid = bundle.state(&id)["pid"].to_string();
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let own = groups
            .lines()
            .find_map(|line| line.split_once(":devices:"))
            .unwrap()
            .1;
        let list = std::fs::read_to_string(format!("/sys/fs/cgroup/devices{own}/devices.list"));
        let list = list.unwrap();
        for line in ["c 10:229 rwm", "b 8:20 rw", "b 10:200 r"] {
            assert!(list.lines().any(|one| one == line), "{line}: {list}");
        }
    }),
    ("linux_cgroups_hugetlb", |bundle| {
        let wrong = json!([{"pageSize": "3MB", "limit": 314_572_800}]);
        bundle.config["linux"]["resources"] = json!({"hugepageLimits": wrong});
        refuses_to_run(bundle);
        // Where version 2 has it, the other runtimes do not look for it.
        let group = format!("/smidge-oci-test-{}", bundle.id());
        let has = |top: &str| {
            Path::new(top).join("cgroup.controllers").exists()
                && std::fs::read_to_string(format!("{top}/cgroup.controllers"))
                    .unwrap()
                    .contains("hugetlb")
        };
        let tops = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let Some(top) = tops.into_iter().find(|top| has(top)) else {
            return skip("version 2 has no controller `hugetlb` here");
        };
        bundle.config["linux"]["cgroupsPath"] = json!(group);
        let limit = 2_u64 << 30;
        let right = json!([{"pageSize": "2MB", "limit": limit}]);
        bundle.config["linux"]["resources"] = json!({"hugepageLimits": right});
        bundle.script("true");
        let id = bundle.create();
        let said = std::fs::read_to_string(format!("{top}{group}/hugetlb.2MB.max")).unwrap();
        assert_eq!(said.trim(), limit.to_string());
        bundle.line(&format!("delete --force {id}")).exits(0);
    }),
    ("linux_cgroups_memory", |bundle| {
        let limit = 50_593_792;
        let memory = json!({"limit": limit, "reservation": limit, "swap": limit, "kernel": limit,
            "kernelTCP": limit, "swappiness": 50, "disableOOMKiller": true});
        let limit = "50593792";
        let files = [
            ("memory.limit_in_bytes", limit),
            ("memory.soft_limit_in_bytes", limit),
            ("memory.memsw.limit_in_bytes", limit),
            ("memory.swappiness", "50"),
        ];
        limited(bundle, &json!({"memory": memory}), &files);
    }),
    ("linux_cgroups_pids", |bundle| {
        limited(
            bundle,
            &json!({"pids": {"limit": 1000}}),
            &[("pids.max", "1000")],
        );
    }),
];
