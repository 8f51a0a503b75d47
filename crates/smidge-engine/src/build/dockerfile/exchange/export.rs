//! `--cache-to`: what the steps of a build have made leaves for other machines.

use std::collections::{BTreeMap, BTreeSet};

use smidge_image::{Descriptor, DiffId, Digest, Manifest, media_type};
use smidge_store::{Transfer, TransferLayer};

use super::Exchange;
use super::document::{ARTIFACT, CONFIG, Document, List, Mount, Record};
use super::option::{LayoutName, Mounts, Place, Target};
use super::origin::for_name;
use crate::build::draft::Draft;
use crate::registry::check_layout;
use crate::{Kind, Result, StepTask};

impl Exchange<'_> {
    /// Sends the cache to wherever it is to go. `drafts` are the images that were built.
    ///
    /// # Errors
    /// When it cannot be sent, unless that is not to matter.
    pub(in crate::build) fn export(&self, drafts: &[&Draft]) -> Result<()> {
        for target in &self.targets {
            if target.place == Place::Inline {
                continue;
            }
            let task = self.step(format!("exporting cache to {}", target.place));
            match self.export_to(target, drafts, &*task) {
                Ok(()) => task.finish(),
                Err(error) if target.ignore_error => {
                    task.fail(&error.to_string());
                    self.note(&error, "it was not exported");
                }
                Err(error) => {
                    task.fail(&error.to_string());
                    return Err(error.with_hint(
                        "the image is built; with `ignore-error=true` this is a warning",
                    ));
                }
            }
        }
        Ok(())
    }

    fn export_to(&self, target: &Target, drafts: &[&Draft], task: &dyn StepTask) -> Result<()> {
        let say = |text: String| task.output(format!("{text}\n").as_bytes());
        if let Place::Layout { directory, .. } = &target.place {
            check_layout(directory)?;
        }
        say("preparing build cache for export".to_owned());
        let cache = self.packed(target, drafts)?;
        for layer in &cache.layers {
            say(format!("writing layer {}", layer.descriptor.digest));
        }
        match &target.place {
            Place::Registry { name, insecure } => {
                let connection = for_name(self.connection, *insecure);
                self.engine
                    .push_cache(name, &cache, &connection, self.progress)?;
            }
            Place::Layout {
                directory,
                name: LayoutName::Tag(tag),
            } => cache.export_oci_layout(tag, directory)?,
            Place::Layout { .. } | Place::Inline => {}
        }
        say(format!("writing cache image manifest {}", cache.digest()));
        Ok(())
    }

    /// The cache as it travels.
    fn packed(&self, target: &Target, drafts: &[&Draft]) -> Result<Transfer> {
        let records: BTreeMap<Digest, Record> = match target.all {
            true => self.state().records.clone(),
            false => {
                let records = drafts.iter().flat_map(|draft| &draft.records);
                records.map(|record| (record.key, record.clone())).collect()
            }
        };
        let sizes = records.values().map(|record| (record.layer, record.size));
        let sizes: BTreeMap<DiffId, u64> = sizes.collect();
        let mut layers = self.layers(&sizes, target)?;
        let mut diff_ids: Vec<DiffId> = sizes.into_keys().collect();
        let mut mounts = Vec::new();
        for id in self.wanted_mounts(&target.mounts) {
            let Some((diff_id, layer)) = self.mount_layer(&id, target)? else {
                continue;
            };
            if !diff_ids.contains(&diff_id) {
                diff_ids.push(diff_id);
                layers.push(layer);
            }
            mounts.push(Mount { id, layer: diff_id });
        }
        let records = records.into_values().collect();
        let document = Document::new(diff_ids, List { records, mounts });
        self.assembled(&document, layers)
    }

    /// What steps have made, compressed: anew where it did not come so.
    fn layers(&self, sizes: &BTreeMap<DiffId, u64>, target: &Target) -> Result<Vec<TransferLayer>> {
        let encoder = target.compression.encoder_name();
        let came = |diff_id: &DiffId| self.as_it_came(diff_id, encoder.as_deref()?);
        let mut layers: BTreeMap<DiffId, TransferLayer> = sizes
            .keys()
            .filter_map(|diff_id| Some((*diff_id, came(diff_id)?)))
            .collect();
        let others: Vec<DiffId> = sizes
            .keys()
            .filter(|diff_id| !layers.contains_key(diff_id))
            .copied()
            .collect();
        let bare: Vec<Descriptor> = others
            .iter()
            .map(|diff_id| Descriptor::new(media_type::LAYER, diff_id.0, sizes[diff_id]))
            .collect();
        let store = &self.engine.store;
        let packed = store.transfer_layers(&bare, target.compression)?;
        layers.extend(others.into_iter().zip(packed));
        Ok(layers.into_values().collect())
    }

    fn assembled(&self, document: &Document, mut layers: Vec<TransferLayer>) -> Result<Transfer> {
        if layers.is_empty() {
            // There are registries that take no manifest without layers (image-spec, "Guidance for an
            // Empty Descriptor").
            let passing = self.passing()?;
            let empty = Descriptor::of(media_type::EMPTY, b"{}");
            passing.put(b"{}")?;
            layers.extend(passing.transfer_blob(&empty.digest).map(|mut layer| {
                layer.descriptor = empty;
                layer
            }));
        }
        let config =
            serde_json::to_vec(document).map_err(|error| crate::Error::of(Kind::Bug, error))?;
        let descriptors = layers.iter().map(|layer| layer.descriptor.clone());
        let mut manifest = Manifest::new(Descriptor::of(CONFIG, &config), descriptors.collect());
        manifest
            .extra
            .insert("artifactType".to_owned(), ARTIFACT.into());
        let manifest = manifest.to_bytes();
        Ok(Transfer {
            descriptor: Descriptor::of(media_type::MANIFEST, &manifest),
            manifest,
            config,
            layers,
        })
    }

    /// The cache mounts that go along: those of them that the build's steps use.
    fn wanted_mounts(&self, wanted: &Mounts) -> BTreeSet<String> {
        let used = self.state().mounts.clone();
        let ids = match wanted {
            Mounts::None => return BTreeSet::new(),
            Mounts::All => return used,
            Mounts::Some(ids) => ids,
        };
        for id in ids.iter().filter(|id| !used.contains(*id)) {
            let message = format!("no step uses the cache mount `{id}`: it does not go along");
            self.state().notes.push(crate::Note::new(message));
        }
        ids.iter()
            .filter(|id| used.contains(*id))
            .cloned()
            .collect()
    }

    /// A cache mount as a layer: as it is here, or else as it came, where no step had to be carried out.
    fn mount_layer(&self, id: &str, target: &Target) -> Result<Option<(DiffId, TransferLayer)>> {
        let passing = self.passing()?;
        if let Some(packed) = self.engine.store.pack_mount(id, passing)? {
            let bare = Descriptor::new(media_type::LAYER, packed.diff_id.0, packed.size);
            let layers = passing.transfer_layers(&[bare], target.compression)?;
            return Ok(layers
                .into_iter()
                .next()
                .map(|layer| (packed.diff_id, layer)));
        }
        let Some((descriptor, diff_id)) = self.imported_mount(id)? else {
            return Ok(None);
        };
        let layer = passing.transfer_blob(&descriptor.digest);
        Ok(layer.map(|mut layer| {
            layer.descriptor = descriptor;
            (diff_id, layer)
        }))
    }
}
