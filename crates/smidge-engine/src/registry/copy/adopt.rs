//! From the store of a copy into the user's, where the image gets the one name that was asked for.

use std::io::Read;

use smidge_image::{Descriptor, Manifest, Reference};
use smidge_store::{Intake, Store};

use super::{Copied, CopyRequest};
use crate::registry::parse_name;
use crate::{Engine, Error, Kind, Result};

/// Takes in what `passing` calls `stored_as`, under the name `text`.
pub(super) fn adopt(
    engine: &Engine,
    (passing, stored_as): (&Store, &str),
    text: &str,
    request: &CopyRequest,
) -> Result<Copied> {
    let name: Reference = parse_name(text)?;
    let adoption = Adoption {
        passing,
        intake: engine.store.intake()?,
    };
    let image = passing.image_for(stored_as, request.platform.as_ref())?;
    let top = match image.index.filter(|_| request.all) {
        None => adoption.image(&image.digest.to_string())?,
        Some(index) => {
            for variant in passing.variants(stored_as)? {
                if variant.image.is_some() {
                    adoption.image(&variant.descriptor.digest.to_string())?;
                }
            }
            adoption.document(&index.digest.to_string())?.0
        }
    };
    let digest = top.digest;
    adoption.intake.commit(&[(top, vec![name])])?;
    Ok(Copied {
        digest,
        notes: Vec::new(),
    })
}

struct Adoption<'a> {
    passing: &'a Store,
    intake: Intake<'a>,
}

impl Adoption<'_> {
    /// Takes in a manifest with all that it needs.
    fn image(&self, digest: &str) -> Result<Descriptor> {
        let (descriptor, bytes) = self.document(digest)?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|source| {
            Error::new(Kind::Input, "the manifest cannot be understood").caused_by(source)
        })?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            self.intake.blob(blob, &mut |offset| {
                let mut reader = self.passing.blob(blob).map_err(std::io::Error::other)?;
                std::io::copy(&mut (&mut reader).take(offset), &mut std::io::sink())?;
                Ok(Box::new(reader))
            })?;
        }
        Ok(descriptor)
    }

    fn document(&self, digest: &str) -> Result<(Descriptor, Vec<u8>)> {
        let (descriptor, bytes) = self.passing.document(digest)?;
        self.intake.put(&bytes)?;
        Ok((descriptor, bytes))
    }
}
