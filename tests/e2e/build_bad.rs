//! Dockerfiles, contexts and programs that do harm, on purpose or not: what happened is said, nothing hangs,
//! nothing of the machine is touched, and nothing is left.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use crate::context::{Context, skip};
use crate::craft;
use crate::fixture::{compiled, load_busybox, with_busybox};
use crate::process::{marker, running};
use crate::small_disk::Disk;
use smidge_tests::until;

/// Names in the store's `tmp/`.
fn left(context: &Context) -> usize {
    let entries = std::fs::read_dir(context.store().join("tmp"));
    entries.unwrap().count()
}

/// Writes a Dockerfile that starts from busybox, and builds it.
fn build(context: &Context, text: &str, options: &str) -> crate::context::Ran {
    context.write("c/Dockerfile", format!("FROM busybox\n{text}"));
    context.line(&format!("build --progress plain {options} c"))
}

#[test]
fn a_program_that_fails_is_shown_with_what_it_said_and_how_to_look() {
    with_busybox(|context| {
        let text = "RUN true\nRUN for n in $(seq 20); do echo line $n; done; \\\n  exit 42\n";
        let ran = build(context, text, "-t failed");
        let said = ran.exits(1);
        let expected = [
            "failed with exit status 42",
            "--> c/Dockerfile:3:1",
            " 3 | RUN for n in $(seq 20); do echo line $n; done; \\",
            "   | ^^^",
            "--debug-shell",
        ];
        ran.says(1, &expected);
        // Its last lines once more, where they are looked for.
        let (_, summary) = said.split_once("\n------\n").unwrap();
        assert!(
            summary.contains("line 20") && summary.contains("line 12"),
            "{said}"
        );
        assert!(!summary.contains("line 2\n"), "{said}");
        assert_eq!(context.line("images -q failed").ok(), "");
        assert_eq!(left(context), 0);

        let killed = build(context, "RUN sh -c 'kill -9 $$'; exit $?\n", "-t failed");
        killed.says(1, &["137", "memory"]);
        assert_eq!(left(context), 0);
    });
}

#[test]
fn what_a_program_leaves_running_is_ended_and_not_waited_for() {
    with_busybox(|context| {
        let one = marker();
        let text = format!(
            "RUN (sleep {one}; echo late > /late) & \
             (trap '' HUP TERM INT; setsid sleep {one}) & echo early > /early\n\
             RUN test -e /early && test ! -e /late\n"
        );
        build(context, &text, "-t left").exits(0);
        until("all is quiet", || running(&one) == 0);
    });
}

#[test]
fn the_machine_s_own_files_are_out_of_reach() {
    const FILES: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"];
    let read = || FILES.map(|file| std::fs::read(file).ok());
    with_busybox(|context| {
        let before = read();
        let text = "RUN for f in hosts resolv.conf; do echo evil >> /etc/$f; rm -f /etc/$f; \
             echo more > /new; mv /new /etc/$f; done; grep -q evil /etc/hosts /etc/resolv.conf\n\
             RUN ! grep -q evil /etc/hosts /etc/resolv.conf\n";
        build(context, text, "-t etc").exits(0);
        assert_eq!(read(), before);
        // Nor do they get into the image.
        context.write(
            "d/Dockerfile",
            "FROM scratch\nCOPY --from=etc /etc/hosts /hosts\n",
        );
        let copied = context.line("build -t copied d");
        assert!(copied.code() == 1 && copied.stderr().contains("/etc/hosts"));
    });
}

#[test]
fn directories_that_are_closed_to_everybody_are_built_on_and_removed() {
    with_busybox(|context| {
        let close = "RUN mkdir -p /a/b/c && touch /a/b/c/f && chmod 0 /a/b/c/f /a/b/c /a/b /a";
        let text = format!(
            "{close}\nRUN test -e /a/b/c/f && rm -r /a/b/c\n\
             RUN test ! -e /a/b/c && test \"$(stat -c %a /a /a/b | xargs)\" = '0 0'\n"
        );
        build(context, &text, "-t closed").exits(0);
        assert_eq!(build(context, &format!("{close}; exit 1\n"), "").code(), 1);
        assert_eq!(left(context), 0);
        context.line("rmi closed").ok();
        context.line("builder prune -a -f").ok();
        context.line("prune -f").ok();
        // The base is left.
        let layers = context.store().join("layers").read_dir().unwrap();
        assert!(layers.count() <= 1);
    });
}

/// Sets the attribute that keeps even root from changing a file.
const SEAL: &str = r#"#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        int file = open(argv[i], O_RDONLY), flags = 0;
        if (ioctl(file, FS_IOC_GETFLAGS, &flags)) return 2;
        flags |= FS_IMMUTABLE_FL;
        if (ioctl(file, FS_IOC_SETFLAGS, &flags)) return 3;
    }
    return 0;
}"#;

#[test]
fn files_that_root_has_sealed_are_removed() {
    let context = Context::new();
    if !rustix::process::geteuid().is_root() {
        return skip("only root can seal files");
    }
    load_busybox(&context);
    context.copy(&compiled("seal", SEAL, &["-static"]), "c/seal");
    let seal = "COPY seal /bin/seal\n\
         RUN --security=insecure mkdir /s && touch /s/f /s/g && seal /s/f /s";
    let built = build(
        &context,
        &format!("{seal}\n"),
        "--allow security.insecure -t sealed",
    );
    if built.stderr().contains("exit status 3") || built.stderr().contains("exit status 2") {
        return skip("the file system of the temporary directory seals no files");
    }
    built.exits(0);
    let failed = build(
        &context,
        &format!("{seal}; exit 1\n"),
        "--allow security.insecure",
    );
    failed.exits(1);
    assert_eq!(left(&context), 0);
    context.line("rmi sealed").ok();
    context.line("builder prune -a -f").ok();
    context.line("prune -f").ok();
    assert!(context.store().join("layers").read_dir().unwrap().count() <= 1);
}

#[test]
fn a_full_disk_is_named_and_left_as_it_was() {
    let context = Context::new();
    let Some(_disk) = Disk::new(context.store(), "24m") else {
        return;
    };
    load_busybox(&context);
    // 200 MB in a few hundred kB, and 40 MB as they are.
    let zeros = vec![0; 200 << 20];
    let bomb = craft::gzip(&craft::archive(&[("zeros", 0o644, &zeros)]));
    assert!(bomb.len() < 2 << 20, "{}", bomb.len());
    context.write("c/bomb.tar.gz", bomb);
    context.write("c/noise", craft::noise(7, 40 << 20));
    let programs = [
        "RUN dd if=/dev/urandom of=/noise bs=1M count=100\n",
        // There is room for the files, but not for the layer.
        "RUN dd if=/dev/urandom of=/noise bs=1M count=12\n",
        "ADD bomb.tar.gz /\n",
        "COPY noise /\n",
        "COPY noise /\nRUN true\n",
        "RUN true\nCOPY noise /\nRUN --mount=target=/c true\n",
    ];
    for text in programs {
        let ran = build(&context, text, "-t full");
        let store = context.store().display().to_string();
        let full = format!("no space left on the disk of the store `{store}`");
        ran.says(1, &[&full, "`smidge prune`"]);
        assert_eq!(left(&context), 0, "{text}");
        assert_eq!(context.line("images -q").ok().lines().count(), 1, "{text}");
        context.line("builder prune -a -f").ok();
        context.line("prune -f").ok();
    }
    build(
        &context,
        "RUN dd if=/dev/urandom of=/noise bs=1M count=4\n",
        "-t fits",
    )
    .exits(0);
}

#[test]
fn files_of_zeros_take_no_room() {
    with_busybox(|context| {
        let size = 192 << 20;
        let sparse = context.write("c/sparse", "beginning");
        let file = std::fs::File::options().append(true).open(&sparse).unwrap();
        file.set_len(size).unwrap();
        // Copied, seen by a program, and made by one.
        let text = "COPY sparse /\nRUN test $(stat -c %s /sparse) = 201326592 && head -c 9 /sparse && truncate -s 192M /made\n";
        build(context, text, "-t sparse").exits(0);
        let used = disk_usage(&context.store());
        assert!(used < 32 << 20, "{used} bytes");
    });
}

fn disk_usage(path: &Path) -> u64 {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    let mut bytes = metadata.blocks() * 512;
    if metadata.is_dir() {
        // What a user namespace's own cannot be looked into is small here.
        let below = std::fs::read_dir(path).into_iter().flatten().flatten();
        bytes += below.map(|entry| disk_usage(&entry.path())).sum::<u64>();
    }
    bytes
}

#[test]
fn contexts_hold_names_and_files_of_every_kind() {
    with_busybox(|context| {
        let odd = std::ffi::OsStr::from_bytes(b"c/odd/b\xff\xfed name\n");
        context.write("c/odd/file", "plain");
        let path = context.path().join(odd);
        std::fs::write(path, "not UTF-8").unwrap();
        let text = "COPY odd /odd\nRUN cat /odd/b*\nCMD [\"sh\", \"-c\", \"cat /odd/b*\"]\n";
        build(context, text, "-t odd").exits(0);
        assert_eq!(context.line("run --rm odd").ok(), "not UTF-8");

        let secret = context.write("c/odd/secret", "x");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o0)).unwrap();
        let ran = build(context, "COPY odd /odd\n", "-t odd");
        match rustix::process::geteuid().is_root() && context.identity().ids.is_none() {
            true => drop(ran.exits(0)),
            false => ran.says(1, &["secret", "ermission denied"]),
        }
        // What is ignored is not read.
        context.write("c/.dockerignore", "odd/secret\n");
        build(context, "COPY odd /odd\n", "-t odd").exits(0);
    });
}

#[test]
fn dockerfiles_of_every_shape_are_read_or_refused() {
    let context = Context::new();
    let try_file = |content: &[u8], code: i32, texts: &[&str]| {
        context.write("c/Dockerfile", content);
        let ran = context.line("build -q --no-prove -t shape c");
        ran.says(code, texts);
    };
    try_file(b"", 1, &["no instructions"]);
    try_file(
        b"# syntax=docker/dockerfile:1\n\n# nothing\n",
        1,
        &["no instructions"],
    );
    try_file(
        b"\x7fELF\x02\x01\x01\0\xff\xfe",
        1,
        &["c/Dockerfile", "UTF-8"],
    );
    try_file(b"FROM scratch\0\nLABEL a=b\n", 1, &["c/Dockerfile:1"]);
    try_file(
        b"\xef\xbb\xbfFROM scratch\r\nLABEL a=\"b \\\r\n  c\"\r\n",
        0,
        &[],
    );
    let labels = ["inspect", "-f", "{{.Config.Labels}}", "shape"];
    assert_eq!(context.smidge(labels).ok(), "map[a:b   c]");
    let long = format!("FROM scratch\nLABEL a={}\n", "x".repeat(1 << 20));
    try_file(long.as_bytes(), 0, &[]);
    let many: String = (0..10_000).map(|n| format!("LABEL l{n}={n}\n")).collect();
    try_file(format!("FROM scratch\n{many}").as_bytes(), 0, &[]);
    let stages: String = (1..300)
        .map(|n| format!("FROM s{} AS s{n}\nCOPY Dockerfile /{n}\n", n - 1))
        .collect();
    try_file(format!("FROM scratch AS s0\n{stages}").as_bytes(), 0, &[]);
    let circle = b"FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nCOPY --from=a / /\n";
    try_file(circle, 1, &["c/Dockerfile:2", "`b`"]);

    std::fs::remove_file(context.path().join("c/Dockerfile")).unwrap();
    std::fs::create_dir(context.path().join("c/Dockerfile")).unwrap();
    context.line("build c").says(1, &["nothing to build"]);
    let named = context.line("build -f c/Dockerfile c");
    named.says(1, &["c/Dockerfile", "irectory"]);
    assert_eq!(left(&context), 0);
}

#[test]
fn the_first_letters_of_an_id_are_no_name_in_a_dockerfile() {
    let context = Context::new();
    context.write("c/Dockerfile", "FROM scratch\nLABEL a=b\n");
    let id = context.line("build -q --no-prove c").ok();
    let hex = id.strip_prefix("sha256:").unwrap();
    for length in [1, 5, 11] {
        context.write(
            "d/Dockerfile",
            format!("FROM {}\nLABEL c=d\n", &hex[..length]),
        );
        let ran = context.line("build --no-prove d");
        ran.says(1, &["cannot pull", "d/Dockerfile:1"]);
    }
    for name in [&hex[..12], hex, &id] {
        context.write("d/Dockerfile", format!("FROM {name}\nLABEL c=d\n"));
        context.line("build -q --no-prove d").ok();
    }
}
