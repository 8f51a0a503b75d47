//! A root file system without an overlay: the layers are copied into one directory, and what a program
//! has changed there is found by comparing.
//!
//! ```text
//! copy        one file, with everything that the file system says of it
//! merge       layers → one directory, as overlayfs would show them
//! difference  what has changed in it → an upper directory, as overlayfs would have left it
//! changes     the same for those who only look
//! ```
//!
//! Overlayfs takes no upper directory on another overlay, as all of a container's files are unless
//! they are on a volume, and some kernels refuse it to user namespaces. This way costs as much as the
//! layers weigh, where file systems cannot share blocks, so it is the last resort.

mod changes;
mod copy;
mod difference;
mod merge;

use std::io;
use std::path::{Path, PathBuf};

pub use changes::Changes;
pub(crate) use copy::{copy_contents, copy_tree, set_time};
pub(crate) use difference::Baseline;
pub(crate) use merge::merge;

use crate::error::RunError;
use crate::removal;
use crate::spec::Spec;

/// Where the copy is: in the container's own directory.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("root")
}

/// The copy in a container's directory, if one had to be made: all of its files, where otherwise its upper directory
/// has what it has changed.
#[must_use]
pub fn root(dir: &Path) -> Option<PathBuf> {
    Some(path(dir)).filter(|copy| copy.is_dir())
}

/// Copies the layers, with the upper directory on top if something is in it, and tells how they are now;
/// not, if the upper directory could not take what changes.
///
/// # Errors
/// When something cannot be read or made.
pub(crate) fn fill(spec: &Spec) -> Result<Option<Baseline>, RunError> {
    let root = path(&spec.dir);
    // It appears complete or not at all.
    let draft = spec.dir.join("root.draft");
    let made = || -> io::Result<Option<Baseline>> {
        removal::remove(&draft)?;
        let upper = spec.dir.join("upper");
        let changed = std::fs::read_dir(&upper).is_ok_and(|mut files| files.next().is_some());
        let upper = changed.then_some(upper);
        let layers: Vec<PathBuf> = upper.into_iter().chain(spec.layers.clone()).collect();
        merge(&layers, &draft)?;
        std::fs::rename(&draft, &root)?;
        match changed {
            true => Ok(None),
            false => Baseline::take(&root).map(Some),
        }
    };
    made().map_err(|source| RunError::RootFs {
        dir: spec.dir.clone(),
        step: "copy the layers".to_owned(),
        source,
    })
}

/// Moves what has changed in the copy since to the upper directory, and removes the copy. Paths of
/// `covered` have not changed.
///
/// # Errors
/// When something cannot be moved.
pub(crate) fn settle(
    spec: &Spec,
    baseline: Option<&Baseline>,
    covered: &[PathBuf],
) -> Result<(), RunError> {
    let settled = || -> io::Result<()> {
        if let Some(baseline) = baseline {
            baseline.separate(&spec.dir.join("upper"), covered)?;
        }
        Ok(removal::remove(&path(&spec.dir))?)
    };
    settled().map_err(|source| RunError::RootFs {
        dir: spec.dir.clone(),
        step: "look for what has changed".to_owned(),
        source,
    })
}
