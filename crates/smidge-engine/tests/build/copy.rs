//! The flags of `COPY` and `ADD`, and which files a context has.

use std::os::unix::fs::symlink;

use smidge_engine::build::BuildRequest;
use smidge_engine::{Error, Kind};

use smidge_image::Entry;

use crate::support::Context;

/// A context with a few directories.
fn tree() -> Context {
    let context = Context::new();
    context.write("a.txt", "a");
    context.write("b.md", "b");
    context.write("src/lib/one.c", "1");
    context.write("src/lib/one.o", "o");
    context.write_mode("src/lib/run", "r", 0o755);
    context.write("src/main.c", "m");
    context.write("src/deep/er/two.c", "2");
    context.write("other/lib/one.c", "3");
    std::fs::create_dir_all(context.at("src/empty")).unwrap();
    context
}

/// What the last layer of a Dockerfile says, without the usual.
fn last(context: &Context, dockerfile: &str) -> Result<Vec<String>, Error> {
    let built = context.dockerfile(&format!("FROM scratch\n{dockerfile}\n"))?;
    Ok(context.layers(&built).pop().unwrap_or_default())
}

fn check(context: &Context, instruction: &str, expected: &[&str]) {
    let layer = last(context, instruction).unwrap_or_else(|e| panic!("{instruction}: {e}"));
    assert_eq!(layer, expected, "{instruction}");
}

#[test]
fn modes_are_changed_file_by_file() {
    let context = tree();
    let cases: &[(&str, &[&str])] = &[
        ("COPY --chmod=go= a.txt /", &["/a.txt 600"]),
        (
            "COPY --chmod=u=rwX,go= src/lib /l/",
            &["/l/ 755", "/l/one.c 600", "/l/one.o 600", "/l/run 700"],
        ),
        (
            "COPY --chmod=+t,g+s src/empty src/deep/er /l/",
            &["/l/ 755", "/l/two.c 3644"],
        ),
        ("COPY --chmod=a=r,u+w <<end /f\nx\nend", &["/f 644"]),
        ("ADD --chmod=0400 a.txt /", &["/a.txt 400"]),
    ];
    for (instruction, expected) in cases {
        check(&context, instruction, expected);
    }
    let error = last(&context, "COPY --chmod=u+q a.txt /").unwrap_err();
    assert_eq!(error.kind(), Kind::Input);
    assert!(error.snippet().is_some(), "{error}");
}

#[test]
fn what_is_excluded_stays_away() {
    let context = tree();
    let cases: &[(&str, &[&str])] = &[
        (
            "COPY --exclude=*.o --exclude=run src/lib /l/",
            &["/l/ 755", "/l/one.c 644"],
        ),
        (
            "COPY --exclude=lib --exclude=empty src /s/",
            &[
                "/s/ 755",
                "/s/deep/ 755",
                "/s/deep/er/ 755",
                "/s/deep/er/two.c 644",
                "/s/main.c 644",
            ],
        ),
        (
            "COPY --exclude=**/*.c --exclude=**/*.o src /s/",
            &[
                "/s/ 755",
                "/s/deep/ 755",
                "/s/deep/er/ 755",
                "/s/empty/ 755",
                "/s/lib/ 755",
                "/s/lib/run 755",
            ],
        ),
        (
            "COPY --exclude=* --exclude=!lib/run src /s/",
            &["/s/ 755", "/s/lib/ 755", "/s/lib/run 755"],
        ),
        // Relative to the source, not to the context.
        (
            "COPY --exclude=src/main.c src /s/",
            &[
                "/s/ 755",
                "/s/deep/ 755",
                "/s/deep/er/ 755",
                "/s/deep/er/two.c 644",
                "/s/empty/ 755",
                "/s/lib/ 755",
                "/s/lib/one.c 644",
                "/s/lib/one.o 644",
                "/s/lib/run 755",
                "/s/main.c 644",
            ],
        ),
        ("COPY --exclude=*.md *.* /x/", &["/x/ 755", "/x/a.txt 644"]),
        (
            "ADD --exclude=*.md a.txt b.md /x/",
            &["/x/ 755", "/x/a.txt 644"],
        ),
        (
            "COPY --parents --exclude=**/*.o src/lib /",
            &[
                "/src/ 755",
                "/src/lib/ 755",
                "/src/lib/one.c 644",
                "/src/lib/run 755",
            ],
        ),
    ];
    for (instruction, expected) in cases {
        check(&context, instruction, expected);
    }
    let error = last(&context, "COPY --exclude=[ src /").unwrap_err();
    assert!(error.to_string().contains("not a pattern"), "{error}");
}

#[test]
fn parents_come_along_up_to_the_pivot() {
    let context = tree();
    let one = "/d/src/lib/one.c 644";
    let cases: &[(&str, &[&str])] = &[
        (
            "COPY --parents src/lib/one.c /d/",
            &["/d/ 755", "/d/src/ 755", "/d/src/lib/ 755", one],
        ),
        (
            "COPY --parents ./src/lib/../lib/one.c /d/",
            &["/d/ 755", "/d/src/ 755", "/d/src/lib/ 755", one],
        ),
        (
            "COPY --parents src/./lib/one.c /d/",
            &["/d/ 755", "/d/lib/ 755", "/d/lib/one.c 644"],
        ),
        (
            "COPY --parents */lib/*.c /d/",
            &[
                "/d/ 755",
                "/d/other/ 755",
                "/d/other/lib/ 755",
                "/d/other/lib/one.c 644",
                "/d/src/ 755",
                "/d/src/lib/ 755",
                one,
            ],
        ),
        (
            "COPY --parents src/**/*.c /d/",
            &[
                "/d/ 755",
                "/d/src/ 755",
                "/d/src/deep/ 755",
                "/d/src/deep/er/ 755",
                "/d/src/deep/er/two.c 644",
                "/d/src/lib/ 755",
                one,
                "/d/src/main.c 644",
            ],
        ),
        (
            "COPY --parents src/./**/er /d/",
            &[
                "/d/ 755",
                "/d/deep/ 755",
                "/d/deep/er/ 755",
                "/d/deep/er/two.c 644",
            ],
        ),
        (
            "COPY --parents */./lib/one.c /d/",
            &["/d/ 755", "/d/lib/ 755", "/d/lib/one.c 644"],
        ),
        (
            "COPY --parents src/empty a.txt /d/",
            &[
                "/d/ 755",
                "/d/a.txt 644",
                "/d/src/ 755",
                "/d/src/empty/ 755",
            ],
        ),
    ];
    for (instruction, expected) in cases {
        check(&context, instruction, expected);
    }
}

#[test]
fn parents_of_nothing_are_an_error_or_a_note() {
    let context = tree();
    let error = last(&context, "COPY --parents src/none.c /d/").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`src/none.c` is not in the build context"
    );
    let built = context
        .dockerfile("FROM scratch\nCOPY --parents none/* /d/\n")
        .unwrap();
    assert!(
        built
            .notes
            .iter()
            .any(|n| n.message.contains("matches `none/*`")),
        "{:?}",
        built.notes
    );
}

#[test]
fn links_at_the_destination_are_not_followed_when_linking() {
    let context = tree();
    symlink("usr/lib", context.at("lib")).unwrap();
    let base = "COPY --parents lib src/lib/one.c /\nCOPY a.txt /usr/lib/old\n";
    let followed = last(&context, &format!("{base}COPY a.txt /lib/")).unwrap();
    let inside = ["/usr/ 755", "/usr/lib/ 755", "/usr/lib/a.txt 644"];
    assert_eq!(followed, inside);
    let linked = last(&context, &format!("{base}COPY --link a.txt /lib/")).unwrap();
    assert_eq!(linked, ["/lib/ 755", "/lib/a.txt 644"]);
    // Directories that are there stay as they are.
    let linked = last(&context, &format!("{base}COPY --link a.txt /usr/lib/")).unwrap();
    assert_eq!(linked, inside);
    // Nobody looks whether this is a directory.
    let linked = last(&context, &format!("{base}COPY --link a.txt /src")).unwrap();
    assert_eq!(linked, ["/src 644"]);
    let after = last(
        &context,
        &format!("{base}COPY --link a.txt /lib/\nCOPY b.md /lib/"),
    )
    .unwrap();
    assert_eq!(after, ["/lib/ 755", "/lib/b.md 644"]);
}

#[test]
fn pipes_and_sockets_are_left_out_and_not_waited_for() {
    let context = tree();
    let pipe = context.at("src/pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(context.at("src/socket")).unwrap();
    for instruction in ["COPY src/pipe src/main.c /", "ADD src/pipe src/main.c /"] {
        check(&context, instruction, &["/main.c 644"]);
    }
    let built = context
        .dockerfile("FROM scratch\nCOPY --exclude=**/*.* src /\n")
        .unwrap();
    let left: Vec<_> = built
        .notes
        .iter()
        .map(|note| note.message.as_str())
        .collect();
    assert_eq!(
        left,
        [
            "left out `/src/pipe`: it is a device, pipe or socket",
            "left out `/src/socket`: it is a device, pipe or socket",
        ]
    );
}

#[test]
fn hard_links_stay_hard_links() {
    let context = tree();
    std::fs::hard_link(context.at("src/main.c"), context.at("src/again.c")).unwrap();
    check(
        &context,
        "COPY --exclude=*/** --exclude=empty --exclude=lib --exclude=deep src /s/",
        &["/s/ 755", "/s/again.c 644", "/s/main.c = /s/again.c 644"],
    );
}

#[test]
fn sparse_files_keep_their_size_and_content() {
    let context = Context::new();
    let file = std::fs::File::create(context.at("big")).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"end", 10 << 20).unwrap();
    let built = context.dockerfile("FROM scratch\nCOPY big /\n").unwrap();
    let contents = context.contents(&built);
    assert_eq!(contents["/big"].len(), (10 << 20) + 3);
    assert!(contents["/big"].ends_with("\0end"));
}

#[test]
fn ignore_files_say_what_a_context_has() {
    // The file, and what `COPY . /` brings of the tree but Dockerfile and .dockerignore.
    let all = [
        "a.txt",
        "b.md",
        "other/lib/one.c",
        "src/deep/er/two.c",
        "src/lib/one.c",
        "src/lib/one.o",
        "src/lib/run",
        "src/main.c",
    ];
    let without = |gone: &[&str]| -> Vec<String> {
        let stays = |path: &&&str| !gone.iter().any(|gone| path.starts_with(gone));
        all.iter()
            .filter(stays)
            .map(|path| format!("/{path}"))
            .collect()
    };
    let cases: &[(&str, Vec<String>)] = &[
        ("", without(&[])),
        ("# src\n", without(&[])),
        ("src\n", without(&["src"])),
        ("/src\n", without(&["src"])),
        ("src/\n", without(&["src"])),
        ("  src  \t\n", without(&["src"])),
        ("\u{feff}src\n", without(&["src"])),
        ("src\r\nother\r\n", without(&["src", "other"])),
        ("lib\n", without(&[])),
        ("**/lib\n", without(&["src/lib", "other/lib"])),
        ("*/lib\n", without(&["src/lib", "other/lib"])),
        (
            "**/*.c\n",
            without(&[
                "other/lib/one.c",
                "src/deep/er/two.c",
                "src/lib/one.c",
                "src/main.c",
            ]),
        ),
        (
            "**\n!src/lib/run\n",
            without(&["a", "b", "other", "src/deep", "src/lib/one", "src/main"]),
        ),
        ("src\n!src/lib\n", without(&["src/deep", "src/main"])),
        (
            "src\n!src/lib\nsrc/lib/*.o\n",
            without(&["src/deep", "src/main", "src/lib/one.o"]),
        ),
        ("!src\nsrc\n", without(&["src"])),
        ("Dockerfile\n.dockerignore\n", without(&[])),
        (".\n", without(&[])),
    ];
    for (text, expected) in cases {
        let context = tree();
        context.write(".dockerignore", text);
        let built = context.dockerfile("FROM scratch\nCOPY . /\n").unwrap();
        let mut files: Vec<String> = context.contents(&built).into_keys().collect();
        files.retain(|path| !path.contains("ocker"));
        assert_eq!(files, *expected, "{text:?}");
    }
}

#[test]
fn an_ignored_dockerfile_is_still_read() {
    let context = tree();
    context.write(".dockerignore", "Dockerfile\n.dockerignore\nsrc\nother\n");
    let built = context.dockerfile("FROM scratch\nCOPY . /\n").unwrap();
    let files: Vec<_> = context.contents(&built).into_keys().collect();
    assert_eq!(files, ["/a.txt", "/b.md"]);
    let error = last(&context, "COPY Dockerfile /").unwrap_err();
    assert_eq!(error.facts(), ["`.dockerignore` leaves it out"]);
}

#[test]
fn the_ignore_file_of_a_dockerfile_comes_first() {
    let context = tree();
    context.write(".dockerignore", "a.txt\n");
    context.write("build/x.Dockerfile", "FROM scratch\nCOPY *.* /\n");
    let build = |context: &Context| {
        let request = BuildRequest {
            file: Some("build/x.Dockerfile".into()),
            prove: false,
            ..BuildRequest::new(".")
        };
        let built = context.build(&request).unwrap();
        context.contents(&built).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(build(&context), ["/.dockerignore", "/b.md"]);
    context.write("build/x.Dockerfile.dockerignore", "b.md\n.dockerignore\n");
    assert_eq!(build(&context), ["/a.txt"]);
    // An empty one counts, too.
    context.write("build/x.Dockerfile.dockerignore", "");
    assert_eq!(build(&context), ["/.dockerignore", "/a.txt", "/b.md"]);
}

#[test]
fn an_ignore_file_that_makes_no_sense_is_named() {
    let context = tree();
    context.write(".dockerignore", "a\n[b\n");
    let error = context.dockerfile("FROM scratch\n").unwrap_err();
    assert_eq!(error.to_string(), "cannot use `.dockerignore`");
    // A link in a context leads to no other files of the machine.
    std::fs::write(context.at("../outside"), "[secret").unwrap();
    std::fs::remove_file(context.at(".dockerignore")).unwrap();
    symlink("../outside", context.at(".dockerignore")).unwrap();
    context.dockerfile("FROM scratch\n").unwrap();
}

#[test]
fn capabilities_of_programs_are_copied() {
    use rustix::fs::{XattrFlags, setxattr};
    let context = tree();
    // Version 2, effective, CAP_NET_BIND_SERVICE (linux/capability.h).
    let capability: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let file = context.at("a.txt");
    let set = |name, value: &[u8]| setxattr(&file, name, value, XattrFlags::empty());
    if set("security.capability", &capability).is_err() || set("user.origin", b"x").is_err() {
        println!("skipped: extended attributes cannot be set here");
        return;
    }
    for dockerfile in [
        "FROM scratch\nCOPY a.txt /p\n",
        "FROM scratch\nCOPY --parents a.txt /d/\n",
        "FROM scratch AS a\nCOPY a.txt /d/p\nFROM scratch\nCOPY --from=a --chown=5 /d /e\n",
    ] {
        let built = context.dockerfile(dockerfile).unwrap();
        let all = context.attributed(&built);
        let [Entry { xattrs, .. }] = &all[..] else {
            panic!("{dockerfile}: {all:?}");
        };
        let expected = [(&b"security.capability"[..], &capability[..])];
        let found = xattrs
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()));
        assert_eq!(found.collect::<Vec<_>>(), expected, "{dockerfile}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let context = tree();
    context.write_mode("src/secret", "s", 0o000);
    if std::fs::read(context.at("src/secret")).is_ok() {
        println!("skipped: root can read everything");
        return;
    }
    let error = last(&context, "COPY src /s/").unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("src/secret"), "{error}");
    let without = last(&context, "COPY --exclude=secret src/lib /s/");
    assert!(without.is_ok());
}
