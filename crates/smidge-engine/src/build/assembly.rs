//! The draft becomes an image: layers, config and manifest in a store, and out of it if so asked.

use std::fs::File;
use std::io::{BufWriter, Write};

use smidge_image::{Descriptor, ImageConfig, Manifest, Reference, media_type};
use smidge_store::{Image, Store};

use super::draft::{Draft, created};
use super::request::{Output, OutputFormat, Sink};
use crate::{Error, Host, Progress, Result};

/// Where an image is made.
pub(super) struct Assembly<'a> {
    /// The store that holds it, for good or in passing.
    pub(super) store: &'a Store,
    /// The surroundings.
    pub(super) host: &'a Host,
    /// The image's names.
    pub(super) names: &'a [Reference],
}

impl Assembly<'_> {
    /// Writes an image into the store, under its names.
    pub(super) fn write(&self, draft: &Draft, progress: &dyn Progress) -> Result<Image> {
        let mut config = ImageConfig::new(&draft.platform);
        config.created = Some(created(self.host)?);
        config.author.clone_from(&draft.author);
        config.config = draft.config.clone();
        let mut layers = Vec::new();
        for step in &draft.steps {
            let mut history = step.history.clone();
            history.empty_layer = step.layer.is_none();
            if let Some(layer) = &step.layer {
                let (id, size) = layer.write(self.store, progress)?;
                config.rootfs.diff_ids.push(id);
                layers.push(Descriptor::new(media_type::LAYER, id.0, size));
            }
            config.history.push(history);
        }
        let config = config.to_bytes();
        self.store.put(&config)?;
        let manifest = Manifest::new(Descriptor::of(media_type::CONFIG, &config), layers);
        Ok(self.store.add_image(&manifest.to_bytes(), self.names)?)
    }

    /// Writes an image where the user wants it.
    pub(super) fn export(
        &self,
        image: &Image,
        output: &Output,
        stdout: &mut dyn Write,
    ) -> Result<()> {
        let Output::Export { format, sink } = output else {
            return Ok(());
        };
        let images = [(image.clone(), self.names.to_vec())];
        match (format, sink) {
            (OutputFormat::Oci, Sink::Path(path)) => Ok(self
                .store
                .save_oci_layout(&images, &self.host.absolute(path))?),
            (OutputFormat::Rootfs, Sink::Path(path)) => Ok(self
                .store
                .save_rootfs_directory(image, &self.host.absolute(path))?),
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
