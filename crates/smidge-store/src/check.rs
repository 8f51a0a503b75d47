//! Whether a store is whole.

use std::io::{self, Read};

use smidge_image::{Descriptor, DiffId};

use crate::checkout::{check_diff_id, walk_layer};
use crate::error::READ;
use crate::index::name_of;
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
        let index = self.read_index()?;
        let mut problems = Vec::new();
        for entry in &index.manifests {
            let subject =
                name_of(entry).map_or_else(|| entry.digest.to_string(), |name| name.familiar());
            let mut note = |error| {
                problems.push(Problem {
                    subject: subject.clone(),
                    error,
                })
            };
            match self.read_image(&index, entry) {
                Ok(image) => self.check_layers(&image).into_iter().for_each(&mut note),
                Err(error) => note(error),
            }
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
        let path = self.blob_path(&layer.digest);
        read_to_end(&mut self.blob(layer)?).map_err(|error| self.io(READ, &path, error))?;
        let received = walk_layer(self.blob(layer)?, &layer.digest, &what, |_, _| Ok(()))?;
        check_diff_id(&what, diff_id, &received)
    }
}

fn read_to_end(reader: &mut dyn Read) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    while reader.read(&mut buffer)? > 0 {}
    Ok(())
}
