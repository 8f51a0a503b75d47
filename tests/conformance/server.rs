//! The registries that are asked: smidge's, and Debian's as the measure of the cases themselves.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use smidge_tests::InTime as _;
use tempfile::TempDir;

/// A registry with a store of its own. Dropping it ends it.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    store: PathBuf,
    child: Child,
    repositories: AtomicU64,
    _dir: Option<TempDir>,
}

/// Whose registry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Smidge,
    Debian,
}

/// The environment is read in this one place.
#[expect(
    clippy::disallowed_methods,
    reason = "a test binary has no main to hand it down"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The binary under test: `$SMIDGE_BIN`, else the one built beside this test.
fn smidge_binary() -> PathBuf {
    let beside = || {
        let this = std::env::current_exe().unwrap();
        this.parent().and_then(Path::parent).unwrap().join("smidge")
    };
    let binary = variable("SMIDGE_BIN").map_or_else(beside, PathBuf::from);
    assert!(
        binary.is_file(),
        "`{}` is not there: `cargo xtask test` builds it",
        binary.display()
    );
    binary
}

fn debian_binary() -> Option<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join("docker-registry"));
    places.find(|place| place.is_file())
}

impl Server {
    /// `smidge registry serve` over a new store.
    pub(crate) fn smidge(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self::smidge_over(&dir.path().join("store"), options);
        server._dir = Some(dir);
        server
    }

    /// `smidge registry serve` over a store that stays.
    pub(crate) fn smidge_over(store: &Path, options: &[&str]) -> Self {
        let mut child = Command::new(smidge_binary())
            .arg("--root")
            .arg(store)
            .args(["registry", "serve", "127.0.0.1:0"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit_once("http://");
        let (_, address) = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        Self {
            kind: Kind::Smidge,
            address: address.parse().unwrap(),
            store: store.to_owned(),
            child,
            repositories: AtomicU64::new(0),
            _dir: None,
        }
    }

    /// Debian's, if it is installed.
    pub(crate) fn debian() -> Option<Self> {
        let binary = debian_binary()?;
        let dir = tempfile::tempdir().unwrap();
        let (config, store) = (dir.path().join("config.yml"), dir.path().join("store"));
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
             http:\n  addr: 127.0.0.1:0\nlog:\n  level: info\n",
            store.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(binary)
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("docker-registry listens").unwrap();
            if let Some((_, rest)) = line.split_once("listening on ") {
                let end = rest.find(['"', ' ']).unwrap_or(rest.len());
                break rest[..end].parse().unwrap();
            }
        };
        // It logs every request: somebody has to read that.
        std::thread::spawn(move || lines.count());
        Some(Self {
            kind: Kind::Debian,
            address,
            store,
            child,
            repositories: AtomicU64::new(0),
            _dir: Some(dir),
        })
    }

    /// A repository that no other case uses.
    pub(crate) fn repository(&self) -> String {
        let number = self.repositories.fetch_add(1, Ordering::Relaxed);
        format!("case/number-{number}")
    }

    /// The directory that it keeps everything in.
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// The most memory that its process ever had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let mut text = String::new();
        let path = format!("/proc/{}/status", self.child.id());
        let mut file = std::fs::File::open(path).unwrap();
        file.read_to_string(&mut text).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmHWM:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().nth(1));
        kibibytes.unwrap().parse::<u64>().unwrap() << 10
    }

    /// Asks it to end.
    pub(crate) fn interrupt(&self) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.status_in_time().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.status_in_time();
    }
}
