//! What is mounted in containers: `-v`, `--mount`, `--tmpfs`, `--volumes-from`.

use crate::context::{Context, SELF, skip};
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

#[test]
fn mounts_of_every_type() {
    with_busybox(|context| {
        context.write("data/sub/file", "host's\n");
        let data = context.path().join("data");
        let bind = format!("--mount type=bind,src={},dst=/d", data.display());
        assert_eq!(
            run(context, &format!("{bind} busybox cat /d/sub/file")),
            "host's"
        );
        let script = "touch\t/d/x\t2>&1;\ttrue";
        let read_only = run(context, &format!("{bind},readonly busybox sh -c {script}"));
        assert!(read_only.contains("Read-only file system"), "{read_only}");
        let relative = run(
            context,
            "--mount type=bind,src=./data/sub,dst=/d busybox ls /d",
        );
        assert_eq!(relative, "file");
        let missing = context.line("run --rm --mount type=bind,src=/no/such,dst=/d busybox true");
        assert!(
            missing
                .exits(125)
                .contains("bind source path does not exist")
        );

        let script = "mkdir\t-p\t/v/in/er;\techo\ta>/v/in/a";
        run(
            context,
            &format!("--mount src=kept,dst=/v busybox sh -c {script}"),
        );
        let part = "--mount src=kept,dst=/p,volume-subpath=in,ro busybox ls /p";
        assert_eq!(run(context, part), "a\ner");
        let labelled = "--mount src=named,dst=/v,volume-label=tier=gold busybox true";
        run(context, labelled);
        let shown = context
            .line("volume inspect --format {{.Labels.tier}} named")
            .ok();
        assert_eq!(shown, "gold");

        let script = "df\t-k\t/t|tail\t-1|awk\t'{print\t$2}';stat\t-c\t%a\t/t";
        let memory = "--mount type=tmpfs,dst=/t,tmpfs-size=128k,tmpfs-mode=700";
        assert_eq!(
            run(context, &format!("{memory} busybox sh -c {script}")),
            "128\n700"
        );
        let memory = "--tmpfs /t:size=64k,mode=755";
        assert_eq!(
            run(context, &format!("{memory} busybox sh -c {script}")),
            "64\n755"
        );
        let exec = "cp\t/bin/busybox\t/t/echo;\t/t/echo\tran\t2>&1;\ttrue";
        let ran = |options: &str| {
            run(
                context,
                &format!("--tmpfs /t{options} busybox sh -c {exec}"),
            )
        };
        assert_eq!(ran(":exec"), "ran");
        assert!(ran("").contains("Permission denied"));
    });
}

/// An image's files, of which nothing can be changed.
#[test]
fn images_can_be_mounted() {
    with_busybox(|context| {
        let whole = "--mount type=image,src=busybox,dst=/i busybox";
        assert_eq!(
            run(context, &format!("{whole} grep -c app /i/etc/passwd")),
            "1"
        );
        let part = "--mount type=image,src=busybox,dst=/i,image-subpath=etc busybox";
        assert_eq!(run(context, &format!("{part} ls /i")), "group\npasswd");
        // A directory that hides what a layer below has there.
        let text =
            "FROM busybox\nRUN mkdir /d; touch /d/old\nRUN rm -r /d; mkdir /d; touch /d/new\n";
        context.write("again/Dockerfile", text);
        context.line("build -t again again").ok();
        let again = "--mount type=image,src=again,dst=/i busybox ls /i/d";
        assert_eq!(run(context, again), "new");
        let script = "touch\t/i/x\t2>&1;\ttrue";
        let refused = run(context, &format!("{whole} sh -c {script}"));
        assert!(refused.contains("Read-only file system"), "{refused}");
        let missing = context.line("run --rm --mount type=image,src=nope,dst=/i busybox true");
        assert_eq!(missing.code(), 125);
    });
}

/// A part of a volume is found inside of it, whatever links lie there.
#[test]
fn a_part_of_a_volume_does_not_lead_out() {
    with_busybox(|context| {
        context.write("secret/key", "host's\n");
        let outside = context.path().join("secret");
        let script = format!(
            "ln\t-s\t{}\t/v/out;\tmkdir\t-p\t/v{}",
            outside.display(),
            outside.display()
        );
        run(context, &format!("-v trap:/v busybox sh -c {script}"));
        let inside = run(
            context,
            "--mount src=trap,dst=/p,volume-subpath=out busybox ls -A /p",
        );
        assert_eq!(inside, "");
    });
}

/// What lies within another mount is not hidden by it, in whatever order they are asked for.
#[test]
fn mounts_within_mounts_are_shown() {
    with_busybox(|context| {
        context.write("outer/.keep", "");
        context.write("inner/file", "");
        let line = "-v ./inner:/a/b -v ./outer:/a busybox ls /a/b";
        assert_eq!(run(context, line), "file");
        context.write("etc/hosts", "127.0.0.1 mine\n");
        assert_eq!(
            run(context, "-v ./etc/hosts:/etc/hosts busybox cat /etc/hosts"),
            "127.0.0.1 mine"
        );
        for (volume, why) in [
            (
                "./etc/hosts:/bin",
                "is a file, what is in its place a directory",
            ),
            (
                "./etc:/bin/busybox",
                "is a directory, what is in its place a file",
            ),
        ] {
            let line = format!("run --rm -v {volume} busybox true");
            let over = "mount directories over directories, and files over files";
            context.line(&line).says(125, &[why, over]);
        }
        let twice = context.line("run --rm -v ./inner:/a --tmpfs /a busybox true");
        assert!(twice.exits(125).contains("Duplicate mount point: /a"));
    });
}

#[test]
fn volumes_come_from_other_containers() {
    with_busybox(|context| {
        context.write("shared/file", "here\n");
        let lender = "create --name lender -v ./shared:/s -v /own busybox true";
        context.line(lender).ok();
        let borrowed = "--volumes-from lender:ro busybox sh -c";
        let script = "cat\t/s/file;\ttouch\t/s/x\t2>/dev/null\t||\techo\tread-only;\tls\t-d\t/own";
        let output = run(context, &format!("{borrowed} {script}"));
        assert_eq!(output, "here\nread-only\n/own");
        let borrower = "--volumes-from lender busybox sh -c echo\tx>/own/x";
        run(context, borrower);
        context
            .line("create --name keeper --volumes-from lender busybox cat /own/x")
            .ok();
        let another = "create --name another --volumes-from keeper busybox true";
        context.line(another).ok();
        for name in ["another", "lender"] {
            context.line(&format!("rm -v {name}")).ok();
            assert_eq!(
                context.line("start -a keeper").ok(),
                "x",
                "a volume that is in use stays"
            );
        }
        context.line("rm -v keeper").ok();
        assert_eq!(
            context.line("volume ls -q").ok(),
            "",
            "the last one takes it along"
        );
        assert_eq!(
            context
                .line("run --rm --volumes-from nobody busybox true")
                .code(),
            125
        );
    });
}

/// Mounts that are made on the host later are seen inside where that is asked for.
#[test]
fn mounts_of_the_host_arrive_where_they_are_asked_for() {
    if !rustix::process::geteuid().is_root() {
        return crate::context::skip("mounting takes root");
    }
    let context = Context::of(SELF);
    crate::fixture::load_busybox(&context);
    let base = context.path().join("base");
    std::fs::create_dir_all(base.join("later")).unwrap();
    // The test's own mounts stay in a namespace of its own.
    let script = format!(
        "mount -t tmpfs none {base} && mkdir {base}/later && mount --make-shared {base} && \
         for mode in rslave rprivate; do \
         {smidge} run -d --name $mode -v {base}:/b:$mode busybox sh -c \
         'until [ -e /b/go ]; do usleep 10000; done; ls /b/later; touch /b/seen' >/dev/null || exit 1; done; \
         mount -t tmpfs none {base}/later && touch {base}/later/new {base}/go && \
         {smidge} wait rslave rprivate >/dev/null; {smidge} logs rslave; echo --; {smidge} logs rprivate; \
         umount {base}/later {base}",
        base = base.display(),
        smidge = crate::context::smidge_binary().display(),
    );
    let mut command = context.program("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &script]);
    let output = context.finish(command).ok();
    assert_eq!(output, "new\n--");
}

/// What is mounted below a read-only source, and may be written to, opens no device all the same.
#[test]
fn no_device_opens_below_a_mount_of_the_hosts() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root makes devices");
    }
    with_busybox_as_self(|context| {
        std::fs::create_dir_all(context.path().join("data/below")).unwrap();
        // No harmless one of the container's own, but another node of the same number.
        let script =
            "mount -t tmpfs tmpfs data/below && mknod data/below/node c 1 3 && exec \"$@\"";
        for options in ["", ",readonly", ",readonly,bind-recursive=writable"] {
            let mount = format!(
                "type=bind,src={},dst=/d{options}",
                context.path().join("data").display()
            );
            let inside = "(: < /d/below/node) 2>/dev/null && echo open || echo shut; \
                          (: > /d/below/new) 2>/dev/null && echo written";
            let mut command = context.program("unshare");
            command.args(["--mount", "sh", "-c", script, "sh"]);
            command.arg(crate::context::smidge_binary());
            command.args([
                "run", "--rm", "--mount", &mount, "busybox", "sh", "-c", inside,
            ]);
            let ran = context.finish(command);
            let said = ran.stdout();
            assert_eq!(
                said.lines().next(),
                Some("shut"),
                "{options}: {}",
                ran.stderr()
            );
            let writes = options != ",readonly";
            assert_eq!(said.contains("written"), writes, "{options}: {said}");
        }
    });
}

/// Mounts that open devices come in by some options: then the control group keeps root's containers from them,
/// in either version.
#[test]
fn no_device_opens_in_mounts_that_allow_it() {
    let v1 = std::path::Path::new("/sys/fs/cgroup/devices/cgroup.procs").exists();
    let v2 = std::path::Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists()
        || std::path::Path::new("/sys/fs/cgroup/cgroup.subtree_control").exists();
    let fuse = std::path::Path::new("/dev/fuse").exists();
    if !rustix::process::geteuid().is_root() || !(v1 || v2) || !fuse {
        return skip("there are no control groups for root, or no `/dev/fuse`");
    }
    with_busybox_as_self(|context| {
        let open = "mknod /x/fuse c 10 229; mknod /x/null c 1 3; \
                    (: < /x/fuse) 2>/dev/null && echo open || echo shut; : < /x/null && echo null";
        let mounted = format!("mkdir /x; mount -t tmpfs tmpfs /x; {open}");
        let run = |hide: &str, options: &[&str], script: &str| {
            let mut command = context.program("unshare");
            let hide = format!(
                "for h in /sys/fs/cgroup/*; do case $h in {hide}) ;; \
                                *) umount -l $h 2>/dev/null ;; esac; done; exec \"$@\""
            );
            command.args(["--mount", "sh", "-c", &hide, "sh"]);
            command
                .arg(crate::context::smidge_binary())
                .args(["run", "--rm"]);
            command.args(options).args(["busybox", "sh", "-c", script]);
            context.finish(command)
        };
        let versions = [(v1, "*/devices"), (v2, "*/unified")];
        for (_, hide) in versions.iter().filter(|(is_there, _)| *is_there) {
            let said = run(hide, &["--cap-add", "SYS_ADMIN"], &mounted);
            assert_eq!(said.ok(), "shut\nnull", "{hide}");
            let said = run(hide, &["--tmpfs", "/x:dev"], open);
            assert_eq!(said.ok(), "shut\nnull", "{hide}");
            // One that it was given it may use.
            let given = ["--cap-add", "SYS_ADMIN", "--device", "/dev/fuse"];
            assert_eq!(run(hide, &given, &mounted).ok(), "open\nnull", "{hide}");
        }
        if v1 {
            let told = run("-", &["--cap-add", "SYS_ADMIN"], "true");
            let note = "can open every device of the host: `--cap-add SYS_ADMIN` takes";
            assert!(told.stderr().contains(note), "{}", told.stderr());
        }
    });
}

/// In a store of the tests' own user.
fn with_busybox_as_self(body: impl Fn(&Context)) {
    let context = Context::of(SELF);
    if std::path::Path::new("/bin/busybox").exists() {
        load_busybox(&context);
        body(&context);
    } else {
        skip("`/bin/busybox` is not there");
    }
}
