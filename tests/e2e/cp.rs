//! `smidge cp`, `diff`, `export` and `commit`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Stdio;

use smidge_tests::InTime as _;

use crate::context::{Context, Ran, have, skip, smidge_binary};
use crate::fixture::{compiled, load_busybox, with_busybox};

/// Runs a script in a new container.
fn script(context: &Context, options: &str, script: &str) -> Ran {
    let line = format!("run {options} busybox sh -c");
    context.smidge(line.split_whitespace().chain([script]))
}

/// What a container's program sees of a file.
fn seen(context: &Context, container: &str, path: &str) -> String {
    let source = format!("{container}:{path}");
    let copied = context.smidge(["cp", &source, "seen"]);
    copied.ok();
    let text = fs::read_to_string(context.path().join("seen")).unwrap();
    fs::remove_file(context.path().join("seen")).unwrap();
    text
}

#[test]
fn files_are_copied_from_containers() {
    with_busybox(|context| {
        let make = "mkdir -p /d/sub; echo one > /d/one; echo two > /d/sub/two; ln -s one /d/link; \
                    ln -s /etc/passwd /d/out; chmod 640 /d/one; chmod 700 /d/sub; chmod 4755 /d/sub/two; \
                    touch -d '2020-01-02 03:04:05' /d/one; sleep 1000";
        let line = "run -d --name web busybox sh -c".split_whitespace();
        context.smidge(line.chain([make])).ok();
        let at = |name: &str| context.path().join(name);
        let read = |name: &str| fs::read_to_string(at(name)).unwrap();
        // The program may be slower than we are.
        let ready = || context.line("cp web:/d/out ready").code() == 0;
        smidge_tests::until("the files", ready);

        context.line("cp web:/d/one .").ok();
        assert_eq!(read("one"), "one\n");
        let file = fs::metadata(at("one")).unwrap();
        assert_eq!(file.mode() & 0o7777, 0o640);
        let (uid, gid) = context.identity().ids.unwrap_or((0, 0));
        assert_eq!((file.uid(), file.gid()), (uid, gid));
        context.line("cp web:/d/one other").ok();
        assert_eq!(read("other"), "one\n");
        context.line("cp web:/d/sub/two other").ok();
        assert_eq!(read("other"), "two\n", "overwritten");
        assert_eq!(fs::metadata(at("other")).unwrap().mode() & 0o7777, 0o755);
        context.line("container cp web:d/one relative").ok();
        assert_eq!(read("relative"), "one\n");

        // A directory: under its own name where there is one, else under the new one.
        fs::create_dir(at("here")).unwrap();
        if let Some((uid, gid)) = context.identity().ids {
            std::os::unix::fs::chown(at("here"), Some(uid), Some(gid)).unwrap();
        }
        context.line("cp web:/d here").ok();
        assert_eq!(read("here/d/sub/two"), "two\n");
        assert_eq!(
            fs::read_link(at("here/d/out")).unwrap().to_str(),
            Some("/etc/passwd")
        );
        assert_eq!(
            fs::metadata(at("here/d/sub")).unwrap().mode() & 0o777,
            0o700
        );
        context.line("cp web:/d new").ok();
        assert_eq!(read("new/one"), "one\n");
        context.line("cp web:/d/. here").ok();
        assert_eq!(read("here/one"), "one\n");
        context.line("cp web:/d/link .").ok();
        assert!(at("link").is_symlink());
        context.line("cp -L web:/d/link followed").ok();
        assert_eq!(read("followed"), "one\n");
        context.line("rm -f web").ok();
    });
}

#[test]
fn owners_come_along_where_that_is_asked_for() {
    with_busybox(|context| {
        // Whoever has one id sees one.
        let owner = match context.identity().name {
            "smidge-single" => (0, 0),
            _ => (12, 34),
        };
        let make = format!(
            "mkdir /d; echo one > /d/one; chown {}:{} /d/one",
            owner.0, owner.1
        );
        script(context, "--name web", &make).ok();
        let ids = context.identity().ids.unwrap_or((0, 0));
        let owner_of = |name: &str| {
            let file = fs::metadata(context.path().join(name)).unwrap();
            (file.uid(), file.gid())
        };
        context.line("cp web:/d/one plain").ok();
        assert_eq!(owner_of("plain"), ids);
        context.line("cp -a web:/d/one kept").ok();
        // Only root may give files away.
        let kept = if ids == (0, 0) { owner } else { ids };
        assert_eq!(owner_of("kept"), kept);

        context.line("cp kept web:/plain").ok();
        context.line("cp --archive kept web:/kept").ok();
        context.line("commit web seen").ok();
        let seen = context
            .line("run --rm seen stat -c %u:%g /plain /kept")
            .ok();
        let inside = match context.identity().name {
            "smidge-single" => (0, 0),
            _ => kept,
        };
        assert_eq!(seen, format!("0:0\n{}:{}", inside.0, inside.1));
        context.line("rm web").ok();
    });
}

/// Whoever has seen enough is told of no fault.
#[test]
fn readers_may_go() {
    with_busybox(|context| {
        script(context, "--name web", "seq 100000").ok();
        for line in ["export web", "cp web:/bin -", "logs web"] {
            let mut command = context.program("sh");
            let smidge = smidge_binary().display();
            command.args(["-c", &format!("{smidge} {line} | head -c 1 | wc -c")]);
            let ran = context.finish(command);
            assert_eq!(
                (ran.ok().as_str(), ran.stderr().as_str()),
                ("1", ""),
                "{line}"
            );
        }
        context.line("rm web").ok();
    });
}

#[test]
fn what_cannot_be_copied_is_refused() {
    with_busybox(|context| {
        script(context, "--name web", "mkdir /d; echo one > /d/one").ok();
        context.line("cp web:/d/one one").ok();
        for (line, says) in [
            ("cp web:/missing .", "/missing"),
            ("cp web:/d/one no/where", "no/where"),
            ("cp web:/d/one no/", "does not exist"),
            ("cp web:/d one", "cannot copy directory"),
            ("cp web:/d/one/ .", "is not a directory"),
            ("cp nobody:/d .", "No such container: nobody"),
            ("cp web:/d web:/e", "between containers"),
            ("cp a b", "at least one container"),
        ] {
            let ran = context.line(line);
            let said = ran.exits(1);
            assert!(said.contains(says), "{line}: {said}");
        }
        context.line("rm web").ok();
    });
}

#[test]
fn files_are_copied_to_containers() {
    with_busybox(|context| {
        context.write("site/index", "hello\n");
        context.write("site/deep/er", "deep\n");
        context
            .line("create --name web -v data:/data busybox cat /srv/index /data/index")
            .ok();
        // To one that was never started, to a directory that is not there and one that is.
        context.line("cp site web:/srv").ok();
        assert_eq!(seen(context, "web", "/srv/index"), "hello\n");
        context.line("cp site web:/srv").ok();
        assert_eq!(seen(context, "web", "/srv/site/deep/er"), "deep\n");
        context.line("cp site/. web:/data").ok();
        context.line("cp site/index web:/new").ok();
        assert_eq!(seen(context, "web", "/new"), "hello\n");
        assert_eq!(context.line("start -a web").ok(), "hello\nhello");
        let volume = context.store().join("volumes/data/_data/index");
        assert_eq!(
            fs::read_to_string(volume).unwrap(),
            "hello\n",
            "in the volume"
        );

        // To one that runs, into what only it sees.
        let line = "run -d --name live --tmpfs /mem -v data:/data busybox sleep 1000";
        context.line(line).ok();
        context.line("cp site/index live:/mem/x").ok();
        assert_eq!(seen(context, "live", "/mem/x"), "hello\n");
        context.line("cp site/deep/er live:/data/index").ok();
        assert_eq!(seen(context, "live", "/data/index"), "deep\n");
        context.line("cp site/index live:/etc/hosts").ok();
        assert_eq!(
            seen(context, "live", "/etc/hosts"),
            "hello\n",
            "a file that is mounted"
        );
        let missing = context.line("cp site/index live:/no/where");
        assert!(missing.exits(1).contains("/no/where"));
        context
            .line("cp site live:/data/index")
            .says(1, &["cannot copy directory"]);
        context
            .line("cp site/index live:/nope/")
            .says(1, &["does not exist"]);
        context.line("cp nothing live:/").exits(1);
        context.line("rm -f live web").ok();
        context.line("volume rm data").ok();
    });
}

#[test]
fn copies_in_a_container_are_roots_there() {
    with_busybox(|context| {
        let file = context.write("file", "x");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
        context
            .line("create --name web busybox stat -c %u:%g:%a /file /tmp/file")
            .ok();
        context.line("cp file web:/").ok();
        context.line("cp file web:/tmp").ok();
        let shown = context.line("start -a web").ok();
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines.iter().all(|line| line.ends_with(":604")), "{shown}");
        assert!(lines.iter().all(|line| line.starts_with("0:")), "{shown}");
        context.line("rm web").ok();
    });
}

/// Whoever copies a link once more means the link that is there, not the file it leads to.
#[test]
fn a_link_takes_the_place_of_a_link() {
    with_busybox(|context| {
        let file = context.write("file", "kept");
        let link = format!("ln -s {} /link", file.display());
        script(context, "--name web", &link).ok();
        context.line("cp web:/link copy").ok();
        context.line("cp web:/link copy").ok();
        assert_eq!(fs::read_link(context.path().join("copy")).unwrap(), file);
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        script(context, "--name other", "ln -s /elsewhere /link").ok();
        context.line("cp other:/link copy").ok();
        let now = fs::read_link(context.path().join("copy")).unwrap();
        assert_eq!(now, std::path::Path::new("/elsewhere"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        context.line("rm web other").ok();
    });
}

#[test]
fn archives_are_taken_and_given() {
    with_busybox(|context| {
        context.line("create --name web busybox cat /opt/a/b").ok();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, "a/b", &b"tree\n"[..]).unwrap();
        let archive = tar.into_inner().unwrap();
        let send = |line: &str, archive: &[u8]| {
            let mut child = context.spawn(context.line_command(line));
            let mut stdin = child.stdin.take().unwrap();
            let _ = stdin.write_all(archive);
            drop(stdin);
            child.output_in_time().unwrap()
        };
        assert!(
            !send("cp - web:/opt", &archive).status.success(),
            "no such directory"
        );
        assert!(send("cp - web:/", &archive).status.success());
        assert_eq!(seen(context, "web", "/a/b"), "tree\n");
        assert!(!send("cp - web:/", b"rubbish").status.success());
        assert!(!send("cp - web:/a/b", &archive).status.success());

        let packed = context.line("cp web:/a -");
        packed.ok();
        let mut unpacked = tar::Archive::new(packed.bytes());
        let names: Vec<String> = unpacked
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["a/", "a/b"]);
        context.line("rm web").ok();
    });
}

/// CVE-2018-15664: the container exchanges a directory for a link to the host's while it is copied.
#[test]
fn links_that_are_exchanged_meanwhile_lead_nowhere() {
    let context = Context::new();
    load_busybox(&context);
    context.write("secret/file", "host\n");
    let host = context.path().join("secret").display().to_string();
    let make = format!(
        "mkdir -p {host} /w/dir /w/real; echo inside > {host}/file; echo inside > /w/real/file; \
         echo inside > /w/dir/file; ln -s {host} /w/link; ln -s /proc/1/root /w/root; touch /ready; \
         while true; do mv /w/dir /w/aside; mv /w/link /w/dir; mv /w/dir /w/link; mv /w/aside /w/dir; done"
    );
    let line = "run -d --name evil busybox sh -c".split_whitespace();
    context.smidge(line.chain([make.as_str()])).ok();
    smidge_tests::until("the files", || context.line("cp evil:/ready .").code() == 0);
    context.write("new", "from the host\n");
    for _ in 0..30 {
        if context.line("cp evil:/w/dir/file taken").code() == 0 {
            let taken = fs::read_to_string(context.path().join("taken")).unwrap();
            assert_eq!(taken, "inside\n");
        }
        let _ = context.line("cp new evil:/w/dir/planted");
        let _ = fs::remove_dir_all(context.path().join("tree"));
        let _ = context.line("cp evil:/w tree");
    }
    assert!(!context.path().join("secret/planted").exists());
    let read = fs::read_to_string(context.path().join("secret/file"));
    assert_eq!(read.unwrap(), "host\n");
    // The kernel's own links lead out of the container, where it shares the host's processes.
    context.line("cp evil:/w/root/etc/passwd x").exits(1);
    context.line("cp evil:/proc/1/root/etc/passwd x").exits(1);
    context.line("rm -f evil").ok();
}

/// What a hostile archive, or directory, brings is never followed on this machine.
#[test]
fn links_of_a_container_are_not_followed_on_the_host() {
    let context = Context::new();
    load_busybox(&context);
    context.write("outside/file", "host\n");
    context.write("to/x", "");
    symlink(context.path().join("outside"), context.path().join("to/d")).unwrap();
    script(
        &context,
        "--name evil",
        "mkdir -p /t/d; echo evil > /t/d/file",
    )
    .ok();
    let ran = context.line("cp evil:/t/. to");
    ran.says(1, &["cannot overwrite the file", "to/d"]);
    let file = context.path().join("outside/file");
    assert_eq!(fs::read_to_string(file).unwrap(), "host\n");
    context.line("rm evil").ok();
}

#[test]
fn changes_are_shown() {
    with_busybox(|context| {
        let change = "rm /bin/wget; rm -r /home; echo x > /new; mkdir /etc/dir; touch /etc/dir/a; \
                      echo more >> /etc/passwd; rm -r /root; mkdir /root; chmod 000 /etc/dir";
        script(context, "--name web -v data:/data", change).ok();
        let expected = "C /bin\nD /bin/wget\nA /data\nC /etc\nA /etc/dir\nA /etc/dir/a\nC /etc/passwd\n\
                        D /home\nA /new\nC /root";
        assert_eq!(context.line("diff web").ok(), expected);
        assert_eq!(context.line("container diff web").ok(), expected);
        context.line("create --name fresh busybox").ok();
        assert_eq!(context.line("diff fresh").ok(), "");
        context
            .line("diff nobody")
            .says(1, &["No such container: nobody"]);
        context.line("rm web fresh").ok();
        context.line("volume rm data").ok();
    });
}

#[test]
fn files_are_exported() {
    with_busybox(|context| {
        let make = "rm -r /home; mkdir -m 000 /closed; echo x > /closed/file; ln /new /hard; \
                    echo v > /data/kept; sleep 1000";
        let line = "run -d --name web -v data:/data busybox sh -c".split_whitespace();
        context
            .smidge(line.chain([&*format!("echo n > /new; {make}")]))
            .ok();
        smidge_tests::until("the files", || {
            context.line("cp web:/data/kept ready").code() == 0
        });
        context.line("export -o web.tar web").ok();
        // What was there stays until there is something better.
        assert_eq!(context.line("export -o web.tar nobody").code(), 1);
        let piped = context.line("export web");
        piped.ok();
        let file = fs::read(context.path().join("web.tar")).unwrap();
        assert!(file == piped.bytes(), "either way");
        let mut archive = tar::Archive::new(&file[..]);
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        let has = |name: &str| names.iter().any(|known| known == name);
        for name in [
            "new",
            "hard",
            "closed/file",
            "etc/passwd",
            "data/",
            "bin/busybox",
        ] {
            assert!(has(name), "{name}: {names:?}");
        }
        for name in ["home/", "data/kept", "proc/1/", "dev/null"] {
            assert!(!has(name), "{name}");
        }
        context
            .line("export nobody")
            .says(1, &["No such container"]);
        // It can be an image.
        context.line("import web.tar again").ok();
        let ran = context.line("run --rm again /bin/cat /hard");
        assert_eq!(ran.ok(), "n");
        context.line("rm -f web").ok();
        context.line("volume rm data").ok();
    });
}

#[test]
fn containers_become_images() {
    with_busybox(|context| {
        let change = "rm /bin/wget; echo x > /new; rm -r /home; mkdir /home; echo h > /home/h; \
                      chmod 700 /home/h; mkdir -m 000 /closed; ln -s /new /link";
        script(context, "--name web -e A=b --label l=m", change).ok();
        let id = context
            .smidge([
                "commit",
                "-a",
                "Ann <ann@example.com>",
                "-m",
                "a note",
                "-c",
                "CMD [\"/bin/cat\", \"/new\"]",
                "-c",
                "ENV C=d",
                "web",
                "made:1",
            ])
            .ok();
        assert!(id.starts_with("sha256:"), "{id}");
        assert_eq!(context.line("run --rm made:1").ok(), "x");
        let look =
            "ls /bin/wget; ls /home; cat /home/h /link; stat -c %a /home/h /closed; echo $A$C";
        let ran = context.smidge(["run", "--rm", "made:1", "sh", "-c", look]);
        // Of a user with a single id, all layers are readable on the disk.
        let closed = match context.identity().name {
            "smidge-single" => "700",
            _ => "0",
        };
        assert_eq!(ran.stdout(), format!("h\nh\nx\n700\n{closed}\nbd"));
        let shown = |template: &str| context.smidge(["inspect", "-f", template, "made:1"]).ok();
        assert_eq!(
            shown("{{.Author}} {{.Comment}}"),
            "Ann <ann@example.com> a note"
        );
        assert_eq!(shown("{{.Config.Labels}}"), "map[l:m]");
        assert_eq!(shown("{{len .RootFS.Layers}}"), "2");
        context.line("create --name same busybox").ok();
        context.line("commit same same:1").ok();
        let layers = ["inspect", "-f", "{{len .RootFS.Layers}}", "same:1"];
        assert_eq!(context.smidge(layers).ok(), "1", "nothing was changed");
        context
            .line("commit nobody")
            .says(1, &["No such container"]);
        context.smidge(["commit", "-c", "RUN x", "web"]).exits(1);
        context.line("rm web same").ok();
    });
}

/// As in Docker: they have done what they were for.
#[test]
fn triggers_of_the_base_are_no_part_of_what_is_committed() {
    with_busybox(|context| {
        context.line("create --name web busybox true").ok();
        let own = ["commit", "-c", "ONBUILD RUN base", "web", "base"];
        context.smidge(own).ok();
        let triggers = |image: &str| {
            let line = ["inspect", "-f", "{{json .Config.OnBuild}}", image];
            context.smidge(line).ok()
        };
        assert_eq!(triggers("base"), "[\"RUN base\"]");
        context.line("create --name next base true").ok();
        context.line("commit next plain").ok();
        assert_eq!(triggers("plain"), "null");
        let own = ["commit", "-c", "ONBUILD RUN own", "next", "other"];
        context.smidge(own).ok();
        assert_eq!(triggers("other"), "[\"RUN own\"]");
        context.line("rm web next").ok();
    });
}

#[test]
fn a_program_goes_on_after_it_was_committed() {
    with_busybox(|context| {
        let line = "run -d --name web busybox sh -c".split_whitespace();
        let count = "i=0; while true; do i=$((i+1)); echo $i > /n; done";
        context.smidge(line.chain([count])).ok();
        smidge_tests::until("the file", || context.line("cp web:/n n").code() == 0);
        context.line("commit web made").ok();
        context.line("commit --pause=false web made").ok();
        let number = || seen(context, "web", "/n");
        let before = number();
        smidge_tests::until("another number", || number() != before);
        context.line("rm -f web").ok();
        let mut child = context.line_command("run --rm made cat /n");
        child.stdin(Stdio::null());
        context.finish(child).ok();
    });
}

/// CVE-2019-14271: whoever copies from a container looks names up, and loads the container's own library
/// for it, as the host's root.
#[test]
fn libraries_of_a_container_are_never_loaded() {
    if !have("gcc") {
        skip("there is no gcc");
        return;
    }
    let source = r#"#include <fcntl.h>
__attribute__((constructor)) static void loaded(void) { open("/loaded", O_CREAT | O_WRONLY, 0644); }"#;
    let library = compiled("hostile.so", source, &["-shared", "-fPIC"]);
    with_busybox(|context| {
        let hostile = context.copy(&library, "hostile.so");
        let hostile = hostile.display().to_string();
        context.line("run -d --name box busybox sleep 1000").ok();
        let script = "mkdir -p /lib/x86_64-linux-gnu /lib64 /usr/lib; echo 'passwd: files evil' > /etc/nsswitch.conf";
        context.smidge(["exec", "box", "sh", "-c", script]).ok();
        for directory in ["/lib/x86_64-linux-gnu", "/lib64", "/usr/lib"] {
            for name in [
                "libnss_files.so.2",
                "libnss_compat.so.2",
                "libnss_evil.so.2",
                "libc.so.6",
            ] {
                let to = format!("box:{directory}/{name}");
                context.smidge(["cp", &hostile, &to]).ok();
            }
        }
        context.write("file", "text");
        context.line("cp -a file box:/tmp/file").ok();
        context.line("cp box:/etc/passwd passwd").ok();
        context.line("cp box:/tmp .").ok();
        context.line("exec -u root box true").ok();
        context.line("diff box").ok();
        assert!(context.line("exec box test -e /loaded").code() == 1);
        assert!(!std::path::Path::new("/loaded").exists());
        context.line("rm -f box").ok();
    });
}
