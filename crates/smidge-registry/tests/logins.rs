//! Logins that Docker, Podman and skopeo keep are read, and those that we keep they read.
//! Skipped, with a word, where the registry or a tool is missing.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of this is tests: they fail by panicking, and say why they skip"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use smidge_registry::{Credentials, Secret, Settings, Sources, Stored};
use smidge_tests::InTime as _;

const USER: &str = "me";
const PASSWORD: &str = "open sesame";
/// What the registry has of the password.
const BCRYPT: &str = "$2b$04$gPNBJWA.P3KeZ9ix0EX7qO0QZWkN/P4GfhZu.9t/.IIFw3mamQRAO";

/// A registry that wants a password, and a home directory.
struct Registry {
    process: Child,
    host: String,
    home: tempfile::TempDir,
}

impl Registry {
    fn start() -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name).display().to_string();
        fs::write(at("htpasswd"), format!("{USER}:{BCRYPT}\n")).unwrap();
        fs::create_dir(at("empty")).unwrap();
        fs::write(
            at("config.yml"),
            format!(
                "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
                 storage: {{filesystem: {{rootdirectory: '{}'}}}}\n\
                 auth: {{htpasswd: {{realm: test, path: '{}'}}}}\n",
                at("storage"),
                at("htpasswd"),
            ),
        )
        .unwrap();
        let started = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut process) = started else {
            println!("skipped: docker-registry is not installed");
            return None;
        };
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let host = log.find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split('"').next()?.to_owned())
        });
        // Nobody waits at a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        let host = host.expect("the registry ended");
        Some(Self {
            process,
            host,
            home,
        })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Settings whose one auth file is this one.
    fn settings(&self, file: &str) -> Settings {
        Settings::load(Sources {
            auth_files: vec![self.at(file)],
            login_file: Some(self.at(file)),
            env: BTreeMap::from([("HOME".to_owned(), self.home.path().display().to_string())]),
            ..Sources::default()
        })
        .unwrap()
    }

    fn check_found(&self, file: &str) {
        let found = self.settings(file).credentials(&self.host, "a/b").unwrap();
        let found = found.unwrap_or_else(|| panic!("{file}: no login"));
        assert_eq!(found.credentials, login());
        assert_eq!(found.origin, format!("user `me` from `~/{file}`"));
    }

    /// Runs a tool with the password on its standard input; `None` if it is not installed.
    fn run(&self, words: &[&str]) -> Option<Output> {
        let words: Vec<String> = words
            .iter()
            .map(|w| w.replace("HOME", &self.home.path().display().to_string()))
            .map(|w| w.replace("HOST", &self.host))
            .collect();
        let (program, arguments) = words.split_first()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("HOME", self.home.path())
            .env("DOCKER_CONFIG", self.at("docker"))
            .env(
                "DOCKER_HOST",
                format!("unix://{}", self.at("none").display()),
            )
            .env("XDG_RUNTIME_DIR", self.at("empty"))
            .env_remove("REGISTRY_AUTH_FILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let Ok(mut child) = command.spawn() else {
            println!("skipped: `{program}` is not installed");
            return None;
        };
        // A program that does not read it is free to end.
        child.stdin.take()?.write_all(PASSWORD.as_bytes()).ok();
        Some(child.output_in_time().unwrap())
    }

    /// Asks skopeo for the tags of a repository that is not there. What it says tells whether it
    /// got through the door.
    fn knock(&self, file: &str) -> Option<String> {
        let file = format!("HOME/{file}");
        let output = self.run(&[
            "skopeo",
            "list-tags",
            "--tls-verify=false",
            "--authfile",
            &file,
            "docker://HOST/a/b",
        ])?;
        Some(words(&output))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.status_in_time().ok();
    }
}

fn login() -> Credentials {
    Credentials::Basic {
        username: USER.to_owned(),
        password: Secret::new(PASSWORD),
    }
}

fn words(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn what_skopeo_keeps_is_read() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let Some(output) = registry.run(&[
        "skopeo",
        "login",
        "--tls-verify=false",
        "--authfile",
        "HOME/auth.json",
        "-u",
        USER,
        "--password-stdin",
        "HOST",
    ]) else {
        return;
    };
    assert!(output.status.success(), "{}", words(&output));
    registry.check_found("auth.json");
}

#[test]
fn what_podman_keeps_is_read_for_a_registry_and_for_a_part_of_it() {
    let Some(registry) = Registry::start() else {
        return;
    };
    for (target, path) in [("HOST", "a/b"), ("HOST/a", "a/c")] {
        let Some(output) = registry.run(&[
            "podman",
            "login",
            "--tls-verify=false",
            "--authfile",
            "HOME/podman.json",
            "-u",
            USER,
            "--password-stdin",
            target,
        ]) else {
            return;
        };
        assert!(output.status.success(), "{}", words(&output));
        let settings = registry.settings("podman.json");
        let found = settings.credentials(&registry.host, path).unwrap();
        assert_eq!(found.unwrap().credentials, login(), "{target}");
        settings.forget_login(&registry.host).unwrap();
        let found = settings.credentials(&registry.host, path).unwrap();
        assert_eq!(found.is_some(), target == "HOST/a", "{target}");
    }
}

#[test]
fn docker_and_we_share_a_file() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let docker = |verb: &[&str]| registry.run(&[&["docker"], verb].concat());
    let Some(output) = docker(&["login", "-u", USER, "--password-stdin", "HOST"]) else {
        return;
    };
    assert!(output.status.success(), "{}", words(&output));
    registry.check_found("docker/config.json");

    let settings = registry.settings("docker/config.json");
    let file = Stored::File(registry.at("docker/config.json"));
    assert_eq!(settings.forget_login(&registry.host).unwrap(), [file]);
    settings.keep_login(&registry.host, &login()).unwrap();
    registry.check_found("docker/config.json");
    // With nothing given, Docker takes the login that it has. (It goes on to ask its daemon.)
    let answer = words(&docker(&["login", "HOST"]).unwrap());
    assert!(answer.contains("existing credentials"), "{answer}");

    let output = docker(&["logout", "HOST"]).unwrap();
    assert!(output.status.success(), "{}", words(&output));
    let found = settings.credentials(&registry.host, "").unwrap();
    assert!(found.is_none());
}

#[test]
fn what_we_keep_lets_skopeo_in() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let file = registry.at("ours/auth.json");
    let settings = registry.settings("ours/auth.json");
    settings.keep_login("b.example.com", &login()).unwrap();
    let Some(answer) = registry.knock("ours/auth.json") else {
        return;
    };
    assert!(answer.contains("authentication required"), "{answer}");
    let kept = settings.keep_login(&registry.host, &login()).unwrap();
    assert_eq!(kept, Stored::File(file));
    let answer = registry.knock("ours/auth.json").unwrap();
    assert!(answer.contains("404"), "{answer}");
}

#[test]
fn podman_and_skopeo_know_docker_hub_by_our_key() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let settings = registry.settings("ours.json");
    settings.keep_login("docker.io", &login()).unwrap();
    for tool in ["skopeo", "podman"] {
        let words = [
            tool,
            "login",
            "--authfile",
            "HOME/ours.json",
            "--get-login",
            "docker.io",
        ];
        let Some(output) = registry.run(&words) else {
            continue;
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.trim(), USER, "{tool}");
    }
}
