//! One container of a caller without any ranges of ids.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use smidge_image::Claim;
use smidge_run::{IdMap, Spec, User, capability};
use smidge_tests::InTime as _;
use tempfile::TempDir;

const APPLETS: [&str; 22] = [
    "sh", "cat", "ls", "id", "touch", "mkdir", "stat", "chown", "chmod", "cp", "mv", "ln", "rm",
    "tar", "mknod", "mkfifo", "su", "sleep", "mount", "chroot", "chgrp", "true",
];

/// A user without any ranges of ids, whom root lends itself to.
const NOBODY_KNOWN: u32 = 54_322;

/// Held while a program is written and while one is started: what is forked in between would keep the
/// file open for writing, and then it cannot be executed.
static FORK: Mutex<()> = Mutex::new(());

/// A root file system with busybox and the program `believer`, and a spec to change before it is run.
pub(crate) struct Room {
    root: TempDir,
    pub(crate) spec: Spec,
}

/// What a program said, its exit status in front.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Room {
    /// `None`, with the reason on standard output, if there can be none here.
    pub(crate) fn new() -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        let room = Self {
            spec: spec(root.path()),
            root,
        };
        for directory in ["layer/bin", "layer/etc", "container"] {
            fs::create_dir_all(room.root.path().join(directory)).unwrap();
        }
        let programs = [
            (smidge_tests::example("minirun"), "minirun"),
            ("/bin/busybox".into(), "layer/bin/busybox"),
        ];
        for (from, to) in programs {
            let _alone = FORK.lock().unwrap();
            if fs::copy(&from, room.root.path().join(to)).is_err() {
                println!("skipped: {} is not installed", from.display());
                return None;
            }
        }
        for name in APPLETS {
            symlink("busybox", room.layer().join("bin").join(name)).unwrap();
        }
        room.give_away();
        let probe = room.sh("touch /probe");
        if probe.code != Some(0) {
            println!("skipped: no such containers here: {}", probe.stderr);
            return None;
        }
        Some(room)
    }

    /// Compiles the program that checks what it is told, `believer`.
    pub(crate) fn with_believer(self) -> Option<Self> {
        self.with_program("believer")
    }

    /// Compiles one of the programs beside this file into the layer.
    pub(crate) fn with_program(self, name: &str) -> Option<Self> {
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pretend");
        let source = Path::new(sources).join(name).with_extension("c");
        let mut compiler = Command::new("cc");
        compiler.args(["-static", "-pthread", "-o"]);
        compiler
            .arg(self.layer().join("bin").join(name))
            .arg(source);
        if !output(&mut compiler).is_some_and(|output| output.status.success()) {
            println!("skipped: no C compiler that links statically");
            return None;
        }
        self.give_away();
        Some(self)
    }

    /// Runs a program of the layer's as the host's root in a root directory of its own, with the
    /// capabilities of a container: what the kernel itself makes of it.
    pub(crate) fn run_really(&self, arguments: &[&str]) -> Option<Outcome> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: not root");
            return None;
        }
        let root = self.root.path().join("real");
        fs::create_dir_all(root.join("bin")).unwrap();
        let program = Path::new("bin").join(arguments.first()?);
        {
            let _alone = FORK.lock().unwrap();
            fs::copy(self.layer().join(&program), root.join(&program)).unwrap();
        }
        let mut command = Command::new("setpriv");
        let held = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+mknod,+sys_chroot";
        command.args([
            "--bounding-set",
            held,
            "--inh-caps",
            "-all",
            "--clear-groups",
            "chroot",
        ]);
        command.arg(root).arg(Path::new("/").join(program));
        output(command.args(&arguments[1..])).map(Outcome::of)
    }

    /// A directory of the host that everybody may write to.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        let path = self.root.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        path
    }

    /// The image's only layer.
    pub(crate) fn layer(&self) -> PathBuf {
        self.root.path().join("layer")
    }

    /// A file that the container has written, as the host has it.
    pub(crate) fn upper(&self, path: &str) -> PathBuf {
        self.root.path().join("container/upper").join(path)
    }

    /// What is claimed of such a file.
    pub(crate) fn claim(&self, path: &str) -> Option<String> {
        let mut buffer = [0; Claim::MAX_LENGTH];
        let read = rustix::fs::lgetxattr(self.upper(path), Claim::ATTRIBUTE, &mut buffer);
        let text = buffer.get(..read.ok()?)?;
        Some(String::from_utf8(text.to_vec()).unwrap())
    }

    /// Makes everything the caller's, as unpacked layers are.
    pub(crate) fn give_away(&self) {
        if rustix::process::geteuid().is_root() {
            for directory in ["layer", "container"] {
                give(&self.root.path().join(directory));
            }
        }
    }

    /// Runs a shell script inside.
    pub(crate) fn sh(&self, script: &str) -> Outcome {
        self.run(&["sh", "-c", script])
    }

    /// Runs a program inside.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        let mut spec = self.spec.clone();
        spec.args = arguments.iter().map(|&word| word.to_owned()).collect();
        let path = self.root.path().join("spec.json");
        fs::write(&path, serde_json::to_vec(&spec).unwrap()).unwrap();
        let minirun = self.root.path().join("minirun");
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            let id = NOBODY_KNOWN.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
            command.args(["--inh-caps", "-all"]).arg(minirun);
            command
        } else {
            Command::new(minirun)
        };
        Outcome::of(output(command.arg("--links").arg(path)).unwrap())
    }
}

impl Outcome {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// The lines of standard output, of a script that has nothing to complain about.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<&str> {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout.lines().collect()
    }
}

/// Runs a program of the host to its end; `None` if there is none.
fn output(command: &mut Command) -> Option<Output> {
    let child = {
        let _alone = FORK.lock().unwrap();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?
    };
    child.output_in_time().ok()
}

fn give(path: &Path) {
    lchown(path, Some(NOBODY_KNOWN), Some(NOBODY_KNOWN)).unwrap();
    let kind = fs::symlink_metadata(path).unwrap();
    if kind.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

fn spec(root: &Path) -> Spec {
    let caller = |own: u32| if own == 0 { NOBODY_KNOWN } else { own };
    Spec {
        id: "room".to_owned(),
        dir: root.join("container"),
        layers: vec![root.join("layer")],
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".to_owned(),
        id_map: IdMap::Single {
            uid: 0,
            gid: 0,
            host_uid: caller(rustix::process::geteuid().as_raw()),
            host_gid: caller(rustix::process::getegid().as_raw()),
        },
        user: User::default(),
        hostname: "room".to_owned(),
        capabilities: capability::DEFAULT,
        seccomp: true,
        pretend: true,
        ..Spec::default()
    }
}
