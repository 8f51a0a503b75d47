//! Git repositories as sources: fetched by the user's `git`, one commit of them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use smidge_image::{NodeKind, Tree as _};
use smidge_store::DirTree;

use super::git_url::GitUrl;
use crate::url::redacted;
use crate::{Error, Host, Kind, Result};

/// What Git's surroundings may say that would lead it to another repository than ours, as they do
/// where smidge is called by a hook.
const ELSEWHERE: [&str; 9] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
];

/// What is set for every call: the checkout depends on the commit alone, runs no program of the
/// repository's, and submodules do not bring files of this machine along.
const SETTINGS: [&str; 9] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "core.symlinks=true",
    "core.fileMode=true",
    "protocol.ext.allow=never",
    "protocol.file.allow=user",
    "advice.detachedHead=false",
    "gc.auto=0",
];

/// A repository that is to be fetched.
pub(super) struct Fetch<'f> {
    /// Which, and what of it.
    pub(super) url: &'f GitUrl,
    /// Whether `.git` stays; a directory of a repository never has one.
    pub(super) keep_git: bool,
    /// The surroundings: where `git` is, and what it is told.
    pub(super) host: &'f Host,
}

impl Fetch<'_> {
    /// Fetches into a directory that is not there yet. Gives the directory that was asked for.
    ///
    /// # Errors
    /// When there is no `git`, when it fails, when the commit or directory is not there, or another
    /// commit than it should be.
    pub(super) fn checkout(&self, into: &Path) -> Result<PathBuf> {
        let git = self.program(into)?;
        fs::create_dir(into).map_err(|source| {
            Error::io(
                format!("cannot make the directory `{}`", into.display()),
                source,
            )
        })?;
        git.run(&["init", "-q", "--template=", "."])?;
        let commit = self.fetch(&git)?;
        if let Some(checksum) = &self.url.checksum
            && !commit.starts_with(&checksum.to_ascii_lowercase())
        {
            return Err(self
                .error(Kind::Input, "it is another commit than it should be")
                .with_fact(format!("expected: {checksum}"))
                .with_fact(format!("received: {commit}")));
        }
        git.run(&[
            "checkout",
            "-q",
            "--detach",
            "--no-recurse-submodules",
            &commit,
        ])?;
        let keep = self.keep_git && self.url.directory.is_none();
        if keep {
            git.run(&["remote", "add", "--", "origin", &redacted(&self.url.remote)])?;
        }
        if !self.url.no_submodules && into.join(".gitmodules").is_file() {
            let update = [
                "submodule",
                "--quiet",
                "update",
                "--init",
                "--recursive",
                "--depth=1",
            ];
            git.run(&update)?;
        }
        self.tidy(into, keep)?;
        self.directory(into)
    }

    /// Fetches what is needed for the commit, and tells which it is.
    fn fetch(&self, git: &Git<'_>) -> Result<String> {
        let reference = self.url.reference.as_deref();
        let wanted = reference.unwrap_or("HEAD");
        let remote = self.url.remote.as_str();
        let fetch = ["fetch", "-q", "--no-tags", "--no-recurse-submodules"];
        let shallow = [&fetch[..], &["--depth=1", "--", remote, wanted]].concat();
        let refused = match git.run(&shallow) {
            Ok(_) => return git.commit("FETCH_HEAD"),
            Err(refused) => refused,
        };
        // Servers need not hand out commits by their ids, nor parts of a history.
        if !is_commit(wanted) {
            let whole = [&fetch[..], &["--", remote, wanted]].concat();
            let about_depth = refused.facts().iter().any(|fact| fact.contains("shallow"));
            return match about_depth && git.run(&whole).is_ok() {
                true => git.commit("FETCH_HEAD"),
                false => Err(refused),
            };
        }
        let all = [
            "--",
            remote,
            "+refs/heads/*:refs/fetched/heads/*",
            "+refs/tags/*:refs/tags/*",
        ];
        git.run(&[&fetch[..], &all].concat()).map_err(|_| refused)?;
        git.commit(wanted)
    }

    /// Takes `.git` away unless it is to stay, and what depends on the umask from the files' modes.
    fn tidy(&self, root: &Path, keep: bool) -> Result<()> {
        let git = root.join(".git");
        let tidied = match keep {
            // Neither says anything of the commit.
            true => ["FETCH_HEAD", "logs"]
                .iter()
                .try_for_each(|name| remove(&git.join(name))),
            false => remove(&git),
        };
        tidied.and_then(|()| set_modes(root)).map_err(|source| {
            Error::io(
                format!("cannot prepare `{}`", redacted(&self.url.remote)),
                source,
            )
        })
    }

    /// The directory that was asked for: links in the repository lead nowhere else.
    fn directory(&self, root: &Path) -> Result<PathBuf> {
        let Some(wanted) = &self.url.directory else {
            return Ok(root.to_owned());
        };
        let found = DirTree::open(root).and_then(|tree| tree.resolve(wanted.as_bytes()));
        let found = found.map_err(|source| {
            self.error(Kind::of_io(&source), "cannot read it")
                .caused_by(source)
        })?;
        match found {
            Some((path, node)) if node.kind == NodeKind::Directory => Ok(root.join(path.as_path())),
            Some(_) => {
                Err(self.error(Kind::Input, &format!("`{wanted}` is not a directory in it")))
            }
            None => Err(self.error(Kind::NotFound, &format!("there is no `{wanted}` in it"))),
        }
    }

    fn program<'g>(&'g self, directory: &'g Path) -> Result<Git<'g>> {
        let program = self.host.find_program("git").ok_or_else(|| {
            self.error(Kind::NotFound, "there is no `git` on the PATH")
                .with_hint("install git, or clone the repository elsewhere and build the directory")
        })?;
        Ok(Git {
            program,
            directory,
            fetch: self,
        })
    }

    fn error(&self, kind: Kind, why: &str) -> Error {
        Error::new(
            kind,
            format!("cannot fetch `{}`: {why}", redacted(&self.url.remote)),
        )
    }
}

/// The program, at work in one directory.
struct Git<'g> {
    program: PathBuf,
    directory: &'g Path,
    fetch: &'g Fetch<'g>,
}

impl Git<'_> {
    fn commit(&self, name: &str) -> Result<String> {
        let name = format!("{name}^{{commit}}");
        let printed = self.run(&["rev-parse", "--verify", "--end-of-options", &name])?;
        Ok(printed.trim().to_owned())
    }

    /// Runs it, and returns what it prints.
    fn run(&self, args: &[&str]) -> Result<String> {
        let host = self.fetch.host;
        let mut command = Command::new(&self.program);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let ours = |name: &OsStr| !ELSEWHERE.iter().any(|elsewhere| *elsewhere == name);
        let environment = host.env.iter().filter(|(name, _)| ours(name.as_ref()));
        command
            .args(args)
            .current_dir(self.directory)
            .env_clear()
            .envs(environment)
            .env("PATH", &host.path)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env(
                "GIT_CEILING_DIRECTORIES",
                self.directory.parent().unwrap_or(self.directory),
            )
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        let output = smidge_run::end_with_caller(&mut command).output();
        let output = output.map_err(|source| {
            Error::io(format!("cannot run `{}`", self.program.display()), source)
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let verb = args.first().copied().unwrap_or_default();
        let error = self
            .fetch
            .error(Kind::Host, &format!("`git {verb}` failed"));
        Err(said(&output.stderr)
            .into_iter()
            .fold(error, Error::with_fact))
    }
}

/// The last lines of what Git has to say about a failure, without passwords.
fn said(stderr: &[u8]) -> Vec<String> {
    const MOST: usize = 5;
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = lines.len().saturating_sub(MOST);
    let word = |word: &str| {
        let bare = word.trim_start_matches('\'');
        format!("{}{}", &word[..word.len() - bare.len()], redacted(bare))
    };
    lines[last..]
        .iter()
        .map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" "))
        .collect()
}

/// Whether it can be the id of a commit, or the beginning of one.
fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Git knows whether a file can be executed, and nothing else.
fn set_modes(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            set_modes(&entry.path())?;
        } else if kind.is_file() {
            let executable = entry.metadata()?.permissions().mode() & 0o100 != 0;
            set_mode(&entry.path(), if executable { 0o755 } else { 0o644 })?;
        }
    }
    set_mode(directory, 0o755)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_shown_without_passwords() {
        let text = b"warning: x\n\nfatal: unable to access 'https://u:p@h/r.git/': no\n";
        assert_eq!(
            said(text),
            [
                "warning: x",
                "fatal: unable to access 'https://h/r.git/': no"
            ]
        );
    }

    #[test]
    fn commits_are_told_from_branches() {
        assert!(is_commit("0123abc") && is_commit(&"a".repeat(40)));
        assert!(!is_commit("main") && !is_commit("abc") && !is_commit("v0123456"));
    }
}
