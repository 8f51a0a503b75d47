//! Podman, Docker and containerd run their containers with `smidge runtime`.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use smidge_tests::InTime as _;

use crate::context::{Context, Ran, have, identities, skip, smidge_binary};
use crate::tool::Dockerd;

/// The path that others are told.
fn runtime(context: &Context) -> PathBuf {
    let path = context.path().join("smidge-runtime");
    symlink(smidge_binary(), &path).unwrap();
    path
}

/// A root file system of busybox, as a tar archive.
fn archive(context: &Context) -> Option<PathBuf> {
    let busybox = std::path::Path::new("/bin/busybox");
    if !busybox.exists() {
        skip("`/bin/busybox` is not there");
        return None;
    }
    context.copy(busybox, "fs/bin/busybox");
    for applet in [
        "sh", "id", "cat", "echo", "sleep", "test", "stty", "readlink",
    ] {
        symlink("busybox", context.path().join("fs/bin").join(applet)).unwrap();
    }
    let path = context.path().join("fs.tar");
    let mut tar = Command::new("tar");
    tar.args(["-C", "fs", "-cf"]).arg(&path).arg(".");
    assert!(
        tar.current_dir(context.path())
            .status_in_time()
            .unwrap()
            .success()
    );
    Some(path)
}

/// `podman` with a storage of the test's own.
fn podman(context: &Context, words: &[&str]) -> Ran {
    let mut command = context.program("podman");
    command.args([
        "--root=podman/root",
        "--runroot=podman/run",
        "--storage-driver=vfs",
    ]);
    command.args(["--cgroup-manager=cgroupfs", "--events-backend=file"]);
    command
        .arg("--runtime")
        .arg(context.path().join("smidge-runtime"));
    // It wants a file there, if it is told of one.
    command.args(words).env_remove("DOCKER_CONFIG");
    context.finish(command)
}

#[test]
fn podman_runs_containers_as_every_user() {
    if !have("podman") {
        return;
    }
    for identity in identities() {
        if identity.name == "smidge-single" {
            skip("podman wants subordinate ids");
            continue;
        }
        let context = Context::of(identity);
        runtime(&context);
        if archive(&context).is_none() {
            return;
        }
        std::fs::create_dir_all(context.path().join(".run")).unwrap();
        podman(&context, &["import", "-q", "fs.tar", "box"]).ok();
        let limits = [
            "--ulimit=nofile=1000:1000",
            "--ulimit=nproc=1000:1000",
            "--network=none",
        ];
        let run = |words: &[&str]| podman(&context, &[&["run"], limits.as_slice(), words].concat());
        let ran = run(&["--rm", "box", "sh", "-c", "id -u; echo $0; exit 7", "zero"]);
        assert_eq!(ran.stdout(), "0\nzero", "{}", ran.stderr());
        ran.exits(7);
        run(&["--rm", "box", "nosuch"]).exits(127);
        run(&["--rm", "--user", "5:6", "box", "id", "-u"]).ok();
        let home = run(&[
            "--rm",
            "--tty",
            "box",
            "sh",
            "-c",
            "echo $HOME; test -t 0 && echo tty",
        ]);
        assert_eq!(home.ok().replace('\r', ""), "/\ntty");
        podman_limits(&context, &run);
        run(&["-d", "--name", "named", "box", "sleep", "1000"]).ok();
        let said = podman(
            &context,
            &["exec", "named", "sh", "-c", "echo inside; exit 3"],
        );
        assert_eq!(said.stdout(), "inside");
        said.exits(3);
        let status = [
            "inspect",
            "-f",
            "{{.State.Status}} {{.OCIRuntime}}",
            "named",
        ];
        let status = podman(&context, &status).ok();
        assert!(
            status.starts_with("running ") && status.ends_with("smidge-runtime"),
            "{status}"
        );
        podman(&context, &["kill", "named"]).ok();
        podman(&context, &["wait", "named"]).ok();
        podman(&context, &["rm", "-f", "-t", "0", "named"]).ok();
        podman(&context, &["rmi", "-af"]).ok();
        // What belongs to subordinate ids is for its owner to remove.
        podman(&context, &["system", "reset", "--force"]).code();
    }
}

/// What takes control groups, where Podman has them.
fn podman_limits(context: &Context, run: &impl Fn(&[&str]) -> Ran) {
    if context.identity().ids.is_some() || !rustix::process::geteuid().is_root() {
        return;
    }
    // Its files belong to ids that root is not, in directories that are theirs alone.
    let ids = ["--uidmap=0:100000:65536", "--gidmap=0:100000:65536"];
    let mapped = run(&["--rm", ids[0], ids[1], "box", "cat", "/proc/self/uid_map"]).ok();
    let mapped: Vec<&str> = mapped.split_whitespace().collect();
    assert_eq!(mapped, ["0", "100000", "65536"]);
    // Something is mounted below the groups.
    run(&["--rm", "--systemd=always", "box", "echo"]).ok();
    let stops = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
    run(&[
        "-d", "--name", "limited", "--memory", "64m", "box", "sh", "-c", stops,
    ])
    .ok();
    let call = |line: &str| podman(context, &line.split(' ').collect::<Vec<_>>());
    let limit = "exec limited cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
    if std::path::Path::new("/sys/fs/cgroup/memory").exists() {
        assert_eq!(call(limit).ok(), (64 << 20).to_string());
    }
    assert!(call("top limited args").ok().contains("trap"));
    call("pause limited").ok();
    let status = "inspect -f {{.State.Status}} limited";
    assert_eq!(call(status).ok(), "paused");
    call("unpause limited").ok();
    call("stop -t 30 limited").ok();
    assert_eq!(call("inspect -f {{.State.ExitCode}} limited").ok(), "3");
    call("start limited").ok();
    call("kill --signal KILL limited").ok();
    assert_eq!(call("wait limited").ok(), "137");
    call("rm limited").ok();
}

#[test]
fn docker_runs_containers() {
    if !have("dockerd") || !have("docker") {
        return;
    }
    let context = Context::new();
    let path = runtime(&context);
    if archive(&context).is_none() {
        return;
    }
    let option = format!("--add-runtime=smidge={}", path.display());
    let Some(daemon) = Dockerd::start_with(&[&option]) else {
        return;
    };
    let docker = |line: &str| daemon.docker(&context, line);
    docker("import fs.tar box").ok();
    let run = "run --runtime smidge --network none --ulimit nofile=1000:1000";
    let ran = docker(&format!("{run} --rm box sh -c exit${{IFS}}7"));
    ran.exits(7);
    assert_eq!(docker(&format!("{run} --rm box echo hello")).ok(), "hello");
    docker(&format!("{run} --rm box nosuch")).exits(127);
    assert_eq!(
        docker(&format!(
            "{run} --rm -m 32m box cat /proc/sys/kernel/shmmni"
        ))
        .ok(),
        "4096"
    );
    docker(&format!("{run} -d --name named box sleep 1000")).ok();
    assert_eq!(
        docker("exec named readlink /proc/1/exe").ok(),
        "/bin/busybox"
    );
    assert!(docker("top named").ok().contains("sleep 1000"));
    docker("pause named").ok();
    assert_eq!(docker("inspect -f {{.State.Status}} named").ok(), "paused");
    docker("unpause named").ok();
    docker("update --memory 64m --memory-swap 64m named").ok();
    docker("kill named").ok();
    assert_eq!(docker("wait named").ok(), "137");
    docker("rm named").ok();
}

/// A containerd of the test's own, which is asked to end with the test.
struct Containerd {
    process: std::process::Child,
    directory: PathBuf,
}

impl Containerd {
    fn start(context: &Context) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("only root can start containerd");
            return None;
        }
        let directory = context.path().to_owned();
        let config = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        context.write("containerd.toml", config);
        let path = |name: &str| directory.join(name);
        let log = std::fs::File::create(path("containerd.log")).unwrap();
        let mut command = context.program("containerd");
        command.arg("--config").arg(path("containerd.toml"));
        command.arg("--root").arg(path("containerd-root"));
        command.arg("--state").arg(path("containerd-state"));
        command.arg("--address").arg(path("containerd.sock"));
        let process = command
            .stdout(std::process::Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut daemon = Self { process, directory };
        let mut ended = false;
        smidge_tests::until("containerd's answer", || {
            ended = daemon.process.try_wait().unwrap().is_some();
            ended || daemon.ctr(context, "version").code() == 0
        });
        if ended {
            skip("containerd does not run here");
            return None;
        }
        Some(daemon)
    }

    /// `ctr` with the words of a line.
    fn ctr(&self, context: &Context, line: &str) -> Ran {
        let mut command = context.program("ctr");
        command
            .arg("--address")
            .arg(self.directory.join("containerd.sock"));
        command.args(line.split_whitespace());
        context.finish(command)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.status_in_time();
    }
}

#[test]
fn containerd_runs_containers() {
    if !have("containerd") || !have("ctr") {
        return;
    }
    let context = Context::new();
    let path = runtime(&context);
    if archive(&context).is_none() {
        return;
    }
    for directory in ["dev", "proc", "sys", "run"] {
        std::fs::create_dir_all(context.path().join("fs").join(directory)).unwrap();
    }
    let Some(daemon) = Containerd::start(&context) else {
        return;
    };
    let ctr = |line: &str| daemon.ctr(&context, line);
    let root = context.path().join("fs");
    let options = format!(
        "--rootfs --runc-binary {} {}",
        path.display(),
        root.display()
    );
    assert_eq!(
        ctr(&format!("run --rm {options} one /bin/echo hello")).ok(),
        "hello"
    );
    ctr(&format!("run --rm {options} two /bin/sh -c exit${{IFS}}5")).exits(5);
    let missing = ctr(&format!("run --rm {options} three /nosuch"));
    assert!(
        missing.stderr().contains("No such file"),
        "{}",
        missing.stderr()
    );
    ctr(&format!("run --detach {options} four /bin/sleep 1000")).ok();
    assert_eq!(
        ctr("task exec --exec-id a four /bin/echo inside").ok(),
        "inside"
    );
    ctr("task pause four").ok();
    assert!(ctr("task ls").ok().contains("PAUSED"));
    ctr("task resume four").ok();
    ctr("task kill --signal SIGKILL four").ok();
    smidge_tests::until("its end", || ctr("task ls").ok().contains("STOPPED"));
    ctr("task rm four").code();
    ctr("container rm four").ok();
}
