//! Images become archives and layouts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process;

use smidge_image::{
    Descriptor, Digest, Entry, EntryKind, Index, LayerPath, LayerWriter, PathError, Reference,
    annotation,
};

use super::document::{
    DOCKER_MANIFEST, DockerImage, INDEX, REPOSITORIES, Repositories, blob_member,
};
use crate::error::READ;
use crate::image::parse;
use crate::index::drop_names;
use crate::store::layout_file;
use crate::{Compression, Error, Image, Store, Transfer, TransferLayer, regular};

const LAYOUT: &str = "oci-layout";

/// Where blobs go.
trait Sink {
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
        self.save_docker_archive_without(images, &[], output)
    }

    /// As [`Store::save_docker_archive`], without some layers: a Docker daemon that has them does not
    /// look for them in the archive.
    ///
    /// # Errors
    /// As [`Store::save_docker_archive`].
    pub fn save_docker_archive_without(
        &self,
        images: &[(Image, Vec<Reference>)],
        left_out: &[Digest],
        output: &mut dyn Write,
    ) -> Result<(), Error> {
        let mut archive = Archive::new(output);
        let mut index = Index::new(Vec::new());
        let mut docker = Vec::new();
        let mut repositories = Repositories::new();
        archive.directories()?;
        for (image, names) in images {
            let mut transfer = self.transfer(image, Compression::None)?;
            let is_left_out = |layer: &TransferLayer| left_out.contains(&layer.descriptor.digest);
            transfer.layers.retain(|layer| !is_left_out(layer));
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
            docker.push(docker_image(image, names));
        }
        archive.bytes(INDEX, &index.to_bytes())?;
        archive.bytes(DOCKER_MANIFEST, &to_json(&docker)?)?;
        archive.bytes(LAYOUT, &layout_file())?;
        archive.bytes(REPOSITORIES, &to_json(&repositories)?)?;
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
        if let Some(name) = name {
            let has_name = |known: &Descriptor| ref_name(known).is_some_and(|known| known == name);
            layout.index.manifests.retain(|known| !has_name(known));
        }
        layout.add(&entry, vec![named(&entry, name)]);
        layout.close()?;
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

fn write_image(transfer: &Transfer, sink: &mut dyn Sink) -> Result<(), Error> {
    sink.document(&transfer.manifest)?;
    sink.document(&transfer.config)?;
    transfer
        .layers
        .iter()
        .try_for_each(|layer| sink.layer(layer))
}

/// A layout that is being added to.
struct Layout {
    directory: PathBuf,
    blobs: PathBuf,
    index: Index,
}

impl Layout {
    fn open(directory: &Path) -> Result<Self, Error> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(|source| writing(&blobs, source))?;
        Ok(Self {
            directory: directory.to_owned(),
            blobs,
            index: layout_index(directory)?,
        })
    }

    /// Adds entries for a manifest, which was nameless before at most.
    fn add(&mut self, manifest: &Descriptor, entries: Vec<Descriptor>) {
        let stays =
            |known: &Descriptor| known.digest != manifest.digest || ref_name(known).is_some();
        self.index.manifests.retain(stays);
        self.index.manifests.extend(entries);
    }

    fn close(self) -> Result<(), Error> {
        let layout = self.directory.join(LAYOUT);
        write_file(&layout, &mut layout_file().as_slice())?;
        let index = self.directory.join(INDEX);
        write_file(&index, &mut self.index.to_bytes().as_slice())
    }
}

impl Sink for Layout {
    fn document(&mut self, bytes: &[u8]) -> Result<(), Error> {
        write_file(&self.blobs.join(Digest::of(bytes).hex()), &mut &*bytes)
    }

    fn layer(&mut self, layer: &TransferLayer) -> Result<(), Error> {
        let path = self.blobs.join(layer.descriptor.digest.hex());
        write_file(&path, &mut layer.open()?)
    }
}

fn ref_name(entry: &Descriptor) -> Option<&str> {
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

/// The index of a layout that is there already.
fn layout_index(directory: &Path) -> Result<Index, Error> {
    let path = directory.join(INDEX);
    match regular::read(&path) {
        Ok(bytes) => parse(&path.display().to_string(), "image index", &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::new(Vec::new())),
        Err(source) => Err(Error::Io {
            action: READ,
            path,
            source,
        }),
    }
}

/// Writes a file under another name first, so that no one sees half of it.
fn write_file(path: &Path, content: &mut dyn Read) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temp: PathBuf = path.with_file_name(format!(".{name}.{}", process::id()));
    let written = File::create(&temp)
        .and_then(|mut file| io::copy(content, &mut file))
        .and_then(|_| fs::rename(&temp, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temp);
        Error::carried(error, |source| writing(path, source))
    })
}

fn writing(path: &Path, source: io::Error) -> Error {
    Error::Io {
        action: "write",
        path: path.to_owned(),
        source,
    }
}

fn docker_image(image: &Image, names: &[Reference]) -> DockerImage {
    let layers = image.manifest.layers.iter();
    let tags: Vec<_> = names
        .iter()
        .filter(|name| name.tag().is_some())
        .map(Reference::familiar)
        .collect();
    DockerImage {
        config: blob_member(&image.id.hex()),
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: Some(
            layers
                .map(|layer| blob_member(&layer.digest.hex()))
                .collect(),
        ),
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
