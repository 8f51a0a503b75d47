//! What a case fetches: its context's folder `served`, over HTTP or as git repositories, on this machine.

use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use smidge_tests::InTime as _;

use crate::base::BUSYBOX;

/// A server, which ends when it is dropped.
pub(crate) struct Server {
    process: Child,
    dir: PathBuf,
    /// For a build argument: `http://127.0.0.1:PORT`, say.
    pub(crate) url: String,
}

impl Server {
    /// Serves what is in `context/served`, which it takes out of the context, with `http` or `git`.
    pub(crate) fn start(protocol: &str, context: &Path) -> Self {
        let dir = context.with_extension("served");
        std::fs::rename(context.join("served"), &dir).unwrap();
        let port = smidge_tests::free_ports(1);
        let mut command = match protocol {
            "http" => {
                let mut command = Command::new(BUSYBOX);
                command.args(["httpd", "-f", "-p", &format!("127.0.0.1:{port}")]);
                command.arg("-h").arg(&dir);
                command
            }
            "git" => {
                repositories(&dir);
                let mut command = Command::new("git");
                command.args(["daemon", "--export-all", "--listen=127.0.0.1"]);
                command.arg(format!("--port={port}"));
                command.arg(format!("--base-path={}", dir.display()));
                command
            }
            other => panic!("`{other}`: nothing is served so"),
        };
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.process_group(0).spawn().unwrap();
        smidge_tests::until(&format!("{protocol}: a server"), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let url = format!("{protocol}://127.0.0.1:{port}");
        Self { process, dir, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // All of them: `git` leads its daemon.
        let group = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
        let _ = self.process.status_in_time();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Makes a repository of every folder, with one commit and a tag `v1`.
fn repositories(dir: &Path) {
    for folder in std::fs::read_dir(dir).unwrap() {
        let folder = folder.unwrap().path();
        for line in ["init -q -b main", "add .", "commit -q -m first", "tag v1"] {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=Test", "-c", "user.email=test@example.com"]);
            git.args(line.split(' ')).current_dir(&folder);
            git.env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_SYSTEM", "/dev/null");
            let time = "2020-01-01T00:00:00Z";
            git.env("GIT_AUTHOR_DATE", time)
                .env("GIT_COMMITTER_DATE", time);
            assert!(git.status_in_time().unwrap().success(), "git {line}");
        }
    }
}
