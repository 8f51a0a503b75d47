//! Images become archives and layouts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use smidge_image::{
    Descriptor, Digest, Entry, EntryKind, Index, LayerError, LayerPath, LayerWriter, PathError,
    Reference, annotation,
};

use super::document::{
    DOCKER_MANIFEST, DockerImage, INDEX, LAYOUT, REPOSITORIES, Repositories, blob_member,
};
use super::layout::Layout;
use crate::checkout::{layer_error, unpacked};
use crate::index::drop_names;
use crate::store::layout_file;
use crate::{Compression, Error, Image, Store, Transfer, TransferLayer};

/// Bytes that are unpacked at a time.
const BUFFER: usize = 1 << 18;

/// Where blobs go.
pub(super) trait Sink {
    /// Takes a manifest, a config or an index.
    fn document(&mut self, bytes: &[u8]) -> Result<(), Error>;

    /// Takes a layer, unless it is there already.
    fn layer(&mut self, layer: &TransferLayer) -> Result<(), Error>;
}

impl Store {
    /// Writes images as `docker save` does since Docker 25, layers as they are stored: what comes out
    /// is a docker-archive and an OCI archive at once. Of an index it is the one image that was found.
    ///
    /// # Errors
    /// When a blob is missing or corrupt, when `output` cannot be written.
    pub fn save_docker_archive(
        &self,
        images: &[(Image, Vec<Reference>)],
        output: &mut dyn Write,
    ) -> Result<(), Error> {
        let mut archive = Archive::new(output);
        let mut index = Index::new(Vec::new());
        let mut docker = Vec::new();
        let mut repositories = Repositories::new();
        archive.directories()?;
        for (image, names) in images {
            let transfer = self.transfer(image, Compression::None)?;
            write_image(&transfer, &mut archive)?;
            let entries = entries(&transfer.descriptor, names, |name| {
                name.tag().map(str::to_owned)
            });
            index.manifests.extend(entries);
            let top = image.manifest.layers.last().map(|layer| layer.digest.hex());
            for (name, tag) in names.iter().filter_map(|name| Some((name, name.tag()?))) {
                let tags = repositories.entry(name.familiar_name()).or_default();
                tags.insert(tag.to_owned(), top.clone().unwrap_or_default());
            }
            let layers = image.manifest.layers.iter();
            let members = layers.map(|layer| blob_member(&layer.digest.hex()));
            docker.push(docker_image(image, names, members.collect()));
        }
        archive.bytes(INDEX, &index.to_bytes())?;
        archive.bytes(DOCKER_MANIFEST, &to_json(&docker)?)?;
        archive.bytes(LAYOUT, &layout_file())?;
        archive.bytes(REPOSITORIES, &to_json(&repositories)?)?;
        archive.finish()
    }

    /// Writes an image as a docker-archive for a Docker daemon that has so many of its layers already,
    /// from the bottom: it does not look for them in the archive. It is no OCI archive: layers that are
    /// compressed with zstd, which daemons before Docker 23 do not know, are unpacked.
    ///
    /// # Errors
    /// As [`Store::save_docker_archive`].
    pub fn save_for_docker(
        &self,
        (image, name): (&Image, &Reference),
        known: usize,
        output: &mut dyn Write,
    ) -> Result<(), Error> {
        let mut archive = Archive::new(output);
        archive.directories()?;
        let transfer = self.transfer(image, Compression::None)?;
        archive.document(&transfer.config)?;
        let mut members = Vec::new();
        for (at, layer) in transfer.layers.iter().enumerate() {
            let diff_id = image.config.rootfs.diff_ids.get(at);
            let bare = diff_id.filter(|_| layer.descriptor.media_type.ends_with("zstd"));
            let digest = bare.map_or(layer.descriptor.digest, |diff_id| diff_id.0);
            members.push(blob_member(&digest.hex()));
            match bare {
                _ if at < known => {}
                None => archive.layer(layer)?,
                Some(diff_id) => {
                    let size = bare_size(layer)?;
                    archive.blob(&diff_id.0, size, &|| bare_layer(layer))?;
                }
            }
        }
        // In full: Podman takes a short name for one of its own.
        let images = [DockerImage {
            config: blob_member(&image.id.hex()),
            repo_tags: Some(vec![name.to_string()]),
            layers: Some(members),
        }];
        archive.bytes(DOCKER_MANIFEST, &to_json(&images)?)?;
        archive.finish()
    }

    /// Writes images as a tar archive of an OCI layout, layers compressed. What was found by the name
    /// of an index goes as the index, with all its images that are stored.
    ///
    /// # Errors
    /// As [`Store::save_docker_archive`].
    pub fn save_oci_archive(
        &self,
        images: &[(Image, Vec<Reference>)],
        output: &mut dyn Write,
    ) -> Result<(), Error> {
        let mut archive = Archive::new(output);
        let mut index = Index::new(Vec::new());
        archive.directories()?;
        for (image, names) in images {
            let entry = self.write_found(image, Compression::Gzip, &mut archive)?;
            index.manifests.extend(oci_entries(&entry, names));
        }
        archive.oci(&index)
    }

    /// As [`Store::save_oci_archive`], one image, compressed as asked for, under a name that need not
    /// be a reference.
    ///
    /// # Errors
    /// As [`Store::save_docker_archive`].
    pub fn export_oci_archive(
        &self,
        (image, name): (&Image, Option<&str>),
        compression: Compression,
        output: &mut dyn Write,
    ) -> Result<Descriptor, Error> {
        let mut archive = Archive::new(output);
        archive.directories()?;
        let entry = self.write_found(image, compression, &mut archive)?;
        archive.oci(&Index::new(vec![named(&entry, name)]))?;
        Ok(entry)
    }

    /// Writes images to a directory as an OCI layout, layers compressed. In a directory that is one
    /// already, they are added to it. Indexes go whole, as to an archive.
    ///
    /// # Errors
    /// As [`Store::save_docker_archive`].
    pub fn save_oci_layout(
        &self,
        images: &[(Image, Vec<Reference>)],
        directory: &Path,
    ) -> Result<(), Error> {
        let mut layout = Layout::open(directory)?;
        for (image, names) in images {
            let entry = self.write_found(image, Compression::Gzip, &mut layout)?;
            drop_names(&mut layout.index, names);
            layout.add(&entry, oci_entries(&entry, names));
        }
        layout.close()
    }

    /// As [`Store::save_oci_layout`], one image, compressed as asked for, under a name that need not
    /// be a reference.
    ///
    /// # Errors
    /// As [`Store::save_docker_archive`].
    pub fn export_oci_layout(
        &self,
        (image, name): (&Image, Option<&str>),
        compression: Compression,
        directory: &Path,
    ) -> Result<Descriptor, Error> {
        let mut layout = Layout::open(directory)?;
        let entry = self.write_found(image, compression, &mut layout)?;
        enter(layout, &entry, name)?;
        Ok(entry)
    }

    /// Writes what was found: the index, if it was one, else the image. Returns its descriptor.
    fn write_found(
        &self,
        image: &Image,
        compression: Compression,
        sink: &mut dyn Sink,
    ) -> Result<Descriptor, Error> {
        let index = match &image.index {
            Some(index) => self.transfer_index(&index.digest.to_string(), compression)?,
            None => None,
        };
        match index {
            Some(index) if !index.images.is_empty() => {
                for image in &index.images {
                    write_image(image, sink)?;
                }
                sink.document(&index.index)?;
                Ok(index.descriptor)
            }
            _ => {
                let transfer = self.transfer(image, compression)?;
                write_image(&transfer, sink)?;
                Ok(transfer.descriptor)
            }
        }
    }
}

impl Transfer {
    /// Writes it to a directory as an OCI layout, under a name that need not be a reference. In a
    /// directory that is one already, it is added; another of that name loses it.
    ///
    /// # Errors
    /// When a blob is missing or corrupt, when the directory cannot be written.
    pub fn export_oci_layout(&self, name: &str, directory: &Path) -> Result<(), Error> {
        let mut layout = Layout::open(directory)?;
        write_image(self, &mut layout)?;
        enter(layout, &self.descriptor, Some(name))
    }
}

/// Makes an entry of what was written to a layout, and closes it.
fn enter(mut layout: Layout, entry: &Descriptor, name: Option<&str>) -> Result<(), Error> {
    if let Some(name) = name {
        let has_name = |known: &Descriptor| ref_name(known).is_some_and(|known| known == name);
        layout.index.manifests.retain(|known| !has_name(known));
    }
    layout.add(entry, vec![named(entry, name)]);
    layout.close()
}

fn write_image(transfer: &Transfer, sink: &mut dyn Sink) -> Result<(), Error> {
    sink.document(&transfer.manifest)?;
    sink.document(&transfer.config)?;
    transfer
        .layers
        .iter()
        .try_for_each(|layer| sink.layer(layer))
}

pub(super) fn ref_name(entry: &Descriptor) -> Option<&str> {
    let name = entry.annotations.get(annotation::REF_NAME);
    name.map(String::as_str)
}

/// An entry under a name as it was given, or without one.
fn named(manifest: &Descriptor, name: Option<&str>) -> Descriptor {
    let name = name.map(|name| (annotation::REF_NAME.to_owned(), name.to_owned()));
    Descriptor {
        annotations: name.into_iter().collect(),
        ..manifest.clone()
    }
}

/// A layer's archive, unpacked.
fn bare_layer(layer: &TransferLayer) -> Result<Box<dyn Read>, Error> {
    let digest = layer.descriptor.digest.to_string();
    let unpacked = unpacked(layer.open()?);
    let (_, reader) =
        unpacked.map_err(|source| layer_error(&digest, LayerError::Read { offset: 0, source }))?;
    Ok(reader)
}

/// Bytes of a layer's archive: a tar archive tells the size of a member before its content.
fn bare_size(layer: &TransferLayer) -> Result<u64, Error> {
    let mut nowhere = BufWriter::with_capacity(BUFFER, io::sink());
    io::copy(&mut bare_layer(layer)?, &mut nowhere).map_err(|source| {
        let digest = layer.descriptor.digest.to_string();
        layer_error(&digest, LayerError::Read { offset: 0, source })
    })
}

fn docker_image(image: &Image, names: &[Reference], layers: Vec<String>) -> DockerImage {
    let tags: Vec<_> = names
        .iter()
        .filter(|name| name.tag().is_some())
        .map(Reference::familiar)
        .collect();
    DockerImage {
        config: blob_member(&image.id.hex()),
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: Some(layers),
    }
}

fn oci_entries(entry: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    entries(entry, names, |name| Some(name.to_string()))
}

/// One descriptor for each name, or one without. containerd reads the full name from its own
/// annotation, all others from `ref.name`.
fn entries(
    manifest: &Descriptor,
    names: &[Reference],
    ref_name: impl Fn(&Reference) -> Option<String>,
) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![manifest.clone()];
    }
    let named = |name: &Reference| {
        let full = BTreeMap::from([(annotation::CONTAINERD_NAME.to_owned(), name.to_string())]);
        let short = ref_name(name).map(|text| (annotation::REF_NAME.to_owned(), text));
        Descriptor {
            annotations: full.into_iter().chain(short).collect(),
            ..manifest.clone()
        }
    };
    names.iter().map(named).collect()
}

fn to_json(document: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(document).map_err(|error| Error::Output(error.into()))
}

impl Sink for Archive<'_> {
    fn document(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let open =
            || -> Result<Box<dyn Read>, Error> { Ok(Box::new(io::Cursor::new(bytes.to_vec()))) };
        self.blob(&Digest::of(bytes), bytes.len() as u64, &open)
    }

    fn layer(&mut self, layer: &TransferLayer) -> Result<(), Error> {
        let Descriptor { digest, size, .. } = &layer.descriptor;
        self.blob(digest, *size, &|| Ok(Box::new(layer.open()?)))
    }
}

/// A tar archive of blobs and documents.
struct Archive<'w> {
    tar: LayerWriter<&'w mut dyn Write>,
    members: BTreeSet<String>,
}

impl<'w> Archive<'w> {
    fn new(output: &'w mut dyn Write) -> Self {
        Self {
            tar: LayerWriter::new(output),
            members: BTreeSet::new(),
        }
    }

    fn directories(&mut self) -> Result<(), Error> {
        for path in ["blobs", "blobs/sha256"] {
            self.append(path, EntryKind::Directory, &mut io::empty())?;
        }
        Ok(())
    }

    fn bytes(&mut self, member: &str, bytes: &[u8]) -> Result<(), Error> {
        self.append(
            member,
            EntryKind::File {
                size: bytes.len() as u64,
            },
            &mut &*bytes,
        )
    }

    /// Adds a blob, unless it is there already.
    fn blob(
        &mut self,
        digest: &Digest,
        size: u64,
        open: &dyn Fn() -> Result<Box<dyn Read>, Error>,
    ) -> Result<(), Error> {
        let member = blob_member(&digest.hex());
        if !self.members.insert(member.clone()) {
            return Ok(());
        }
        self.append(&member, EntryKind::File { size }, &mut *open()?)
    }

    fn append(
        &mut self,
        member: &str,
        kind: EntryKind,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let path = LayerPath::try_from(member)
            .map_err(|error: PathError| Error::Output(io::Error::other(error)))?;
        self.tar
            .append(&Entry::new(path, kind), content)
            .map_err(|error| Error::carried(error, Error::Output))
    }

    /// Ends an archive of an OCI layout.
    fn oci(mut self, index: &Index) -> Result<(), Error> {
        self.bytes(INDEX, &index.to_bytes())?;
        self.bytes(LAYOUT, &layout_file())?;
        self.finish()
    }

    fn finish(self) -> Result<(), Error> {
        let output = self.tar.finish().map_err(Error::Output)?;
        output.flush().map_err(Error::Output)
    }
}
