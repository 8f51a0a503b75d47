use smidge_image::{NodeKind, Tree};

use super::glob;

const CONFIG: &str = "/etc/ld.so.conf";
/// Larger than any sensible configuration file.
const MAX_SIZE: u64 = 1 << 20;
/// `ldconfig` refuses deeper includes, too.
const MAX_DEPTH: usize = 10;
/// A bound for files that include each other.
const MAX_FILES: usize = 1024;

/// The directories that `ldconfig` would search, in its order: those of `/etc/ld.so.conf` and of the
/// files that it includes. What cannot be read is left out, as `ldconfig` does with a warning.
pub(crate) fn config_directories(tree: &dyn Tree) -> Vec<String> {
    let mut reading = Reading {
        tree,
        directories: Vec::new(),
        files: 0,
    };
    reading.file(CONFIG, 0);
    reading.directories
}

struct Reading<'t> {
    tree: &'t dyn Tree,
    directories: Vec<String>,
    files: usize,
}

impl Reading<'_> {
    fn file(&mut self, path: &str, depth: usize) {
        self.files += 1;
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            return;
        }
        let Some(text) = self.text(path) else { return };
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            match line.split_once(char::is_whitespace) {
                Some(("include", patterns)) => {
                    for pattern in patterns.split_whitespace() {
                        self.include(pattern, path, depth);
                    }
                }
                Some(("hwcap", _)) => {}
                _ if line.starts_with('/') => self.directory(line),
                _ => {}
            }
        }
    }

    fn text(&self, path: &str) -> Option<String> {
        let (file, node) = self.tree.resolve(path.as_bytes()).ok()??;
        if !matches!(node.kind, NodeKind::File { .. }) {
            return None;
        }
        let content = self.tree.read(&file, MAX_SIZE).ok()?;
        Some(String::from_utf8_lossy(&content).into_owned())
    }

    fn include(&mut self, pattern: &str, from: &str, depth: usize) {
        let dir = from.rsplit_once('/').map_or("", |(dir, _)| dir);
        let pattern = match pattern.starts_with('/') {
            true => pattern.to_owned(),
            false => format!("{dir}/{pattern}"),
        };
        for path in glob::matches(self.tree, &pattern) {
            self.file(&path, depth + 1);
        }
    }

    fn directory(&mut self, line: &str) {
        // `dir=libc5` and the like are from before 2000; ldconfig still cuts the type off.
        let dir = line
            .split('=')
            .next()
            .unwrap_or_default()
            .trim_end_matches('/')
            .to_owned();
        if !self.directories.contains(&dir) {
            self.directories.push(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use smidge_image::{Entry, EntryKind, LayerPath, MemoryTree};

    use super::*;

    fn tree(files: &[(&str, &str)]) -> MemoryTree {
        let mut tree = MemoryTree::new();
        for (path, text) in files {
            let kind = EntryKind::File {
                size: text.len() as u64,
            };
            let path = LayerPath::parse(path.as_bytes()).unwrap();
            tree.insert(Entry::new(path, kind), text.as_bytes().to_vec());
        }
        tree
    }

    #[test]
    fn includes_are_followed_in_order() {
        let tree = tree(&[
            (
                "etc/ld.so.conf",
                "/first # comment\ninclude ld.so.conf.d/*.conf\n\t/last/ \n/first\n",
            ),
            (
                "etc/ld.so.conf.d/b.conf",
                "/b\nhwcap 1 nosegneg\nrelative\n",
            ),
            (
                "etc/ld.so.conf.d/a.conf",
                "/a=libc6\ninclude /etc/absent.conf\n",
            ),
            ("etc/ld.so.conf.d/c.conf~", "/no\n"),
        ]);
        assert_eq!(config_directories(&tree), ["/first", "/a", "/b", "/last"]);
    }

    #[test]
    fn files_that_include_themselves_end() {
        let include = "/x\ninclude /etc/ld.so.conf.d/*\ninclude /etc/ld.so.conf\n";
        let tree = tree(&[("etc/ld.so.conf", include), ("etc/ld.so.conf.d/a", include)]);
        assert_eq!(config_directories(&tree), ["/x"]);
        assert!(config_directories(&MemoryTree::new()).is_empty());
    }
}
