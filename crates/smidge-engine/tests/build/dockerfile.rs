//! Dockerfiles become images, as Docker would make them.

use std::io::Write as _;

use smidge_engine::build::{BuildRequest, ConfigOptions};
use smidge_engine::{Error, Kind, Snippet};
use smidge_image::{Effort, Entry, EntryKind, LayerPath, LayerWriter, compress_gzip};
use smidge_tests::InTime as _;

use crate::support::{Context, have, static_program};

/// The error as the renderer would show it, in one line a piece.
fn shown(error: &Error) -> String {
    let place = |s: &Snippet| {
        let label = s
            .label
            .as_ref()
            .map(|label| format!(" {label}"))
            .unwrap_or_default();
        format!(
            "\n{}:{}:{} {}{label}",
            s.file,
            s.line,
            s.column,
            "^".repeat(s.length)
        )
    };
    let facts = error.facts().iter().map(|fact| format!("\n  {fact}"));
    let hints = error.hints().iter().map(|hint| format!("\nhint: {hint}"));
    let place = error.snippet().map(place).unwrap_or_default();
    let related = error
        .related()
        .iter()
        .map(|related| format!("\n{}", shown(related)));
    format!(
        "{error}{place}{}{}{}",
        facts.collect::<String>(),
        hints.collect::<String>(),
        related.collect::<String>()
    )
}

#[test]
fn the_article_s_dockerfile_gives_docker_s_config() {
    let context = Context::new();
    context.write_mode("argserver", static_program(1000), 0o755);
    context.write(
        "Dockerfile",
        "FROM scratch\nADD argserver /argserver\nENTRYPOINT [\"/argserver\"]\nCMD [\"a\", \"b\", \"c\", \"d\"]\n",
    );
    let built = context.build(&BuildRequest::new(".")).unwrap();
    assert_eq!(context.layers(&built), [["/argserver 755"]]);
    assert_eq!(
        built.contents[0].size, 1352,
        "files of a Dockerfile are not stripped"
    );
    let config: serde_json::Value = serde_json::from_slice(&built.image.config.to_bytes()).unwrap();
    let time = "1970-01-01T00:00:00Z";
    assert_eq!(
        config,
        serde_json::json!({
            "created": time, "architecture": "amd64", "os": "linux",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Entrypoint": ["/argserver"], "Cmd": ["a", "b", "c", "d"],
                "WorkingDir": "/", "ArgsEscaped": true,
            },
            "rootfs": { "type": "layers", "diff_ids": [built.image.config.rootfs.diff_ids[0]] },
            "history": [
                { "created": time, "created_by": "ADD argserver /argserver # buildkit" },
                { "created": time, "created_by": "ENTRYPOINT [\"/argserver\"]", "empty_layer": true },
                { "created": time, "created_by": "CMD [\"a\" \"b\" \"c\" \"d\"]", "empty_layer": true },
            ],
        })
    );
}

#[test]
fn every_setting_ends_up_in_the_config() {
    let context = Context::new();
    let built = context
        .dockerfile(
            "FROM scratch\nARG V=1\nENV A=$V B=\"two words\"\nENV A=3\nLABEL a=b c=\"d e\"\n\
             USER 7:8\nWORKDIR /srv\nWORKDIR app\nEXPOSE 80 53/udp\nVOLUME /data\nSTOPSIGNAL SIGINT\n\
             SHELL [\"/x\", \"-c\"]\nHEALTHCHECK --interval=5s CMD [\"/ok\"]\nONBUILD USER 1\n\
             MAINTAINER me\nCMD run it\n",
        )
        .unwrap();
    let config = serde_json::to_value(&built.image.config).unwrap();
    assert_eq!(
        config["config"],
        serde_json::json!({
            "User": "7:8", "ExposedPorts": { "80/tcp": {}, "53/udp": {} },
            "Env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "A=3", "B=two words",
            ],
            "Cmd": ["/x", "-c", "run it"], "Volumes": { "/data": {} }, "WorkingDir": "/srv/app",
            "Labels": { "a": "b", "c": "d e" }, "StopSignal": "SIGINT",
            "Healthcheck": { "Test": ["CMD", "/ok"], "Interval": 5_000_000_000_u64 },
            "OnBuild": ["USER 1"], "Shell": ["/x", "-c"], "ArgsEscaped": true,
        })
    );
    assert_eq!(config["author"], "me");
    assert_eq!(
        context.layers(&built),
        [
            &["/srv/ 755 7:8"][..],
            &["/srv/ 755 7:8", "/srv/app/ 755 7:8"]
        ]
    );
    let history = built.image.config.history;
    assert_eq!(history.iter().filter(|step| !step.empty_layer).count(), 2);
}

/// A context with a bit of everything.
fn tree() -> Context {
    let context = Context::new();
    context.write("a.txt", "a");
    context.write("b.txt", "b");
    context.write("dir/one", "1");
    context.write_mode("dir/sub/two", "2", 0o750);
    context.write("dir/.hidden", "h");
    context.link("dir/link", "one");
    context.link("to-dir", "dir");
    context.link("to-file", "/dir/one");
    context.link("away", "/etc/passwd");
    std::fs::create_dir_all(context.at("dir/empty")).unwrap();
    context
}

#[test]
fn files_go_where_docker_puts_them() {
    let context = tree();
    let cases: &[(&str, &[&str])] = &[
        ("COPY a.txt /", &["/a.txt 644"]),
        ("COPY a.txt /x", &["/x 644"]),
        ("COPY a.txt /x/", &["/x/ 755", "/x/a.txt 644"]),
        ("COPY a.txt x/y/z", &["/x/ 755", "/x/y/ 755", "/x/y/z 644"]),
        (
            "COPY a.txt b.txt /x/",
            &["/x/ 755", "/x/a.txt 644", "/x/b.txt 644"],
        ),
        ("COPY *.txt /", &["/a.txt 644", "/b.txt 644"]),
        (
            "COPY [\"a.txt\", \"b.txt\", \"/\"]",
            &["/a.txt 644", "/b.txt 644"],
        ),
        ("COPY /a.txt ./dir/../a.txt /", &["/a.txt 644"]),
        (
            "COPY dir /d",
            &[
                "/d/ 755",
                "/d/.hidden 644",
                "/d/empty/ 755",
                "/d/link -> one 777",
                "/d/one 644",
                "/d/sub/ 755",
                "/d/sub/two 750",
            ],
        ),
        (
            "COPY dir/* /d/",
            &[
                "/d/ 755",
                "/d/.hidden 644",
                "/d/link 644",
                "/d/one 644",
                "/d/two 750",
            ],
        ),
        ("COPY to-dir/sub /", &["/two 750"]),
        ("COPY to-file /f", &["/f 644"]),
        (
            "COPY --chown=5:6 --chmod=0700 a.txt /n/",
            &["/n/ 700 5:6", "/n/a.txt 700 5:6"],
        ),
        ("COPY --chown=5 a.txt /", &["/a.txt 644 5:5"]),
        ("COPY <<end /f\nline\nend", &["/f 644"]),
    ];
    for (instruction, expected) in cases {
        let built = context.dockerfile(&format!("FROM scratch\n{instruction}\n"));
        let layers =
            context.layers(&built.unwrap_or_else(|e| panic!("{instruction}: {}", shown(&e))));
        assert_eq!(layers, [*expected], "{instruction}");
    }
}

#[test]
fn earlier_layers_decide_where_later_files_go() {
    let context = tree();
    let built = context
        .dockerfile(
            "FROM scratch\nWORKDIR /w\nCOPY a.txt .\nCOPY dir /usr\nCOPY a.txt b.txt ./\nCOPY a.txt /usr\n\
             COPY dir/one /usr/link\n",
        )
        .unwrap();
    let layers = context.layers(&built);
    assert_eq!(layers[0], ["/w/ 755"]);
    assert_eq!(layers[1], ["/w/ 755", "/w/a.txt 644"]);
    assert_eq!(layers[3], ["/w/ 755", "/w/a.txt 644", "/w/b.txt 644"]);
    assert_eq!(
        layers[4],
        ["/usr/ 755", "/usr/a.txt 644"],
        "a directory that is there already"
    );
}

#[test]
fn ignored_files_do_not_exist() {
    let context = tree();
    context.write(
        ".dockerignore",
        "# comment\n*.txt\n!b.txt\ndir\n!dir/sub/two\n",
    );
    let built = context.dockerfile("FROM scratch\nCOPY . /c/\n").unwrap();
    assert_eq!(
        context.layers(&built),
        [[
            "/c/ 755",
            "/c/.dockerignore 644",
            "/c/Dockerfile 644",
            "/c/away -> /etc/passwd 777",
            "/c/b.txt 644",
            "/c/dir/ 755",
            "/c/dir/sub/ 755",
            "/c/dir/sub/two 750",
            "/c/to-dir -> dir 777",
            "/c/to-file -> /dir/one 777",
        ]]
    );
    let error = context
        .dockerfile("FROM scratch\nCOPY a.txt /\n")
        .unwrap_err();
    assert_eq!(
        shown(&error),
        "`a.txt` is not in the build context\nDockerfile:2:6 ^^^^^\n  `.dockerignore` leaves it out"
    );
    context.write("Dockerfile.dockerignore", "b.txt\n");
    context.dockerfile("FROM scratch\nCOPY a.txt /\n").unwrap();
}

#[test]
fn what_cannot_be_copied_is_shown_at_its_place() {
    let context = tree();
    context.write(".wh.a", "");
    let cases = [
        (
            "COPY a.txt none /",
            "`none` is not in the build context\nDockerfile:2:12 ^^^^",
        ),
        (
            "COPY ../x /",
            "`../x` is not in the build context\nDockerfile:2:6 ^^^^\n  a path that leads out of it starts at its root\nhint: copy what is needed into the context, or build from the directory above",
        ),
        (
            "COPY away /",
            "`away` is not in the build context\nDockerfile:2:6 ^^^^",
        ),
        (
            "COPY [\"[\", \"/\"]",
            "`[` is not a pattern: a bracket or backslash is left open\nDockerfile:2:8 ^",
        ),
        (
            "COPY .wh.a /",
            "cannot write `/.wh.a` in the image: in a layer, names that start with `.wh.` remove other files\nDockerfile:2:6 ^^^^^",
        ),
        (
            "COPY --chown=nobody a.txt /",
            "there is no user `nobody` in the image\nDockerfile:2:14 ^^^^^^\n  looked in: `/etc/passwd` of the image\nhint: give the user as a number",
        ),
    ];
    for (instruction, expected) in cases {
        let error = context
            .dockerfile(&format!("FROM scratch\n{instruction}\n"))
            .unwrap_err();
        assert_eq!(shown(&error), expected, "{instruction}");
        assert!(
            matches!(error.kind(), Kind::Input | Kind::NotFound),
            "{instruction}"
        );
    }
    let text = "FROM scratch\nCOPY a.txt /x\nCOPY dir /x\n";
    assert_eq!(
        shown(&context.dockerfile(text).unwrap_err()),
        "cannot write `/x` in the image: it is a file, and a directory is to go there\nDockerfile:3:6 ^^^"
    );
}

#[test]
fn copying_and_owners_follow_docker_in_their_corners() {
    let context = tree();
    context.write_mode("closed/in", "i", 0o600);
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(context.at("closed"), closed).unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("COPY a.txt /../../x", &["/x 644"]),
        ("COPY ../../a.txt /x", &["/x 644"]),
        ("COPY a.txt none*.txt /x/", &["/x/ 755", "/x/a.txt 644"]),
        ("COPY closed /x", &["/x/ 755", "/x/in 600"]),
        (
            "COPY --chmod=640 --chown=3:4 closed /x",
            &["/x/ 755 3:4", "/x/in 640 3:4"],
        ),
        ("COPY --chown=root:root a.txt /x", &["/x 644"]),
        ("COPY --chown=:5 a.txt /x", &["/x 644 0:5"]),
        ("USER 5\nWORKDIR /w/x", &["/w/ 755 5:5", "/w/x/ 755 5:5"]),
    ];
    for (instructions, expected) in cases {
        let text = format!("FROM scratch\n{instructions}\n");
        let built = context.dockerfile(&text).unwrap();
        assert_eq!(context.layers(&built), [*expected], "{instructions}");
    }
    let text = "FROM scratch\nCOPY none*.txt /\n";
    let built = context.dockerfile(text).unwrap();
    assert_eq!(
        built.notes[0].message,
        "nothing in the build context matches `none*.txt`"
    );
}

#[test]
fn destinations_that_are_links_are_followed() {
    let context = tree();
    context.link("nowhere", "dir/new");
    let text = "FROM scratch\nCOPY . /c\nCOPY a.txt /c/dir/link\nCOPY b.txt /c/nowhere\n";
    let built = context.dockerfile(text).unwrap();
    let layers = context.layers(&built);
    let above = ["/c/ 755", "/c/dir/ 755"];
    assert_eq!(layers[1], [&above[..], &["/c/dir/one 644"]].concat());
    assert_eq!(layers[2], [&above[..], &["/c/dir/new 644"]].concat());
    context.link("round", "round");
    let text = "FROM scratch\nCOPY . /c\nCOPY a.txt /c/round\n";
    let error = shown(&context.dockerfile(text).unwrap_err());
    assert!(error.contains("leads round in a circle"), "{error}");
}

#[test]
fn files_of_a_stage_keep_their_owners() {
    let context = tree();
    let text = "FROM scratch AS a\nCOPY --chown=5:6 dir /d\nFROM scratch\n\
                COPY --from=a /d/sub /x\nCOPY --from=a --chown=0:0 /d/one /y\n";
    let built = context.dockerfile(text).unwrap();
    let layers = context.layers(&built);
    assert_eq!(layers[0], ["/x/ 755", "/x/two 750 5:6"]);
    assert_eq!(layers[1], ["/y 644"]);
}

#[test]
fn triggers_are_carried_out_once_and_not_handed_down() {
    let context = tree();
    let text = "FROM scratch AS a\nONBUILD COPY a.txt /t\nFROM a\nENV X=1\n";
    let built = context.dockerfile(text).unwrap();
    assert_eq!(context.layers(&built), [["/t 644"]]);
    assert_eq!(built.image.config.config.on_build, None);
}

#[test]
fn stages_give_files_and_bases() {
    let context = tree();
    let text = "FROM scratch AS base\nENV A=1\nCOPY dir /d\nENTRYPOINT [\"/e\"]\nCMD [\"c\"]\n\
                FROM scratch AS other\nCOPY none /\n\
                FROM base\nENTRYPOINT [\"/f\"]\nCOPY --from=base /d/link /d/sub /out/\n";
    let built = context.dockerfile(text).unwrap();
    let layers = context.layers(&built);
    assert_eq!(layers.len(), 2);
    assert_eq!(layers[1], ["/out/ 755", "/out/link 644", "/out/two 750"]);
    assert_eq!(context.contents(&built)["/out/link"], "1");
    let config = &built.image.config.config;
    assert_eq!(config.env[1], "A=1");
    assert_eq!(
        config.cmd, None,
        "an inherited command was for another entrypoint"
    );
}

/// A tar archive with a directory, a file, two kinds of link and an owner.
fn archive() -> Vec<u8> {
    let path = |text: &str| LayerPath::parse(text.as_bytes()).unwrap();
    let mut tar = LayerWriter::new(Vec::new());
    let mut add = |entry: Entry, content: &[u8]| tar.append(&entry, &mut &*content).unwrap();
    let file = |name, size| Entry {
        uid: 9,
        gid: 9,
        mtime: 5,
        ..Entry::new(path(name), EntryKind::File { size })
    };
    add(
        Entry {
            mode: 0o700,
            ..Entry::new(path("z"), EntryKind::Directory)
        },
        b"",
    );
    add(file("z/file", 4), b"text");
    add(
        Entry::new(
            path("a"),
            EntryKind::Hardlink {
                target: path("z/file"),
            },
        ),
        b"",
    );
    add(
        Entry::new(
            path("s"),
            EntryKind::Symlink {
                target: b"z".to_vec(),
            },
        ),
        b"",
    );
    tar.finish().unwrap()
}

#[test]
fn add_unpacks_archives_and_copy_does_not() {
    let context = Context::new();
    context.write("a.tar", archive());
    let mut gzip = Vec::new();
    compress_gzip(&mut archive().as_slice(), &mut gzip, Effort::Canonical, 1).unwrap();
    context.write("renamed.bin", &gzip);
    let mut text = Vec::new();
    compress_gzip(
        &mut b"no archive".as_slice(),
        &mut text,
        Effort::Canonical,
        1,
    )
    .unwrap();
    context.write("text.gz", &text);
    context.write("cut.tar.gz", &gzip[..gzip.len() - 20]);
    let unpacked = vec![
        "/x/ 755",
        "/x/s -> z 777",
        "/x/z/ 700",
        "/x/z/file 644 9:9 @5",
        "/x/a = /x/z/file 644",
    ];
    for (instruction, expected) in [
        ("ADD a.tar /x", unpacked.clone()),
        ("ADD renamed.bin /x/", unpacked),
        ("COPY a.tar /x", vec!["/x 644"]),
        ("ADD --unpack=false a.tar /x", vec!["/x 644"]),
        ("ADD text.gz /", vec!["/text.gz 644"]),
        (
            "ADD --chown=1:2 a.tar /",
            vec![
                "/s -> z 777 1:2",
                "/z/ 700 1:2",
                "/z/file 644 1:2 @5",
                "/a = /z/file 644 1:2",
            ],
        ),
    ] {
        let built = context.dockerfile(&format!("FROM scratch\n{instruction}\n"));
        let layers =
            context.layers(&built.unwrap_or_else(|e| panic!("{instruction}: {}", shown(&e))));
        assert_eq!(layers, [expected], "{instruction}");
    }
    let built = context
        .dockerfile("FROM scratch\nADD a.tar /\nCOPY a.tar /z/file\n")
        .unwrap();
    assert!(context.contents(&built)["/z/file"].contains("ustar"));
    let error = context
        .dockerfile("FROM scratch\nADD cut.tar.gz /\n")
        .unwrap_err();
    assert!(shown(&error).starts_with("cannot unpack the archive\nDockerfile:2:5 ^^^^^^^^^^"));
}

#[test]
fn hard_links_of_archives_lead_to_files_of_their_layer() {
    let context = Context::new();
    let mut tar = LayerWriter::new(Vec::new());
    let path = |text: &str| LayerPath::parse(text.as_bytes()).unwrap();
    let link = |at: &str, target: &str| {
        let target = path(target);
        Entry::new(path(at), EntryKind::Hardlink { target })
    };
    let file = Entry::new(path("z"), EntryKind::File { size: 4 });
    tar.append(&file, &mut b"text".as_slice()).unwrap();
    // To a link that comes after it by name; to a file of a layer below.
    for entry in [link("m", "z"), link("a", "m"), link("b", "below")] {
        tar.append(&entry, &mut std::io::empty()).unwrap();
    }
    context.write("a.tar", tar.finish().unwrap());
    context.write("below", "below");
    let built = context
        .dockerfile("FROM scratch\nCOPY below /\nADD a.tar /\n")
        .unwrap();
    let added = ["/b 644", "/z 644", "/a = /z 644", "/m = /z 644"];
    assert_eq!(context.layers(&built)[1], added);
    assert_eq!(context.contents(&built)["/b"], "below");
}

#[test]
fn directories_that_a_file_is_put_into_keep_their_attributes() {
    let context = Context::new();
    let mut tar = LayerWriter::new(Vec::new());
    let path = LayerPath::parse(b"d").unwrap();
    let mut directory = Entry::new(path, EntryKind::Directory);
    let colour = (b"user.colour".to_vec(), b"blue".to_vec());
    directory.xattrs.extend([colour]);
    tar.append(&directory, &mut std::io::empty()).unwrap();
    context.write("a.tar", tar.finish().unwrap());
    context.write("f", "");
    let built = context
        .dockerfile("FROM scratch\nADD a.tar /\nCOPY f /d/\n")
        .unwrap();
    let attributed = context.attributed(&built);
    assert_eq!(attributed.len(), 2);
    assert_eq!(attributed[0].xattrs, attributed[1].xattrs);
}

#[test]
fn archives_do_not_lead_out_of_the_image() {
    let context = Context::new();
    let mut tar = archive();
    tar.truncate(tar.len() - 1024);
    let path = LayerPath::parse(b"s/../../../etc/x");
    assert!(path.is_err(), "no writer of ours makes such a name");
    let mut header = tar[..512].to_vec();
    header[..100].fill(0);
    header[..9].copy_from_slice(b"../../etc");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    write!(&mut header[148..155], "{sum:06o}\0").unwrap();
    tar.extend(header);
    tar.extend([0; 1024]);
    context.write("evil.tar", tar);
    let error = context
        .dockerfile("FROM scratch\nADD evil.tar /\n")
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot unpack the archive");
    assert!(context.engine.store.images().unwrap().is_empty());
}

#[test]
fn a_program_that_cannot_start_is_shown_where_it_is_named() {
    let context = Context::new();
    if !have(&context, "cc") {
        return;
    }
    context.write("d.c", "int main(void) { return 0; }\n");
    let mut cc = std::process::Command::new("cc");
    cc.args(["-o", "d", "d.c"]).current_dir(context.at(""));
    assert!(cc.status_in_time().unwrap().success());
    context.write("run.sh", "#!/bin/bash -e\n");
    let build = |text: &str| {
        context.write("Dockerfile", text);
        context.build(&BuildRequest::new("."))
    };
    let message = shown(&build("FROM scratch\nADD d /d\nCMD [\"/d\"]\n").unwrap_err());
    for part in [
        "`/d` cannot start: it is dynamically linked, but its loader is not in the image\nDockerfile:3:6 ^^^^ ELF x86-64, wants `/lib64/ld-linux-x86-64.so.2` and libc.so.6",
        "hint: let smidge add the loader and 1 library (+",
        "`smidge build --with-libs .`",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let message = shown(
        &build("FROM scratch\nCOPY --chmod=755 run.sh /\nENTRYPOINT [\"/run.sh\"]\n").unwrap_err(),
    );
    assert!(
        message.contains("its interpreter `/bin/bash` is not in the image"),
        "{message}"
    );
    assert!(message.contains("/run.sh:1:3 ^^^^^^^^^"), "{message}");
    let message = shown(&build("FROM scratch\nADD d /d\nCMD /d\n").unwrap_err());
    assert!(
        message.contains("the shell form needs `/bin/sh`"),
        "{message}"
    );
    assert!(message.contains("Dockerfile:3:5 ^^"), "{message}");

    context.write("Dockerfile", "FROM scratch\nADD d /d\nCMD [\"/d\"]\n");
    let request = BuildRequest {
        with_libs: true,
        ..BuildRequest::new(".")
    };
    let built = context.build(&request).unwrap();
    assert_eq!(context.layers(&built).len(), 2);
    let config = ConfigOptions {
        cmd: Some("/nope".into()),
        ..ConfigOptions::default()
    };
    let error = context
        .build(&BuildRequest {
            config,
            ..BuildRequest::new(".")
        })
        .unwrap_err();
    assert_eq!(
        shown(&error),
        "`/nope` cannot start: no such file or directory in the image\n\
         hint: to have the image all the same: `smidge build --no-prove .`"
    );
}

#[test]
fn what_is_wrong_is_said_at_its_place() {
    let context = Context::new();
    let error = context.dockerfile("FROM scratch\nCOYP a b\n").unwrap_err();
    assert!(
        shown(&error).starts_with("unknown instruction `COYP`\nDockerfile:2:1 ^^^^"),
        "{}",
        shown(&error)
    );
    let missing = BuildRequest {
        file: Some("none".into()),
        ..BuildRequest::new(".")
    };
    assert_eq!(
        shown(&context.build(&missing).unwrap_err()),
        "cannot read `none`"
    );
}
