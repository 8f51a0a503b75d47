//! Programs and libraries made on the spot, in a directory of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use smidge_tests::InTime as _;
use tempfile::TempDir;

use crate::dir_tree::DirTree;

pub(crate) struct Lab {
    directory: TempDir,
    compiler: &'static str,
}

/// Starts a program and waits for its end.
pub(crate) fn start(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .output_in_time()
        .unwrap()
}

/// Whether a program is there; says so if not, because a test is skipped then.
pub(crate) fn has(program: &str, argument: &str) -> bool {
    let status = Command::new(program)
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status_in_time();
    let present = status.is_ok_and(|status| status.success());
    if !present {
        println!("skipped: there is no `{program}` on this machine");
    }
    present
}

impl Lab {
    /// A laboratory with a C compiler; none if the machine lacks it.
    pub(crate) fn new(compiler: &'static str) -> Option<Self> {
        has(compiler, "--version").then(|| Self {
            directory: TempDir::new().unwrap(),
            compiler,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    /// The laboratory as the root of a tree.
    pub(crate) fn tree(&self) -> DirTree {
        DirTree(self.path(""))
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Puts a program in. It is written by another process: while one of this process' threads
    /// writes a program, a child of another may hold it open, and then it cannot be started.
    pub(crate) fn install(&self, name: &str, content: &[u8]) -> PathBuf {
        let source = self.write("content", content);
        let path = self.path(name.trim_start_matches('/'));
        let install = Command::new("install")
            .args(["-D", "-m", "755"])
            .args([&source, &path])
            .status_in_time();
        assert!(install.unwrap().success());
        path
    }

    /// Puts a copy of a file in.
    pub(crate) fn copy(&self, from: impl AsRef<Path>, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(from, &path).unwrap();
        path
    }

    /// Makes a library that is called as its file is.
    pub(crate) fn library(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let soname = format!("-Wl,-soname,{}", name.rsplit('/').next().unwrap());
        let shared = ["-shared", "-fPIC", soname.as_str()];
        self.compile(name, "int unused;", &[&shared, arguments].concat())
    }

    /// Makes a program that prints a line.
    pub(crate) fn program(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let code = r#"int puts(const char *); int main(void) { puts("it runs"); return 7; }"#;
        self.compile(name, code, arguments)
    }

    pub(crate) fn compile(&self, name: &str, code: &str, arguments: &[&str]) -> PathBuf {
        let source = self.write("source.c", code);
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let linker = ["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined"];
        let output = Command::new(self.compiler)
            .current_dir(self.path(""))
            .arg("-o")
            .args([&path, &source])
            .args(linker)
            .args(arguments)
            .output_in_time()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        path
    }
}
