//! What `ADD` and build contexts bring from elsewhere: files by their URLs, repositories of Git.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use smidge_dockerfile::ignore::Patterns;
use smidge_image::{Digest, Hasher};
use smidge_store::DirTree;

use super::context::Context;
use super::git::Fetch;
use super::git_url::{GitUrl, check_checksum, decoded, is_git};
use crate::build::scratch::Scratch;
use crate::registry::Connection;
use crate::url::{is_http, redacted, unfetched};
use crate::{Engine, Error, Kind, Progress, Result};

/// Bytes that are copied at a time.
const BUFFER: usize = 1 << 18;

/// What a file is called whose URL names none, as in BuildKit.
const UNNAMED: &str = "__unnamed__";

/// How often a file is fetched that breaks off.
const ATTEMPTS: usize = 3;

/// Fetches into a directory that lasts as long as the build.
#[derive(Clone, Copy)]
pub(in crate::build) struct Fetcher<'f> {
    /// The surroundings.
    pub(in crate::build) engine: &'f Engine,
    /// How to talk to servers.
    pub(in crate::build) connection: &'f Connection,
    /// Where to put what was fetched.
    pub(in crate::build) scratch: &'f Scratch,
    /// What is told how far it is.
    pub(in crate::build) progress: &'f dyn Progress,
}

/// Something from elsewhere, here now.
pub(super) enum Remote {
    /// One file.
    File(RemoteFile),
    /// The files of a commit.
    Repository(Context),
}

/// A file that was fetched.
pub(super) struct RemoteFile {
    /// What its URL calls it.
    pub(super) name: String,
    /// Where it is.
    pub(super) path: PathBuf,
    /// Bytes it has.
    pub(super) size: u64,
}

/// What `ADD` says about what it fetches.
#[derive(Clone, Copy, Default)]
pub(super) struct Wishes<'w> {
    /// `--checksum`.
    pub(super) checksum: Option<&'w str>,
    /// `--keep-git-dir`.
    pub(super) keep_git: bool,
}

/// Whether a source of `ADD` is elsewhere.
pub(super) fn is_remote(source: &str) -> bool {
    is_git(source) || is_http(source)
}

impl Fetcher<'_> {
    /// Fetches a source of `ADD` that is elsewhere.
    ///
    /// # Errors
    /// When it cannot be fetched, or is not what the checksum says.
    pub(super) fn add(&self, source: &str, wishes: Wishes<'_>) -> Result<Remote> {
        if !is_git(source) {
            return self.file(source, wishes.checksum).map(Remote::File);
        }
        let mut url = GitUrl::parse(source)?;
        if let Some(checksum) = wishes.checksum {
            let invalid = |why| Error::new(Kind::Input, format!("cannot check `{source}`: {why}"));
            check_checksum(checksum).map_err(invalid)?;
            if url.checksum.as_deref().is_some_and(|own| own != checksum) {
                return Err(invalid("the URL names another checksum".to_owned()));
            }
            url.checksum = Some(checksum.to_owned());
        }
        let directory = self.repository(&url, url.keep_git.unwrap_or(wishes.keep_git))?;
        let tree = DirTree::open(&directory).map_err(|source| {
            Error::io(format!("cannot read `{}`", directory.display()), source)
        })?;
        let name = format!("the repository `{}`", redacted(&url.remote));
        let context = Context::new(Arc::new(tree), Patterns::default(), name);
        Ok(Remote::Repository(context))
    }

    /// Fetches a commit of a repository.
    pub(super) fn repository(&self, url: &GitUrl, keep_git: bool) -> Result<PathBuf> {
        let fetch = Fetch {
            url,
            keep_git,
            host: &self.engine.host,
        };
        fetch.checkout(&self.scratch.subdirectory()?.join("files"))
    }

    /// Fetches a file.
    pub(super) fn file(&self, url: &str, checksum: Option<&str>) -> Result<RemoteFile> {
        let expected = checksum.map(read_digest).transpose()?;
        let path = self.scratch.subdirectory()?.join("file");
        let client = self.engine.client(self.connection)?;
        let mut attempt = 1;
        let (digest, size) = loop {
            let download = client
                .download(url)
                .map_err(|error| unfetched(url, error))?;
            let size = download.size();
            let what = redacted(url);
            let task = self.progress.task(&format!("fetching {what}"), size);
            match self.receive(download, size, &path, &|bytes| task.advance(bytes)) {
                Ok(received) => {
                    task.finish();
                    break received;
                }
                Err(source) if attempt < ATTEMPTS && is_passing(&source) => attempt += 1,
                Err(source) => {
                    let failed = self.scratch.failed(format!("cannot fetch `{what}`"));
                    return Err(failed(source));
                }
            }
        };
        match expected {
            Some(expected) if expected != digest => {
                let message = format!("`{}` is not what it should be", redacted(url));
                Err(Error::new(Kind::Input, message)
                    .with_fact(format!("expected: {expected}"))
                    .with_fact(format!("received: {digest}")))
            }
            _ => Ok(RemoteFile {
                name: name_of(url),
                path,
                size,
            }),
        }
    }

    /// Writes what comes to a file, hashed. No more is taken than the disk has room for.
    fn receive(
        &self,
        mut source: impl Read,
        size: Option<u64>,
        path: &Path,
        advance: &dyn Fn(u64),
    ) -> io::Result<(Digest, u64)> {
        let room = room(self.scratch.path())?;
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        if size.is_some_and(|size| size > room) {
            return Err(full());
        }
        let mut file = File::create(path)?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; BUFFER];
        let mut left = room;
        loop {
            let read = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            left = left.checked_sub(read as u64).ok_or_else(full)?;
            hasher.update(&buffer[..read]);
            file.write_all(&buffer[..read])?;
            advance(read as u64);
        }
        let (digest, received) = hasher.finish();
        match size {
            Some(size) if received < size => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok((digest, received)),
        }
    }
}

/// Bytes that are free on the disk of a directory.
fn room(directory: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(directory)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether trying again may help.
fn is_passing(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
    )
}

fn read_digest(checksum: &str) -> Result<Digest> {
    checksum.parse().map_err(|error| {
        Error::new(
            Kind::Input,
            format!("`{checksum}` is no checksum of a file"),
        )
        .caused_by(error)
        .with_hint("write it as `--checksum=sha256:…`")
    })
}

/// What a URL calls its file.
fn name_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let path = decoded(path);
    let name = path.trim_end_matches('/').rsplit('/').next();
    match name.unwrap_or_default() {
        "" | "." | ".." => UNNAMED.to_owned(),
        name if name.contains('\0') => UNNAMED.to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_as_their_urls_call_them() {
        for (url, name) in [
            ("https://h/a/b.txt", "b.txt"),
            ("https://h/b.txt?x=/y#z", "b.txt"),
            ("https://h/dir/", "dir"),
            ("https://h/a%20b", "a b"),
            ("https://h/a%2Fb", "b"),
            ("https://h", UNNAMED),
            ("https://h/", UNNAMED),
            ("https://h/a/..", UNNAMED),
            ("https://h/%00", UNNAMED),
            ("https://h/*", "*"),
        ] {
            assert_eq!(name_of(url), name, "{url}");
        }
    }

    #[test]
    fn what_is_elsewhere_is_known_by_its_name() {
        for source in ["https://h/x", "http://h/r.git", "git@h:r", "git://h/r"] {
            assert!(is_remote(source), "{source}");
        }
        for source in ["x", "github.com/a/b", "ftp://h/x", "HTTPS"] {
            assert!(!is_remote(source), "{source}");
        }
    }
}
