use std::io;

use smidge_image::{Found, LayerPath, NodeKind, Tree};

use super::Program;

/// Docker's `$PATH` for images that set none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How names become files: `$PATH` and the working directory.
pub(super) struct Lookup<'t> {
    pub(super) tree: &'t dyn Tree,
    pub(super) directories: Vec<String>,
    pub(super) working_dir: String,
}

impl<'t> Lookup<'t> {
    pub(super) fn new(tree: &'t dyn Tree, program: &Program) -> Self {
        let list = variable(program, "PATH").unwrap_or(DEFAULT_PATH);
        let directory = |entry: &str| if entry.is_empty() { "." } else { entry }.to_owned();
        Self {
            tree,
            directories: match list {
                "" => Vec::new(),
                list => list.split(':').map(directory).collect(),
            },
            working_dir: program.working_dir.clone(),
        }
    }

    /// Makes a path absolute.
    pub(super) fn absolute(&self, path: &[u8]) -> Vec<u8> {
        match path.starts_with(b"/") {
            true => path.to_vec(),
            false => [self.working_dir.as_bytes(), b"/", path].concat(),
        }
    }

    /// Follows a path, relative ones from the working directory.
    pub(super) fn find(&self, path: &[u8]) -> io::Result<Option<Found>> {
        self.tree.find(&self.absolute(path))
    }

    /// The first executable file of that name in `$PATH`.
    pub(super) fn in_path(&self, name: &str) -> io::Result<Option<String>> {
        for directory in &self.directories {
            let path = format!("{}/{name}", directory.trim_end_matches('/'));
            if let Some(found) = self.find(path.as_bytes())?
                && is_file(&found)
                && found.node.mode & 0o111 != 0
            {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Files that somebody who asked for `name` may have meant, each with why it is not taken.
    pub(super) fn near_misses(&self, name: &str) -> Vec<String> {
        let in_path = self
            .directories
            .iter()
            .map(|directory| (directory.as_str(), true));
        let here = [(self.working_dir.as_str(), false), ("/", false)];
        let mut misses = Vec::new();
        for (directory, searched) in in_path.chain(here) {
            let path = format!("{}/{name}", directory.trim_end_matches('/'));
            let miss = match self.find(path.as_bytes()) {
                Ok(Some(found)) if is_file(&found) && searched => {
                    format!(
                        "`{path}` is not executable: its mode is {:04o}",
                        found.node.mode
                    )
                }
                Ok(Some(found)) if is_file(&found) => {
                    format!(
                        "`{path}` is in the image, but not in $PATH: name it with its directory"
                    )
                }
                _ => continue,
            };
            if !misses.contains(&miss) {
                misses.push(miss);
            }
        }
        misses
    }

    /// The symbolic link that a path ends in, and its target.
    pub(super) fn link(&self, path: &[u8]) -> Option<(String, String)> {
        let path = self.absolute(path);
        let at = path.iter().rposition(|&byte| byte == b'/')?;
        let (directory, name) = (&path[..at], &path[at + 1..]);
        let (directory, _): (LayerPath, _) = self.tree.resolve(directory).ok()??;
        let link = directory.join(name).ok()?;
        match self.tree.node(&link).ok()??.kind {
            NodeKind::Symlink { target } => Some((
                link.to_string(),
                String::from_utf8_lossy(&target).into_owned(),
            )),
            _ => None,
        }
    }
}

/// A variable of the program's environment; the last one counts, as in Docker.
pub(super) fn variable<'p>(program: &'p Program, name: &str) -> Option<&'p str> {
    let value = |entry: &'p String| entry.strip_prefix(name)?.strip_prefix('=');
    program.env.iter().rev().find_map(value)
}

fn is_file(found: &Found) -> bool {
    matches!(found.node.kind, NodeKind::File { .. })
}
