//! Where `COPY` and `ADD` take files from: the build context, or a stage.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use smidge_dockerfile::ignore::Patterns;
use smidge_image::{LayerPath, Node, NodeKind, Tree};
use smidge_store::DirTree;

use super::glob;
use crate::{Error, Kind, Result};

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
    /// A directory of the machine, without what its `.dockerignore` names. A file
    /// `NAME.dockerignore` beside a Dockerfile NAME comes first.
    pub(super) fn directory(directory: &Path, dockerfile: &Path) -> Result<Self> {
        let failed = |source| {
            Error::io(
                format!("cannot read the build context `{}`", directory.display()),
                source,
            )
        };
        let tree = DirTree::open(directory).map_err(failed)?;
        let mut beside = dockerfile.as_os_str().to_owned();
        beside.push(".dockerignore");
        let files = [beside.into(), directory.join(".dockerignore")];
        let mut ignored = Patterns::default();
        if let Some(file) = files.iter().find(|file| file.is_file()) {
            let shown = file.display();
            let text = fs::read_to_string(file)
                .map_err(|source| Error::io(format!("cannot read `{shown}`"), source))?;
            ignored = Patterns::parse(&text).map_err(|error| {
                Error::new(Kind::Input, format!("cannot use `{shown}`")).caused_by(error)
            })?;
        }
        let name = "the build context".to_owned();
        Ok(Self {
            tree: Arc::new(tree),
            ignored: Arc::new(ignored),
            name,
        })
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
    pub(super) fn ignores(&self, path: &LayerPath) -> bool {
        self.ignored.ignored(&path.as_path().to_string_lossy())
    }

    /// Whether nothing in a directory counts as present.
    pub(super) fn ignores_below(&self, directory: &LayerPath) -> bool {
        let path = directory.as_path().to_string_lossy();
        !directory.is_root()
            && self.ignored.ignored(&path)
            && !self.ignored.may_include_below(&path)
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
        let ignored = |path: &LayerPath| match node.kind {
            NodeKind::Directory => self.ignores_below(path),
            _ => self.ignores(path),
        };
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
