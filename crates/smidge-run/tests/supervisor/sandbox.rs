//! A directory for one test's containers, and the commands to run them with.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use smidge_run::{IdMap, Port, Spec, State, User, capability};
use smidge_tests::{InTime as _, Limit, until, write_program};
use tempfile::TempDir;

use crate::arm64;

/// A test's own place: a root file system with busybox and `ports`, and containers that end with it.
pub(crate) struct Sandbox {
    root: TempDir,
    _limit: Limit,
}

impl Sandbox {
    /// `None`, with the reason on standard output, if there can be no containers here.
    pub(crate) fn new() -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        let sandbox = Self {
            _limit: Limit::of(root.path()),
            root,
        };
        let bin = sandbox.layer().join("bin");
        fs::create_dir_all(&bin).unwrap();
        let Ok(busybox) = fs::read("/bin/busybox") else {
            println!("skipped: busybox is not installed");
            return None;
        };
        write_program(&bin.join("busybox"), busybox).unwrap();
        let ports = fs::read(smidge_tests::example("ports")).unwrap();
        write_program(&bin.join("ports"), ports).unwrap();
        for name in [
            "sh", "cat", "sleep", "stty", "tty", "true", "yes", "seq", "head", "ps",
        ] {
            std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
        }
        let probe = sandbox.run(&sandbox.spec("probe", &["true"]), &[]);
        if probe.status.code() != Some(0) {
            println!(
                "skipped: no containers here: {}",
                String::from_utf8_lossy(&probe.stderr)
            );
            return None;
        }
        Some(sandbox)
    }

    fn layer(&self) -> PathBuf {
        self.root.path().join("layer")
    }

    /// Adds a program for arm64; `false`, with the reason on standard output, if there is none.
    pub(crate) fn add_foreign(&self) -> bool {
        let compiled = arm64::compiler(&self.layer().join("bin/foreign")).output_in_time();
        let compiled = compiled.is_ok_and(|output| output.status.success());
        if !compiled {
            println!("skipped: no C compiler for arm64");
        }
        compiled
    }

    /// The directory of the container `id`.
    pub(crate) fn dir(&self, id: &str) -> PathBuf {
        self.root.path().join(id)
    }

    /// A container that runs `arguments`.
    pub(crate) fn spec(&self, id: &str, arguments: &[&str]) -> Spec {
        let user = User::default();
        let dir = self.dir(id);
        fs::create_dir_all(&dir).unwrap();
        Spec {
            id: id.to_owned(),
            dir,
            layers: vec![self.layer()],
            args: arguments
                .iter()
                .map(|argument| (*argument).to_owned())
                .collect(),
            env: vec!["PATH=/bin".to_owned()],
            cwd: "/".to_owned(),
            id_map: IdMap::for_host(&user).unwrap(),
            user,
            hostname: "box".to_owned(),
            capabilities: capability::DEFAULT,
            seccomp: true,
            no_new_privileges: true,
            log: true,
            ..Spec::default()
        }
    }

    /// A command that starts the container of `spec`.
    pub(crate) fn start(&self, spec: &Spec, options: &[&str]) -> Command {
        let path = self.dir(&format!("{}.json", spec.id));
        fs::write(&path, serde_json::to_vec(spec).unwrap()).unwrap();
        let mut command = contain("start");
        // By this it is known whose it is.
        command.env("SMIDGE_ROOT", self.root.path());
        command.args(options).arg(path);
        command
    }

    /// Runs a container to its end, attached.
    pub(crate) fn run(&self, spec: &Spec, input: &[u8]) -> Output {
        let options: &[&str] = if spec.stdin { &["-a", "-i"] } else { &["-a"] };
        let mut command = self.start(spec, options);
        feed(spawn(&mut command), input)
    }

    /// Starts a container and leaves it alone; gives its ports.
    pub(crate) fn detach(&self, spec: &Spec) -> Vec<Port> {
        let output = self.start(spec, &[]).output_in_time().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What has become of a container.
    pub(crate) fn state(&self, id: &str) -> State {
        State::read(&self.dir(id)).unwrap()
    }

    /// The same, once its program runs.
    pub(crate) fn running(&self, id: &str) -> State {
        until("it runs", || self.state(id).pid != 0);
        self.state(id)
    }

    /// Runs another verb on a container; gives its exit status and output.
    pub(crate) fn verb(&self, verb: &str, id: &str, rest: &[&str]) -> (Option<i32>, String) {
        let output = contain(verb)
            .arg(self.dir(id))
            .args(rest)
            .output_in_time()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    }

    /// Kills whatever runs.
    fn kill_all(&self) {
        for entry in fs::read_dir(self.root.path()).unwrap().flatten() {
            let _ = smidge_run::signal(&entry.path(), 9);
            let _ = smidge_run::wait(&entry.path(), Some(Duration::from_secs(60)));
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill_all();
        let map = IdMap::for_host(&User::default()).unwrap();
        for entry in fs::read_dir(self.root.path()).unwrap().flatten() {
            let mut command = contain("remove");
            let _ = command
                .arg(entry.path())
                .arg(serde_json::to_string(&map).unwrap())
                .status_in_time();
        }
    }
}

/// The `contain` example.
pub(crate) fn contain(verb: &str) -> Command {
    let mut command = Command::new(smidge_tests::example("contain"));
    command.arg(verb);
    command
}

/// Spawns with pipes.
pub(crate) fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Writes `input` while the output is read, whatever comes first.
fn feed(mut child: Child, input: &[u8]) -> Output {
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A program need not read its input.
        scope.spawn(move || stdin.write_all(input));
        child.output_in_time().unwrap()
    })
}
