//! A process with threads that runs programs in containers, and a view of what is left of it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use smidge_run::{IdMap, Spec, User, capability};
use smidge_tests::{InTime as _, Limit, until};
use tempfile::TempDir;

const APPLETS: [&str; 17] = [
    "chown", "ln", "env", "sh", "cat", "ls", "sleep", "true", "echo", "grep", "stat", "dd",
    "touch", "df", "mount", "kill", "id",
];

/// Held while a program is written and while one is started: what is forked in between would keep the
/// file open for writing, and then it cannot be executed.
static FORK: Mutex<()> = Mutex::new(());

/// A root file system with busybox, and a copy of the process under test.
pub(crate) struct Stage {
    root: TempDir,
    _limit: Limit,
}

impl Stage {
    /// `None`, with the reason on standard output, if there can be no containers here.
    pub(crate) fn new() -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        let stage = Self {
            _limit: Limit::of(root.path()),
            root,
        };
        let bin = stage.path("layer/bin");
        fs::create_dir_all(&bin).unwrap();
        {
            let _alone = FORK
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            fs::copy(smidge_tests::example("spawn"), stage.path("spawn")).unwrap();
            if fs::copy("/bin/busybox", bin.join("busybox")).is_err() {
                println!("skipped: busybox is not installed");
                return None;
            }
        }
        for name in APPLETS {
            symlink("busybox", bin.join(name)).unwrap();
        }
        let probe = stage.run(&[stage.spec("probe", &["true"])]);
        if probe.contains(&"probe: status 0".to_owned()) {
            return Some(stage);
        }
        println!("skipped: no containers here: {probe:?}");
        None
    }

    /// A path beside the containers.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A container that runs a shell script.
    pub(crate) fn sh(&self, id: &str, script: &str) -> Spec {
        self.spec(id, &["sh", "-c", script])
    }

    /// A container that runs `arguments`.
    pub(crate) fn spec(&self, id: &str, arguments: &[&str]) -> Spec {
        let user = User::default();
        let dir = self.path(id);
        fs::create_dir_all(&dir).unwrap();
        Spec {
            id: id.to_owned(),
            dir: dir.clone(),
            layers: vec![self.path("layer")],
            args: arguments
                .iter()
                .map(|&argument| argument.to_owned())
                .collect(),
            env: vec!["PATH=/bin".to_owned()],
            cwd: "/".to_owned(),
            id_map: IdMap::for_host(&user).unwrap(),
            user,
            hostname: "step".to_owned(),
            capabilities: capability::DEFAULT,
            seccomp: true,
            cleanup: vec![dir],
            ..Spec::default()
        }
    }

    /// A container that runs a shell script which believes to own every id.
    pub(crate) fn pretender(&self, id: &str, script: &str) -> Spec {
        let mut spec = self.sh(id, script);
        spec.pretend = true;
        spec.id_map = IdMap::Single {
            uid: 0,
            gid: 0,
            host_uid: rustix::process::geteuid().as_raw(),
            host_gid: rustix::process::getegid().as_raw(),
        };
        spec
    }

    /// Starts the process, which starts the containers at once.
    pub(crate) fn start(&self, specs: &[Spec]) -> Play {
        let paths = specs.iter().map(|spec| {
            let path = self.path(&format!("{}.json", spec.id));
            fs::write(&path, serde_json::to_vec(spec).unwrap()).unwrap();
            path
        });
        let mut command = Command::new(self.path("spawn"));
        // By this it is known whose it is.
        command.env("SMIDGE_ROOT", self.root.path());
        command
            .args(paths)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = {
            let _alone = FORK
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            command.spawn().unwrap()
        };
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Play { child, stdout }
    }

    /// Runs the containers to their ends; all lines of output, sorted.
    pub(crate) fn run(&self, specs: &[Spec]) -> Vec<String> {
        self.start(specs).finish()
    }

    /// Waits until nothing is left: no process of the one under test, nothing in a container.
    pub(crate) fn assert_deserted(&self) {
        until("nothing is left", || {
            let left = self.processes();
            println!("{left:?}");
            left.is_empty()
        });
    }

    /// The processes of the one under test, by id and name, and those in its containers.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let root = self.root.path();
        let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.parse().ok()
        });
        ids.filter_map(|id: i32| {
            let of = |file: &str| Path::new("/proc").join(id.to_string()).join(file);
            let own = fs::read_link(of("exe")).is_ok_and(|path| path.starts_with(root));
            let name = fs::read_to_string(of("comm")).unwrap_or_default();
            let mounts = fs::read_to_string(of("mountinfo")).unwrap_or_default();
            let inside = mounts.contains(&*root.to_string_lossy());
            (own || inside).then(|| (id, name.trim().to_owned()))
        })
        .collect()
    }

    /// The ids of the processes with this name.
    pub(crate) fn named(&self, name: &str) -> Vec<i32> {
        let all = self.processes().into_iter();
        all.filter(|(_, own)| own == name)
            .map(|(id, _)| id)
            .collect()
    }
}

/// The running process under test.
pub(crate) struct Play {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Play {
    /// Its process id.
    pub(crate) fn id(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Reads output up to a line; the end of the output fails the test.
    pub(crate) fn expect(&mut self, wanted: &str) {
        let mut seen = Vec::new();
        loop {
            let mut line = String::new();
            let length = self.stdout.read_line(&mut line).unwrap();
            assert!(length > 0, "no `{wanted}` in {seen:?}");
            if line.trim_end() == wanted {
                return;
            }
            seen.push(line);
        }
    }

    /// Tells it something.
    pub(crate) fn tell(&mut self, word: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{word}").unwrap();
    }

    /// Waits for its end; the rest of its output, sorted.
    pub(crate) fn finish(mut self) -> Vec<String> {
        let mut lines: Vec<String> = self.stdout.lines().map_while(Result::ok).collect();
        self.child.status_in_time().unwrap();
        lines.sort();
        lines
    }

    /// Kills it, without a chance to tidy up.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.status_in_time().unwrap();
    }
}

/// Sends a signal to a process.
pub(crate) fn send(id: i32, signal: rustix::process::Signal) {
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, signal).unwrap();
}
