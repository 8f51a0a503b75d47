//! Where a build context comes from: a directory, standard input, a URL, a repository.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use smidge_image::{NodeKind, Tree as _};
use smidge_store::DirTree;

use super::git_url::{GitUrl, is_context};
use super::remote::Fetcher;
use crate::build::detect::default_name;
use crate::packing::{Packing, is_archive, sniffed};
use crate::url::{is_http, redacted};
use crate::{Error, Host, Kind, Result};

/// The longest Dockerfile that comes without a context, in bytes.
const LONGEST: u64 = 16 << 20;

/// A build context, as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::build) struct ContextSource(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Path(PathBuf),
    Input,
    Http(String),
    Git(GitUrl),
}

/// A build context, here now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::build) enum Fetched {
    /// A directory that may have a Dockerfile.
    Directory(PathBuf),
    /// A Dockerfile alone; the context has nothing in it.
    Dockerfile(String),
}

impl ContextSource {
    /// Reads what names a context. As for Docker, a path that is there comes first.
    ///
    /// # Errors
    /// When it is the URL of a repository that makes no sense.
    pub(in crate::build) fn parse(text: &str, host: &Host) -> Result<Self> {
        let path = host.absolute(Path::new(text));
        Ok(Self(match text {
            "-" => Place::Input,
            _ if path.exists() => Place::Path(path),
            _ if is_context(text) => Place::Git(GitUrl::parse(text)?),
            _ if is_http(text) => Place::Http(text.to_owned()),
            _ => Place::Path(path),
        }))
    }

    /// The path, if it is one: nothing needs to be fetched.
    pub(in crate::build) fn local(&self) -> Option<&Path> {
        match &self.0 {
            Place::Path(path) => Some(path),
            _ => None,
        }
    }

    /// Whether it is standard input.
    pub(in crate::build) fn is_input(&self) -> bool {
        self.0 == Place::Input
    }

    /// Fetches the context into a directory that lasts as long as the build. `keep_git` is what
    /// `BUILDKIT_CONTEXT_KEEP_GIT_DIR` asks for.
    ///
    /// # Errors
    /// When it cannot be fetched, or is neither an archive nor a Dockerfile.
    pub(in crate::build) fn fetch(
        &self,
        fetcher: &Fetcher<'_>,
        input: &mut dyn Read,
        keep_git: bool,
    ) -> Result<Fetched> {
        match &self.0 {
            Place::Path(path) => Ok(Fetched::Directory(path.clone())),
            Place::Input => unpacked(fetcher, "standard input", input),
            Place::Http(url) => {
                let file = fetcher.file(url, None)?;
                let name = redacted(url);
                let failed = |source| Error::io(format!("cannot read `{name}`"), source);
                let reader = File::open(&file.path).map_err(failed)?;
                let fetched = unpacked(fetcher, &name, reader);
                // It is unpacked, and would take up its room twice.
                fs::remove_file(&file.path).map_err(failed)?;
                fetched
            }
            Place::Git(url) => {
                let keep = url.keep_git.unwrap_or(keep_git);
                fetcher.repository(url, keep).map(Fetched::Directory)
            }
        }
    }
}

/// A context and its Dockerfile, here now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::build) struct Brought {
    /// The directory that files are taken from.
    pub(in crate::build) context: PathBuf,
    /// The Dockerfile.
    pub(in crate::build) file: PathBuf,
    /// What its user knows the Dockerfile by.
    pub(in crate::build) name: String,
}

/// Brings a context that is elsewhere, or whose Dockerfile is (`-f -`, `-f URL`); `None` where both are
/// files of the machine. `file` is what `-f` says: a path in a context from elsewhere.
///
/// # Errors
/// As [`ContextSource::fetch`]; when there is no Dockerfile, or it leads out of the context.
pub(in crate::build) fn bring(
    (source, file): (&ContextSource, Option<&Path>),
    fetcher: &Fetcher<'_>,
    input: &mut dyn Read,
    keep_git: bool,
) -> Result<Option<Brought>> {
    let from_input = file == Some(Path::new("-"));
    if from_input && source.is_input() {
        let message = "standard input cannot be both the Dockerfile and the context";
        return Err(Error::new(Kind::Input, message));
    }
    let url = file.and_then(Path::to_str).filter(|file| is_http(file));
    let fetched = match source.local() {
        Some(_) if !from_input && url.is_none() => return Ok(None),
        Some(path) => Fetched::Directory(path.to_owned()),
        None => source.fetch(fetcher, input, keep_git)?,
    };
    match (fetched, url) {
        (Fetched::Directory(context), _) if from_input => {
            let text = dockerfile("standard input", input)?;
            alone(fetcher, context, &text).map(Some)
        }
        (Fetched::Directory(context), Some(url)) => {
            let name = redacted(url);
            let file = fetcher.file(url, None)?;
            let failed = |source| Error::io(format!("cannot read `{name}`"), source);
            let text = dockerfile(&name, File::open(&file.path).map_err(failed)?)?;
            alone(fetcher, context, &text).map(Some)
        }
        (Fetched::Directory(context), None) => {
            let name = file.unwrap_or(Path::new(default_name(&context)));
            let file = inside(&context, name)?;
            let name = name.display().to_string();
            Ok(Some(Brought {
                context,
                file,
                name,
            }))
        }
        (Fetched::Dockerfile(text), _) => {
            let context = fetcher.scratch.subdirectory()?;
            alone(fetcher, context, &text).map(Some)
        }
    }
}

/// Puts a Dockerfile where it is no part of the context.
fn alone(fetcher: &Fetcher<'_>, context: PathBuf, text: &str) -> Result<Brought> {
    let name = "Dockerfile".to_owned();
    let file = fetcher.scratch.subdirectory()?.join(&name);
    fs::write(&file, text)
        .map_err(|source| Error::io(format!("cannot write `{}`", file.display()), source))?;
    Ok(Brought {
        context,
        file,
        name,
    })
}

/// A file of a context from elsewhere: no link in it leads to other files of the machine.
fn inside(context: &Path, name: &Path) -> Result<PathBuf> {
    let tree = DirTree::open(context);
    let found = tree.and_then(|tree| tree.resolve(name.as_os_str().as_bytes()));
    let shown = name.display();
    let found = found.map_err(|source| Error::io(format!("cannot read `{shown}`"), source))?;
    match found {
        Some((path, node)) if matches!(node.kind, NodeKind::File { .. }) => {
            Ok(context.join(path.as_path()))
        }
        Some(_) => {
            let message = format!("`{shown}` in the build context is not a file");
            Err(Error::new(Kind::Input, message))
        }
        None => {
            let message = format!("there is no `{shown}` in the build context");
            Err(Error::new(Kind::NotFound, message).with_hint("name the Dockerfile with `-f`"))
        }
    }
}

/// Makes of a stream what it is: an archive, packed or not, or the text of a Dockerfile.
fn unpacked(fetcher: &Fetcher<'_>, name: &str, reader: impl Read) -> Result<Fetched> {
    let failed = |source| Error::io(format!("cannot read {name}"), source);
    let (packing, head, whole) = sniffed(reader).map_err(failed)?;
    if packing.is_bare() && !is_archive(&head) {
        return dockerfile(name, whole).map(Fetched::Dockerfile);
    }
    let directory = fetcher.scratch.subdirectory()?;
    unpack(fetcher, (name, packing), whole, &directory).map_err(|error| {
        error.with_fact(format!(
            "{name} is taken for {}, as its first bytes say",
            packing.name()
        ))
    })?;
    Ok(Fetched::Directory(directory))
}

fn unpack(
    fetcher: &Fetcher<'_>,
    (name, packing): (&str, Packing),
    reader: impl Read,
    directory: &Path,
) -> Result<()> {
    let tar = packing.open(reader);
    let tar = tar.map_err(|source| Error::io(format!("cannot unpack {name}"), source))?;
    let what = format!("the context from {name}");
    Ok(fetcher.engine.store.unpack_files(&what, tar, directory)?)
}

fn dockerfile(name: &str, reader: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    reader
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::io(format!("cannot read {name}"), source))?;
    let wrong = |why: &str| {
        Error::new(Kind::Input, format!("cannot build from {name}: {why}")).with_hint(
            "send a Dockerfile, or the context as a tar archive: `tar -c . | smidge build -`",
        )
    };
    if bytes.is_empty() {
        return Err(wrong("it is empty"));
    }
    if bytes.len() as u64 > LONGEST {
        return Err(wrong(
            "it is neither an archive nor a Dockerfile: it is too long",
        ));
    }
    String::from_utf8(bytes)
        .map_err(|_| wrong("it is neither an archive nor text in UTF-8, as a Dockerfile is"))
}

#[cfg(test)]
mod tests;
