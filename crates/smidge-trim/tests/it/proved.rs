//! Every way in which a program cannot start, with the words that say so.

use std::error::Error as _;
use std::fmt::Write as _;

use expect_test::{Expect, expect};
use smidge_image::{Entry, EntryKind, LayerPath, MemoryTree};
use smidge_trim::{Class, Program, Reason, prove};

use crate::handmade::Handmade;

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// Puts a file in a tree.
pub(crate) fn insert(tree: &mut MemoryTree, path: &str, mode: u32, content: &[u8]) {
    let kind = EntryKind::File {
        size: content.len() as u64,
    };
    put(tree, path, mode, kind, content);
}

fn put(tree: &mut MemoryTree, path: &str, mode: u32, kind: EntryKind, content: &[u8]) {
    let path = LayerPath::parse(path.as_bytes()).unwrap();
    tree.insert(
        Entry {
            mode,
            ..Entry::new(path, kind)
        },
        content.to_vec(),
    );
}

fn image(files: &[(&str, u32, &[u8])]) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for (path, mode, content) in files {
        insert(&mut tree, path, *mode, content);
    }
    tree
}

fn check(tree: &MemoryTree, argv: &[&str], expected: Expect) {
    check_program(tree, &Program::new(argv.iter().copied(), "amd64"), expected);
}

fn check_program(tree: &MemoryTree, program: &Program, expected: Expect) {
    let mut text = String::new();
    match prove(tree, program) {
        Ok(proof) => {
            proof
                .steps
                .iter()
                .for_each(|step| writeln!(text, "{step}").unwrap());
            for kept in proof.files {
                writeln!(text, "  {}: {}", kept.path, kept.reason).unwrap();
            }
        }
        Err(fault) => {
            writeln!(text, "{}: {fault}", fault.exit_code()).unwrap();
            if let Some(span) = fault.span() {
                writeln!(text, "  --> {}:1:{}", span.path, span.column).unwrap();
                writeln!(text, "  | {}", span.source_line).unwrap();
                let (before, length) = (span.column - 1, span.length);
                writeln!(text, "  | {}{}", " ".repeat(before), "^".repeat(length)).unwrap();
            }
            fault
                .label()
                .iter()
                .for_each(|label| writeln!(text, "  ^ {label}").unwrap());
            fault
                .facts()
                .iter()
                .for_each(|fact| writeln!(text, "  {fact}").unwrap());
            let cause = fault.source();
            cause
                .iter()
                .for_each(|cause| writeln!(text, "  caused by: {cause}").unwrap());
        }
    }
    expected.assert_eq(&text);
}

fn program(needed: &[&'static str]) -> Vec<u8> {
    Handmade::program(Some(LOADER), needed).bytes()
}

fn library(name: &'static str, needed: &[&'static str]) -> Vec<u8> {
    Handmade::library(name, needed).bytes()
}

fn loader() -> Vec<u8> {
    [
        library("ld-linux-x86-64.so.2", &[]),
        b"\0/lib/\0/usr/lib/\0\0".to_vec(),
    ]
    .concat()
}

#[test]
fn what_is_not_there_is_named() {
    let mut tree = image(&[
        ("/server", 0o755, b"#!/bin/sh"),
        ("/usr/bin/tool", 0o644, b"#!/bin/sh"),
        ("/dir/file", 0o755, b"x"),
    ]);
    let target = b"/opt/gone".to_vec();
    put(
        &mut tree,
        "/link",
        0o777,
        EntryKind::Symlink { target },
        b"",
    );
    check(
        &tree,
        &[],
        expect![[r#"
        127: nothing to run: the image has neither an entry point nor a command
    "#]],
    );
    check(
        &tree,
        &["/gone"],
        expect![[r#"
        127: `/gone` cannot start: it is not in the image
          ^ no such file in the image
    "#]],
    );
    check(
        &tree,
        &["/link"],
        expect![[r#"
        127: `/link` cannot start: it is not in the image
          ^ `/link` is a symbolic link to `/opt/gone`, which is not in the image
    "#]],
    );
    check(
        &tree,
        &["server"],
        expect![[r#"
        127: `server` cannot start: it is in no directory of $PATH
          ^ no such file in $PATH
          $PATH: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
          `/server` is in the image, but not in $PATH: name it with its directory
    "#]],
    );
    check(
        &tree,
        &["tool"],
        expect![[r#"
        127: `tool` cannot start: it is in no directory of $PATH
          ^ no such file in $PATH
          $PATH: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
          `/usr/bin/tool` is not executable: its mode is 0644
    "#]],
    );
    let mut shell = Program::new(["/bin/sh", "-c", "/server --port 80"], "amd64");
    shell.shell_form = true;
    check_program(
        &tree,
        &shell,
        expect![[r#"
        127: `/server --port 80` cannot start: the shell form needs `/bin/sh`, which is not in the image
          ^ runs as `/bin/sh -c …`
    "#]],
    );
}

#[test]
fn what_cannot_be_executed_is_named() {
    let object = Handmade {
        kind: 1,
        ..Handmade::program(None, &[])
    }
    .bytes();
    let core = Handmade {
        kind: 4,
        ..Handmade::program(None, &[])
    }
    .bytes();
    let arm = Handmade {
        machine: 183,
        ..Handmade::program(None, &[])
    }
    .bytes();
    let mut tree = image(&[
        ("/dir/file", 0o644, b"x"),
        ("/empty", 0o755, b""),
        ("/text", 0o755, b"echo hello\n"),
        ("/bom", 0o755, "\u{feff}#!/bin/sh\n".as_bytes()),
        ("/noise", 0o755, b"MZ\0\x01\x02"),
        ("/cut", 0o755, &program(&[])[..100]),
        ("/object.o", 0o755, &object),
        ("/core", 0o755, &core),
        ("/arm", 0o755, &arm),
    ]);
    put(&mut tree, "/pipe", 0o755, EntryKind::Fifo, b"");
    for (name, expected) in [
        (
            "/dir",
            expect![[r#"
            126: `/dir` cannot start: it is a directory
              ^ a directory
        "#]],
        ),
        (
            "/pipe",
            expect![[r#"
            126: `/pipe` cannot start: it is not a regular file
              ^ a device, pipe or socket
        "#]],
        ),
        (
            "/dir/file",
            expect![[r#"
            126: `/dir/file` cannot start: it is not executable
              ^ its mode is 0644, without any `x`
        "#]],
        ),
        (
            "/empty",
            expect![[r#"
            126: `/empty` cannot start: it is an empty file
              ^ 0 bytes
        "#]],
        ),
        (
            "/text",
            expect![[r#"
            126: `/text` cannot start: it is a text file whose first line is not `#!` and an interpreter
              --> /text:1:1
              | echo hello
              | ^^^^^^^^^^
              ^ no interpreter, such as `#!/bin/sh`
        "#]],
        ),
        (
            "/bom",
            expect![[r#"
            126: `/bom` cannot start: it is a text file whose first line is not `#!` and an interpreter
              --> /bom:1:1
              | ﻿#!/bin/sh
              | ^^^^^^^^^^
              ^ a byte order mark stands before `#!`
        "#]],
        ),
        (
            "/noise",
            expect![[r#"
            126: `/noise` cannot start: it is neither a program nor a script
              ^ neither ELF nor `#!`
        "#]],
        ),
        (
            "/cut",
            expect![[r#"
                126: `/cut` cannot start: it is damaged
                  ^ truncated ELF file: the program header table should end at byte 232, but the file has 100
            "#]],
        ),
        (
            "/object.o",
            expect![[r#"
            126: `/object.o` cannot start: it is an object file, not a program
              ^ an object file
        "#]],
        ),
        (
            "/core",
            expect![[r#"
            126: `/core` cannot start: it is a core dump, not a program
              ^ a core dump
        "#]],
        ),
        (
            "/arm",
            expect![[r#"
            126: `/arm` cannot start: it is built for another machine than the image's `amd64`
              ^ ELF aarch64, in an image for amd64
        "#]],
        ),
    ] {
        check(&tree, &[name], expected);
    }
}

#[test]
fn scripts_are_followed_to_their_interpreters() {
    let long = format!("#!/{}\n", "x".repeat(300));
    let mut tree = image(&[
        ("/start.sh", 0o755, b"#!/bin/bash -e\n"),
        ("/windows.sh", 0o755, b"#!/bin/sh\r\necho\r\n"),
        ("/env.py", 0o755, b"#!/usr/bin/env python3\n"),
        ("/flags.py", 0o755, b"#!/usr/bin/env python3 -u\n"),
        ("/split.sh", 0o755, b"#!/usr/bin/env -S sh -e\n"),
        ("/loop", 0o755, b"#!/loop\n"),
        ("/usr/bin/again", 0o755, b"#!/usr/bin/env again\n"),
        ("/long", 0o755, long.as_bytes()),
        ("/bare", 0o755, b"#!\n"),
        ("/relative", 0o755, b"#!sh\n"),
        ("/bad", 0o755, b"#! /etc/passwd\n"),
        ("/dynamic", 0o755, b"#!/bin/dynamic\n"),
        ("/good", 0o755, b"#! /bin/sh\n"),
        ("/bin/sh", 0o755, &Handmade::program(None, &[]).bytes()),
        ("/bin/dynamic", 0o755, &program(&["libc.so.6"])),
        ("/usr/bin/env", 0o755, &Handmade::program(None, &[]).bytes()),
        ("/etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\n"),
    ]);
    let target = b"../../../good".to_vec();
    put(
        &mut tree,
        "/usr/local/bin/link",
        0o777,
        EntryKind::Symlink { target },
        b"",
    );
    for (name, expected) in [
        (
            "/start.sh",
            expect![[r#"
            127: `/start.sh` cannot start: its interpreter `/bin/bash` is not in the image
              --> /start.sh:1:3
              | #!/bin/bash -e
              |   ^^^^^^^^^
              ^ no such file in the image
        "#]],
        ),
        (
            "/windows.sh",
            expect![[r#"
            127: `/windows.sh` cannot start: its interpreter `/bin/sh\r` is not in the image
              --> /windows.sh:1:3
              | #!/bin/sh
              |   ^^^^^^^
              ^ the line ends with a carriage return, as on Windows, which counts as part of the name
        "#]],
        ),
        (
            "/env.py",
            expect![[r#"
            127: `/env.py` cannot start: its interpreter `python3` is in no directory of $PATH
              --> /env.py:1:16
              | #!/usr/bin/env python3
              |                ^^^^^^^
              ^ no such file in $PATH
              $PATH: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        "#]],
        ),
        (
            "/flags.py",
            expect![[r#"
                127: `/flags.py` cannot start: its interpreter `python3 -u` is in no directory of $PATH
                  --> /flags.py:1:16
                  | #!/usr/bin/env python3 -u
                  |                ^^^^^^^^^^
                  ^ `env` takes all of this as one name: `env -S` splits it
                  $PATH: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
            "#]],
        ),
        (
            "/split.sh",
            expect![[r#"
            `/split.sh` is a script for `/usr/bin/env`
            `/usr/bin/env` is ELF x86-64, needing no loader
            `sh` in $PATH is `/bin/sh`
            `/bin/sh` is ELF x86-64, needing no loader
              /split.sh: the program
              /usr/bin/env: interpreter of `/split.sh`
              /bin/sh: interpreter of `/split.sh`
        "#]],
        ),
        (
            "/loop",
            expect![[r#"
            126: `/loop` cannot start: its interpreters are scripts themselves, more than 5 deep
              ^ a script for a script for a script …
        "#]],
        ),
        (
            "again",
            expect![[r#"
            126: `/usr/bin/again` cannot start: its interpreters are scripts themselves, more than 16 deep
              ^ a script for a script for a script …
        "#]],
        ),
        (
            "/long",
            expect![[r#"
            126: `/long` cannot start: the interpreter's name does not fit in the 256 bytes that the kernel reads
              ^ longer than 256 bytes
        "#]],
        ),
        (
            "/bare",
            expect![[r#"
            126: `/bare` cannot start: it is a text file whose first line is not `#!` and an interpreter
              --> /bare:1:1
              | #!
              | ^^
              ^ no interpreter, such as `#!/bin/sh`
        "#]],
        ),
        (
            "/bad",
            expect![[r#"
                126: `/bad` cannot start: its interpreter `/etc/passwd` cannot start either
                  --> /bad:1:4
                  | #! /etc/passwd
                  |    ^^^^^^^^^^^
                  ^ its mode is 0644, without any `x`
                  caused by: `/etc/passwd` cannot start: it is not executable
            "#]],
        ),
        (
            "/dynamic",
            expect![[r#"
                127: `/dynamic` cannot start: its interpreter `/bin/dynamic` cannot start either
                  --> /dynamic:1:3
                  | #!/bin/dynamic
                  |   ^^^^^^^^^^^^
                  ^ ELF x86-64, wants `/lib64/ld-linux-x86-64.so.2` and libc.so.6
                  caused by: `/bin/dynamic` cannot start: it is dynamically linked, but its loader is not in the image
            "#]],
        ),
        (
            "link",
            expect![[r#"
                `link` in $PATH is `/usr/local/bin/link`
                `/usr/local/bin/link` is a script for `/bin/sh`
                `/bin/sh` is ELF x86-64, needing no loader
                  /usr/local/bin/link: leads to `/good`
                  /good: the program
                  /bin/sh: interpreter of `/usr/local/bin/link`
            "#]],
        ),
    ] {
        check(&tree, &[name], expected);
    }
    let mut relative = Program::new(["../relative"], "amd64");
    relative.working_dir = "/bin".into();
    check_program(
        &tree,
        &relative,
        expect![[r#"
        `../relative` is a script for `sh`
        `sh` is ELF x86-64, needing no loader
          /relative: the program
          /bin/sh: interpreter of `../relative`
    "#]],
    );
}

#[test]
fn loaders_and_libraries_are_checked() {
    let arm = Handmade {
        machine: 183,
        ..Handmade::library("ld", &[])
    }
    .bytes();
    let server = program(&["libc.so.6", "libm.so.6"]);
    let mut files: Vec<(&str, u32, Vec<u8>)> = vec![("/server", 0o755, server)];
    let tree = |files: &[(&str, u32, Vec<u8>)]| {
        let files: Vec<_> = files
            .iter()
            .map(|(path, mode, bytes)| (*path, *mode, &**bytes))
            .collect();
        image(&files)
    };
    check(
        &tree(&files),
        &["/server"],
        expect![[r#"
            127: `/server` cannot start: it is dynamically linked, but its loader is not in the image
              ^ ELF x86-64, wants `/lib64/ld-linux-x86-64.so.2` and libc.so.6, libm.so.6
        "#]],
    );

    for (mode, bytes, expected) in [
        (
            0o644,
            loader(),
            expect![[r#"
                126: `/server` cannot start: its loader `/lib64/ld-linux-x86-64.so.2` is of no use: it is not executable
                  ^ wants `/lib64/ld-linux-x86-64.so.2`
            "#]],
        ),
        (
            0o755,
            arm,
            expect![[r#"
                126: `/server` cannot start: its loader `/lib64/ld-linux-x86-64.so.2` is of no use: it is built for another machine (ELF aarch64)
                  ^ wants `/lib64/ld-linux-x86-64.so.2`
            "#]],
        ),
        (
            0o755,
            b"junk".to_vec(),
            expect![[r#"
                126: `/server` cannot start: its loader `/lib64/ld-linux-x86-64.so.2` is of no use: it is damaged
                  ^ wants `/lib64/ld-linux-x86-64.so.2`
            "#]],
        ),
        (
            0o755,
            loader(),
            expect![[r#"
                127: `/server` cannot start: 2 of its libraries are not in the image
                  ^ ELF x86-64, wants libc.so.6, libm.so.6
            "#]],
        ),
    ] {
        let bad = [files.clone(), vec![(LOADER, mode, bytes)]].concat();
        check(&tree(&bad), &["/server"], expected);
    }

    files.push((LOADER, 0o755, loader()));
    files.push((
        "/lib/libm.so.6",
        0o644,
        library("libm.so.6", &["libdeep.so"]),
    ));
    files.push(("/lib/libc.so.6", 0o644, b"GROUP ( libc.so.6 )".to_vec()));
    check(
        &tree(&files),
        &["/server"],
        expect![[r#"
        127: `/server` cannot start: 2 of its libraries are missing or cannot be loaded
          ^ ELF x86-64, wants libc.so.6, libdeep.so
          libc.so.6: needed by `/server`; the file found is unusable: not an ELF file
          libdeep.so: needed by `/lib/libm.so.6`
    "#]],
    );

    files.push((
        "/lib/libc.so.6",
        0o644,
        library("libc.so.6", &["ld-linux-x86-64.so.2"]),
    ));
    check(
        &tree(&files),
        &["/server"],
        expect![[r#"
        127: `/server` cannot start: its library `libdeep.so` is not in the image
          ^ ELF x86-64, wants libdeep.so
          libdeep.so: needed by `/lib/libm.so.6`
    "#]],
    );

    files.push(("/opt/libdeep.so", 0o644, library("libdeep.so", &[])));
    let mut with_path = Program::new(["/server"], "amd64");
    with_path.env = vec!["LD_LIBRARY_PATH=/nowhere:/opt".into()];
    check_program(
        &tree(&files),
        &with_path,
        expect![[r#"
        `/server` is ELF x86-64; its loader `/lib64/ld-linux-x86-64.so.2` is there, and so are its libraries: 3
          /server: the program
          /lib64/ld-linux-x86-64.so.2: loader of `/server`
          /lib/libc.so.6: `libc.so.6`, needed by `/server`
          /lib/libm.so.6: `libm.so.6`, needed by `/server`
          /opt/libdeep.so: `libdeep.so`, needed by `/lib/libm.so.6`
    "#]],
    );
}

#[test]
fn versions_are_checked() {
    let needs = Some(("libc.so.6", vec!["GLIBC_2.34", "GLIBC_2.38"]));
    let server = Handmade {
        needs,
        ..Handmade::program(Some(LOADER), &["libc.so.6"])
    };
    let defines = vec!["libc.so.6", "GLIBC_2.34"];
    let libc = Handmade {
        defines,
        ..Handmade::library("libc.so.6", &[])
    };
    let (server, libc, loader) = (server.bytes(), libc.bytes(), loader());
    let tree = image(&[
        ("/server", 0o755, &server),
        ("/lib/libc.so.6", 0o644, &libc),
        (LOADER, 0o755, &loader),
    ]);
    check(
        &tree,
        &["/server"],
        expect![[r#"
        127: `/server` cannot start: a library in the image is too old for it
          ^ ELF x86-64, wants GLIBC_2.38
          `/lib/libc.so.6`: version `GLIBC_2.38` not found (required by `/server`)
    "#]],
    );
}

#[test]
fn older_siblings_of_a_machine_run_on_it() {
    for (machine, class, architecture, runs) in [
        (3, Class::Elf32, "amd64", true),
        (40, Class::Elf32, "arm64", true),
        (62, Class::Elf64, "386", false),
        (62, Class::Elf32, "amd64", false),
        (9999, Class::Elf64, "amd64", false),
        (9999, Class::Elf64, "", true),
    ] {
        let made = Handmade {
            machine,
            class,
            ..Handmade::program(None, &[])
        };
        let tree = image(&[("/app", 0o755, &made.bytes())]);
        let proof = prove(&tree, &Program::new(["/app"], architecture));
        assert_eq!(proof.is_ok(), runs, "{machine} on {architecture}");
        if let Ok(proof) = proof {
            assert_eq!(proof.files[0].reason, Reason::Program);
        }
    }
}
