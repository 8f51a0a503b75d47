//! containerd's store, through its socket.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use smidge_tests::InTime as _;
use tempfile::TempDir;

use super::{Two, copy, is_tidy};
use crate::context::{Context, Ran, have, identities, skip};
use crate::craft;
use crate::registry::Registry;

/// A containerd with a directory of its own.
struct Containerd {
    process: Child,
    directory: TempDir,
}

impl Containerd {
    fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("containerd wants root");
            return None;
        }
        if !have("containerd") || !have("ctr") {
            return None;
        }
        let directory = tempfile::Builder::new()
            .prefix("smidge-containerd-")
            .tempdir()
            .unwrap();
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
        std::fs::write(path("config.toml"), config).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let mut process = Command::new("containerd")
            .args(["--config", &path("config.toml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        smidge_tests::until("containerd listens", || {
            let ended = process.try_wait().unwrap();
            let log = std::fs::read_to_string(path("log")).unwrap();
            assert_eq!(ended, None, "{log}");
            std::os::unix::net::UnixStream::connect(path("socket")).is_ok()
        });
        Some(Self { process, directory })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn try_copy(&self, context: &Context, namespace: &str, line: &str) -> Ran {
        let mut command = context.line_command(&format!("copy --progress=plain {line}"));
        command
            .env("CONTAINERD_ADDRESS", self.socket())
            .env("CONTAINERD_NAMESPACE", namespace);
        context.finish(command)
    }

    /// Copies with this containerd at hand; gives the digest.
    #[track_caller]
    fn copy(&self, context: &Context, line: &str) -> String {
        let copied = self.try_copy(context, "", line).ok();
        is_tidy(context);
        copied
    }

    /// What `ctr` says.
    #[track_caller]
    fn ctr(&self, line: &str) -> String {
        let output = Command::new("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(line.split(' '))
            .output_in_time()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ctr {line}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The digest of an image as `ctr` lists it.
    #[track_caller]
    fn digest(&self, name: &str) -> String {
        let listed = self.ctr("images ls");
        let line = listed
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("no {name} in {listed}"));
        line.split_whitespace().nth(2).unwrap().to_owned()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.status_in_time();
    }
}

#[test]
fn containerd_gets_and_gives_images_as_they_are() {
    let (Some(server), Some(registry)) = (Containerd::start(), Registry::plain()) else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.put(&registry, "x", "1");
    two.lay(&context, "two", Some("two"));
    let remote = format!("{}/x:1", registry.host());
    copy(&context, &format!("--all {remote} store:two"));
    copy(&context, &format!("--all {remote} oci-archive:two.tar"));
    let (index, image) = (&two.index.digest, &two.amd64.manifest.digest);
    for (number, place) in ["oci:two", "store:two", &remote, "oci-archive:two.tar"]
        .iter()
        .enumerate()
    {
        let name = format!("localhost/all{number}");
        let line = format!("--all {place} containerd:{name}:1");
        assert_eq!(server.copy(&context, &line), *index, "{place}");
        assert_eq!(server.digest(&format!("{name}:1")), *index, "{place}");
        let line = format!("{place} containerd:localhost/one{number}");
        assert_eq!(server.copy(&context, &line), *image, "{place}");
        assert_eq!(
            server.digest(&format!("localhost/one{number}:latest")),
            *image
        );
    }
    // Everything is there, and nothing keeps it but the names.
    let checked = server.ctr("images check");
    assert_eq!(checked.matches("complete (").count(), 8, "{checked}");
    assert_eq!(server.ctr("leases ls -q"), "");
    for place in [
        format!("{}/back", registry.host()),
        "oci:back:a".to_owned(),
        "oci-archive:back.tar".to_owned(),
        "store:back".to_owned(),
    ] {
        let line = format!("--all containerd:localhost/all0:1 {place}");
        assert_eq!(server.copy(&context, &line), *index, "{place}");
        let line = format!("--platform linux/arm64 containerd:localhost/all0:1 {place}");
        assert_eq!(server.copy(&context, &line), two.arm64.manifest.digest);
        let line = format!("containerd:localhost/all0:1 {place}");
        assert_eq!(server.copy(&context, &line), *image, "{place}");
    }
    assert_eq!(context.line("run --rm back").ok(), "hello crafted");
    let line = "containerd:localhost/all0:1 docker-archive:back-d.tar";
    assert_eq!(server.copy(&context, line), two.amd64.id());
}

#[test]
fn containerd_is_sent_what_it_lacks_and_keeps_it_while_it_is_named() {
    let Some(server) = Containerd::start() else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.lay(&context, "two", Some("two"));
    let first = server.try_copy(&context, "", "oci:two containerd:localhost/a");
    assert!(first.stderr().contains("Copied"), "{}", first.stderr());
    let again = server.try_copy(&context, "", "oci:two containerd:localhost/a");
    assert_eq!(again.ok(), two.amd64.manifest.digest);
    assert!(!again.stderr().contains("Copied"), "{}", again.stderr());
    // The other image's one layer, and no more.
    let all = server.try_copy(&context, "", "--all oci:two containerd:localhost/a");
    assert_eq!(all.ok(), two.index.digest);
    assert_eq!(
        all.stderr().matches("Copied").count(),
        1,
        "{}",
        all.stderr()
    );
    // containerd's collector finds what belongs to the name, and only that.
    server.copy(&context, "oci:two containerd:localhost/b");
    server.ctr("images rm --sync localhost/a:latest");
    let kept = server.ctr("content ls -q");
    for blob in two.amd64.blobs().chain([&two.amd64.manifest]) {
        assert!(kept.contains(&blob.digest), "{kept}");
    }
    assert!(!kept.contains(&two.arm64.manifest.digest), "{kept}");
    assert_eq!(kept.lines().count(), 4);
    server.ctr("images rm --sync localhost/b:latest");
    assert_eq!(server.ctr("content ls -q"), "");
}

#[test]
fn containerd_may_have_a_part_of_an_index() {
    let (Some(server), Some(registry)) = (Containerd::start(), Registry::plain()) else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.put(&registry, "x", "1");
    // As its own client leaves it.
    let name = format!("{}/x:1", registry.host());
    server.ctr(&format!("images pull --plain-http {name}"));
    let line = format!("containerd:{name} oci:one:a");
    assert_eq!(server.copy(&context, &line), two.amd64.manifest.digest);
    let line = format!("--all containerd:{name} store:part");
    assert_eq!(server.copy(&context, &line), two.index.digest);
    assert_eq!(context.line("run --rm part").ok(), "hello crafted");
    let copied = server.try_copy(
        &context,
        "",
        &format!("--platform linux/s390x containerd:{name} oci:none"),
    );
    copied.says(
        1,
        &[
            "there is no image for `linux/s390x`\n",
            "there is: linux/amd64, linux/arm64",
        ],
    );
    assert!(!context.path().join("none").exists());
}

#[test]
fn containerd_has_namespaces_and_tells_what_it_lacks() {
    let Some(server) = Containerd::start() else {
        return;
    };
    let (context, two) = (Context::new(), Two::new());
    two.lay(&context, "two", Some("two"));
    let copied = server.try_copy(&context, "k8s.io", "oci:two containerd:localhost/a");
    assert_eq!(copied.ok(), two.amd64.manifest.digest);
    let listed = server.ctr("-n k8s.io images ls -q");
    assert_eq!(listed, "localhost/a:latest\n");
    assert_eq!(server.ctr("images ls -q"), "");
    let back = "containerd:localhost/a oci:back:a";
    assert_eq!(
        server.try_copy(&context, "k8s.io", back).ok(),
        copied.stdout()
    );
    for identity in identities() {
        let context = Context::of(identity);
        let refused = server.try_copy(&context, "", back);
        match identity.ids {
            None => refused.says(
                1,
                &[
                    "error: cannot copy from `containerd:localhost/a:latest`: containerd has no such image\n",
                    "hint: see what there is: `ctr images ls`; another namespace is `CONTAINERD_NAMESPACE=k8s.io`",
                ],
            ),
            Some(_) => refused.says(
                1,
                &[
                    "error: cannot copy from `containerd:localhost/a:latest`: containerd's socket is not for this user\n",
                    "caused by: Permission denied",
                ],
            ),
        }
        is_tidy(&context);
    }
}

#[test]
fn containerd_takes_up_where_somebody_was_killed() {
    let Some(server) = Containerd::start() else {
        return;
    };
    let context = Context::new();
    let noise = craft::archive(&[("noise", 0o644, &craft::noise(3, 20_000_000))]);
    let image = craft::image(&craft::OCI, &[noise]);
    for blob in image.blobs().chain([&image.manifest]) {
        super::write_blob(&context, "big", blob);
    }
    super::write_index(&context, "big", &[image.manifest.descriptor()]);
    copy(&context, "oci:big store:big");
    // Once some of it is there, and before all of it is.
    let mut command = context.line_command("copy store:big containerd:localhost/big");
    command.env("CONTAINERD_ADDRESS", server.socket());
    let mut child = context.spawn(command);
    smidge_tests::until("it has begun", || {
        server.ctr("content active").lines().count() >= 2 || child.try_wait().unwrap().is_some()
    });
    child.kill().unwrap();
    child.status_in_time().unwrap();
    let digest = server.copy(&context, "store:big containerd:localhost/big");
    assert_eq!(digest, image.manifest.digest);
    assert_eq!(server.digest("localhost/big:latest"), digest);
    let back = server.copy(&context, "containerd:localhost/big oci:back:a");
    assert_eq!(back, digest);
}
