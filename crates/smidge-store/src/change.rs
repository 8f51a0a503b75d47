//! What a container has changed, as `docker diff` tells it.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use smidge_image::{LayerPath, Tree as _};

use crate::copy::refused;
use crate::tree::Overlaid;
use crate::{DirTree, Error, LayeredTree};

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is new.
    Added,
    /// It was there, and is another now; of a directory, something in it has come, gone or changed.
    Changed,
    /// It is gone.
    Deleted,
}

/// What differs between an upper directory of overlayfs and the directories below it, the top one first, by
/// path.
///
/// # Errors
/// When something cannot be read.
pub fn changes(upper: &Path, lower: &[PathBuf]) -> Result<BTreeMap<LayerPath, Change>, Error> {
    let failed = |error| refused("read", upper, error);
    let top = DirTree::open(upper).map_err(failed)?;
    let below = LayeredTree::open(lower).map_err(failed)?;
    let mut found = BTreeMap::new();
    let mut pending = vec![LayerPath::root()];
    while let Some(path) = pending.pop() {
        // What is in a new directory is new, whatever lower ones hold.
        let looked = match path.is_root() {
            true => Ok(false),
            false => top.is_opaque(&path),
        };
        let (hides, names) = match looked.and_then(|hides| Ok((hides, top.list(&path)?))) {
            Ok(found) => found,
            // A program that runs has removed it since it was listed.
            Err(error) if !path.is_root() && is_gone(&error) => continue,
            Err(error) => return Err(failed(error)),
        };
        let mut here = HashSet::new();
        for name in names {
            let child = path
                .join(&name)
                .map_err(|error| failed(io::Error::other(error)))?;
            let Some(stat) = top.stat(&child).map_err(failed)? else {
                continue;
            };
            let was = below.find(&child).map_err(failed)?.is_some();
            let change = match Overlaid::of(&stat) {
                Overlaid::Whiteout if was => Change::Deleted,
                Overlaid::Whiteout => continue,
                Overlaid::Directory => {
                    pending.push(child.clone());
                    of(was)
                }
                Overlaid::Other => of(was),
            };
            found.insert(child, change);
            here.insert(name);
        }
        if hides {
            for name in below.list(&path).unwrap_or_default() {
                if !here.contains(&name) {
                    let child = path.join(&name).map_err(|e| failed(io::Error::other(e)))?;
                    found.insert(child, Change::Deleted);
                }
            }
        }
    }
    Ok(found)
}

fn of(was: bool) -> Change {
    match was {
        true => Change::Changed,
        false => Change::Added,
    }
}

/// Whether there is no such directory any more, whatever else is there now.
fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    Errno::from_io_error(error).is_some_and(|errno| gone.contains(&errno))
}
