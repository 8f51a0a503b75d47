//! One container to look at from inside.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use smidge_run::{IdMap, Mount, Spec, User, capability};
use smidge_tests::InTime as _;
use tempfile::TempDir;

const APPLETS: [&str; 23] = [
    "sh", "cat", "ls", "id", "grep", "readlink", "touch", "mkdir", "stat", "dd", "pwd", "hostname",
    "mount", "chown", "ip", "tty", "kill", "ps", "sed", "true", "rm", "wc", "chmod",
];

/// A user without any ranges of ids.
pub(crate) const NOBODY_KNOWN: u32 = 54_321;

/// Held while a program is written and while one is started: what is forked in between would keep the
/// file open for writing, and then it cannot be executed.
static FORK: Mutex<()> = Mutex::new(());

/// A root file system with busybox, and a spec to change before it is run.
pub(crate) struct Cell {
    root: TempDir,
    pub(crate) spec: Spec,
    /// Whom the host sees start it; the tests' own user if `None`.
    pub(crate) caller: Option<u32>,
}

/// What a container left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Cell {
    /// `None`, with the reason on standard output, if there can be no containers here.
    pub(crate) fn new() -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        // For callers that are not the tests' user.
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        let bin = root.path().join("layer/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir(root.path().join("container")).unwrap();
        copy(
            &smidge_tests::example("minirun"),
            &root.path().join("minirun"),
        )
        .unwrap();
        if copy("/bin/busybox".as_ref(), &bin.join("busybox")).is_err() {
            println!("skipped: busybox is not installed");
            return None;
        }
        for name in APPLETS {
            symlink("busybox", bin.join(name)).unwrap();
        }
        let spec = spec(root.path());
        let cell = Self {
            root,
            spec,
            caller: None,
        };
        let probe = cell.run(&["true"]);
        if probe.code != Some(0) {
            println!("skipped: no containers here: {}", probe.stderr);
            return None;
        }
        smidge_run::remove_tree(&cell.spec.id_map, &cell.container()).unwrap();
        fs::create_dir(cell.container()).unwrap();
        Some(cell)
    }

    /// The same for a test that needs the host's root.
    pub(crate) fn of_root() -> Option<Self> {
        if rustix::process::geteuid().is_root() {
            return Self::new();
        }
        println!("skipped: not root");
        None
    }

    /// The same, started by an ordinary user; root lends itself to `uid`.
    pub(crate) fn of_user(uid: u32) -> Option<Self> {
        let mut cell = Self::of_root()?;
        for path in [cell.container(), cell.root.path().to_owned()] {
            chown(path, Some(uid), Some(uid)).unwrap();
        }
        cell.caller = Some(uid);
        Some(cell)
    }

    /// The image's only layer.
    pub(crate) fn layer(&self) -> PathBuf {
        self.root.path().join("layer")
    }

    /// The container's directory.
    pub(crate) fn container(&self) -> PathBuf {
        self.root.path().join("container")
    }

    /// A new directory of the host, beside the container's.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        let path = self.root.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Adds a mount of a host's file or directory.
    pub(crate) fn bind(&mut self, source: &Path, destination: &str, read_only: bool) {
        self.spec.mounts.push(Mount::bind(
            source.to_owned(),
            destination.to_owned(),
            read_only,
        ));
    }

    /// Runs a shell script inside.
    pub(crate) fn sh(&self, script: &str) -> Outcome {
        self.run(&["sh", "-c", script])
    }

    /// Runs a program inside.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_from(&mut self.command(arguments))
    }

    /// Runs what [`Self::command`] has made.
    pub(crate) fn run_from(&self, command: &mut Command) -> Outcome {
        let output = output(command.stdin(Stdio::null())).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Outcome {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// The command that runs a program inside.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut spec = self.spec.clone();
        spec.args = arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        let path = self.root.path().join("spec.json");
        fs::write(&path, serde_json::to_vec(&spec).unwrap()).unwrap();
        let minirun = self.root.path().join("minirun");
        let mut command = match self.caller {
            None => Command::new(minirun),
            Some(uid) => {
                let mut command = Command::new("setpriv");
                let id = uid.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
                command
                    .args(["--inh-caps", "-all"])
                    .arg(minirun)
                    .arg("--map");
                command
            }
        };
        command.arg(path);
        command
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // As root this is all that is needed, whoever owns what is left.
        let _ = smidge_run::remove_tree(&self.spec.id_map, &self.container());
    }
}

/// Runs a program of the host to its end.
pub(crate) fn output(command: &mut Command) -> io::Result<Output> {
    let child = {
        let _alone = FORK.lock().unwrap();
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?
    };
    child.output_in_time()
}

fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    let _alone = FORK.lock().unwrap();
    fs::copy(from, to)
}

fn spec(root: &Path) -> Spec {
    let user = User::default();
    Spec {
        id: "cell".to_owned(),
        dir: root.join("container"),
        layers: vec![root.join("layer")],
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".to_owned(),
        id_map: IdMap::for_host(&user).unwrap(),
        user,
        hostname: "cell".to_owned(),
        capabilities: capability::DEFAULT,
        seccomp: true,
        ..Spec::default()
    }
}
