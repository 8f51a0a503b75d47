//! Replacing a private file by a new version of it, whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// A file that is about to be replaced. Its directory is locked until this is dropped.
pub(super) struct Replacement {
    target: PathBuf,
    directory: File,
}

/// Starts to replace a file, or the one that it is a link to. Waits for others who do the same.
pub(super) fn start(path: &Path) -> io::Result<Replacement> {
    let target = follow(path)?;
    let parent = parent(&target);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)?;
    if fs::symlink_metadata(&target).is_ok_and(|m| !m.is_file()) {
        // A device, say: renaming a file over it would put an end to it.
        return Err(io::Error::other("it is not a regular file"));
    }
    let directory = File::open(parent)?;
    // Some network file systems know no locks on directories. What is written is whole all the same.
    directory.lock().ok();
    Ok(Replacement { target, directory })
}

impl Replacement {
    /// Writes the new version.
    pub(super) fn write(self, text: &str) -> io::Result<()> {
        let name = self.target.file_name().unwrap_or_default();
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}", std::process::id()));
        let temporary = parent(&self.target).join(temporary);
        let written = self.write_to(&temporary, text);
        if written.is_err() {
            fs::remove_file(&temporary).ok();
        }
        written
    }

    fn write_to(&self, temporary: &Path, text: &str) -> io::Result<()> {
        // Left by a process of the same number that was killed.
        match fs::remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)?;
        if let Ok(old) = fs::metadata(&self.target) {
            // Root may change a user's file; an ordinary user cannot give one away, and need not.
            fchown(&file, Some(old.uid()), Some(old.gid())).ok();
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(temporary, &self.target)?;
        self.directory.sync_all()
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The file that a chain of links ends at, whether it is there or not.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(link) => path = parent(&path).join(link),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn files_and_directories_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/b/config.json");
        start(&file).unwrap().write("one").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(&dir.path().join("a")), 0o700);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        start(&file).unwrap().write("two").unwrap();
        assert_eq!(mode(&file), 0o600);
        let names: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("home")).unwrap();
        symlink("../dotfiles/config.json", at("home/link")).unwrap();
        symlink("link", at("home/config.json")).unwrap();
        for text in ["one", "two"] {
            start(&at("home/config.json")).unwrap().write(text).unwrap();
            assert_eq!(
                fs::read_to_string(at("dotfiles/config.json")).unwrap(),
                text
            );
            assert!(at("home/config.json").is_symlink() && at("home/link").is_symlink());
        }
        symlink("loop", at("loop")).unwrap();
        assert!(start(&at("loop")).is_err());
    }

    #[test]
    fn other_than_files_are_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        symlink("/dev/null", &link).unwrap();
        for path in [Path::new("/dev/null"), link.as_path(), dir.path()] {
            assert!(start(path).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn what_a_killed_process_left_is_no_hindrance() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        let left = dir
            .path()
            .join(format!(".config.json.{}", std::process::id()));
        fs::write(&left, "rest").unwrap();
        start(&file).unwrap().write("new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert!(!left.exists());
    }
}
