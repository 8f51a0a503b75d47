//! The same answers as the machine's own `ldd`, for every program that it has.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::Command;

use smidge_tests::InTime as _;
use smidge_trim::{Closure, ClosureError, Library, Linkage, Resolver, Search};

use crate::dir_tree::DirTree;
use crate::lab::has;

/// Every ELF file of the directories, each once.
pub(crate) fn programs(directories: &[&str]) -> Vec<PathBuf> {
    let entries = directories
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten();
    let mut files: Vec<_> = entries
        .filter_map(|entry| fs::canonicalize(entry.ok()?.path()).ok())
        .filter(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF")))
        .collect();
    files.sort();
    files.dedup();
    files
}

/// What `ldd` says of each file: its lines, without addresses and without the kernel's vdso.
fn ldd(files: &[PathBuf]) -> BTreeMap<PathBuf, Vec<String>> {
    let output = Command::new("sh")
        .args(["-c", r#"exec ldd "$@" 2>&1"#, "sh"])
        .args(files)
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("LD_PRELOAD")
        .env("LC_ALL", "C")
        .output_in_time()
        .unwrap();
    let mut said = BTreeMap::new();
    let mut lines = &mut Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match line.strip_prefix('\t') {
            None if line.starts_with('/') && line.ends_with(':') => {
                lines = said
                    .entry(PathBuf::from(line.trim_end_matches(':')))
                    .or_default();
            }
            _ => lines.extend(without_address(line)),
        }
    }
    said
}

/// A line of `ldd` without the address; none for the kernel's vdso.
pub(crate) fn without_address(line: &str) -> Option<String> {
    let line = line.trim_start_matches('\t');
    let line = line.split(" (0x").next().unwrap();
    (line != "linux-vdso.so.1").then(|| line.to_owned())
}

/// The same from our own findings.
pub(crate) fn lines(closure: &Result<Closure, ClosureError>) -> Vec<String> {
    let Ok(closure) = closure else {
        return vec![format!("{closure:?}")];
    };
    match closure.elf.linkage() {
        Linkage::NotDynamic => return vec!["not a dynamic executable".to_owned()],
        Linkage::Static => return vec!["statically linked".to_owned()],
        Linkage::Dynamic => {}
    }
    let line = |library: &Library| match &library.path {
        None => format!("{} => not found", library.name),
        Some(path) if *path == library.name => path.clone(),
        Some(path) => format!("{} => {path}", library.name),
    };
    closure.libraries.iter().map(line).collect()
}

#[test]
fn libraries_are_those_of_ldd_for_every_program_of_the_machine() {
    if !has("ldd", "--version") {
        return;
    }
    let files = programs(&["/usr/bin", "/usr/sbin"]);
    let (left, right) = files.split_at(files.len() / 2);
    let expected = std::thread::scope(|scope| {
        let other = scope.spawn(|| ldd(right));
        let mut all = ldd(left);
        all.extend(other.join().unwrap());
        all
    });
    let tree = DirTree("/".into());
    let mut resolver = Resolver::new(&tree, &Search::default());
    let mut differences = Vec::new();
    for file in &files {
        let closure = resolver.closure(file.as_os_str().as_bytes());
        let (found, expected) = (lines(&closure), &expected[file]);
        if found != *expected {
            differences.push(format!("{file:?}: {found:#?} instead of {expected:#?}"));
        }
        for library in closure.iter().flat_map(|closure| &closure.libraries) {
            let Some(path) = &library.path else { continue };
            let real = fs::canonicalize(path).unwrap();
            assert_eq!(
                library.file.as_ref().unwrap().to_string(),
                real.to_str().unwrap()
            );
        }
        assert!(
            closure
                .iter()
                .all(|closure| closure.missing_versions.is_empty()),
            "{file:?}"
        );
    }
    println!("{} programs compared", files.len());
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
