//! What is kept suffices: the program runs in a root that holds nothing else, and what is proved
//! impossible is refused by the kernel, too.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use smidge_image::LayerPath;
use smidge_trim::{Fault, Kept, Program, Reason, Search, closure, keep_closure, prove};

use crate::dir_tree::DirTree;
use crate::lab::{Lab, has, start};

/// Calls execve(2) inside another root, and nothing else; says what came of it.
const RUNNER: &str = r#"
#include <errno.h>
#include <unistd.h>
int main(int count, char **arguments) {
    if (count < 3 || chroot(arguments[1]) || chdir("/")) return 99;
    execv(arguments[2], arguments + 2);
    return errno == ENOENT ? 127 : 126;
}"#;

/// A laboratory for roots; none if this user may not change the root.
fn lab() -> Option<Lab> {
    let lab = Lab::new("gcc").filter(|_| has("ldd", "--version"))?;
    let runner = lab.compile("runner", RUNNER, &["-static"]);
    let root = lab.path("");
    let allowed = start(&runner, &[root.to_str().unwrap(), "/absent"])
        .status
        .code()
        == Some(127);
    if !allowed {
        println!("skipped: this user may not change the root directory");
    }
    allowed.then_some(lab)
}

fn run_in(lab: &Lab, root: &str, program: &str) -> Option<i32> {
    start(
        &lab.path("runner"),
        &[lab.path(root).to_str().unwrap(), program],
    )
    .status
    .code()
}

/// Puts a program and all it needs in a root of its own, and starts it there.
fn pack_and_run(lab: &Lab, file: &Path, root: &str, destination: &str) -> Vec<Kept> {
    let host = DirTree("/".into());
    let found = closure(&host, file.to_str().unwrap().as_bytes(), &Search::default()).unwrap();
    let path = LayerPath::parse(destination.as_bytes()).unwrap();
    let kept = keep_closure(&found, &path).unwrap();
    lab.install(&format!("{root}{destination}"), &fs::read(file).unwrap());
    for kept in &kept {
        let bytes = fs::read(Path::new("/").join(kept.source.as_path())).unwrap();
        lab.install(&format!("{root}{}", kept.path), &bytes);
    }
    let proof = prove(&DirTree(lab.path(root)), &Program::new([destination], "")).unwrap();
    assert_eq!(run_in(lab, root, destination), Some(7));
    // No more than is needed: without any one of the files it does not run.
    for kept in &kept {
        assert!(
            proof.files.iter().any(|proved| proved.path == kept.path),
            "{kept:?}"
        );
        let path = lab.path(root).join(kept.path.as_path());
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let fault = prove(&DirTree(lab.path(root)), &Program::new([destination], "")).unwrap_err();
        assert_eq!(
            run_in(lab, root, destination),
            Some(fault.exit_code().into())
        );
        lab.install(&format!("{root}{}", kept.path), &bytes);
    }
    kept
}

fn paths(kept: &[Kept]) -> Vec<String> {
    kept.iter().map(|kept| kept.path.to_string()).collect()
}

#[test]
fn kept_files_suffice() {
    let Some(lab) = lab() else { return };
    lab.library("lib/libb.so", &[]);
    lab.library("lib/liba.so", &["-Wl,-rpath,$ORIGIN", "lib/libb.so"]);
    let plain = lab.program("plain", &["-lm"]);
    let kept = pack_and_run(&lab, &plain, "one", "/srv/plain");
    assert_eq!(kept.len(), 3, "{kept:?}");
    assert!(matches!(kept[0].reason, Reason::Loader { .. }));

    // Run paths that move with the program, and such that do not.
    let moving = lab.program("moving", &["-Wl,-rpath,$ORIGIN/lib", "lib/liba.so"]);
    let kept = pack_and_run(&lab, &moving, "two", "/moving");
    assert!(
        paths(&kept).iter().all(|path| !path.contains("/tmp")),
        "{kept:?}"
    );

    let fixed = format!("-Wl,-rpath,{}", lab.path("lib").display());
    let staying = lab.program("staying", &[&fixed, "lib/liba.so"]);
    let kept = pack_and_run(&lab, &staying, "three", "/staying");
    assert!(
        paths(&kept).contains(&lab.path("lib/liba.so").display().to_string()),
        "{kept:?}"
    );

    // A library behind a symbolic link is kept under the name that the loader opens.
    fs::rename(lab.path("lib/liba.so"), lab.path("lib/liba.so.1.2.3")).unwrap();
    symlink("liba.so.1.2.3", lab.path("lib/liba.so")).unwrap();
    let kept = pack_and_run(&lab, &staying, "four", "/staying");
    assert!(
        kept.iter()
            .any(|kept| kept.path.file_name() == Some(b"liba.so")
                && kept.source.file_name() == Some(b"liba.so.1.2.3"))
    );
}

#[test]
fn kept_files_suffice_for_musl() {
    let Some(lab) = lab() else { return };
    let Some(musl) = Lab::new("musl-gcc") else {
        return;
    };
    musl.library("lib/liba.so", &[]);
    let file = musl.program("p", &["-Wl,-rpath,$ORIGIN/lib", "lib/liba.so"]);
    let kept = pack_and_run(&lab, &file, "musl", "/p");
    assert_eq!(paths(&kept), ["/lib/ld-musl-x86_64.so.1", "/lib/liba.so"]);
}

/// Files to start, with whatever can be wrong with them.
fn candidates(lab: &Lab) -> Vec<(String, Vec<u8>)> {
    let sound = fs::read(lab.program("static", &["-static"])).unwrap();
    let dynamic = fs::read(lab.program("dynamic", &[])).unwrap();
    let object = fs::read(lab.program("object.o", &["-c"])).unwrap();
    let mut other = sound.clone();
    other[18..20].copy_from_slice(&183_u16.to_le_bytes());
    let long = format!("#!/{}\n", "x".repeat(400));
    let files: [(&str, &[u8]); 19] = [
        ("/ok", &sound),
        ("/dynamic", &dynamic),
        ("/other", &other),
        ("/object", &object),
        ("/cut", &sound[..40]),
        ("/empty", b""),
        ("/text", b"echo hello\n"),
        ("/bare", b"#!\n"),
        ("/blank", b"#! \t\n"),
        ("/script", b"#! /ok \n"),
        ("/script-end", b"#!/ok"),
        ("/argument", b"#!/ok a b\n"),
        ("/nul", b"#!/ok\0 x\n"),
        ("/windows", b"#!/ok\r\n"),
        ("/missing", b"#!/absent\n"),
        ("/directory", b"#!/etc\n"),
        ("/needs", b"#!/dynamic\n"),
        ("/long", long.as_bytes()),
        ("/etc/file", b"#!/ok\n"),
    ];
    let mut files = files
        .map(|(name, content)| (name.to_owned(), content.to_vec()))
        .to_vec();
    let mut interpreter = "/ok".to_owned();
    for depth in 1..=6 {
        let name = format!("/deep{depth}");
        files.push((name.clone(), format!("#!{interpreter}\n").into_bytes()));
        interpreter = name;
    }
    files
}

#[test]
fn the_kernel_refuses_what_is_proved_impossible() {
    let Some(lab) = lab() else { return };
    let files = candidates(&lab);
    for (name, content) in &files {
        lab.install(&format!("root{name}"), content);
    }
    let plain = fs::Permissions::from_mode(0o644);
    fs::set_permissions(lab.path("root/etc/file"), plain).unwrap();
    symlink("/ok", lab.path("root/link")).unwrap();
    symlink("/absent", lab.path("root/dangling")).unwrap();
    symlink("cycle", lab.path("root/cycle")).unwrap();
    let extra = ["/absent", "/etc", "/link", "/dangling", "/cycle"].map(str::to_owned);
    let tree = DirTree(lab.path("root"));
    for name in files.into_iter().map(|(name, _)| name).chain(extra) {
        let proved = prove(&tree, &Program::new([name.as_str()], "amd64"));
        let expected = proved.as_ref().map_or_else(Fault::exit_code, |_| 7);
        assert_eq!(
            run_in(&lab, "root", &name),
            Some(expected.into()),
            "{name}: {proved:?}"
        );
    }
}
