//! `commit`: what a container has changed becomes an image.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;

use rustix::pipe::{PipeFlags, pipe_with};
use smidge_image::{Descriptor, DiffId, History, Manifest, media_type};
use smidge_run::View;
use smidge_store::Image;
use smidge_store::copy::pack_changes;

use super::copy::first;
use super::record::Known;
use super::visit::{Changed, owners, visit};
use crate::image::{apply_changes, reference};
use crate::{Engine, Error, Kind, Result};

/// An image, as it is to be made of a container.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// The container's name or id.
    pub container: String,
    /// The image's name, if it is to have one.
    pub name: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Dockerfile instructions that change its config.
    pub changes: Vec<String>,
    /// What its history says of it.
    pub message: Option<String>,
    /// Whether the program stops while its files are read.
    pub pause: bool,
}

impl Engine {
    /// Makes an image of a container's image and what the container has changed. What is in volumes is no
    /// part of it.
    ///
    /// # Errors
    /// When there is no such container, when its image is gone, when a name or a change cannot be
    /// understood, when a file cannot be read, when the store cannot be written.
    pub fn commit(&self, request: &CommitRequest) -> Result<Image> {
        let known = self.container(&request.container)?;
        let name = request.name.as_deref().map(reference).transpose()?;
        if name.as_ref().is_some_and(|name| name.digest().is_some()) {
            let fault = "cannot commit under a digest: give the image a tag";
            return Err(Error::new(Kind::Input, fault));
        }
        let image = self.store.image(&known.record.image_id.to_string())?;
        let mut config = image.config.clone();
        config.config = known.record.config.clone();
        config.config.extra.remove("Hostname");
        // A bare name is a variable that this container was not to have.
        config.config.env.retain(|pair| pair.contains('='));
        apply_changes(&request.changes, &mut config.config)?;
        let layer = {
            // One that does not run, or no more, needs no stopping.
            let dir = &known.container.dir;
            let _halted = request.pause.then(|| smidge_run::halt(dir).ok());
            self.changed_layer(&known)?
        };
        let created = self.commit_time();
        config.created = Some(created.clone());
        config.author.clone_from(&request.author);
        config.history.push(History {
            created: Some(created),
            author: request.author.clone(),
            created_by: Some(known.record.spec.args.join(" ")),
            comment: request.message.clone(),
            empty_layer: layer.is_none(),
            ..History::default()
        });
        let mut layers = image.manifest.layers.clone();
        if let Some(layer) = layer {
            config.rootfs.diff_ids.push(DiffId(layer.digest));
            layers.push(layer);
        }
        let config = config.to_bytes();
        self.store.put(&config)?;
        let manifest = Manifest::new(Descriptor::of(media_type::CONFIG, &config), layers);
        let made = self
            .store
            .add_image(&manifest.to_bytes(), name.as_slice())?;
        let id = made.id.to_string();
        self.note_container(&known, "commit", &[("imageID", id.as_str())]);
        Ok(made)
    }

    /// The time that goes into the image: `SOURCE_DATE_EPOCH`, or now, as a container is none that could be
    /// made again.
    fn commit_time(&self) -> String {
        use time::format_description::well_known::Rfc3339;
        let asked = self.host.source_date_epoch;
        let moment = asked.and_then(|at| time::OffsetDateTime::from_unix_timestamp(at).ok());
        moment
            .and_then(|moment| moment.format(&Rfc3339).ok())
            .unwrap_or_else(smidge_run::now)
    }

    /// Stores what a container has changed as a layer; none if there is nothing.
    fn changed_layer(&self, known: &Known) -> Result<Option<Descriptor>> {
        let Some(changed) = Changed::of(known) else {
            return Ok(None);
        };
        let owners = owners(&known.record);
        let pipe = pipe_with(PipeFlags::CLOEXEC);
        let (reader, writer) =
            pipe.map_err(|error| Error::io("cannot make a pipe", error.into()))?;
        let (mut reader, writer) = (File::from(reader), File::from(writer));
        let visit = visit(known, View::Host, &[writer.as_fd()], || {
            changed.look(|upper| Ok(pack_changes(upper, owners, &mut &writer)?))
        })?;
        drop(writer);
        let mut blob = self.store.blob_writer()?;
        let copied = std::io::copy(&mut reader, &mut blob).and_then(|_| blob.flush());
        drop(reader);
        let stored = copied.map_err(|source| match source.downcast::<smidge_store::Error>() {
            Ok(error) => error.into(),
            Err(source) => Error::io("cannot store the layer", source),
        });
        let entries = first(visit.finish(), stored)?;
        if entries == 0 {
            return Ok(None);
        }
        let (digest, size) = blob.commit()?;
        Ok(Some(Descriptor::new(media_type::LAYER, digest, size)))
    }
}
