//! Docker's own store, and Podman's, through their sockets.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use smidge_tests::InTime as _;
use tempfile::TempDir;

use super::{Two, copy, for_arm, is_tidy, write_blob, write_index};
use crate::context::{Context, have, identities, skip};
use crate::craft::{self, Blob, Crafted, OCI};
use crate::proxy::Proxy;
use crate::registry::Registry;

/// A daemon with a directory of its own.
struct Daemon {
    process: Child,
    directory: TempDir,
}

impl Daemon {
    /// Debian's dockerd; `None`, having said so, where it does not come up.
    fn docker() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("dockerd wants root");
            return None;
        }
        if !have("dockerd") || !have("docker") {
            return None;
        }
        let script = "exec dockerd --data-root $0/data --exec-root $0/exec --pidfile $0/pid \
                      -H unix://$0/socket --bridge=none --iptables=false --storage-driver=vfs";
        Self::start(script)
    }

    /// Podman's service.
    fn podman() -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !have("podman") {
            skip("podman would need the user's own storage");
            return None;
        }
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec podman --root $0/root \
                      --runroot $0/run --storage-driver=vfs --cgroup-manager=cgroupfs system \
                      service -t 0 unix://$0/socket";
        Self::start(script)
    }

    fn start(script: &str) -> Option<Self> {
        let directory = tempfile::Builder::new()
            .prefix("smidge-daemon-")
            .tempdir()
            .unwrap();
        let log = directory.path().join("log");
        let process = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut daemon = Self { process, directory };
        let started = Instant::now();
        while !daemon.answers() {
            let ended = daemon.process.try_wait().unwrap();
            if ended.is_some() || started.elapsed() > Duration::from_secs(120) {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                skip(&format!("the daemon does not come up: {last}"));
                return None;
            }
            std::thread::yield_now();
        }
        Some(daemon)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn answers(&self) -> bool {
        use std::io::{Read as _, Write as _};
        let Ok(mut stream) = std::os::unix::net::UnixStream::connect(self.socket()) else {
            return false;
        };
        let patience = Some(Duration::from_secs(10));
        stream.set_read_timeout(patience).unwrap();
        let mut answer = String::new();
        stream
            .write_all(b"GET /_ping HTTP/1.0\r\nHost: x\r\n\r\n")
            .is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.contains(" 200 ")
    }

    /// Copies with this daemon at hand; gives digest and notes.
    #[track_caller]
    fn copy(&self, context: &Context, line: &str) -> (String, String) {
        let mut command = context.line_command(&format!("copy -q {line}"));
        command.env("DOCKER_HOST", self.address());
        let copied = context.finish(command);
        let digest = copied.ok();
        is_tidy(context);
        (digest, copied.stderr())
    }

    /// What `docker` says.
    #[track_caller]
    fn docker_says(&self, context: &Context, args: &[&str]) -> String {
        let mut docker = context.program("docker");
        docker.env("DOCKER_HOST", self.address()).args(args);
        context.finish(docker).ok()
    }

    /// An image's id and layers as the daemon has them.
    fn image(&self, context: &Context, name: &str) -> String {
        let template = "{{.Id}}{{range .RootFS.Layers}} {{.}}{{end}}";
        self.docker_says(context, &["inspect", "-f", template, name])
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It puts its own children away when it is asked to end.
        let id = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _ = self.process.status_in_time();
    }
}

/// What an image looks like to `docker inspect`.
fn expected(image: &Crafted) -> String {
    let config: serde_json::Value = serde_json::from_slice(&image.config.bytes).unwrap();
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap().iter();
    diff_ids.fold(image.id().to_owned(), |text, id| {
        text + " " + id.as_str().unwrap()
    })
}

fn lay(context: &Context, directory: &str, image: &Crafted) {
    for blob in image.blobs().chain([&image.manifest]) {
        write_blob(context, directory, blob);
    }
    write_index(context, directory, &[image.manifest.descriptor()]);
}

#[test]
fn docker_gets_and_gives_images_and_only_what_it_lacks() {
    let (Some(daemon), Some(registry)) = (Daemon::docker(), Registry::plain()) else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.lay(&context, "two", Some("two"));
    two.put(&registry, "x", "1");
    let proxy = Proxy::before(&registry);
    let remote = format!("{}/x:1", proxy.host());
    let nothing = "note: Docker has the image: nothing was sent";

    let sent = daemon.copy(&context, "oci:two docker-daemon:two:1");
    assert_eq!(sent, (two.amd64.id().to_owned(), String::new()));
    assert_eq!(daemon.image(&context, "two:1"), expected(&two.amd64));
    // The same under other names, wherever it comes from.
    let sent = daemon.copy(&context, "oci:two docker:other/name:2");
    assert_eq!(sent, (two.amd64.id().to_owned(), nothing.to_owned()));
    assert_eq!(daemon.image(&context, "other/name:2"), expected(&two.amd64));
    let sent = daemon.copy(&context, &format!("{remote} docker-daemon:from-registry"));
    assert_eq!(sent.1, nothing);
    assert_eq!(proxy.requests("GET", "/blobs/").len(), 0);
    assert_eq!(
        daemon.image(&context, "from-registry"),
        expected(&two.amd64)
    );
    // The other one shares its lowest layer.
    let sent = daemon.copy(
        &context,
        "--platform linux/arm64 oci:two docker-daemon:two:arm",
    );
    let note = "note: sent 1 of 2 layers: Docker has the rest".to_owned();
    assert_eq!(sent, (two.arm64.id().to_owned(), note));
    assert_eq!(daemon.image(&context, "two:arm"), expected(&two.arm64));
    let all = daemon.copy(&context, "--all oci:two docker-daemon:two:all");
    assert!(
        all.1.contains(
            "note: Docker keeps images for one platform: the one for `linux/amd64` was copied alone"
        ),
        "{}",
        all.1
    );

    daemon.copy(&context, "docker-daemon:two:1 store:back");
    assert_eq!(context.line("run --rm back").ok(), "hello crafted");
    let id = context.smidge(["inspect", "-f", "{{.Id}}", "back"]).ok();
    assert_eq!(id, two.amd64.id());
    for place in [
        format!("{}/back", registry.host()),
        "oci:back:a".to_owned(),
        "oci-archive:back.tar".to_owned(),
    ] {
        let there = daemon
            .copy(&context, &format!("docker-daemon:two:1 {place}"))
            .0;
        let here = copy(&context, &format!("{place} store:again"));
        assert_eq!(there, here);
        let id = context.smidge(["inspect", "-f", "{{.Id}}", "again"]).ok();
        assert_eq!(id, two.amd64.id(), "{place}");
    }
    let id = daemon
        .copy(&context, "docker-daemon:two:1 docker-archive:back-d.tar")
        .0;
    assert_eq!(id, two.amd64.id());
}

#[test]
fn docker_understands_every_kind_of_layer() {
    let Some(daemon) = Daemon::docker() else {
        return;
    };
    let context = Context::new();
    let archives: Vec<_> = (0..3)
        .map(|seed| craft::archive(&[("noise", 0o644, &craft::noise(seed, 70_000))]))
        .collect();
    // The same layer at the bottom and on top: it must come with the archive even if Docker has it.
    let archives = [&archives[0], &archives[1], &archives[2], &archives[0]].map(Clone::clone);
    let packed = |at: usize| match at {
        0 => Blob::new(craft::TAR, archives[0].clone()),
        1 => Blob::new(craft::ZSTD, zstd::encode_all(&*archives[1], 1).unwrap()),
        2 => Blob::new(OCI.gzip, craft::gzip(&archives[2])),
        _ => Blob::new(craft::TAR, archives[0].clone()),
    };
    let base = craft::assemble(&OCI, &archives[..1], vec![packed(0)]);
    let image = craft::assemble(&OCI, &archives, (0..4).map(packed).collect());
    lay(&context, "base", &base);
    lay(&context, "image", &image);
    daemon.copy(&context, "oci:base docker-daemon:base");
    let sent = daemon.copy(&context, "oci:image docker-daemon:image");
    let note = "note: sent 3 of 4 layers: Docker has the rest".to_owned();
    assert_eq!(sent, (image.id().to_owned(), note));
    assert_eq!(daemon.image(&context, "image"), expected(&image));
    // Docker reads all of it back.
    daemon.copy(&context, "docker-daemon:image store:back");
    let id = context.smidge(["inspect", "-f", "{{.Id}}", "back"]).ok();
    assert_eq!(id, image.id());
    // What it does not take, it says why.
    let mut config: serde_json::Value = serde_json::from_slice(&image.config.bytes).unwrap();
    config["os"] = "windows".into();
    let foreign = Blob::document(OCI.config, &config);
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    manifest["config"] = foreign.descriptor();
    let foreign = Crafted {
        manifest: Blob::document(OCI.manifest, &manifest),
        config: foreign,
        layers: image.layers.clone(),
    };
    lay(&context, "foreign", &foreign);
    let mut command = context.line_command("copy oci:foreign docker-daemon:foreign");
    command.env("DOCKER_HOST", daemon.address());
    context.finish(command).says(
        1,
        &[
            "error: cannot copy to `docker-daemon:foreign:latest`: Docker refused it\n",
            "caused by: POST /images/load",
            "windows",
        ],
    );
    is_tidy(&context);
}

#[test]
fn docker_tells_what_it_lacks_and_who_may_not_ask() {
    let Some(daemon) = Daemon::docker() else {
        return;
    };
    for identity in identities() {
        let context = Context::of(identity);
        let mut command = context.line_command("copy docker-daemon:nope oci:x");
        command.env("DOCKER_HOST", daemon.address());
        let refused = context.finish(command);
        match identity.ids {
            None => refused.says(
                1,
                &[
                    "error: cannot copy from `docker-daemon:nope:latest`: Docker has no such image\n",
                    "caused by: GET /images/nope:latest/get at unix:///",
                    "hint: see what there is: `docker images`",
                ],
            ),
            Some(_) => refused.says(
                1,
                &[
                    "error: cannot copy from `docker-daemon:nope:latest`: Docker's socket is not for this user\n",
                    "caused by: Permission denied",
                    "the group `docker`",
                ],
            ),
        }
        assert!(!context.path().join("x").exists());
        is_tidy(&context);
    }
}

#[test]
fn podman_speaks_the_same_language() {
    let Some(daemon) = Daemon::podman() else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.lay(&context, "two", Some("two"));
    let arm = for_arm(&OCI, &two.amd64);
    lay(&context, "arm", &arm);
    let note = "note: sent all layers: Podman takes no less";
    let sent = daemon.copy(&context, "oci:two docker-daemon:two:1");
    assert_eq!(sent, (two.amd64.id().to_owned(), note.to_owned()));
    // Though it has every layer of this.
    let sent = daemon.copy(&context, "oci:arm docker-daemon:localhost/arm");
    assert_eq!(sent, (arm.id().to_owned(), note.to_owned()));
    daemon.copy(&context, "docker-daemon:two:1 store:back");
    let id = context.smidge(["inspect", "-f", "{{.Id}}", "back"]).ok();
    assert_eq!(id, two.amd64.id());
}
