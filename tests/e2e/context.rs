//! A test's own store, directory and user, and what commands in it did.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;

use smidge_tests::{InTime as _, Limit};
use tempfile::TempDir;

/// Who a test runs smidge as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// For messages.
    pub(crate) name: &'static str,
    /// User and group id, when it is another than the test's own.
    pub(crate) ids: Option<(u32, u32)>,
}

/// The user that runs the tests.
pub(crate) const SELF: Identity = Identity {
    name: "self",
    ids: None,
};

/// Every identity this machine offers: this user, and for root the two users that
/// `cargo xtask test` makes.
pub(crate) fn identities() -> Vec<Identity> {
    let mut all = vec![SELF];
    if !rustix::process::geteuid().is_root() {
        return all;
    }
    for name in ["smidge-ranges", "smidge-single"] {
        match (id_of("-u", name), id_of("-g", name)) {
            (Some(uid), Some(gid)) => all.push(Identity {
                name,
                ids: Some((uid, gid)),
            }),
            _ => skip(&format!(
                "there is no user `{name}`: `cargo xtask test` makes it"
            )),
        }
    }
    all
}

fn id_of(flag: &str, user: &str) -> Option<u32> {
    let output = Command::new("id")
        .args([flag, user])
        .stderr(Stdio::null())
        .output_in_time()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Says that a test, or a part of one, cannot run here.
pub(crate) fn skip(reason: &str) {
    println!("skipped: {reason}");
}

/// The environment is read in this one place.
#[expect(
    clippy::disallowed_methods,
    reason = "a test binary has no main to hand it down"
)]
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// Whether a program is on PATH; says so when it is not.
pub(crate) fn have(program: &str) -> bool {
    let path = variable("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !found {
        skip(&format!("`{program}` is not on PATH"));
    }
    found
}

/// The binary under test, copied to where every user can execute it.
static SMIDGE: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let built = variable("SMIDGE_BIN").map_or_else(beside_this_test, PathBuf::from);
    assert!(
        built.is_file(),
        "`{}` is not there: `cargo xtask test` builds it",
        built.display()
    );
    let dir = open_dir();
    let copy = dir.path().join("smidge");
    smidge_tests::write_program(&copy, std::fs::read(built).unwrap()).unwrap();
    (dir, copy)
});

/// `target/…/debug/smidge`, from `target/…/debug/deps/e2e-0123`.
fn beside_this_test() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    this.parent().and_then(Path::parent).unwrap().join("smidge")
}

/// The binary under test.
pub(crate) fn smidge_binary() -> &'static Path {
    &SMIDGE.1
}

/// The repository's root.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn open_dir() -> TempDir {
    let dir = tempfile::Builder::new()
        .prefix("smidge-e2e-")
        .tempdir()
        .unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A directory, a store and a user of a test's own.
pub(crate) struct Context {
    dir: TempDir,
    identity: Identity,
    limit: Limit,
}

impl Context {
    /// As the user that runs the tests.
    pub(crate) fn new() -> Self {
        Self::of(SELF)
    }

    /// As some identity.
    pub(crate) fn of(identity: Identity) -> Self {
        let dir = open_dir();
        if let Some((uid, gid)) = identity.ids {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).unwrap();
        }
        let context = Self {
            limit: Limit::of(&dir.path().join("store")),
            dir,
            identity,
        };
        // No test ever reaches a registry of the outer world.
        context.settings("[registry.\"docker.io\"]\nblocked = true\n");
        context.write(".run/here", "");
        context
    }

    /// Writes this context's settings of registries, in place of those that were there.
    pub(crate) fn settings(&self, toml: &str) {
        self.write(".config/smidge/registries.toml", toml);
    }

    /// Who this context's commands run as.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// The test's directory, which commands run in.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The store's root.
    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    /// Writes a file below the test's directory, making its parents.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        self.give_away(&path);
        path
    }

    /// Copies a file below the test's directory, with its mode.
    pub(crate) fn copy(&self, from: &Path, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // By another process, as `smidge_tests::write_program` says.
        let mut copy = Command::new("cp");
        copy.arg("--preserve=mode").arg(from).arg(&path);
        assert!(copy.status_in_time().unwrap().success());
        self.give_away(&path);
        path
    }

    /// Lets this context's user own what the test made for it.
    fn give_away(&self, path: &Path) {
        if let Some((uid, gid)) = self.identity.ids {
            for part in path.ancestors().take_while(|part| *part != self.path()) {
                std::os::unix::fs::chown(part, Some(uid), Some(gid)).unwrap();
            }
        }
    }

    /// Any program, as this context's user, in its directory.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match self.identity.ids {
            None => Command::new(program),
            Some((uid, gid)) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
                command
                    .args(["--clear-groups", "--inh-caps=-all", "--"])
                    .arg(program);
                command
                    .env("HOME", self.path())
                    .env("USER", self.identity.name);
                command
            }
        };
        command.current_dir(self.path());
        command
            .env("SMIDGE_ROOT", self.store())
            .env("XDG_CONFIG_HOME", self.path().join(".config"))
            .env("XDG_RUNTIME_DIR", self.path().join(".run"))
            .env("DOCKER_CONFIG", self.path().join(".docker"))
            .env_remove("REGISTRY_AUTH_FILE")
            .env_remove("SOURCE_DATE_EPOCH")
            .env_remove("XDG_DATA_HOME")
            .stdin(Stdio::null());
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command
    }

    /// `smidge ARGS`, not yet started.
    pub(crate) fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Command {
        let mut command = self.program(smidge_binary());
        command.args(args);
        command
    }

    /// `smidge ARGS`, run to its end.
    pub(crate) fn smidge<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Ran {
        self.finish(self.command(args))
    }

    /// `smidge` with the words of a line: no quoting.
    pub(crate) fn line(&self, line: &str) -> Ran {
        self.smidge(line.split_whitespace())
    }

    /// `smidge` with the words of a line, not yet started.
    pub(crate) fn line_command(&self, line: &str) -> Command {
        self.command(line.split_whitespace())
    }

    /// Runs a command to its end.
    pub(crate) fn finish(&self, command: Command) -> Ran {
        let shown = format!("{command:?} (as {})", self.identity.name);
        let output = command
            .output_in_time()
            .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
        self.limit.renew();
        Ran { shown, output }
    }

    /// Starts a command, its standard streams piped.
    pub(crate) fn spawn(&self, mut command: Command) -> Child {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }
}

impl Drop for Context {
    /// Nothing of a test outlives it: its containers are removed, and what belongs to
    /// subordinate ids is removed by the one who can.
    fn drop(&mut self) {
        // What a test that has failed leaves may be what made it fail.
        let try_line = |line: &str| self.line_command(line).output_in_time();
        if let Ok(listed) = try_line("ps -aq") {
            let ids = String::from_utf8_lossy(&listed.stdout);
            if !ids.is_empty() {
                let _ = try_line(&format!("rm -f -v {ids}"));
            }
        }
        if self.store().join("networks").exists() {
            let _ = try_line("network prune -f");
        }
    }
}

/// What a command did.
pub(crate) struct Ran {
    shown: String,
    output: Output,
}

impl Ran {
    /// What a command did whose standard output went elsewhere.
    pub(crate) fn of(command: &Command, status: std::process::ExitStatus, said: Vec<u8>) -> Self {
        Self {
            shown: format!("{command:?}"),
            output: Output {
                status,
                stdout: Vec::new(),
                stderr: said,
            },
        }
    }

    /// The exit status; 128+n for a signal.
    pub(crate) fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.output.status;
        status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap())
    }

    /// Standard output, without the last newline.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout)
            .trim_end_matches('\n')
            .to_owned()
    }

    /// Standard output's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.output.stdout
    }

    /// Standard error, without the last newline.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr)
            .trim_end_matches('\n')
            .to_owned()
    }

    /// Asserts success, and gives standard output.
    #[track_caller]
    pub(crate) fn ok(&self) -> String {
        self.exits(0);
        self.stdout()
    }

    /// Asserts an exit status, and gives standard error.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> String {
        assert_eq!(
            self.code(),
            code,
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.shown,
            self.stdout(),
            self.stderr()
        );
        self.stderr()
    }

    /// Asserts an exit status and that standard error has all these texts.
    #[track_caller]
    pub(crate) fn says(&self, code: i32, texts: &[&str]) {
        let stderr = self.exits(code);
        for text in texts {
            assert!(
                stderr.contains(text),
                "{}: no `{text}` in:\n{stderr}",
                self.shown
            );
        }
    }
}
