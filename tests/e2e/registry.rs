//! Debian's docker-registry, started by a test and ended with it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use smidge_tests::InTime as _;
use tempfile::TempDir;

use crate::certificate::Authority;
use crate::context::have;
use crate::craft::{Blob, Crafted};
use crate::wire::Message;

/// Who may log in where a password is needed.
pub(crate) const USER: &str = "someone";
/// The password: what must never be seen in any output.
pub(crate) const PASSWORD: &str = "s3cret-p4ssword";

/// What kind of registry to start.
#[derive(Default)]
pub(crate) struct Kind<'k> {
    /// Whether a user name and a password are needed.
    pub(crate) password: bool,
    /// Whether it speaks TLS, with a certificate by whom.
    pub(crate) tls: Option<&'k Authority>,
    /// Whether clients need a certificate by the same authority.
    pub(crate) client_certificates: bool,
    /// Where tokens are to be had, and the certificate that they are signed with.
    pub(crate) tokens: Option<(String, PathBuf)>,
}

/// A registry that runs.
pub(crate) struct Registry {
    process: Child,
    dir: TempDir,
    address: SocketAddr,
    authorization: Option<String>,
}

impl Registry {
    /// One that anybody may read and write, over HTTP; `None`, having said so, where Debian's package
    /// is missing.
    pub(crate) fn plain() -> Option<Self> {
        Self::start(&Kind::default())
    }

    /// One that wants a user name and a password.
    pub(crate) fn with_password() -> Option<Self> {
        Self::start(&Kind {
            password: true,
            ..Kind::default()
        })
    }

    pub(crate) fn start(kind: &Kind<'_>) -> Option<Self> {
        if !have("docker-registry") || kind.password && !have("htpasswd") {
            return None;
        }
        let dir = tempfile::Builder::new()
            .prefix("smidge-registry-")
            .tempdir()
            .unwrap();
        let config = configuration(kind, dir.path());
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let address = listening(&mut process);
        Some(Self {
            process,
            dir,
            address,
            authorization: kind.password.then(authorization),
        })
    }

    /// The same, which the test itself talks to with another authorization.
    pub(crate) fn authorized(mut self, authorization: String) -> Self {
        self.authorization = Some(authorization);
        self
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to write before a repository's name.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// Where it keeps a blob's bytes.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.dir.path().join("data/docker/registry/v2/blobs/sha256")
    }

    /// Asks it for something, logged in if it wants that.
    pub(crate) fn ask(&self, mut request: Message) -> Message {
        if let Some(authorization) = &self.authorization {
            request.set("authorization", Some(authorization.clone()));
        }
        request.ask(self.address).unwrap()
    }

    /// What it has for a path.
    pub(crate) fn get(&self, path: &str) -> Message {
        let accept = "application/vnd.oci.image.index.v1+json, \
             application/vnd.oci.image.manifest.v1+json, \
             application/vnd.docker.distribution.manifest.list.v2+json, \
             application/vnd.docker.distribution.manifest.v2+json";
        self.ask(Message::new(&format!("GET {path} HTTP/1.1"), "").with("Accept", accept))
    }

    /// The manifest or index of a name, and the digest that the registry gives it.
    #[track_caller]
    pub(crate) fn manifest(&self, repository: &str, reference: &str) -> (Message, String) {
        let answer = self.get(&format!("/v2/{repository}/manifests/{reference}"));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let digest = answer.header("docker-content-digest").unwrap().to_owned();
        (answer, digest)
    }

    /// Stores a blob, without smidge's help.
    pub(crate) fn put_blob(&self, repository: &str, blob: &Blob) {
        let start = format!("POST /v2/{repository}/blobs/uploads/ HTTP/1.1");
        let started = self.ask(Message::new(&start, ""));
        assert_eq!(started.status(), 202, "{}", started.text());
        let location = started.header("location").unwrap();
        let path = &location[location.find("/v2/").unwrap()..];
        let put = format!("PUT {path}&digest={} HTTP/1.1", blob.digest);
        let stored = self.ask(Message::new(&put, blob.bytes.clone()));
        assert_eq!(stored.status(), 201, "{}", stored.text());
    }

    /// Stores a document under a name, without smidge's help; gives its digest.
    #[track_caller]
    pub(crate) fn put_manifest(&self, repository: &str, reference: &str, blob: &Blob) -> String {
        let put = format!("PUT /v2/{repository}/manifests/{reference} HTTP/1.1");
        let request = Message::new(&put, blob.bytes.clone()).with("Content-Type", blob.media_type);
        let stored = self.ask(request);
        assert_eq!(stored.status(), 201, "{}", stored.text());
        blob.digest.clone()
    }

    /// Stores an image under a name, without smidge's help; gives its digest.
    #[track_caller]
    pub(crate) fn put(&self, repository: &str, reference: &str, image: &Crafted) -> String {
        for blob in image.blobs() {
            self.put_blob(repository, blob);
        }
        self.put_manifest(repository, reference, &image.manifest)
    }

    /// Lays an image into the registry's storage as `latest`, past all checks and logins.
    pub(crate) fn place(&self, repository: &str, image: &Crafted) {
        let root = self.dir.path().join("data/docker/registry/v2");
        let write = |path: String, content: &[u8]| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        for blob in image.blobs().chain([&image.manifest]) {
            let hex = &blob.digest["sha256:".len()..];
            let data = format!("blobs/sha256/{}/{hex}/data", &hex[..2]);
            write(data, &blob.bytes);
            let link = format!("repositories/{repository}/_layers/sha256/{hex}/link");
            write(link, blob.digest.as_bytes());
        }
        let digest = &image.manifest.digest;
        let hex = &digest["sha256:".len()..];
        for link in [
            format!("revisions/sha256/{hex}"),
            "tags/latest/current".to_owned(),
            format!("tags/latest/index/sha256/{hex}"),
        ] {
            let link = format!("repositories/{repository}/_manifests/{link}/link");
            write(link, digest.as_bytes());
        }
    }
}

/// The header that logs in.
pub(crate) fn authorization() -> String {
    use base64::Engine as _;
    let pair = format!("{USER}:{PASSWORD}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

fn configuration(kind: &Kind<'_>, dir: &Path) -> String {
    let shown = dir.display();
    let mut text = format!(
        "version: 0.1\nlog:\n  accesslog:\n    disabled: true\nstorage:\n  delete:\n    enabled: true\n  \
         filesystem:\n    rootdirectory: {shown}/data\nvalidation:\n  disabled: true\n"
    );
    if kind.password {
        let made = Command::new("htpasswd")
            .args(["-Bbn", "-C", "4", USER, PASSWORD])
            .output_in_time()
            .unwrap();
        std::fs::write(dir.join("htpasswd"), made.stdout).unwrap();
        text += &format!("auth:\n  htpasswd:\n    realm: here\n    path: {shown}/htpasswd\n");
    }
    if let Some((realm, certificate)) = &kind.tokens {
        let certificate = certificate.display();
        text += &format!(
            "auth:\n  token:\n    realm: {realm}\n    service: registry\n    issuer: issuer\n    \
             rootcertbundle: {certificate}\n"
        );
    }
    text += "http:\n  addr: 127.0.0.1:0\n  secret: none\n";
    if let Some(authority) = kind.tls {
        let (certificate, key) = authority.issue(dir, "server");
        let (certificate, key) = (certificate.display(), key.display());
        text += &format!("  tls:\n    certificate: {certificate}\n    key: {key}\n");
        if kind.client_certificates {
            let ca = authority.certificate();
            let ca = ca.display();
            text += &format!("    clientcas:\n      - {ca}\n");
        }
    }
    text
}

/// Reads the registry's log until it tells where it listens, and leaves a thread to read the rest.
fn listening(process: &mut Child) -> SocketAddr {
    let log = BufReader::new(process.stderr.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut all = String::new();
        for line in log.lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("listening on ") {
                let address = rest.split(['"', ',', ' ']).next().unwrap_or_default();
                let _ = sender.send(address.parse().map_err(|_| line.clone()));
            }
            all.push_str(&line);
        }
        let _ = sender.send(Err(all));
    });
    receiver
        .recv_timeout(Duration::from_secs(60))
        .expect("the registry says where it listens")
        .unwrap_or_else(|log: String| panic!("the registry did not start: {log}"))
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.status_in_time();
    }
}

/// Lets every user read a file.
pub(crate) fn publish(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
}
