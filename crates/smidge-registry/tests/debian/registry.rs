//! A registry of one test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use smidge_registry::{Client, Settings, Sources};
use smidge_tests::InTime as _;
use tempfile::TempDir;

use crate::authority::{self, Made};

/// `htpasswd -nbB -C 4 me 'pass word'`
const HTPASSWD: &str = "me:$2y$04$fv9VGD84ebjLA7ydPDt2qeaRAEbbRDP.MkPkPdhUW7.6NAsfTVWjK\n";
const PROGRAM: &str = "/usr/bin/docker-registry";

/// What is special about it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    /// TLS, by an authority made for the test.
    pub(crate) tls: bool,
    /// Client certificates are wanted.
    pub(crate) mutual: bool,
    /// User `me`, password `pass word`.
    pub(crate) password: bool,
    /// What kind of certificate it has.
    pub(crate) made: Made,
}

/// A running registry, and the directory that it and its clients have their files in.
pub(crate) struct Registry {
    child: Child,
    pub(crate) host: String,
    directory: TempDir,
}

impl Registry {
    /// Starts one; `None`, with a word, where there is none.
    pub(crate) fn start(options: &Options) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            println!("skipped: {PROGRAM} is missing (Debian package docker-registry)");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.yml");
        if options.tls && !authority::make(directory.path(), options.made) {
            println!("skipped: openssl is missing");
            return None;
        }
        if options.password {
            std::fs::write(directory.path().join("htpasswd"), HTPASSWD).unwrap();
        }
        std::fs::write(&config, configuration(directory.path(), options)).unwrap();
        let mut child = Command::new(PROGRAM)
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let port = port(&mut log);
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Some(Self {
            child,
            host: format!("localhost:{port}"),
            directory,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where clients of this registry find their files: nowhere but here.
    pub(crate) fn sources(&self) -> Sources {
        let logins = self.path("auth.json");
        Sources {
            auth_files: vec![logins.clone()],
            login_file: Some(logins),
            ..Sources::default()
        }
    }

    /// The same, with lines about this registry.
    pub(crate) fn sources_with(&self, lines: &str) -> Sources {
        let settings = self.path("registries.toml");
        std::fs::write(&settings, format!("[registry.{:?}]\n{lines}", self.host)).unwrap();
        Sources {
            registries_toml: vec![settings],
            ..self.sources()
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(Settings::load(self.sources()).unwrap())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.status_in_time();
    }
}

fn configuration(directory: &Path, options: &Options) -> String {
    let path = |name: &str| directory.join(name).display().to_string();
    let mut text = format!(
        "version: 0.1\nlog: {{level: info}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n",
        path("data")
    );
    if options.password {
        text += &format!(
            "auth: {{htpasswd: {{realm: r, path: {}}}}}\n",
            path("htpasswd")
        );
    }
    text += "http:\n  addr: 127.0.0.1:0\n  secret: s\n";
    if options.tls {
        text += &format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            path("server.pem"),
            path("server.key")
        );
    }
    if options.mutual {
        text += &format!("    clientcas: [{}]\n", path("ca.pem"));
    }
    text
}

/// The log tells the port.
fn port(log: &mut impl BufRead) -> u16 {
    let mut said = String::new();
    loop {
        let mut line = String::new();
        if log.read_line(&mut line).unwrap() == 0 {
            panic!("docker-registry does not start: {said}");
        }
        if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            return digits.parse().unwrap();
        }
        said.push_str(&line);
    }
}
