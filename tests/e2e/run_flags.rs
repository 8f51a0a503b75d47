//! Options of `run` and `create` that say what a container is.

use crate::fixture::with_busybox;

/// A container that was made waits to be started, with everything that `run` would have given it.
#[test]
fn what_is_created_is_started_later() {
    with_busybox(|context| {
        let words = "create --name later --cidfile id -e A=b --hostname box busybox env";
        let id = context.line(words).ok();
        let written = std::fs::read_to_string(context.path().join("id")).unwrap();
        assert_eq!(written, id);
        let listed = context.line("ps -a --format {{.Status}}").ok();
        assert_eq!(listed, "Created");
        let env = context.line("start -a later").ok();
        assert!(
            env.contains("A=b\n") && env.contains("HOSTNAME=box\n"),
            "{env}"
        );
        let again = context.line("container create --cidfile id busybox");
        assert!(again.exits(1).contains("id` exists already"));
        let nowhere = context.line("create --name none --cidfile no/where busybox");
        assert!(nowhere.exits(1).contains("no/where`"));
        let none = context.line("create --pull never --cidfile other none");
        assert_eq!(none.code(), 1);
        assert!(!context.path().join("other").exists());
        assert_eq!(context.line("ps -aq").ok().lines().count(), 1);
    });
}

/// The words of a line, in which `\t` stands for a space within a word.
fn words(line: &str) -> Vec<String> {
    line.split(' ')
        .map(|word| word.replace('\t', " "))
        .collect()
}

#[test]
fn names_are_as_asked_for() {
    with_busybox(|context| {
        let run = |line: &str| context.smidge(words(&format!("run --rm {line}"))).ok();
        let hosts = run(
            "-h box --domainname example.org --add-host db:10.0.0.5 --add-host six=[::2] busybox cat /etc/hosts",
        );
        assert!(
            hosts.contains("127.0.0.1\tbox.example.org box\n"),
            "{hosts}"
        );
        assert!(hosts.ends_with("10.0.0.5\tdb\n::2\tsix"), "{hosts}");
        let domain = run("--domainname example.org busybox cat /proc/sys/kernel/domainname");
        assert_eq!(domain, "example.org");
        let resolver = run(
            "--dns 9.9.9.9 --dns-search a.org --dns-search b.org --dns-option rotate busybox cat /etc/resolv.conf",
        );
        assert_eq!(
            resolver,
            "nameserver 9.9.9.9\nsearch a.org b.org\noptions rotate"
        );
        for (bad, expected) in [
            ("--dns nowhere", "not correctly formatted"),
            ("--add-host db", "expected NAME:IP"),
            (
                "--network none --add-host db:host-gateway",
                "no address leads",
            ),
        ] {
            let refused = context.smidge(words(&format!("run --rm {bad} busybox true")));
            let stderr = refused.exits(125);
            assert!(stderr.contains(expected), "{bad}: {stderr}");
            assert_eq!(context.line("ps -aq").ok(), "", "nothing is left of it");
        }
    });
}

#[test]
fn labels_come_from_files_and_annotations_are_kept() {
    with_busybox(|context| {
        context.write("labels", "# of the file\na=1\nb=2\n");
        context
            .line("create --name kept --label-file labels -l b=3 --annotation x=y busybox true")
            .ok();
        let shown = "inspect --format {{.Config.Labels.a}}{{.Config.Labels.b}}{{.HostConfig.Annotations.x}} kept";
        assert_eq!(context.line(shown).ok(), "13y");
        let missing = context.line("create --label-file none busybox true");
        assert!(missing.exits(1).contains("cannot read `none`"));
    });
}

#[test]
fn files_without_an_end_are_not_read_to_it() {
    with_busybox(|context| {
        context.write("c/file", "");
        for line in [
            "run --rm --env-file /dev/zero busybox true",
            "run --rm --label-file /dev/zero busybox true",
            "run --rm --security-opt seccomp=/dev/zero busybox true",
            "build -f /dev/zero c",
        ] {
            let refused = context.line(line);
            assert_ne!(refused.code(), 0, "{line}");
            let said = refused.stderr();
            assert!(
                said.contains("/dev/zero") && said.contains("longer than 16 MiB"),
                "{line}: {said}"
            );
        }
    });
}

/// What Docker has and smidge cannot do is refused with the reason, never passed over.
#[test]
fn what_cannot_be_met_is_refused() {
    with_busybox(|context| {
        for option in [
            "--gpus=all",
            "--runtime=runc",
            "--isolation=hyperv",
            "--storage-opt=size=1g",
            "--volume-driver=nfs",
            "--link=a:b",
            "--cpu-count=2",
        ] {
            let refused = context.smidge(["run", "--rm", option, "busybox", "true"]);
            let stderr = refused.exits(125);
            assert!(stderr.contains("cannot be met: "), "{option}: {stderr}");
        }
        context
            .line("run --rm --isolation=default --volume-driver local busybox true")
            .ok();
    });
}

#[test]
fn long_names_mean_what_short_ones_mean() {
    with_busybox(|context| {
        let ok = |line: &str| context.line(line).ok();
        ok("network create --driver bridge n");
        ok("volume create --driver local vol");
        let of_n = "--network n --mac-address 02:11:22:33:44:66";
        ok(&format!(
            "run --detach --interactive --publish-all --expose 7 {of_n} --name box busybox cat"
        ));
        assert_eq!(
            ok("exec --interactive box cat /sys/class/net/eth0/address"),
            "02:11:22:33:44:66"
        );
        let shown = "inspect --format {{.Config.OpenStdin}}/{{.HostConfig.PublishAllPorts}} box";
        assert_eq!(ok(shown), "true/true");
        assert!(ok("port box 7/tcp").contains("0.0.0.0:"));
        ok("commit --author me --message why box image");
        let shown = "inspect --format {{.Author}}/{{.Comment}} image";
        assert_eq!(ok(shown), "me/why");
        ok("exec box ln -s /etc/hostname /link");
        ok("cp --follow-link box:/link here");
        let copied = context.path().join("here").symlink_metadata().unwrap();
        assert!(copied.is_file());
        let logs = ok("run --detach --name said busybox echo word");
        let logs = ok(&format!("logs --follow --timestamps {logs}"));
        assert!(logs.starts_with("20") && logs.ends_with("Z word"), "{logs}");
        ok("rm --force --volumes box said");
        ok("network rm n");
    });
}

#[test]
fn streams_are_passed_on_as_asked_for() {
    with_busybox(|context| {
        let script = "echo\tout;\techo\terr\t>&2";
        let ran = |options: &str| {
            let ran = context.smidge(words(&format!("run --rm {options} busybox sh -c {script}")));
            (ran.stdout(), ran.stderr())
        };
        let both = |out: &str, err: &str| (out.to_owned(), err.to_owned());
        assert_eq!(ran("-a stdout"), both("out", ""));
        assert_eq!(ran("-a STDERR"), both("", "err"));
        assert_eq!(ran("-a stdout -a stderr"), both("out", "err"));
        assert_eq!(context.line("run -d -a stdout busybox true").code(), 1);
    });
}

#[test]
fn logs_are_as_large_as_they_may_be() {
    with_busybox(|context| {
        let line = "run --name small --log-opt max-size=2k --log-opt max-file=2 busybox seq 1 500";
        context.line(line).ok();
        let kept = context.line("logs small").ok();
        let lines: Vec<&str> = kept.lines().collect();
        assert!(
            lines.len() < 500 && lines.ends_with(&["499", "500"]),
            "{}",
            lines.len()
        );
        assert_eq!(context.line("logs -n 3 small").ok(), "498\n499\n500");
        context
            .line("run --name none --log-driver none busybox echo said")
            .ok();
        assert!(
            context
                .line("logs none")
                .exits(1)
                .contains("--log-driver none")
        );
        let shown = "inspect --format {{.HostConfig.LogConfig.Type}} none";
        assert_eq!(context.line(shown).ok(), "none");
        let unknown = context.line("run --rm --log-driver syslog busybox true");
        assert!(
            unknown
                .exits(125)
                .contains("there is no log driver `syslog`")
        );
    });
}
