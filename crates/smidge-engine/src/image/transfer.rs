//! `save`, `load` and `import`: images in and out of the store.

use std::io::{Read, Write};
use std::path::Path;

use smidge_image::{History, ImageConfig, Platform, Reference};
use smidge_store::Image;

use super::change;
use super::removal::reference;
use crate::packing::as_layer;
use crate::registry::Connection;
use crate::url::{redacted, unfetched};
use crate::{Engine, Error, Kind, Result};

/// The forms of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// The archive of `docker save`.
    #[default]
    Docker,
    /// An OCI image layout in a tar archive.
    Oci,
}

/// What `import` makes an image of.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// The image's name.
    pub name: Option<String>,
    /// Dockerfile instructions to apply.
    pub changes: Vec<String>,
    /// What to say in the history.
    pub message: Option<String>,
    /// What machine the files are for, if not this one.
    pub platform: Option<Platform>,
    /// Where the files come from, for the history.
    pub source: String,
}

/// An image that was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The image.
    pub image: Image,
}

fn unreadable(source: std::io::Error) -> Error {
    Error::io("cannot read the archive", source)
}

impl Loaded {
    /// What Docker says about it.
    pub fn lines(&self) -> Vec<String> {
        if self.image.names.is_empty() {
            return vec![format!("Loaded image ID: {}", self.image.id)];
        }
        let named = |name: &Reference| format!("Loaded image: {}", name.familiar());
        self.image.names.iter().map(named).collect()
    }
}

impl Engine {
    /// Writes images to an archive. A repository without a tag means all its tags. A name for several
    /// platforms goes to OCI's archive whole, to Docker's as this machine's image, unless one platform
    /// is asked for.
    ///
    /// # Errors
    /// When there is no such image, when it is damaged, when `output` cannot be written.
    pub fn save(
        &self,
        names: &[String],
        format: ArchiveFormat,
        platform: Option<&Platform>,
        output: &mut dyn Write,
    ) -> Result<()> {
        let images = self.named(names, platform)?;
        match format {
            ArchiveFormat::Docker => self.store.save_docker_archive(&images, output)?,
            ArchiveFormat::Oci => self.store.save_oci_archive(&images, output)?,
        }
        self.note_saved(&images);
        Ok(())
    }

    /// Writes images to a directory, as an OCI image layout.
    ///
    /// # Errors
    /// As [`Engine::save`].
    pub fn save_layout(
        &self,
        names: &[String],
        platform: Option<&Platform>,
        directory: &Path,
    ) -> Result<()> {
        let images = self.named(names, platform)?;
        self.store.save_oci_layout(&images, directory)?;
        self.note_saved(&images);
        Ok(())
    }

    fn note_saved(&self, images: &[(Image, Vec<Reference>)]) {
        for (image, _) in images {
            let id = image.id.to_string();
            self.note_image("save", &id, &id);
        }
    }

    /// The images that are meant, each with the names that it is to have in an archive.
    fn named(
        &self,
        names: &[String],
        platform: Option<&Platform>,
    ) -> Result<Vec<(Image, Vec<Reference>)>> {
        let mut images: Vec<(Image, Vec<Reference>)> = Vec::new();
        let mut add = |image: Image, name: Option<Reference>| {
            let same = |(known, _): &(Image, _)| {
                (known.digest, &known.index) == (image.digest, &image.index)
            };
            let at = images.iter().position(same).unwrap_or_else(|| {
                images.push((image, Vec::new()));
                images.len() - 1
            });
            if let Some(name) = name
                && !images[at].1.contains(&name)
            {
                images[at].1.push(name);
            }
        };
        for text in names {
            let found = self.store.image_for(text, platform);
            let is_named = |name: &Reference| match &found {
                Ok(image) => image.names.contains(name),
                Err(_) => true,
            };
            // An id means the image without a name, as in Docker.
            let name = text.parse::<Reference>().ok().filter(is_named);
            let bare = !text.rsplit('/').next().unwrap_or(text).contains([':', '@']);
            let tags = match &name {
                Some(name) if bare => self.stored_tags(name)?,
                _ => Vec::new(),
            };
            if tags.is_empty() {
                add(found?, name);
                continue;
            }
            for name in tags {
                // Its other tags may be for other machines alone, or of what is no image.
                if let Ok(image) = self.store.image_for(&name.to_string(), platform) {
                    add(image, Some(name));
                }
            }
        }
        Ok(images)
    }

    /// All names of a repository that have a tag.
    fn stored_tags(&self, repository: &Reference) -> Result<Vec<Reference>> {
        let names = self.store.entries()?.into_iter();
        let names = names.filter_map(|entry| entry.name);
        let mut tags: Vec<Reference> = names
            .filter(|name| name.tag().is_some())
            .filter(|name| name.familiar_name() == repository.familiar_name())
            .collect();
        tags.sort();
        Ok(tags)
    }

    /// Reads images from an archive that any engine wrote, for one platform if one is asked for.
    ///
    /// # Errors
    /// When it is no such archive, when it is damaged, when there is nothing for the platform, when
    /// the store cannot be written. Then nothing is loaded.
    pub fn load(&self, input: &mut dyn Read, platform: Option<&Platform>) -> Result<Vec<Loaded>> {
        let mut input = as_layer(input).map_err(unreadable)?;
        let images = self.store.load_for(&mut input, platform)?;
        Ok(self.loaded(images))
    }

    /// Reads images from a directory with an OCI image layout.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load_layout(
        &self,
        directory: &Path,
        platform: Option<&Platform>,
    ) -> Result<Vec<Loaded>> {
        let images = self.store.load_oci_layout_for(directory, platform)?;
        Ok(self.loaded(images))
    }

    /// Makes an image of a root file system in a tar archive.
    ///
    /// # Errors
    /// When the archive is damaged, when a change cannot be understood, when the store cannot be
    /// written.
    pub fn import(&self, request: &ImportRequest, tar: &mut dyn Read) -> Result<Image> {
        let name = request.name.as_deref().map(reference).transpose()?;
        if name.as_ref().is_some_and(|name| name.digest().is_some()) {
            return Err(Error::new(
                Kind::Input,
                "cannot import under a digest: give it a tag",
            ));
        }
        let platform = request.platform.clone();
        let platform = platform.unwrap_or_else(|| Platform::linux(self.host.architecture()));
        let mut config = ImageConfig::new(&platform);
        change::apply(&request.changes, &mut config.config)?;
        let created = self.creation_time();
        let default_comment = || format!("Imported from {}", request.source);
        config.created = Some(created.clone());
        config.history.push(History {
            created: Some(created),
            comment: Some(request.message.clone().unwrap_or_else(default_comment)),
            ..History::default()
        });
        let mut tar = as_layer(tar).map_err(unreadable)?;
        let image = self.store.import(&mut tar, config, name.as_slice())?;
        let id = image.id.to_string();
        self.note_image("import", &id, &id);
        Ok(image)
    }

    /// The same from the URL of `http` or `https` that the request names as its source.
    ///
    /// # Errors
    /// As [`Engine::import`]; when it cannot be fetched.
    pub fn import_from(&self, request: &ImportRequest) -> Result<Image> {
        let url = &request.source;
        let client = self.client(&Connection::default())?;
        let mut download = client
            .download(url)
            .map_err(|fault| unfetched(url, fault))?;
        let request = ImportRequest {
            source: redacted(url),
            ..request.clone()
        };
        self.import(&request, &mut download)
    }

    /// Each image once: an archive may hold it under several names.
    fn loaded(&self, images: Vec<Image>) -> Vec<Loaded> {
        let mut seen = std::collections::HashSet::new();
        let new = images.into_iter().filter(|image| seen.insert(image.id));
        let note = |image: Image| {
            let id = image.id.to_string();
            self.note_image("load", &id, &id);
            Loaded { image }
        };
        new.map(note).collect()
    }

    /// The time that goes into an image: `SOURCE_DATE_EPOCH`, or 1970, so that the same files make the
    /// same image.
    fn creation_time(&self) -> String {
        let seconds = self.host.source_date_epoch.unwrap_or(0);
        let moment = time::OffsetDateTime::from_unix_timestamp(seconds)
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        moment
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap_or_default()
    }
}
