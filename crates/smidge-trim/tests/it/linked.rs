//! The search rules, each in a case of its own, against the real loaders.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use smidge_image::LayerPath;
use smidge_tests::InTime as _;
use smidge_trim::{Closure, Elf, Linkage, Rule, Search, closure};

use crate::dir_tree::DirTree;
use crate::host::{lines, without_address};
use crate::lab::{Lab, has};

const NEW: &str = "-Wl,--enable-new-dtags";
const OLD: &str = "-Wl,--disable-new-dtags";

fn find(file: &Path, library_path: Option<&str>) -> Closure {
    let search = Search::of_loader(library_path, "/");
    closure(&DirTree("/".into()), file.as_os_str().as_bytes(), &search).unwrap()
}

/// What `ldd` says, and what is found here, which must be the same.
fn agree(file: &Path, library_path: Option<&str>) -> Vec<String> {
    let mut ldd = Command::new("ldd");
    ldd.arg(file)
        .env("LC_ALL", "C")
        .env_remove("LD_LIBRARY_PATH");
    if let Some(list) = library_path {
        ldd.env("LD_LIBRARY_PATH", list);
    }
    let output = ldd.output_in_time().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let (versions, libraries): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| line.contains("version `"));
    let expected: Vec<_> = libraries.into_iter().filter_map(without_address).collect();
    let found = find(file, library_path);
    let missing: Vec<_> = found
        .missing_versions
        .iter()
        .map(|missing| {
            let smidge_trim::MissingVersion { version, library, required_by } = missing;
            format!("{required_by}: {library}: version `{version}' not found (required by {required_by})")
        })
        .collect();
    assert_eq!(missing, versions);
    let found = lines(&Ok(found));
    assert_eq!(found, expected);
    found
}

fn lab() -> Option<Lab> {
    Lab::new("gcc").filter(|_| has("ldd", "--version"))
}

/// The line of a library, with the laboratory's path cut off.
fn line<'l>(lab: &Lab, lines: &'l [String], name: &str) -> &'l str {
    let line = lines.iter().find(|line| line.starts_with(name)).unwrap();
    let to = line.split_once(" => ").map_or("", |(_, to)| to);
    to.strip_prefix(lab.path("").to_str().unwrap())
        .unwrap_or(to)
}

#[test]
fn runpath_is_not_inherited() {
    let Some(lab) = lab() else { return };
    lab.library("lib/libb.so", &[]);
    lab.library("lib/liba.so", &["lib/libb.so"]);
    let file = lab.program("bin/p", &[NEW, "-Wl,-rpath,$ORIGIN/../lib", "lib/liba.so"]);
    let lines = agree(&file, None);
    assert_eq!(line(&lab, &lines, "liba.so"), "bin/../lib/liba.so");
    assert_eq!(line(&lab, &lines, "libb.so"), "not found");
}

#[test]
fn rpath_is_inherited_where_there_is_no_runpath() {
    let Some(lab) = lab() else { return };
    lab.library("lib/libb.so", &[]);
    lab.library("lib/liba.so", &["lib/libb.so"]);
    let file = lab.program("p", &[OLD, "-Wl,-rpath,${ORIGIN}/lib", "lib/liba.so"]);
    assert_eq!(line(&lab, &agree(&file, None), "libb.so"), "lib/libb.so");

    lab.library("lib/liba.so", &[NEW, "-Wl,-rpath,/nowhere", "lib/libb.so"]);
    assert_eq!(line(&lab, &agree(&file, None), "libb.so"), "not found");
}

#[test]
fn library_path_comes_between_rpath_and_runpath() {
    let Some(lab) = lab() else { return };
    for directory in ["rpath", "env", "other"] {
        lab.library(&format!("{directory}/liba.so"), &[]);
    }
    let list = format!(
        "{};{}:",
        lab.path("nowhere").display(),
        lab.path("env").display()
    );
    for (tags, expected) in [(OLD, "rpath/liba.so"), (NEW, "env/liba.so")] {
        let file = lab.program("p", &[tags, "-Wl,-rpath,$ORIGIN/rpath", "rpath/liba.so"]);
        assert_eq!(line(&lab, &agree(&file, Some(&list)), "liba.so"), expected);
        assert_eq!(line(&lab, &agree(&file, None), "liba.so"), "rpath/liba.so");
    }
}

#[test]
fn what_is_loaded_is_used_again() {
    let Some(lab) = lab() else { return };
    lab.library("deep/libz.so", &[]);
    lab.library("liba.so", &[NEW, "-Wl,-rpath,$ORIGIN/deep", "deep/libz.so"]);
    lab.library("libb.so", &["deep/libz.so"]);
    // Another name and another path for the same file, and a name with a slash in it.
    symlink(lab.path("deep/libz.so"), lab.path("liby.so")).unwrap();
    lab.compile("plain.so", "int x;", &["-shared", "-fPIC"]);
    let plain = lab.path("plain.so");
    let arguments = [
        OLD,
        "-Wl,-rpath,$ORIGIN",
        "liba.so",
        "libb.so",
        plain.to_str().unwrap(),
    ];
    let file = lab.program("p", &arguments);
    let lines = agree(&file, None);
    assert!(lines.contains(&plain.display().to_string()), "{lines:?}");
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("libz.so"))
            .count(),
        1
    );
    let found = find(&file, None);
    let libz = found
        .libraries
        .iter()
        .find(|library| library.name == "libz.so")
        .unwrap();
    assert_eq!(libz.needed_by.len(), 2);
}

#[test]
fn a_library_may_be_missing_more_than_once() {
    let Some(lab) = lab() else { return };
    lab.library("gone/libgone.so", &[]);
    lab.library("liba.so", &["gone/libgone.so"]);
    let arguments = [OLD, "-Wl,-rpath,$ORIGIN", "liba.so", "gone/libgone.so"];
    let file = lab.program("p", &arguments);
    fs::remove_dir_all(lab.path("gone")).unwrap();
    let lines = agree(&file, None);
    assert_eq!(
        lines
            .iter()
            .filter(|line| *line == "libgone.so => not found")
            .count(),
        2
    );
    let found = find(&file, None);
    let who = |name: &str| {
        let named = found
            .libraries
            .iter()
            .filter(|library| library.name.ends_with(name));
        let users = named.flat_map(|library| &library.needed_by);
        users
            .map(|&user| found.path_of(user).rsplit('/').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(who("libgone.so"), ["p", "liba.so"]);
    assert_eq!(who("ld-linux-x86-64.so.2"), ["libc.so.6"]);
    assert_eq!(who("libc.so.6"), ["p", "liba.so"]);
}

#[test]
fn files_of_other_machines_are_passed_over() {
    let Some(lab) = lab() else { return };
    let right = lab.library("right/liba.so", &[]);
    let mut wrong = fs::read(&right).unwrap();
    wrong[18..20].copy_from_slice(&183_u16.to_le_bytes());
    lab.write("wrong/liba.so", wrong);
    let rpath = "-Wl,-rpath,$ORIGIN/wrong:$ORIGIN/right";
    let file = lab.program("p", &[rpath, "right/liba.so"]);
    assert_eq!(line(&lab, &agree(&file, None), "liba.so"), "right/liba.so");

    lab.write("wrong/liba.so", "INPUT ( right/liba.so )");
    let found = find(&file, None);
    let unusable = found.missing().next().unwrap();
    assert_eq!(unusable.unusable.as_deref(), Some("not an ELF file"));
    let output = Command::new("ldd").arg(&file).output_in_time().unwrap();
    assert!(!output.status.success(), "the real loader gives up, too");
}

#[test]
fn tokens_and_flags_have_their_effect() {
    let Some(lab) = lab() else { return };
    let lib = agree(&lab.program("q", &[]), None);
    let lib = line(&lab, &lib, "libc.so.6")
        .trim_start_matches('/')
        .to_owned();
    let lib = lib.rsplit_once('/').unwrap().0;
    lab.library(&format!("{lib}/liba.so"), &[]);
    let a = format!("{lib}/liba.so");
    let file = lab.program("p", &["-Wl,-rpath,$ORIGIN/$LIB", &a]);
    assert_eq!(line(&lab, &agree(&file, None), "liba.so"), a);

    let file = lab.program("p", &["-Wl,-z,nodefaultlib"]);
    assert_eq!(agree(&file, None), ["libc.so.6 => not found"]);
    assert!(
        Elf::parse(&fs::read(&file).unwrap())
            .unwrap()
            .no_default_lib
    );
}

#[test]
fn versions_that_a_library_lacks_are_named() {
    let Some(lab) = lab() else { return };
    let script = lab.write("map", "V1 { f; }; V2 { g; };");
    let map = format!("-Wl,--version-script={}", script.display());
    let options = ["-shared", "-fPIC", "-Wl,-soname,libv.so", map.as_str()];
    lab.compile(
        "libv.so",
        "int f(void) { return 0; } int g(void) { return 1; }",
        &options,
    );
    let code = "int f(void); int g(void); int main(void) { return f() + g(); }";
    let file = lab.compile("p", code, &["-Wl,-rpath,$ORIGIN", "libv.so"]);
    agree(&file, None);
    lab.write("map", "V1 { f; };");
    lab.compile("libv.so", "int f(void) { return 0; }", &options);
    agree(&file, None);
    let found = find(&file, None);
    let missing: Vec<_> = found
        .missing_versions
        .iter()
        .map(|missing| &missing.version)
        .collect();
    assert_eq!(missing, ["V2"]);
}

#[test]
fn linkage_is_what_ldd_says() {
    let Some(lab) = lab() else { return };
    let plain = lab.library("plain.so", &["-nostdlib"]);
    let file = lab.program("static-pie", &["-static-pie"]);
    for (file, expected) in [
        (lab.program("dynamic", &[]), Linkage::Dynamic),
        (lab.program("fixed", &["-no-pie"]), Linkage::Dynamic),
        (lab.program("static", &["-static"]), Linkage::NotDynamic),
        (file, Linkage::Static),
        (plain, Linkage::Static),
        (lab.program("object.o", &["-c"]), Linkage::NotDynamic),
    ] {
        agree(&file, None);
        let elf = Elf::parse(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(elf.linkage(), expected, "{file:?}");
    }
    assert!(!Elf::is_elf(&b"#!/bin/sh".to_vec()));
}

#[test]
fn musl_searches_its_own_way() {
    let Some(lab) = Lab::new("musl-gcc") else {
        return;
    };
    lab.library("lib/libb.so", &[]);
    lab.library("lib/liba.so", &["lib/libb.so"]);
    lab.library("env/libb.so", &[]);
    let environment = lab.path("env").display().to_string();
    for (tags, list) in [(NEW, None), (OLD, None), (NEW, Some(environment.as_str()))] {
        let file = lab.program("p", &[tags, "-Wl,-rpath,$ORIGIN/lib", "lib/liba.so"]);
        let found = find(&file, list);
        let loader = found.loader.as_ref().unwrap().wanted.clone();
        let mut ldd = Command::new(&loader);
        ldd.arg("--list").arg(&file).env_remove("LD_LIBRARY_PATH");
        list.map(|list| ldd.env("LD_LIBRARY_PATH", list));
        let text = String::from_utf8(ldd.output_in_time().unwrap().stdout).unwrap();
        let expected: Vec<_> = text.lines().filter_map(without_address).collect();
        assert_eq!(lines(&Ok(found)), expected, "{tags} {list:?}");
    }
}

#[test]
fn other_machines_are_searched_in_their_own_root() {
    const ROOT: &str = "/usr/aarch64-linux-gnu/lib";
    let Some(lab) = Lab::new("aarch64-linux-gnu-gcc") else {
        return;
    };
    let libc = format!("{ROOT}/libc.so.6");
    if !Path::new(&libc).exists() {
        return println!("skipped: there is no `{libc}` on this machine");
    }
    lab.compile("app", "void _start(void) {}", &["-nostdlib", &libc]);
    let tree = lab.tree();
    let bare = closure(&tree, b"/app", &Search::default()).unwrap();
    assert_eq!(bare.loader.as_ref().unwrap().found, None);
    assert_eq!(bare.missing().count(), 1);

    lab.copy(
        format!("{ROOT}/ld-linux-aarch64.so.1"),
        "lib/ld-linux-aarch64.so.1",
    );
    lab.copy(&libc, "opt/libc.so.6");
    lab.write("etc/ld.so.conf", "include conf.d/*.conf\n");
    lab.write("etc/conf.d/opt.conf", "/opt\n");
    let found = closure(&tree, b"app", &Search::default()).unwrap();
    assert_eq!(
        lines(&Ok(found.clone())),
        ["libc.so.6 => /opt/libc.so.6", "/lib/ld-linux-aarch64.so.1"]
    );
    assert_eq!(found.libraries[0].rule, Some(Rule::Config));
    assert_eq!(found.notes.len(), 1);
    assert_eq!(found.elf.machine_name(), "ELF aarch64");
    let strict = closure(&tree, b"app", &Search::of_loader(None, "/")).unwrap();
    assert_eq!(
        strict.missing().count(),
        1,
        "a loader never reads the configuration"
    );
    let kept = smidge_trim::keep_closure(&found, &found.program).unwrap();
    let path = LayerPath::parse(b"/lib/aarch64-linux-gnu/libc.so.6").unwrap();
    assert_eq!(kept[1].path, path);
}
