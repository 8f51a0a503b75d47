//! The draft becomes an image: layers, config and manifest in a store, and out of it if so asked.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use smidge_image::{
    Descriptor, DiffId, Digest, History, ImageConfig, Index, Manifest, Reference, media_type,
};
use smidge_store::{Compression, Image, Squash, Store};

use super::dockerfile;
use super::draft::{Draft, Joining, StepLayer, Stored, created};
use super::layer::Layer;
use super::request::{Output, OutputFormat, Sink};
use crate::{Error, Host, Progress, Result};

/// Where an image is made.
pub(super) struct Assembly<'a> {
    /// The store that holds it, for good or in passing.
    pub(super) store: &'a Store,
    /// The user's store, where layers may be that were made before.
    pub(super) kept: &'a Store,
    /// What writes layers.
    pub(super) packer: &'a dyn Packer,
    /// The surroundings.
    pub(super) host: &'a Host,
    /// The image's names.
    pub(super) names: &'a [Reference],
    /// Whether the image carries its build cache.
    pub(super) inline_cache: bool,
}

/// Writes layers into a store.
pub(super) trait Packer {
    /// Writes one, unless it is known which one it will be.
    ///
    /// # Errors
    /// When a file cannot be read, or the layer not be written.
    fn pack(&self, layer: &Layer, progress: &dyn Progress) -> Result<Stored>;

    /// Makes one layer of several, unless it is known which one it will be.
    ///
    /// # Errors
    /// When a layer cannot be read, or the one not be written.
    fn join(&self, layers: &Squash<'_>) -> Result<Stored>;
}

/// Writes them all.
pub(super) struct Plain<'s>(pub(super) &'s Store);

impl Packer for Plain<'_> {
    fn pack(&self, layer: &Layer, progress: &dyn Progress) -> Result<Stored> {
        let (diff_id, size) = layer.write(self.0, progress)?;
        Ok(Stored { diff_id, size })
    }

    fn join(&self, layers: &Squash<'_>) -> Result<Stored> {
        Ok(self.0.squash(layers)?.into())
    }
}

/// A layer, and what it unpacks to.
type Packed = (Descriptor, DiffId);

impl Assembly<'_> {
    /// Writes images into the store: a single one under the names, several under an index that has
    /// them.
    pub(super) fn write(
        &self,
        drafts: &[&Draft],
        progress: &dyn Progress,
    ) -> Result<(Vec<Image>, Option<Descriptor>)> {
        if let [draft] = drafts {
            let manifest = self.image(draft, progress)?;
            let image = self.store.add_image(&manifest, self.names)?;
            return Ok((vec![image], None));
        }
        let mut manifests = Vec::new();
        for draft in drafts {
            let manifest = self.image(draft, progress)?;
            self.store.put(&manifest)?;
            manifests.push(Descriptor {
                platform: Some(draft.platform.clone()),
                ..Descriptor::of(media_type::MANIFEST, &manifest)
            });
        }
        let index = Index::new(manifests).to_bytes();
        let index = self.store.add_index(&index, self.names)?;
        let variants = self.store.variants(&index.digest.to_string())?;
        let images: Vec<_> = variants.into_iter().filter_map(|v| v.image).collect();
        Ok((images, Some(index)))
    }

    /// Writes everything of an image but its name into the store; gives the manifest.
    fn image(&self, draft: &Draft, progress: &dyn Progress) -> Result<Vec<u8>> {
        let mut config = self.config(draft);
        config.created = Some(created(self.host)?);
        let below = draft.base.iter().flat_map(|base| &base.layers);
        let mut layers: Vec<Packed> = below.cloned().collect();
        for step in &draft.steps {
            let mut history = step.history.clone();
            history.empty_layer = step.layer.is_none();
            if let Some(layer) = &step.layer {
                let stored = match layer {
                    StepLayer::Files(files) => self.packer.pack(files, progress)?,
                    StepLayer::Stored(stored) => *stored,
                };
                config.rootfs.diff_ids.push(stored.diff_id);
                layers.push((stored.descriptor(), stored.diff_id));
            }
            config.history.push(history);
        }
        if draft.alone {
            // One step made one layer: there is nothing to be told apart.
            config.history.clear();
        }
        self.join(draft, &mut layers, &mut config)?;
        let layers: Vec<Descriptor> = layers.into_iter().map(|(layer, _)| layer).collect();
        layers.iter().try_for_each(|layer| self.bring(layer))?;
        let records = self.inline_cache.then_some(&*draft.records);
        dockerfile::embed(&mut config, records);
        let config = config.to_bytes();
        self.store.put(&config)?;
        let manifest = Manifest::new(Descriptor::of(media_type::CONFIG, &config), layers);
        Ok(manifest.to_bytes())
    }

    /// Makes one layer of those that are to become one. As in Docker, the history keeps what was done,
    /// without layers, and tells of the joining.
    fn join(
        &self,
        draft: &Draft,
        layers: &mut Vec<Packed>,
        config: &mut ImageConfig,
    ) -> Result<()> {
        let base = draft.base.as_deref();
        let (kept, wanted) = match &draft.joining {
            Joining::Apart => return Ok(()),
            Joining::Squashed => (base.map_or(0, |base| base.layers.len()), None),
            Joining::Slim(wanted) => (0, Some(&**wanted)),
        };
        if layers.len() <= kept {
            // Nothing was added.
            return Ok(());
        }
        let id = Digest::of(&config.to_bytes());
        let (below, own) = layers.split_at(kept);
        let joined = self.packer.join(&Squash {
            below,
            layers: own,
            wanted,
        })?;
        layers.truncate(kept);
        layers.push((joined.descriptor(), joined.diff_id));
        config.rootfs.diff_ids.truncate(kept);
        config.rootfs.diff_ids.push(joined.diff_id);
        let told = match wanted {
            Some(_) => 0,
            None => base.map_or(0, |base| base.config.history.len()),
        };
        for entry in config.history.iter_mut().skip(told) {
            entry.empty_layer = true;
        }
        let comment = match (wanted, base) {
            (Some(_), _) => format!("slimmed from {id}"),
            (None, Some(base)) => format!("merge {id} to {}", base.id),
            (None, None) => format!("create new from {id}"),
        };
        config.history.push(History {
            created: config.created.clone(),
            comment: Some(comment),
            ..History::default()
        });
        Ok(())
    }

    /// The config of the base, if there is one, with what the draft says.
    fn config(&self, draft: &Draft) -> ImageConfig {
        let mut config = match &draft.base {
            Some(base) => base.config.clone(),
            None => ImageConfig::new(&draft.platform),
        };
        if draft.author.is_some() {
            config.author.clone_from(&draft.author);
        }
        config.config = draft.config.clone();
        config
    }

    /// Copies a blob from the store where layers are kept, if that is another one.
    fn bring(&self, blob: &Descriptor) -> Result<()> {
        if self.store.has(blob) {
            return Ok(());
        }
        let mut writer = self.store.blob_writer()?;
        io::copy(&mut self.kept.blob(blob)?, &mut writer)
            .map_err(|source| Error::io("cannot copy a layer", source))?;
        Ok(writer.commit_as(blob)?)
    }

    /// An index as it is found where the output went: what leaves is compressed, which changes what
    /// an index says of its images.
    pub(super) fn leaving(&self, index: Descriptor, output: &Output) -> Result<Descriptor> {
        match output {
            Output::Export {
                format: OutputFormat::Oci | OutputFormat::OciArchive,
                ..
            } => {
                let name = index.digest.to_string();
                let sent = self.store.transfer_index(&name, Compression::Gzip)?;
                Ok(sent.map_or(index, |sent| sent.descriptor))
            }
            _ => Ok(index),
        }
    }

    /// Writes images where the user wants them. An index goes as a whole; directories of several
    /// platforms' files go by the platforms' names, as Docker has it.
    pub(super) fn export(
        &self,
        images: &[Image],
        index: Option<&Descriptor>,
        output: &Output,
        stdout: &mut dyn Write,
    ) -> Result<()> {
        let Output::Export { format, sink } = output else {
            return Ok(());
        };
        if let (OutputFormat::Rootfs, Sink::Path(path)) = (format, sink) {
            let path = self.host.absolute(path);
            return images.iter().try_for_each(|image| {
                let path = match images.len() {
                    1 => path.clone(),
                    _ => path.join(image.config.platform().to_string().replace('/', "_")),
                };
                Ok(self.store.save_rootfs_directory(image, &path)?)
            });
        }
        let Some(mut first) = images.first().cloned() else {
            return Ok(());
        };
        // One that was found by its index stands for all of them.
        first.index = index.cloned();
        let images = [(first, self.names.to_vec())];
        match (format, sink) {
            (OutputFormat::Oci, Sink::Path(path)) => Ok(self
                .store
                .save_oci_layout(&images, &self.host.absolute(path))?),
            (_, Sink::Stdout) => archive(*format, &images, self.store, stdout),
            (_, Sink::Path(path)) => {
                let failed =
                    |source| Error::io(format!("cannot write `{}`", path.display()), source);
                let file = File::create(self.host.absolute(path)).map_err(failed)?;
                let mut file = BufWriter::new(file);
                archive(*format, &images, self.store, &mut file)?;
                file.flush().map_err(failed)
            }
        }
    }
}

fn archive(
    format: OutputFormat,
    images: &[(Image, Vec<Reference>)],
    store: &Store,
    output: &mut dyn Write,
) -> Result<()> {
    match format {
        OutputFormat::DockerArchive => store.save_docker_archive(images, output)?,
        OutputFormat::OciArchive | OutputFormat::Oci => store.save_oci_archive(images, output)?,
        OutputFormat::Tar | OutputFormat::Rootfs => {
            images
                .iter()
                .try_for_each(|(image, _)| store.save_rootfs(image, output))?;
        }
    }
    Ok(())
}
