//! Whose symbolic links and pipes are, which cannot carry a claim: kept beside an unpacked layer, as
//! `UID GID PATH` and a NUL for each that is not root's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use smidge_image::LayerPath;

use crate::{Error, Store, regular};

/// What follows a layer's name in that of the file. Changing it, or the format, is a format break.
pub(crate) const SUFFIX: &str = ".owners";

/// Uid and gid by path.
pub(crate) type Owners = BTreeMap<LayerPath, (u32, u32)>;

/// The file beside an unpacked layer.
pub(crate) fn beside(layer: &Path) -> PathBuf {
    let mut path = OsString::from(layer);
    path.push(SUFFIX);
    path.into()
}

/// What is known of an unpacked layer; nothing, if there is no such file.
pub(crate) fn load(layer: &Path) -> Owners {
    let text = regular::read(&beside(layer)).unwrap_or_default();
    text.split(|byte| *byte == 0).filter_map(parse).collect()
}

fn parse(record: &[u8]) -> Option<(LayerPath, (u32, u32))> {
    let mut words = record.splitn(3, |byte| *byte == b' ');
    let mut number = || str::from_utf8(words.next()?).ok()?.parse().ok();
    let owner = (number()?, number()?);
    Some((LayerPath::parse(words.next()?).ok()?, owner))
}

impl Store {
    /// Writes down what is known of a layer that is about to be where unpacked layers are.
    pub(crate) fn keep_owners(&self, layer: &Path, owners: &Owners) -> Result<(), Error> {
        if owners.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for (path, (uid, gid)) in owners {
            text.extend_from_slice(format!("{uid} {gid} ").as_bytes());
            text.extend_from_slice(path.as_bytes());
            text.push(0);
        }
        self.write_atomically(&beside(layer), &text)
    }
}
