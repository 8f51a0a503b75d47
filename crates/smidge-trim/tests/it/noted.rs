//! What a closure leaves out of account, it says; and nothing makes it run on.

use smidge_image::MemoryTree;
use smidge_trim::{Closure, ClosureError, Resolver, Rule, Search, closure, keep_closure};

use crate::handmade::Handmade;
use crate::proved::insert;

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

fn image(mode: u32) -> MemoryTree {
    let mut tree = MemoryTree::new();
    let program = Handmade::program(Some(LOADER), &["liba.so"]);
    let loader = Handmade::library("ld-linux-x86-64.so.2", &[]).bytes();
    insert(&mut tree, "/app", mode, &program.bytes());
    insert(
        &mut tree,
        LOADER,
        0o755,
        &[&loader, b"\0/lib/\0/usr/lib/\0\0".as_slice()].concat(),
    );
    insert(
        &mut tree,
        "/lib/liba.so",
        0o644,
        &Handmade::library("liba.so", &[]).bytes(),
    );
    insert(
        &mut tree,
        "/env/liba.so",
        0o644,
        &Handmade::library("liba.so", &[]).bytes(),
    );
    tree
}

fn find(tree: &MemoryTree) -> Closure {
    closure(tree, b"/app", &Search::of_loader(Some("/env"), "/")).unwrap()
}

#[test]
fn what_is_left_out_of_account_is_said() {
    let found = find(&image(0o755));
    assert_eq!(found.libraries[0].rule, Some(Rule::LibraryPath));
    assert_eq!(found.default_directories, ["/lib", "/usr/lib"]);
    assert!(found.notes.is_empty(), "{:?}", found.notes);
    let kept = keep_closure(&found, &found.program).unwrap();
    assert_eq!(
        kept[1].path.to_string(),
        "/lib/liba.so",
        "LD_LIBRARY_PATH stays behind"
    );

    let found = find(&image(0o4755));
    assert_eq!(found.libraries[0].rule, Some(Rule::Default));
    assert!(found.notes[0].contains("set-user-ID"), "{:?}", found.notes);

    for (path, word) in [
        ("/etc/ld.so.preload", "preload"),
        ("/env/glibc-hwcaps/x86-64-v3/liba.so", "newer processors"),
        (LOADER, "default directories"),
    ] {
        let mut tree = image(0o755);
        insert(&mut tree, path, 0o644, b"/lib/liba.so");
        let notes = find(&tree).notes;
        assert!(
            notes.len() == 1 && notes[0].contains(word),
            "{path}: {notes:?}"
        );
    }
}

#[test]
fn what_is_no_program_is_an_error() {
    let mut tree = image(0o755);
    insert(&mut tree, "/text", 0o755, b"#!/bin/sh");
    let mut resolver = Resolver::new(&tree, &Search::default());
    let mut fault = |path: &[u8]| resolver.closure(path).unwrap_err();
    assert!(matches!(fault(b"/gone"), ClosureError::NotFound { .. }));
    assert!(matches!(fault(b"/lib"), ClosureError::NotAFile { .. }));
    assert!(matches!(fault(b"/text"), ClosureError::Elf { .. }));
}

/// A few libraries that need each other and thousands of others, and look everywhere for them.
#[test]
fn needs_without_end_come_to_an_end() {
    let names: Vec<&'static str> = (0..3000).map(|at| &*format!("lib{at}.so").leak()).collect();
    let runpath: &'static str = (0..600)
        .map(|at| format!("/{at}:"))
        .collect::<String>()
        .leak();
    let mut tree = image(0o755);
    let greedy = Handmade {
        runpath: Some(runpath),
        ..Handmade::program(Some(LOADER), &names)
    };
    insert(&mut tree, "/app", 0o755, &greedy.bytes());
    let fault = closure(&tree, b"/app", &Search::default()).unwrap_err();
    assert!(matches!(fault, ClosureError::TooMany { .. }), "{fault}");
}
