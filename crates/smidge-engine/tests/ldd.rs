//! What programs need, compared with what ldd(1) says of the same files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use smidge_engine::ldd::{LddReport, LddRequest, Linkage};
use smidge_engine::{Engine, Host, Kind};
use smidge_store::Store;
use smidge_tests::InTime as _;

struct Context {
    engine: Engine,
    dir: tempfile::TempDir,
}

impl Context {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "tests have no main that passes it down"
        )]
        let path = std::env::var_os("PATH").unwrap_or_default();
        let host = Host {
            uid: 0,
            gid: 0,
            path,
            home: None,
            env: std::collections::BTreeMap::new(),
            source_date_epoch: None,
            now: SystemTime::UNIX_EPOCH,
            cwd: dir.path().to_path_buf(),
        };
        Self {
            engine: Engine::new(store, host),
            dir,
        }
    }

    fn ldd(&self, file: impl Into<PathBuf>) -> Result<LddReport, smidge_engine::Error> {
        self.engine.ldd(&LddRequest {
            file: file.into(),
            root: None,
        })
    }
}

/// What both print of each library: name and path.
fn listed(report: &LddReport) -> Vec<String> {
    let line = |needed: &smidge_engine::ldd::Needed| match &needed.path {
        Some(path) if *path == needed.name => path.clone(),
        Some(path) => format!("{} => {path}", needed.name),
        None => format!("{} => not found", needed.name),
    };
    report
        .libraries
        .iter()
        .chain(&report.loader)
        .map(line)
        .collect()
}

#[test]
fn reports_equal_those_of_ldd() {
    let context = Context::new();
    if context.engine.host.find_program("ldd").is_none() {
        println!("skipped: `ldd` is not installed");
        return;
    }
    for program in ["/bin/ls", "/usr/bin/env", "/usr/bin/perl"] {
        if !Path::new(program).exists() {
            continue;
        }
        let output = Command::new("ldd").arg(program).output_in_time().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let theirs: Vec<_> = text
            .lines()
            .filter(|line| !line.contains("vdso"))
            .map(|line| {
                line.trim()
                    .split(" (0x")
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect();
        let report = context.ldd(program).unwrap();
        assert_eq!(report.linkage, Linkage::Dynamic);
        assert_eq!(listed(&report), theirs, "{program}");
        assert!(
            report
                .direct
                .iter()
                .all(|index| *index < report.libraries.len())
        );
    }
}

#[test]
fn what_is_no_dynamic_program_is_said_as_ldd_says_it() {
    let context = Context::new();
    std::fs::write(context.dir.path().join("text"), "#!/bin/sh\n").unwrap();
    assert_eq!(context.ldd("text").unwrap().linkage, Linkage::NotDynamic);
    std::fs::write(context.dir.path().join("cut"), b"\x7fELF\x02\x01\x01").unwrap();
    assert_eq!(
        context.ldd("cut").unwrap_err().to_string(),
        "cannot tell what `cut` needs"
    );
    let error = context.ldd("missing").unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (Kind::NotFound, "cannot read `missing`")
    );
    assert_eq!(
        context.ldd("/dev").unwrap_err().to_string(),
        "`/dev` is not a regular file"
    );
    // This very test is linked statically, as everything of this project.
    let own = std::env::current_exe().unwrap();
    assert_ne!(context.ldd(own).unwrap().linkage, Linkage::Dynamic);
}

#[test]
fn another_root_has_its_own_libraries() {
    let context = Context::new();
    let root = context.dir.path().join("root");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy("/bin/ls", root.join("bin/ls")).unwrap();
    let request = LddRequest {
        file: "/bin/ls".into(),
        root: Some("root".into()),
    };
    let report = context.engine.ldd(&request).unwrap();
    assert_eq!(report.linkage, Linkage::Dynamic);
    assert!(
        report
            .libraries
            .iter()
            .all(|library| library.path.is_none()),
        "{report:?}"
    );
    assert!(report.interpreter.unwrap().contains("ld-linux"));
}
