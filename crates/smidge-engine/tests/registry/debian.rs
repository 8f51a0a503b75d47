//! Debian's docker-registry (Docker distribution 2.8), one for each test.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use smidge_image::Digest;
use smidge_tests::InTime as _;

const PROGRAM: &str = "/usr/bin/docker-registry";

/// `htpasswd -nbB -C 4 me 'pass word'`
const HTPASSWD: &str = "me:$2y$04$fv9VGD84ebjLA7ydPDt2qeaRAEbbRDP.MkPkPdhUW7.6NAsfTVWjK\n";

/// A running registry.
pub(crate) struct Registry {
    child: Child,
    /// `localhost:PORT`.
    pub(crate) host: String,
    dir: tempfile::TempDir,
}

impl Registry {
    /// Starts one; `None`, with a word, where there is none.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// As [`Registry::start`]: user `me`, password `pass word`.
    pub(crate) fn with_password() -> Option<Self> {
        Self::start_with("auth: {htpasswd: {realm: r, path: htpasswd}}\n")
    }

    fn start_with(settings: &str) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            println!("skipped: {PROGRAM} is missing (Debian package docker-registry)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: data}}}}\n\
             http: {{addr: \"127.0.0.1:0\", secret: s}}\n{settings}"
        );
        std::fs::write(dir.path().join("config.yml"), text).unwrap();
        std::fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["serve", "config.yml"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(File::create(dir.path().join("requests")).unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let port = port(&mut log);
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Some(Self {
            child,
            host: format!("localhost:{port}"),
            dir,
        })
    }

    /// A name in this registry.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// What was asked so far: `HEAD /v2/app/manifests/1 200`.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.dir.path().join("requests")).unwrap();
        log.lines().map(request).collect()
    }

    /// What was asked while something was done.
    pub(crate) fn requests_of(&self, act: impl FnOnce()) -> Vec<String> {
        let before = self.requests().len();
        act();
        self.requests().split_off(before)
    }

    /// The file that holds a blob.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let blobs = "data/docker/registry/v2/blobs/sha256";
        let directory = self.dir.path().join(blobs);
        directory.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.status_in_time();
    }
}

/// Method, path and status of a line of the log, which is Apache's.
fn request(line: &str) -> String {
    let mut quoted = line.split('"');
    let request = quoted.nth(1).unwrap_or_default();
    let status = quoted.next().unwrap_or_default();
    let status = status.split_whitespace().next().unwrap_or_default();
    let path = request.trim_end_matches(" HTTP/1.1");
    let path = path.split('?').next().unwrap_or(path);
    format!("{path} {status}")
}

/// The log tells the port.
fn port(log: &mut impl BufRead) -> u16 {
    let mut said = String::new();
    loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "no start: {said}");
        if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            return digits.parse().unwrap();
        }
        said.push_str(&line);
    }
}
