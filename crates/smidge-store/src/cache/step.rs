//! Outcomes of build steps, under the digests of all that went into them.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use smidge_image::{Descriptor, DiffId, Digest, media_type};

use crate::{Error, Store, regular};

/// Where the records are.
pub(super) const STEPS: &str = "cache/build/steps";

/// What a build step made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedStep {
    /// The layer that it made. It is stored as it is: its diff id is its blob's digest.
    pub diff_id: DiffId,
    /// Bytes of that layer's tar archive.
    pub size: u64,
    /// What the step is called in lists.
    pub description: String,
}

/// A step on disk. The newlines behind it count its uses, and the file's time is that of the last.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) layer: Digest,
    pub(super) size: u64,
    pub(super) description: String,
    /// Seconds since 1970.
    pub(super) created: u64,
}

impl Store {
    /// What the step with a key made, if that is known and the layer is there. The layer stays at least
    /// until the store is closed, and one more use is counted.
    pub fn cached_step(&self, key: &Digest) -> Option<CachedStep> {
        let path = self.step_path(key);
        let (record, _) = read_step(&path)?;
        if !self.has(&Descriptor::new(
            media_type::LAYER,
            record.layer,
            record.size,
        )) {
            self.release(&record.layer);
            return None;
        }
        // A store that cannot be written counts no uses.
        if let Ok(mut file) = OpenOptions::new().append(true).open(&path) {
            let _ = file.write_all(b"\n");
        }
        Some(CachedStep {
            diff_id: DiffId(record.layer),
            size: record.size,
            description: record.description,
        })
    }

    /// Keeps what the step with a key made; the layer must be there. From now on the layer is not
    /// removed as unused, until [`Store::prune_build_cache`] removes the step.
    ///
    /// # Errors
    /// [`Error::MissingBlob`]; when the store cannot be written.
    pub fn keep_step(&self, key: &Digest, step: &CachedStep) -> Result<(), Error> {
        let DiffId(layer) = step.diff_id;
        if !self.has(&Descriptor::new(media_type::LAYER, layer, step.size)) {
            return Err(Error::MissingBlob {
                root: self.root().to_owned(),
                digest: layer,
            });
        }
        let record = Record {
            layer,
            size: step.size,
            description: step.description.clone(),
            created: seconds(SystemTime::now()),
        };
        let path = self.step_path(key);
        let text = serde_json::to_vec(&record).map_err(|source| Error::Document {
            what: path.display().to_string(),
            kind: "record of a build step",
            source,
        })?;
        let mut temp = self.temp_file()?;
        let written = temp.file.write_all(&text);
        written.map_err(|error| self.io("write", &path, error))?;
        // Nobody waits for the disk: what a crash takes away is made again.
        temp.place(self, &path)
    }

    fn step_path(&self, key: &Digest) -> PathBuf {
        self.path(STEPS).join(key.hex())
    }

    /// The layers that steps made: none of them is garbage.
    pub(crate) fn cached_layers(&self) -> Result<HashSet<Digest>, Error> {
        let records = self.list(&self.path(STEPS))?;
        let layers = records
            .iter()
            .filter_map(|path| Some(read_step(path)?.0.layer));
        Ok(layers.collect())
    }
}

/// Reads a step, and how often it was used. What cannot be understood is not there.
pub(super) fn read_step(path: &Path) -> Option<(Record, u64)> {
    let bytes = regular::read(path).ok()?;
    let uses = bytes.iter().rev().take_while(|byte| **byte == b'\n');
    let uses = uses.count() as u64;
    Some((serde_json::from_slice(&bytes).ok()?, uses))
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
