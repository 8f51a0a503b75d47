//! A home directory with auth files and credential helpers, for tests.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Credentials, Settings, Sources};
use crate::Secret;

/// A helper that keeps logins in files, and notes every call.
const VAULT: &str = r#"#!/bin/sh
vault="$HOME/vault"
mkdir -p "$vault"
input=$(cat)
echo "$1" >> "$HOME/calls"
name=$(printf %s "$input" | tr '/:' '__')
case "$1" in
get)
    [ -f "$vault/$name" ] || { echo "credentials not found in native keychain"; exit 1; }
    cat "$vault/$name" ;;
store)
    server=$(printf %s "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/')
    printf %s "$input" > "$vault/$(printf %s "$server" | tr '/:' '__')" ;;
erase)
    [ -f "$vault/$name" ] || { echo "credentials not found in native keychain"; exit 1; }
    rm "$vault/$name" ;;
list)
    printf '{'
    first=1
    for file in "$vault"/*; do
        [ -f "$file" ] || continue
        [ $first ] || printf ,
        first=
        sed 's/.*"ServerURL":"\([^"]*\)".*/"\1":"user"/' "$file"
    done
    printf '}' ;;
esac
"#;

/// A home directory.
pub(super) struct Home {
    dir: tempfile::TempDir,
    pub(super) sources: Sources,
}

impl Home {
    /// An empty home with the auth files `first.json` and `config.json`; logins go to the latter.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let home = dir.path().display().to_string();
        let sources = Sources {
            auth_files: vec![at("first.json"), at("config.json")],
            login_file: Some(at("config.json")),
            path: format!("relative:{home}/none:{home}/bin:/usr/bin:/bin").into(),
            env: BTreeMap::from([("HOME".to_owned(), home)]),
            ..Sources::default()
        };
        Self { dir, sources }
    }

    /// A home with the helper `docker-credential-vault`.
    pub(super) fn with_vault() -> Self {
        let home = Self::new();
        home.program("docker-credential-vault", VAULT);
        home
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    /// The text of a file, or nothing.
    pub(super) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_default()
    }

    /// Makes a program. Another process writes it: one that another test forks meanwhile would
    /// otherwise hold it open for writing, and then it cannot be executed.
    pub(super) fn program(&self, name: &str, script: &str) {
        let bin = self.at("bin");
        fs::create_dir_all(&bin).unwrap();
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
            .arg(bin.join(name))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = shell.stdin.take().unwrap();
        stdin.write_all(script.as_bytes()).unwrap();
        drop(stdin);
        assert!(shell.wait().unwrap().success());
    }

    pub(super) fn settings(&self) -> Settings {
        Settings::load(self.sources.clone()).unwrap()
    }

    /// A text without this home's own path.
    pub(super) fn shown(&self, text: impl ToString) -> String {
        text.to_string()
            .replace(&self.dir.path().display().to_string(), "HOME")
    }

    /// The login for a name, in words.
    pub(super) fn login(&self, domain: &str, path: &str) -> String {
        match self.settings().credentials(domain, path) {
            Ok(None) => "none".to_owned(),
            Ok(Some(found)) => format!(
                "{} {}",
                secret(&found.credentials),
                self.shown(found.origin)
            ),
            Err(error) => self.shown(error),
        }
    }
}

/// A user with a password.
pub(super) fn user(username: &str, password: &str) -> Credentials {
    Credentials::Basic {
        username: username.to_owned(),
        password: Secret::new(password),
    }
}

fn secret(credentials: &Credentials) -> &str {
    match credentials {
        Credentials::Basic { password, .. } => password.expose(),
        Credentials::IdentityToken(token) => token.expose(),
    }
}

/// A path's name.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
