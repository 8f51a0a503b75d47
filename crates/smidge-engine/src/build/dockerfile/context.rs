//! Where `COPY` and `ADD` take files from: the build context, or a stage.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use smidge_dockerfile::ignore::Patterns;
use smidge_image::{LayerPath, Node, NodeKind, Tree};
use smidge_store::DirTree;

use super::choice::{Fate, fate};
use super::glob;
use crate::build::layer::RootFs;
use crate::host::read_whole;
use crate::{Error, Kind, Result};

/// The files of an image that a path with wildcards names, as in `COPY`.
///
/// # Errors
/// When there are none.
pub(in crate::build) fn matching(image: &Arc<RootFs>, pattern: &str) -> Result<Vec<LayerPath>> {
    let image = Context::new(
        Arc::<RootFs>::clone(image),
        Patterns::default(),
        "the image".to_owned(),
    );
    let found = image.find(pattern)?;
    if found.is_empty() {
        return Err(image.absent(pattern));
    }
    Ok(found.into_iter().map(|found| found.path).collect())
}

/// What says which files of a context count as absent.
const IGNORE: &str = ".dockerignore";

/// The longest of them, in bytes.
const LONGEST: u64 = 16 << 20;

/// Files that can be copied.
#[derive(Clone)]
pub(super) struct Context {
    /// The files.
    pub(super) tree: Arc<dyn Tree>,
    /// Which of them count as absent.
    ignored: Arc<Patterns>,
    /// What to call it: `the build context`, ``stage `build` ``.
    pub(super) name: String,
}

/// A file that a source names.
pub(super) struct Found {
    /// Where it was looked for: decides its name and whether it is ignored.
    pub(super) path: LayerPath,
    /// Where it is, links followed.
    pub(super) real: LayerPath,
    /// What it is.
    pub(super) node: Node,
}

impl Context {
    /// The files of a tree, without what patterns leave out.
    pub(super) fn new(tree: Arc<dyn Tree>, ignored: Patterns, name: String) -> Self {
        Self {
            tree,
            ignored: Arc::new(ignored),
            name,
        }
    }

    /// The build context: a directory of the machine, without what its `.dockerignore` names. A file
    /// `NAME.dockerignore` beside a Dockerfile NAME comes first.
    pub(super) fn directory(directory: &Path, dockerfile: &Path) -> Result<Self> {
        let name = "the build context".to_owned();
        let tree = opened(directory, &name)?;
        let mut beside = dockerfile.as_os_str().to_owned();
        beside.push(".dockerignore");
        let beside = Path::new(&beside);
        let patterns = match beside.strip_prefix(directory) {
            Ok(inside) => patterns_in(&tree, inside, &name)?,
            Err(_) => patterns_at(beside)?,
        };
        let patterns = match patterns {
            Some(patterns) => patterns,
            None => patterns_in(&tree, IGNORE.as_ref(), &name)?.unwrap_or_default(),
        };
        Ok(Self::new(Arc::new(tree), patterns, name))
    }

    /// The directory of a `--build-context`, without what its own `.dockerignore` names.
    pub(super) fn named(directory: &Path, name: &str) -> Result<Self> {
        let name = format!("the build context `{name}`");
        let tree = opened(directory, &name)?;
        let patterns = patterns_in(&tree, IGNORE.as_ref(), &name)?.unwrap_or_default();
        Ok(Self::new(Arc::new(tree), patterns, name))
    }

    /// The files of a stage.
    pub(super) fn stage(tree: Arc<dyn Tree>, name: &str) -> Self {
        Self {
            tree,
            ignored: Arc::default(),
            name: format!("stage `{name}`"),
        }
    }

    /// Whether a path counts as absent.
    pub(super) fn fate(&self, path: &LayerPath, directory: bool) -> Fate {
        match path.is_root() {
            true => Fate::Taken,
            false => fate(&self.ignored, path, directory),
        }
    }

    /// What a source of `COPY` or `ADD` names: one file, or as many as match its wildcards. That
    /// may be none: `COPY package.json package-lock.jso[n] ./` is how Dockerfiles say "if any".
    pub(super) fn find(&self, source: &str) -> Result<Vec<Found>> {
        let components = components(source);
        let paths = if glob::is_pattern(source) {
            self.expand(source, &components)?
        } else {
            let path = LayerPath::parse(components.join("/").as_bytes());
            vec![path.map_err(|error| Error::of(Kind::Input, error))?]
        };
        let mut found = Vec::new();
        for path in paths {
            if let Some(file) = self.locate(&path)? {
                found.push(file);
            }
        }
        if found.is_empty() && !glob::is_pattern(source) {
            Err(self.absent(source))
        } else {
            Ok(found)
        }
    }

    /// The file at a path, if it is there and does not count as absent.
    fn locate(&self, path: &LayerPath) -> Result<Option<Found>> {
        let found = self
            .tree
            .resolve(path.as_bytes())
            .map_err(|e| self.unreadable(path, e))?;
        let Some((real, node)) = found else {
            return Ok(None);
        };
        let directory = node.kind == NodeKind::Directory;
        let ignored = |path: &LayerPath| self.fate(path, directory) == Fate::Left;
        if ignored(path) || ignored(&real) {
            return Ok(None);
        }
        Ok(Some(Found {
            path: path.clone(),
            real,
            node,
        }))
    }

    /// The paths that match a pattern, sorted.
    fn expand(&self, source: &str, components: &[&str]) -> Result<Vec<LayerPath>> {
        let mut paths = vec![LayerPath::root()];
        for pattern in components {
            let mut next = Vec::new();
            for path in &paths {
                let found = self.tree.resolve(path.as_bytes());
                let Some((
                    real,
                    Node {
                        kind: NodeKind::Directory,
                        ..
                    },
                )) = found.map_err(|e| self.unreadable(path, e))?
                else {
                    continue;
                };
                for name in self
                    .tree
                    .list(&real)
                    .map_err(|e| self.unreadable(path, e))?
                {
                    let matched = glob::matches(pattern, &String::from_utf8_lossy(&name));
                    let matched = matched.map_err(|glob::Malformed| {
                        let message = format!(
                            "`{source}` is not a pattern: a bracket or backslash is left open"
                        );
                        Error::new(Kind::Input, message)
                    })?;
                    if matched {
                        next.push(path.join(&name).map_err(|e| Error::of(Kind::Input, e))?);
                    }
                }
            }
            paths = next;
        }
        Ok(paths)
    }

    /// Refuses a path at which there is nothing, not even a link that leads nowhere. `source` is how it
    /// was written.
    pub(super) fn require(&self, path: &str, source: &str) -> Result<()> {
        let path = LayerPath::parse(components(path).join("/").as_bytes());
        let path = path.map_err(|error| Error::of(Kind::Input, error))?;
        let link = self
            .tree
            .node(&path)
            .map_err(|e| self.unreadable(&path, e))?;
        let link = link.is_some_and(|node| {
            matches!(node.kind, NodeKind::Symlink { .. }) && self.fate(&path, false) == Fate::Taken
        });
        match link || self.locate(&path)?.is_some() {
            true => Ok(()),
            false => Err(self.absent(source)),
        }
    }

    fn absent(&self, source: &str) -> Error {
        let message = format!("`{source}` is not in {}", self.name);
        let error = Error::new(Kind::NotFound, message);
        match self.tree.resolve(source.as_bytes()) {
            Ok(Some(_)) => error.with_fact("`.dockerignore` leaves it out"),
            _ if source.starts_with("..") => error
                .with_fact("a path that leads out of it starts at its root")
                .with_hint(
                    "copy what is needed into the context, or build from the directory above",
                ),
            _ => error,
        }
    }

    pub(super) fn unreadable(&self, path: &LayerPath, source: io::Error) -> Error {
        Error::io(
            format!(
                "cannot read `{}` in {}",
                path.as_path().display(),
                self.name
            ),
            source,
        )
    }
}

fn opened(directory: &Path, name: &str) -> Result<DirTree> {
    DirTree::open(directory)
        .map_err(|e| Error::io(format!("cannot read {name} `{}`", directory.display()), e))
}

/// The patterns of a file in a context, if it is there. The context may come from elsewhere: no link in
/// it leads to other files of the machine.
fn patterns_in(tree: &DirTree, file: &Path, name: &str) -> Result<Option<Patterns>> {
    let shown = file.display();
    let failed = |source| Error::io(format!("cannot read `{shown}` in {name}"), source);
    let found = tree.resolve(file.as_os_str().as_bytes()).map_err(failed)?;
    let Some((path, node)) = found else {
        return Ok(None);
    };
    if !matches!(node.kind, NodeKind::File { .. }) {
        return Ok(None);
    }
    let bytes = tree.read(&path, LONGEST).map_err(failed)?;
    parsed(&bytes, file).map(Some)
}

/// The patterns of a file of the user's, if it is there.
fn patterns_at(file: &Path) -> Result<Option<Patterns>> {
    if !file.is_file() {
        return Ok(None);
    }
    let bytes = read_whole(file)
        .map_err(|source| Error::io(format!("cannot read `{}`", file.display()), source))?;
    parsed(&bytes, file).map(Some)
}

fn parsed(bytes: &[u8], file: &Path) -> Result<Patterns> {
    let wrong = || Error::new(Kind::Input, format!("cannot use `{}`", file.display()));
    let text = str::from_utf8(bytes).map_err(|error| wrong().caused_by(error))?;
    Patterns::parse(text).map_err(|error| wrong().caused_by(error))
}

/// The components of a path, `.` and `..` worked out before any link is looked at. What leads
/// above the root stays there, as the reference of Dockerfiles has it: `../a` is `a`.
pub(super) fn components(path: &str) -> Vec<&str> {
    let mut components = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            name => components.push(name),
        }
    }
    components
}
