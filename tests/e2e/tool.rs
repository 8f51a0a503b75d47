//! Other container tools, each with a storage of the test's own.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use smidge_tests::InTime as _;
use tempfile::TempDir;

use crate::context::{Context, Ran, skip};

/// What containers of other tools need here: no limits that only a whole machine's root may set, and no
/// network.
pub(crate) const RUN: &str = "run --rm --network none --cgroups disabled \
     --ulimit=nofile=1024:1024 --ulimit=nproc=1024:1024";

/// A tool with the words of a line, in a mount namespace without the v2 half of a hybrid cgroup layout,
/// where podman's runtime refuses to run anything.
fn unshared(context: &Context, program: &str, options: &[&str], line: &str) -> Ran {
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
    let mut command = context.program("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", program]);
    command.args(options).args(line.split_whitespace());
    // They fail when the file that this leads to is not there.
    command.env_remove("DOCKER_CONFIG");
    context.finish(command)
}

/// `podman` with the words of a line.
pub(crate) fn podman(context: &Context, line: &str) -> Ran {
    let options = [
        "--root=podman/root",
        "--runroot=podman/run",
        "--storage-driver=vfs",
        "--cgroup-manager=cgroupfs",
    ];
    unshared(context, "podman", &options, line)
}

/// `buildah` with the words of a line.
pub(crate) fn buildah(context: &Context, line: &str) -> Ran {
    let options = [
        "--root=buildah/root",
        "--runroot=buildah/run",
        "--storage-driver=vfs",
    ];
    unshared(context, "buildah", &options, line)
}

/// `skopeo` with the words of a line.
pub(crate) fn skopeo(context: &Context, line: &str) -> Ran {
    let mut command = context.program("skopeo");
    command
        .arg("--insecure-policy")
        .args(line.split_whitespace());
    context.finish(command)
}

/// A Docker daemon of the test's own.
pub(crate) struct Dockerd {
    process: Child,
    dir: TempDir,
}

impl Dockerd {
    /// One that answers; `None`, having said so, where none can run.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with further options.
    pub(crate) fn start_with(options: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("only root can start a Docker daemon");
            return None;
        }
        let dir = tempfile::Builder::new()
            .prefix("dockerd-")
            .tempdir()
            .unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let process = Command::new("dockerd")
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args([
                "-p",
                &path("pid"),
                "-H",
                &format!("unix://{}", path("socket")),
            ])
            .args(["--bridge=none", "--iptables=false", "--ip-masq=false"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut daemon = Self { process, dir };
        let deadline = Instant::now() + Duration::from_secs(60);
        let context = Context::new();
        while daemon.docker(&context, "info").code() != 0 {
            let ended = daemon.process.try_wait().unwrap().is_some();
            if ended || Instant::now() > deadline {
                skip(&format!("dockerd does not run here: {}", daemon.log()));
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(daemon)
    }

    /// `docker` with the words of a line.
    pub(crate) fn docker(&self, context: &Context, line: &str) -> Ran {
        let mut command = context.program("docker");
        let socket = format!("unix://{}", self.dir.path().join("socket").display());
        command.args(line.split_whitespace());
        command
            .env("DOCKER_HOST", socket)
            .env("DOCKER_BUILDKIT", "0");
        context.finish(command)
    }

    /// The end of what it logged.
    fn log(&self) -> String {
        let mut text = String::new();
        let log = std::fs::File::open(self.dir.path().join("log"));
        let _ = log.unwrap().read_to_string(&mut text);
        let start = text.len().saturating_sub(1000);
        text.get(start..).unwrap_or_default().to_owned()
    }
}

impl Drop for Dockerd {
    /// It ends its containerd and its mounts when asked, not when killed.
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.status_in_time();
        // But for this one, which would keep the directory.
        let left = self.dir.path().join("exec/netns/default");
        let _ = Command::new("umount")
            .arg(left)
            .stderr(Stdio::null())
            .status_in_time();
    }
}
