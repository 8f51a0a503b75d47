//! Programs and images that tests start from, each made once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use smidge_tests::InTime as _;
use tempfile::TempDir;

use crate::context::{Context, identities, repository, skip, smidge_binary};

static DIR: LazyLock<TempDir> = LazyLock::new(|| {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::Builder::new()
        .prefix("smidge-fixture-")
        .tempdir()
        .unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
});

/// Compiles a C program with gcc.
pub(crate) fn compiled(name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let path = DIR.path().join(name);
    let code = DIR.path().join(format!("{name}.c"));
    std::fs::write(&code, source).unwrap();
    let status = Command::new("gcc")
        .args(["-Os", "-o"])
        .arg(&path)
        .arg(&code)
        .args(flags)
        .status_in_time();
    assert!(status.unwrap().success(), "gcc could not compile `{name}`");
    path
}

const HELLO: &str = r#"#include <stdio.h>
int main(int argc, char **argv) {
    printf("hello");
    for (int i = 1; i < argc; i++) printf(" %s", argv[i]);
    printf("\n");
    return 0;
}"#;

/// A static program that prints `hello` and its arguments.
pub(crate) fn hello() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| compiled("hello", HELLO, &["-static"]));
    &PATH
}

/// The same, dynamically linked against libc and libm.
pub(crate) fn dynamic() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
        let source = HELLO
            .replace("return 0;", "return (int)(volatile double){0.0};")
            .replace(
                "#include <stdio.h>",
                "#include <stdio.h>\n#include <math.h>\ndouble (*volatile keep)(double) = cos;",
            );
        compiled("dynamic", &source, &["-Wl,--no-as-needed", "-lm"])
    });
    &PATH
}

/// A static program whose exit status is its first argument, or that kills itself with `-n`.
pub(crate) fn exits() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
        let source = r#"#include <signal.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 0;
    if (n < 0) { signal(-n, SIG_DFL); kill(getpid(), -n); }
    return n;
}"#;
        compiled(
            "exits",
            &source.replace("<stdlib.h>", "<stdlib.h>\n#include <unistd.h>"),
            &["-static"],
        )
    });
    &PATH
}

/// Debian's static busybox, the tests' userland.
fn busybox() -> &'static Path {
    Path::new("/bin/busybox")
}

/// A root file system with busybox, its applets, two users and the usual directories, as a tar.
fn busybox_rootfs() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
        let root = DIR.path().join("busybox");
        for dir in ["bin", "etc", "root", "tmp", "home/app"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        std::fs::copy(busybox(), root.join("bin/busybox")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
        std::fs::write(root.join("etc/passwd"), passwd).unwrap();
        let group = "root:x:0:\napp:x:1000:\nextra:x:2000:app\n";
        std::fs::write(root.join("etc/group"), group).unwrap();
        let applets = Command::new(busybox())
            .arg("--list")
            .output_in_time()
            .unwrap()
            .stdout;
        for applet in String::from_utf8(applets)
            .unwrap()
            .lines()
            .filter(|a| *a != "busybox")
        {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let archive = DIR.path().join("busybox.tar");
        let mut tar = Command::new("tar");
        tar.args([
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "-cf",
        ]);
        assert!(
            tar.arg(&archive)
                .arg("-C")
                .arg(&root)
                .arg(".")
                .status_in_time()
                .unwrap()
                .success()
        );
        archive
    });
    &PATH
}

/// Stores an image `busybox` with a shell and the usual applets, users and directories.
pub(crate) fn load_busybox(context: &Context) {
    let import = ["import", "--change", "CMD [\"/bin/sh\"]"].map(std::ffi::OsStr::new);
    let archive = [busybox_rootfs().as_os_str(), "busybox".as_ref()];
    context.smidge(import.into_iter().chain(archive)).ok();
}

/// Runs a test body once for every identity, with the busybox image loaded.
pub(crate) fn with_busybox(body: impl Fn(&Context)) {
    if !busybox().exists() {
        skip("`/bin/busybox` is not there");
        return;
    }
    for identity in identities() {
        println!("as {}", identity.name);
        let context = Context::of(identity);
        load_busybox(&context);
        body(&context);
    }
}

/// An example of this repository, built in a store of its own and saved once as a docker-archive.
pub(crate) fn example(name: &str, options: &[&str]) -> PathBuf {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = LOCK.lock();
    let archive = DIR.path().join(format!("{}.tar", name.replace('/', "-")));
    if !archive.exists() {
        let mut build = Command::new(smidge_binary());
        build
            .env("SMIDGE_ROOT", DIR.path().join("store"))
            .arg("build")
            .args(options);
        build.args(["-t", &format!("example/{name}")]);
        build.arg(format!(
            "--output=type=docker-archive,dest={}",
            archive.display()
        ));
        let built = build
            .arg(repository().join("examples").join(name))
            .output_in_time()
            .unwrap();
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
    }
    archive
}
