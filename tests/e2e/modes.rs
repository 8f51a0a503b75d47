//! Namespaces that containers share with the host or with each other.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use crate::context::{Context, Ran, identities, skip, smidge_binary};
use crate::fixture::{load_busybox, with_busybox};
use crate::process::{marker, running};
use smidge_tests::until;

/// Runs a shell line in a new container.
fn shell(context: &Context, options: &str, script: &str) -> String {
    let options = options.split_whitespace();
    let command = ["run", "--rm"].into_iter().chain(options);
    context
        .smidge(command.chain(["busybox", "sh", "-c", script]))
        .ok()
}

fn namespace(context: &Context, options: &str, kind: &str) -> String {
    shell(context, options, &format!("readlink /proc/self/ns/{kind}"))
}

/// A container that runs until it is removed.
fn neighbour(context: &Context, options: &str) {
    context
        .line(&format!(
            "run -d --name neighbour {options} busybox sleep 1000"
        ))
        .ok();
}

fn of_neighbour(context: &Context, kind: &str) -> String {
    let line = format!("exec neighbour readlink /proc/self/ns/{kind}");
    context.line(&line).ok()
}

#[test]
fn containers_share_the_network_of_another() {
    with_busybox(|context| {
        neighbour(context, "-h there --add-host more:10.0.0.1");
        let options = "--network container:neighbour";
        let (net, user) = (of_neighbour(context, "net"), of_neighbour(context, "user"));
        assert_eq!(namespace(context, options, "net"), net);
        assert_eq!(namespace(context, options, "user"), user);
        for own in ["ipc", "pid", "uts", "mnt"] {
            let theirs = of_neighbour(context, own);
            assert_ne!(namespace(context, options, own), theirs, "{own}");
        }
        // Loopback is shared, and so are the files that tell names.
        let server = "exec -d neighbour nc -l -p 4321 -e echo heard";
        context.line(server).ok();
        until("the neighbour listens", || {
            let tcp = context.line("exec neighbour cat /proc/net/tcp").ok();
            let tcp6 = context.line("exec neighbour cat /proc/net/tcp6").ok();
            tcp.contains(":10E1") || tcp6.contains(":10E1")
        });
        assert_eq!(shell(context, options, "nc 127.0.0.1 4321"), "heard");
        let names = shell(context, options, "hostname; cat /etc/hosts");
        assert!(
            names.starts_with("there\n") && names.contains("10.0.0.1\tmore"),
            "{names}"
        );
        context
            .line(&format!("create --name beside {options} busybox true"))
            .ok();
        let mode = "inspect --format {{.HostConfig.NetworkMode}}";
        let id = context.line("inspect --format {{.Id}} neighbour").ok();
        let shown = context.line(&format!("{mode} beside")).ok();
        assert_eq!(shown, format!("container:{id}"));
    });
}

#[test]
fn containers_share_memory_with_one_that_allows_it() {
    with_busybox(|context| {
        neighbour(context, "--ipc shareable");
        let options = "--ipc container:neighbour";
        let script = "echo note > /dev/shm/note";
        shell(context, options, script);
        let read = context.line("exec neighbour cat /dev/shm/note").ok();
        assert_eq!(read, "note");
        assert_eq!(
            namespace(context, options, "ipc"),
            of_neighbour(context, "ipc")
        );
        assert_ne!(
            namespace(context, options, "net"),
            of_neighbour(context, "net")
        );
        // Whoever has joined can be joined.
        let line = format!("run -d --name third {options} busybox sleep 1000");
        context.line(&line).ok();
        assert_eq!(
            shell(context, "--ipc container:third", "cat /dev/shm/note"),
            "note"
        );
        context.line("rm -f third").ok();
    });
}

#[test]
fn containers_share_the_processes_of_another() {
    with_busybox(|context| {
        neighbour(context, "");
        let options = "--pid container:neighbour";
        assert_eq!(
            namespace(context, options, "pid"),
            of_neighbour(context, "pid")
        );
        let script = "cat /proc/1/cmdline | tr '\\0' ' '; kill -0 1 && echo reached";
        assert_eq!(shell(context, options, script), "sleep 1000 reached");
        assert!(shell(context, &format!("-t {options}"), "tty").contains("/dev/pts/"));
        let codes = [
            ("exit 7", 7),
            ("kill -KILL $$", 137),
            ("kill -TERM $$", 143),
        ];
        for (script, code) in codes {
            let line = [
                "run",
                "--rm",
                "--pid",
                "container:neighbour",
                "busybox",
                "sh",
                "-c",
            ];
            context.smidge(line.into_iter().chain([script])).exits(code);
        }
        let missing = context.line(&format!("run --rm {options} busybox /missing"));
        assert!(missing.exits(127).contains("`/missing`"));
        // Nothing of the host's is left open.
        let files = shell(context, options, "ls /proc/self/fd | wc -l");
        assert_eq!(files, "4", "three streams, and the directory that is read");
        // What it can still do is what others can.
        let status = shell(
            context,
            options,
            "grep -e Seccomp: -e NoNewPrivs /proc/self/status",
        );
        assert!(
            status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"),
            "{status}"
        );
    });
}

/// A PID namespace ends with its first process, and all who have joined it.
#[test]
fn who_shares_processes_ends_with_whose_they_are() {
    with_busybox(|context| {
        neighbour(context, "");
        let options = "--pid container:neighbour";
        let line = format!("run -d --name beside {options} busybox sleep 1000");
        context.line(&line).ok();
        let stats = context
            .line("stats --no-stream --format {{.PIDs}} beside neighbour")
            .ok();
        assert_eq!(
            stats, "1\n2",
            "the first has one, in the other's namespace there are two"
        );
        context.line("rm -f neighbour").ok();
        assert_eq!(context.line("wait beside").ok(), "137");
        let refused = context.line("start beside").exits(1);
        assert!(refused.contains("No such container"), "{refused}");
    });
}

/// Whoever is inside sees a newcomer, but nothing of smidge's: neither its binary nor the host's files.
#[test]
fn a_newcomer_shows_nothing_of_the_host() {
    with_busybox(|context| {
        let script = "while :; do for p in /proc/[0-9]*; do \
                      readlink $p/exe $p/root $p/cwd $p/fd/3; done; done 2>/dev/null | \
                      grep -v -e '^/$' -e '^/bin/busybox$' -e /proc/ > /seen";
        let start = [
            "run",
            "-d",
            "--name",
            "neighbour",
            "busybox",
            "sh",
            "-c",
            script,
        ];
        context.smidge(start).ok();
        for _ in 0..20 {
            shell(context, "--pid container:neighbour", "true");
        }
        context.line("exec neighbour pkill readlink").code();
        let seen = context.line("exec neighbour cat /seen").ok();
        let root = context.path().display().to_string();
        let of_host = |line: &&str| line.contains("smidge") || line.starts_with(&root);
        assert_eq!(seen.lines().find(of_host), None);
        context.line("rm -f neighbour").ok();
    });
}

/// Runs a command of smidge's that takes its time when it has come among a container's processes; nothing where
/// nothing can be traced.
fn slowed(context: &Context, smidge: &Command) -> Option<Ran> {
    let mut traced = context.program("strace");
    let slowly = "inject=setsid:delay_exit=1000000";
    traced.args(["-f", "-o", "trace", "-e", "trace=setsid", "-e", slowly]);
    traced.arg(smidge.get_program()).args(smidge.get_args());
    let ran = context.finish(traced);
    if ran.stderr().contains("PTRACE") {
        skip("nothing can be traced here");
        return None;
    }
    Some(ran)
}

/// Of what processes were made, as a container has seen it.
fn shows_a_copy_alone(seen: &str, what: &str) {
    assert!(seen.contains("/memfd:smidge"), "{what}: {seen}");
    let own = |link: &&str| link.ends_with("/smidge");
    assert_eq!(seen.lines().find(own), None, "{what}");
}

/// Root that may trace sees through what hides a process: there is no binary that it could write to.
#[test]
fn who_may_trace_gets_hold_of_a_copy_alone() {
    if !rustix::process::geteuid().is_root() || !crate::context::have("strace") {
        return skip("for root, with `strace`");
    }
    let context = Context::new();
    load_busybox(&context);
    let look = "while :; do for p in /proc/[0-9]*; do readlink $p/exe; done; done >> /seen";
    let start = "run -d --name watcher --cap-add SYS_PTRACE busybox sh -c";
    let start = start.split(' ').chain([look]);
    context.smidge(start).ok();
    let seen = || context.line("cp watcher:/seen -").stdout();
    for line in [
        "run --rm --pid container:watcher busybox true",
        "exec watcher true",
    ] {
        context.line("exec watcher sh -c :>/seen").code();
        let Some(ran) = slowed(&context, &context.line_command(line)) else {
            return;
        };
        ran.ok();
        shows_a_copy_alone(&seen(), line);
    }
    context.line("rm -f watcher").ok();
}

/// The same for whoever asks among them whether their program is well.
#[test]
fn who_asks_for_health_is_seen_as_a_copy_alone() {
    if !rustix::process::geteuid().is_root() || !crate::context::have("strace") {
        return skip("for root, with `strace`");
    }
    let context = Context::new();
    load_busybox(&context);
    let look = "until test -e /asked; do for p in /proc/[0-9]*; do readlink $p/exe; done; done \
                > /seen; sort -u /seen";
    for started in ["run", "start -a"] {
        let options = "--cap-add cap_sys_ptrace --health-interval 1s --name asked";
        let mut words: Vec<&str> = options.split(' ').collect();
        words.extend(["--health-cmd", "touch /asked", "busybox", "sh", "-c", look]);
        let mut line = vec!["run"];
        if started == "run" {
            line.extend(words);
        } else {
            context
                .smidge([&["create"], words.as_slice()].concat())
                .ok();
            line = vec!["start", "-a", "asked"];
        }
        let Some(ran) = slowed(&context, &context.command(line)) else {
            return;
        };
        shows_a_copy_alone(&ran.ok(), started);
        context.line("rm -f asked").ok();
    }
}

/// The kernel ends the processes of a container with its first one only where they are its own.
#[test]
fn nothing_stays_of_a_program_that_shares_its_processes() {
    with_busybox(|context| {
        neighbour(context, "");
        for options in ["--pid host", "--pid container:neighbour"] {
            let word = marker();
            let script = format!("sleep {word} & exit 5");
            let line = format!("run --name gone {options} busybox sh -c");
            let words: Vec<&str> = line.split(' ').chain([script.as_str()]).collect();
            context.smidge(words).exits(5);
            assert_eq!(running(&word), 0, "{options}");
            context.line("rm gone").ok();
        }
    });
}

#[test]
fn the_hosts_processes_are_seen_where_that_is_asked_for() {
    with_busybox(|context| {
        let host = std::fs::read_link("/proc/self/ns/pid").unwrap();
        let host = host.to_str().unwrap();
        assert_eq!(namespace(context, "--pid host", "pid"), host);
        assert_ne!(namespace(context, "--name usual", "pid"), host);
        // Still nothing that is hidden is seen, and an ordinary signal works as outside.
        let masked = shell(context, "--pid host", "head -c1 /proc/kcore | wc -c");
        assert_eq!(masked, "0");
        context
            .line("run -d --name shared --pid host busybox sleep 1000")
            .ok();
        let shown = context
            .line("inspect --format {{.HostConfig.PidMode}} shared")
            .ok();
        assert_eq!(shown, "host");
        let stats = context
            .line("stats --no-stream --format {{.PIDs}} shared")
            .ok();
        assert_eq!(stats, "1");
        context.line("stop shared").ok();
        let code = context
            .line("inspect --format {{.State.ExitCode}} shared")
            .ok();
        assert_eq!(code, "143");
        let reaped = shell(context, "--pid host --init", "sleep 0.1 & echo fine");
        assert_eq!(reaped, "fine");
    });
}

#[test]
fn what_cannot_be_shared_is_refused() {
    with_busybox(|context| {
        neighbour(context, "");
        context.line("create --name idle busybox true").ok();
        let network = "--network container:neighbour";
        for (options, expected) in [
            ("--network container:nobody", "No such container: nobody"),
            (
                "--pid container:idle",
                "container `idle`: it is not running",
            ),
            ("--ipc container:neighbour", "it is not to be shared"),
            ("--ipc sideways", "expected private, shareable"),
            ("--pid sideways", "expected host or container:NAME"),
            ("--init --pid container:neighbour", "conflicting options"),
            (&format!("{network} -h x"), "hostname and the network mode"),
            (
                &format!("{network} --dns 1.1.1.1"),
                "dns and the network mode",
            ),
            (
                &format!("{network} --add-host a:1.1.1.1"),
                "custom host-to-IP mapping",
            ),
            (
                &format!("{network} -p 80"),
                "port publishing and the container type",
            ),
            (
                &format!("{network} --expose 80"),
                "port exposing and the container type",
            ),
        ] {
            let refused = context.line(&format!("run --rm {options} busybox true"));
            let stderr = refused.exits(125);
            assert!(stderr.contains(expected), "{options}: {stderr}");
        }
    });
}

/// The other container is looked up by its id when one is started: it may be another process by then.
#[test]
fn the_other_container_is_looked_up_at_every_start() {
    for identity in identities() {
        let context = Context::of(identity);
        load_busybox(&context);
        neighbour(&context, "");
        let create = "create --name beside --network container:neighbour busybox";
        context
            .line(&format!("{create} readlink /proc/self/ns/net"))
            .ok();
        let first = context.line("start -a beside").ok();
        assert_eq!(first, of_neighbour(&context, "net"));
        context.line("rename neighbour elsewhere").ok();
        context.line("restart -t 0 elsewhere").ok();
        let second = context.line("start -a beside").ok();
        let line = "exec elsewhere readlink /proc/self/ns/net";
        assert_eq!(second, context.line(line).ok());
        context.line("stop -t 0 elsewhere").ok();
        let refused = context.line("start beside").exits(1);
        assert!(
            refused.contains("start it first: `smidge start elsewhere`"),
            "{refused}"
        );
    }
}

/// Runs smidge where `/etc/subuid` and `/etc/subgid` set ids aside for three containers.
fn with_ids(context: &Context, words: &[&str]) -> Ran {
    context.write("ids", "containers:1000000:200000\n");
    let script = "mount --bind ids /etc/subuid && mount --bind ids /etc/subgid && exec \"$@\"";
    let mut command = context.program("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]);
    command.arg(smidge_binary()).args(words);
    context.finish(command)
}

/// Whether this machine can show files with other ids than they have.
fn can_map(context: &Context) -> bool {
    if !std::path::Path::new("/etc/subuid").exists() {
        skip("there is no `/etc/subuid`");
        return false;
    }
    let ran = with_ids(
        context,
        &["run", "--rm", "--userns", "auto", "busybox", "true"],
    );
    if ran.stderr().contains("cannot map the ids") {
        skip("the file system maps no ids");
        return false;
    }
    ran.ok();
    true
}

/// Runs a test body as root where ids are set aside.
fn with_own_ids(body: impl Fn(&Context)) {
    if !rustix::process::geteuid().is_root() {
        return skip("an ordinary user's containers are in user namespaces anyway");
    }
    let context = Context::new();
    load_busybox(&context);
    if can_map(&context) {
        body(&context);
    }
}

/// Starts a container with ids of its own, whose shell line ends with a `sleep`.
fn start_mapped(context: &Context, options: &[&str], script: &str) {
    let start = ["run", "-d", "--name", "one", "--userns", "auto"];
    let script = format!("{script}; exec sleep 1000");
    let command = ["busybox", "sh", "-c", script.as_str()];
    with_ids(context, &[&start[..], options, &command].concat()).ok();
    until("it sleeps", || {
        context.line("exec one pidof sleep").code() == 0
    });
}

/// What the container `one` has said, once it ends with this.
fn logged(context: &Context, end: &str) -> String {
    let mut logs = String::new();
    until("what it says", || {
        logs = context.line("logs one").ok();
        logs.ends_with(end)
    });
    logs
}

const MAP: &str = "cat /proc/self/uid_map";

/// `--userns auto`: root's containers have ids that nobody else has.
#[test]
fn containers_of_root_have_ids_of_their_own() {
    with_own_ids(|context| {
        let secret = context.write("secret/file", "mine\n");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let script = format!("{MAP}; cat /secret/file 2>&1; grep -c ' / ' /proc/mounts");
        start_mapped(context, &["-v", "./secret:/secret"], &script);
        let logs = logged(context, "\n1");
        let words: Vec<&str> = logs.split_whitespace().collect();
        assert_eq!(words[..3], ["0", "1000000", "65536"], "{logs}");
        assert!(
            logs.contains("Permission denied") && logs.ends_with("\n1"),
            "{logs}"
        );
        assert_eq!(context.line("exec -u app one id -u").ok(), "1000");
        let map = context.line(&format!("exec one {MAP}")).ok();
        let options = "--network container:one --pid container:one";
        assert_eq!(shell(context, options, MAP).trim(), map.trim());
        // Others have others, as long as there are any; stopped or not.
        for (name, code) in [("two", 0), ("three", 0), ("four", 125)] {
            let start = ["run", "--name", name, "--userns", "auto", "busybox"];
            let command: Vec<&str> = MAP.split(' ').collect();
            let ran = with_ids(context, &[&start[..], &command].concat());
            match code {
                0 => assert!(!ran.ok().contains(" 1000000 "), "{name}"),
                code => assert!(ran.exits(code).contains("add `containers:")),
            }
        }
        context.line("restart -t 0 one").ok();
        assert_eq!(context.line(&format!("exec one {MAP}")).ok(), map);
        let shown = context.line("inspect --format {{.HostConfig.UsernsMode}} one");
        assert_eq!(shown.ok(), "auto");
        // Nothing that was used on the way has stayed.
        let mounts = context.line("exec one cat /proc/mounts").ok();
        let at = |place: &str| mounts.lines().filter(|line| line.contains(place)).count();
        assert_eq!((at(" / "), at(" /sys ")), (1, 1), "{mounts}");
        context.line("rm -f one").ok();
    });
}

/// On the disk the files of such a container have the ids that it knows.
#[test]
fn files_of_containers_with_own_ids_are_as_usual() {
    with_own_ids(|context| {
        let script = "ls -ln /bin/busybox; echo >> /etc/hosts && echo written; \
                      echo data > /data/file; chown 7:8 /data/file; rm /bin/ls";
        start_mapped(context, &["-v", "kept:/data"], script);
        let logs = logged(context, "written");
        let words: Vec<&str> = logs.split_whitespace().collect();
        assert_eq!(words[2..4], ["0", "0"], "{logs}");
        assert!(logs.ends_with("written"), "{logs}");
        let file = std::fs::metadata(context.store().join("volumes/kept/_data/file")).unwrap();
        assert_eq!((file.uid(), file.gid()), (7, 8));
        assert!(context.line("diff one").ok().contains("D /bin/ls"));
        let copied = context.line("cp one:/data/file -");
        assert!(String::from_utf8_lossy(copied.bytes()).contains("data"));
        context.line("commit one changed").ok();
        context.line("run --rm changed test ! -e /bin/ls").ok();
        context.line("stop -t 0 one").ok();
        assert!(context.line("diff one").ok().contains("D /bin/ls"));
        let copied = context.line("cp one:/etc/passwd -");
        assert!(String::from_utf8_lossy(copied.bytes()).contains("root:x:0:0"));
        context.line("rm one").ok();
        // Whoever it runs as can open its own output again.
        let auto = ["run", "--rm", "--userns", "auto"];
        let line = [
            "-u",
            "app",
            "busybox",
            "sh",
            "-c",
            "echo fine > /dev/stdout",
        ];
        assert_eq!(with_ids(context, &[&auto[..], &line].concat()).ok(), "fine");
        let image = "type=image,src=busybox,dst=/image";
        let line = ["--mount", image, "busybox", "ls", "-ln", "/image"];
        let listed = with_ids(context, &[&auto[..], &line].concat()).ok();
        assert!(
            listed.lines().any(|line| line.contains(" 0        0 ")),
            "{listed}"
        );
    });
}

#[test]
fn user_namespaces_that_cannot_be_had_are_refused() {
    with_busybox(|context| {
        let root = context.identity().name == "self" && rustix::process::geteuid().is_root();
        let refused = |options: &str, expected: &str| {
            let ran = context.line(&format!("run --rm {options} busybox true"));
            let stderr = ran.exits(125);
            assert!(stderr.contains(expected), "{options}: {stderr}");
        };
        refused("--userns keep-id", "expected host or auto");
        neighbour(context, "");
        refused(
            "--userns host --pid container:neighbour",
            "conflicting options",
        );
        if root {
            refused("--userns auto --privileged", "conflicting options");
            let map = shell(context, "--userns host", "cat /proc/self/uid_map");
            let own = std::fs::read_to_string("/proc/self/uid_map").unwrap();
            assert_eq!(map.trim(), own.trim());
        } else {
            refused("--userns host", "in user namespaces anyway");
            refused("--userns auto", "in user namespaces anyway");
        }
    });
}
