//! What is known of an unpacked layer and cannot be seen in its directory: kept in a file beside it.
//!
//! A record and a NUL for each path: `UID GID PATH` where a symbolic link or pipe is not root's (it
//! cannot carry a claim), `implied PATH` where a directory is there only because something is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use smidge_image::{Entry, EntryKind, LayerPath};

use crate::{Error, Store, regular};

/// What follows a layer's name in that of the file. Changing it, or the format, is a format break.
const SUFFIX: &str = ".beside";

/// What begins the record of a directory that the layer does not mention.
const IMPLIED: &[u8] = b"implied ";

/// Uid and gid by path.
pub(crate) type Owners = BTreeMap<LayerPath, (u32, u32)>;

/// What is known of a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beside {
    /// Whose symbolic links and pipes are that could not be given away.
    pub(crate) owners: Owners,
    /// Directories that the layer does not mention: they look as those in the layers below do.
    pub(crate) implied: BTreeSet<LayerPath>,
}

impl Beside {
    /// What is known of an unpacked layer; nothing, if there is no such file.
    pub(crate) fn load(layer: &Path) -> io::Result<Self> {
        let mut beside = Self::default();
        let text = match regular::read(&path(layer)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(beside),
            text => text?,
        };
        for record in text.split(|byte| *byte == 0) {
            if let Some(path) = record.strip_prefix(IMPLIED) {
                beside.implied.extend(LayerPath::parse(path).ok());
            } else {
                beside.owners.extend(owner(record));
            }
        }
        Ok(beside)
    }

    /// Forgets what earlier entries of the layer have said of a path. Another name of a file has its owner.
    pub(crate) fn meet(&mut self, entry: &Entry) {
        let owner = match &entry.kind {
            EntryKind::Hardlink { target } => self.owners.get(target).copied(),
            _ => None,
        };
        self.implied.remove(&entry.path);
        self.owners.remove(&entry.path);
        self.owners
            .extend(owner.map(|owner| (entry.path.clone(), owner)));
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (path, (uid, gid)) in &self.owners {
            text.extend_from_slice(format!("{uid} {gid} ").as_bytes());
            text.extend_from_slice(path.as_bytes());
            text.push(0);
        }
        for path in &self.implied {
            text.extend_from_slice(IMPLIED);
            text.extend_from_slice(path.as_bytes());
            text.push(0);
        }
        text
    }
}

fn owner(record: &[u8]) -> Option<(LayerPath, (u32, u32))> {
    let mut words = record.splitn(3, |byte| *byte == b' ');
    let mut number = || str::from_utf8(words.next()?).ok()?.parse().ok();
    let owner = (number()?, number()?);
    Some((LayerPath::parse(words.next()?).ok()?, owner))
}

fn path(layer: &Path) -> PathBuf {
    let mut path = OsString::from(layer);
    path.push(SUFFIX);
    path.into()
}

/// Which layer something in `layers/` belongs to, by its name.
pub(crate) fn layer_of(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

impl Store {
    /// Writes down what is known of a layer that is about to be where unpacked layers are.
    pub(crate) fn keep_beside(&self, layer: &Path, beside: &Beside) -> Result<(), Error> {
        if *beside == Beside::default() {
            return Ok(());
        }
        self.write_atomically(&path(layer), &beside.to_bytes())
    }

    /// An unpacked layer with all that is beside it, in the order in which it is to go: what is left
    /// of one that is gone is garbage, a layer without what is beside it is wrong.
    pub(crate) fn unpacked(&self, layer: &str) -> Result<Vec<PathBuf>, Error> {
        let mut paths = self.list(&self.path("layers"))?;
        paths.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| layer_of(name) == layer)
        });
        paths.sort();
        Ok(paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let layer = directory.path().join("layers/00");
        assert_eq!(Beside::load(&layer).unwrap(), Beside::default());
        let path = |text: &str| LayerPath::try_from(text).unwrap();
        let mut beside = Beside::default();
        beside.owners.insert(path("a b"), (7, 8));
        beside.owners.insert(path("implied x"), (1, 0));
        beside.implied.insert(path("var/lib x"));
        store.keep_beside(&layer, &beside).unwrap();
        assert_eq!(Beside::load(&layer).unwrap(), beside);
        assert_eq!(store.unpacked("00").unwrap().len(), 1);
        assert_eq!(store.unpacked("0").unwrap().len(), 0);
    }
}
