//! containerd's store, against a real containerd.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of this is tests: they fail by panicking, and say why they skip"
)]

use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use smidge_image::{Descriptor, Digest, Manifest, media_type};
use smidge_registry::{Containerd, Error};
use smidge_tests::InTime as _;

/// A containerd with a directory of its own.
struct Server {
    process: Child,
    directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: containerd wants root");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            path("root"),
            path("state"),
            path("socket"),
            path("ttrpc"),
        );
        fs::write(path("config.toml"), config).unwrap();
        let started = Command::new("containerd")
            .args(["--config", &path("config.toml")])
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn();
        let Ok(process) = started else {
            println!("skipped: containerd is not installed");
            return None;
        };
        let mut server = Self { process, directory };
        smidge_tests::until("containerd listens", || {
            let ended = server.process.try_wait().unwrap();
            let log = fs::read_to_string(server.path("log")).unwrap();
            assert_eq!(ended, None, "{log}");
            server.connect().is_ok()
        });
        Some(server)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn connect(&self) -> Result<Containerd, Error> {
        Containerd::at(&self.path("socket"), "default")
    }

    fn ctr(&self, args: &[&str]) -> String {
        let output = Command::new("ctr")
            .arg("--address")
            .arg(self.path("socket"))
            .args(args)
            .output_in_time()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ctr {args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.status_in_time();
    }
}

#[test]
fn what_is_written_is_named_and_read_back() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut containerd = server.connect().unwrap();
    containerd.hold("2999-01-01T00:00:00Z").unwrap();
    let layer: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let config =
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let layer_blob = Descriptor::of(media_type::LAYER, &layer);
    let config_blob = Descriptor::of(media_type::CONFIG, config);
    let manifest = Manifest::new(config_blob.clone(), vec![layer_blob.clone()]).to_bytes();
    let manifest_blob = Descriptor::of(media_type::MANIFEST, &manifest);
    let name = "registry.example/a/b:1".parse().unwrap();
    let write = |blob: &Descriptor, refers: &[&Descriptor], bytes: &[u8]| {
        containerd.write(blob, refers, &mut { bytes }, &|_| {})
    };

    assert!(!containerd.has(&layer_blob.digest).unwrap());
    assert!(matches!(
        containerd.image(&name),
        Err(Error::NotFound { .. })
    ));
    write(&layer_blob, &[], &layer).unwrap();
    write(&layer_blob, &[], &layer).unwrap();
    write(&config_blob, &[], config).unwrap();
    for _ in 0..2 {
        write(&manifest_blob, &[&config_blob, &layer_blob], &manifest).unwrap();
        containerd.name(&name, &manifest_blob).unwrap();
    }
    assert_eq!(containerd.image(&name).unwrap(), manifest_blob);

    let mut back = Vec::new();
    containerd
        .blob(&layer_blob.digest, 0)
        .unwrap()
        .read_to_end(&mut back)
        .unwrap();
    assert_eq!(Digest::of(&back), layer_blob.digest);
    drop(containerd);
    let names = server.ctr(&["images", "ls", "-q"]);
    assert!(names.contains("registry.example/a/b:1"), "{names}");
    let kept = server.ctr(&["content", "ls", "-q"]);
    for blob in [&layer_blob, &config_blob, &manifest_blob] {
        assert!(kept.contains(&blob.digest.to_string()), "{kept}");
    }
}

#[test]
fn bytes_that_are_not_those_described_are_refused() {
    let Some(server) = Server::start() else {
        return;
    };
    let containerd = server.connect().unwrap();
    let blob = Descriptor::of(media_type::LAYER, b"right");
    let wrong = containerd.write(&blob, &[], &mut &b"wrong"[..], &|_| {});
    assert!(matches!(wrong, Err(Error::Refused { .. })), "{wrong:?}");
    assert!(!containerd.has(&blob.digest).unwrap());
}
