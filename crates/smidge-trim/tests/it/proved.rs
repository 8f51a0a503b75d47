//! Every way in which a program cannot start, with the words that say so.

use std::error::Error as _;
use std::fmt::Write as _;

use expect_test::{ExpectFile, expect_file};
use smidge_image::{Entry, EntryKind, LayerPath, MemoryTree};
use smidge_trim::{Class, Fault, Program, Reason, prove};

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

fn link(tree: &mut MemoryTree, path: &str, target: &str) {
    let target = target.as_bytes().to_vec();
    put(tree, path, 0o777, EntryKind::Symlink { target }, b"");
}

fn image(files: &[(&str, u32, &[u8])]) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for (path, mode, content) in files {
        insert(&mut tree, path, *mode, content);
    }
    tree
}

/// What a proof or a fault says, as a renderer would show it.
fn render(tree: &MemoryTree, program: &Program) -> String {
    let mut text = format!("$ {}\n", program.argv.join(" "));
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
                let (before, length) = (span.column - 1, span.length);
                writeln!(text, "  --> {}:1:{}", span.path, span.column).unwrap();
                writeln!(text, "  | {}", span.source_line).unwrap();
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
    text
}

fn check(tree: &MemoryTree, names: &[&str], expected: ExpectFile) {
    let said = names
        .iter()
        .map(|name| render(tree, &Program::new([*name], "amd64")));
    expected.assert_eq(&said.collect::<Vec<_>>().join("\n"));
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
    link(&mut tree, "/link", "/opt/gone");
    let names = ["", "/gone", "/dir/file/gone", "/link", "server", "tool"];
    check(&tree, &names, expect_file!["proved/absent.txt"]);

    let mut shell = Program::new(["/bin/sh", "-c", "/server --port 80"], "amd64");
    shell.shell_form = true;
    expect_file!["proved/shell.txt"].assert_eq(&render(&tree, &shell));
    let nothing = Program::new(Vec::<String>::new(), "amd64");
    assert!(matches!(prove(&tree, &nothing), Err(Fault::NothingToRun)));
}

#[test]
fn what_cannot_be_executed_is_named() {
    let of_kind = |kind| {
        Handmade {
            kind,
            ..Handmade::program(None, &[])
        }
        .bytes()
    };
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
        ("/object.o", 0o755, &of_kind(1)),
        ("/core", 0o755, &of_kind(4)),
        ("/arm", 0o755, &arm),
    ]);
    put(&mut tree, "/pipe", 0o755, EntryKind::Fifo, b"");
    let names = [
        "/dir",
        "/pipe",
        "/dir/file",
        "/empty",
        "/text",
        "/bom",
        "/noise",
        "/cut",
        "/object.o",
        "/core",
        "/arm",
    ];
    check(&tree, &names, expect_file!["proved/unfit.txt"]);
}

#[test]
fn scripts_are_followed_to_their_interpreters() {
    let long = format!("#!/{}\n", "x".repeat(300));
    let fixed = Handmade::program(None, &[]).bytes();
    let scripts: [(&str, &[u8]); 13] = [
        ("/start.sh", b"#!/bin/bash -e\n"),
        ("/windows.sh", b"#!/bin/sh\r\necho\r\n"),
        ("/env.py", b"#!/usr/bin/env python3\n"),
        ("/flags.py", b"#!/usr/bin/env python3 -u\n"),
        ("/windows.py", b"#!/usr/bin/env sh\r\n"),
        ("/split.sh", b"#!/usr/bin/env -S sh -e\n"),
        ("/loop", b"#!/loop\n"),
        ("/usr/bin/again", b"#!/usr/bin/env again\n"),
        ("/long", long.as_bytes()),
        ("/bare", b"#!\n"),
        ("/bad", b"#! /etc/passwd\n"),
        ("/dynamic", b"#!/bin/dynamic\n"),
        ("/good", b"#! /bin/sh\n"),
    ];
    let mut tree = image(&scripts.map(|(name, text)| (name, 0o755, text)));
    insert(&mut tree, "/bin/sh", 0o755, &fixed);
    insert(&mut tree, "/usr/bin/env", 0o755, &fixed);
    insert(&mut tree, "/bin/dynamic", 0o755, &program(&["libc.so.6"]));
    insert(&mut tree, "/etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\n");
    insert(&mut tree, "/relative", 0o755, b"#!sh\n");
    link(&mut tree, "/usr/local/bin/link", "../../../good");
    let mut names = scripts.map(|(name, _)| name).to_vec();
    names.push("link");
    check(&tree, &names, expect_file!["proved/scripts.txt"]);

    let mut relative = Program::new(["../relative"], "amd64");
    relative.working_dir = "/bin".into();
    expect_file!["proved/relative.txt"].assert_eq(&render(&tree, &relative));
}

#[test]
fn loaders_are_checked() {
    let arm = Handmade {
        machine: 183,
        ..Handmade::library("ld", &[])
    }
    .bytes();
    let server = program(&["libc.so.6", "libm.so.6"]);
    let mut tree = image(&[("/server", 0o755, &server)]);
    check(&tree, &["/server"], expect_file!["proved/no-loader.txt"]);
    for (mode, bytes, expected) in [
        (0o644, loader(), expect_file!["proved/loader-mode.txt"]),
        (0o755, arm, expect_file!["proved/loader-machine.txt"]),
        (
            0o755,
            b"junk".to_vec(),
            expect_file!["proved/loader-junk.txt"],
        ),
        (0o755, loader(), expect_file!["proved/no-libraries.txt"]),
    ] {
        insert(&mut tree, LOADER, mode, &bytes);
        check(&tree, &["/server"], expected);
    }
}

#[test]
fn libraries_are_checked() {
    let server = program(&["libc.so.6", "libm.so.6"]);
    let mut tree = image(&[("/server", 0o755, &server), (LOADER, 0o755, &loader())]);
    insert(
        &mut tree,
        "/lib/libm.so.6",
        0o644,
        &library("libm.so.6", &["libdeep.so"]),
    );
    insert(&mut tree, "/lib/libc.so.6", 0o644, b"GROUP ( libc.so.6 )");
    check(
        &tree,
        &["/server"],
        expect_file!["proved/unusable-library.txt"],
    );

    let libc = library("libc.so.6", &["ld-linux-x86-64.so.2"]);
    insert(&mut tree, "/lib/libc.so.6", 0o644, &libc);
    check(&tree, &["/server"], expect_file!["proved/no-library.txt"]);

    insert(
        &mut tree,
        "/opt/libdeep.so",
        0o644,
        &library("libdeep.so", &[]),
    );
    let mut with_path = Program::new(["/server"], "amd64");
    with_path.env = vec!["LD_LIBRARY_PATH=/nowhere:/opt".into()];
    expect_file!["proved/libraries.txt"].assert_eq(&render(&tree, &with_path));
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
    let tree = image(&[
        ("/server", 0o755, &server.bytes()),
        ("/lib/libc.so.6", 0o644, &libc.bytes()),
        (LOADER, 0o755, &loader()),
    ]);
    check(&tree, &["/server"], expect_file!["proved/version.txt"]);
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
