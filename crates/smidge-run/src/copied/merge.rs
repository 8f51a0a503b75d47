//! What overlayfs would show of layers, made of copies.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::lgetxattr;

use super::copy::{Links, copy_file, dress, make_directory};

/// The attributes that make a directory opaque (overlayfs.rst).
const OPAQUE: [&str; 2] = ["user.overlay.opaque", "trusted.overlay.opaque"];

/// Copies layers, the top one first, into a new directory.
pub(crate) fn merge(layers: &[PathBuf], to: &Path) -> io::Result<()> {
    make_directory(to)?;
    fs::set_permissions(to, Permissions::from_mode(0o755))?;
    // Files have several names in their own layer only.
    fill(layers, to, &mut Links::default())
}

/// What a name stands for: the first layer that has it decides, and directories go on below.
struct Shown {
    metadata: Metadata,
    /// Where it is; with a directory, also those that it covers.
    places: Vec<PathBuf>,
    /// Whether lower layers may add to it.
    open: bool,
}

fn fill(directories: &[PathBuf], to: &Path, links: &mut Links) -> io::Result<()> {
    for (name, shown) in look(directories)? {
        let target = to.join(name);
        let Some(first) = shown.places.first() else {
            continue;
        };
        if shown.metadata.is_dir() {
            make_directory(&target)?;
            fill(&shown.places, &target, links)?;
            dress(first, &shown.metadata, &target)?;
        } else {
            copy_file(first, &shown.metadata, &target, links)
                .map_err(|error| io::Error::new(error.kind(), named(first, &error)))?;
        }
    }
    Ok(())
}

fn named(path: &Path, error: &io::Error) -> String {
    format!("`{}`: {error}", path.display())
}

fn look(directories: &[PathBuf]) -> io::Result<BTreeMap<OsString, Shown>> {
    let mut all: BTreeMap<OsString, Shown> = BTreeMap::new();
    for directory in directories {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), entry.metadata()?);
            let goes_on = metadata.is_dir() && !is_opaque(&path);
            match all.get_mut(&entry.file_name()) {
                Some(shown) if shown.open && metadata.is_dir() => {
                    shown.places.push(path);
                    shown.open = goes_on;
                }
                Some(shown) => shown.open = false,
                None => {
                    let gone = is_whiteout(&metadata);
                    let shown = Shown {
                        open: goes_on,
                        places: if gone { Vec::new() } else { vec![path] },
                        metadata,
                    };
                    all.insert(entry.file_name(), shown);
                }
            }
        }
    }
    Ok(all)
}

/// Whether it hides what is below: a device 0:0, or a socket without any permission, which stands for one
/// where overlayfs lets nobody make it.
fn is_whiteout(metadata: &Metadata) -> bool {
    let kind = metadata.file_type();
    kind.is_char_device() && metadata.rdev() == 0
        || kind.is_socket() && metadata.mode() & 0o7777 == 0
}

fn is_opaque(directory: &Path) -> bool {
    OPAQUE.iter().any(|name| {
        let mut value = [0; 1];
        lgetxattr(directory, *name, &mut value[..]) == Ok(1) && value == *b"y"
    })
}
