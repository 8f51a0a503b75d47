//! The user's tree is not touched, not even by a `Cargo.lock` that was not there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Where Cargo can write a `Cargo.lock` for a workspace that has none: a directory of ours whose
/// entries are links to the workspace's. Cargo takes a workspace to be where its manifest was named,
/// so it reads the user's files and writes beside the links. Made anew for each build, except for the
/// lock file, so that versions stay as they were.
pub(super) fn shadow(workspace: &Path, cache: &Path) -> Result<PathBuf> {
    let shadow = cache.join("workspace");
    let failed = |source| {
        let shown = workspace.display();
        Error::io(
            format!("cannot build `{shown}`, which has no `Cargo.lock`, elsewhere"),
            source,
        )
    };
    fs::create_dir_all(&shadow).map_err(failed)?;
    for entry in fs::read_dir(&shadow).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_symlink() {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    for entry in fs::read_dir(workspace).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name != "target" && name != "Cargo.lock" {
            symlink(entry.path(), shadow.join(name)).map_err(failed)?;
        }
    }
    Ok(shadow)
}
