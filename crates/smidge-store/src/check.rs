//! Whether a store is whole.

use std::collections::HashSet;
use std::io::{self, Read};

use smidge_image::{Descriptor, DiffId};

use crate::checkout::{check_diff_id, walk_layer};
use crate::error::READ;
use crate::index::{IMAGE_ID, name_of, version};
use crate::{Error, Image, Store};

/// Something that is not as it should be.
#[derive(Debug)]
pub struct Problem {
    /// Where: an image's name or digest, a container's name.
    pub subject: String,
    /// What.
    pub error: Error,
}

impl Store {
    /// Reads everything and verifies it: every entry of the index, every blob that it leads to, every
    /// container's record.
    ///
    /// # Errors
    /// When the index cannot be read; anything else is a [`Problem`].
    pub fn check(&self) -> Result<Vec<Problem>, Error> {
        let mut problems = Vec::new();
        let mut checked = HashSet::new();
        for entry in &self.read_index()?.manifests {
            if !checked.insert(version(entry)) {
                continue;
            }
            let subject =
                name_of(entry).map_or_else(|| entry.digest.to_string(), |name| name.familiar());
            let problem = |error| Problem {
                subject: subject.clone(),
                error,
            };
            problems.extend(self.check_entry(entry).into_iter().map(problem));
        }
        for container in self.containers()? {
            if let Err(error) = container.record::<serde_json::Value>() {
                problems.push(Problem {
                    subject: container.name,
                    error,
                });
            }
        }
        Ok(problems)
    }

    fn check_entry(&self, entry: &Descriptor) -> Vec<Error> {
        if entry.is_manifest() {
            return self.check_manifest(entry);
        }
        if let Err(error) = self.check_blob(entry) {
            return vec![error];
        }
        if !entry.is_index() {
            return Vec::new();
        }
        match self.documents_of(entry) {
            Err(error) => vec![error],
            Ok(documents) => documents
                .iter()
                .flat_map(|document| match document.is_manifest() {
                    true => self.check_manifest(document),
                    false => self.check_blob(document).err().into_iter().collect(),
                })
                .collect(),
        }
    }

    fn check_manifest(&self, entry: &Descriptor) -> Vec<Error> {
        let examined = match self.examine(entry) {
            Ok(examined) => examined,
            Err(error) => return vec![error],
        };
        match examined.image {
            Ok(image) => self.check_layers(&image),
            Err(error) if entry.annotations.contains_key(IMAGE_ID) => vec![error],
            // An artifact: bytes that mean nothing here.
            Err(_) => examined
                .blobs
                .iter()
                .filter_map(|blob| self.check_blob(blob).err())
                .collect(),
        }
    }

    fn check_blob(&self, blob: &Descriptor) -> Result<(), Error> {
        let path = self.blob_path(&blob.digest);
        read_to_end(&mut self.blob(blob)?).map_err(|error| self.io(READ, &path, error))
    }

    fn check_layers(&self, image: &Image) -> Vec<Error> {
        let layers = image
            .manifest
            .layers
            .iter()
            .zip(&image.config.rootfs.diff_ids);
        layers
            .filter_map(|(layer, diff_id)| self.check_layer(layer, diff_id).err())
            .collect()
    }

    fn check_layer(&self, layer: &Descriptor, diff_id: &DiffId) -> Result<(), Error> {
        let what = layer.digest.to_string();
        // Once for the blob itself, so that damage is told from a layer that never was one.
        self.check_blob(layer)?;
        let received = walk_layer(self.blob(layer)?, &layer.digest, &what, |_, _| Ok(()))?;
        check_diff_id(&what, diff_id, &received)
    }
}

fn read_to_end(reader: &mut dyn Read) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    while reader.read(&mut buffer)? > 0 {}
    Ok(())
}
