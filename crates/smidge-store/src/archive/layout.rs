//! An OCI layout in a directory, which may hold images already.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process;

use smidge_image::{Descriptor, Digest, Index};

use super::document::{INDEX, LAYOUT};
use super::save::{Sink, ref_name};
use crate::error::READ;
use crate::image::parse;
use crate::intake::is_blob;
use crate::partial::is_at;
use crate::store::{layout_file, retry};
use crate::{Error, TransferLayer, regular};

/// Bytes that are written at a time.
const BUFFER: usize = 1 << 18;

/// A layout that is being added to. Others who want to add to it wait.
///
/// # Drop
/// Unless it was closed, what was added is removed.
pub(super) struct Layout {
    directory: PathBuf,
    blobs: PathBuf,
    pub(super) index: Index,
    /// Files and directories that were not there before, in the order in which they were made.
    made: Vec<PathBuf>,
    /// Holds the lock.
    _lock: File,
}

impl Layout {
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let blobs = directory.join("blobs/sha256");
        loop {
            let mut made = Vec::new();
            let opened = make_directories(&blobs, &mut made).and_then(|()| File::open(directory));
            let lock = opened.map_err(|source| {
                remove(&made);
                writing(&blobs, source)
            })?;
            // There are file systems that cannot lock directories.
            let _ = retry(|| lock.lock());
            // Whoever was waited for may have failed, and removed it.
            let stays = fs::canonicalize(directory).is_ok_and(|real| is_at(&lock, &real));
            if !stays || !blobs.is_dir() {
                continue;
            }
            let mut layout = Self {
                directory: directory.to_owned(),
                blobs,
                index: Index::new(Vec::new()),
                made,
                _lock: lock,
            };
            layout.index = layout_index(directory)?;
            return Ok(layout);
        }
    }

    /// Adds entries for a manifest, which was nameless before at most.
    pub(super) fn add(&mut self, manifest: &Descriptor, entries: Vec<Descriptor>) {
        let stays =
            |known: &Descriptor| known.digest != manifest.digest || ref_name(known).is_some();
        self.index.manifests.retain(stays);
        self.index.manifests.extend(entries);
    }

    /// Makes what was added part of the layout.
    pub(super) fn close(mut self) -> Result<(), Error> {
        let version = self.directory.join(LAYOUT);
        self.write(&version, &mut layout_file().as_slice())?;
        let index = self.index.to_bytes();
        self.write(&self.directory.join(INDEX), &mut index.as_slice())?;
        self.made.clear();
        Ok(())
    }

    /// Writes a file under another name first, so that no one sees half of it.
    fn write(&mut self, path: &Path, content: &mut dyn Read) -> Result<(), Error> {
        self.put(path, &mut |temporary| {
            let mut file = BufWriter::with_capacity(BUFFER, File::create(temporary)?);
            io::copy(content, &mut file)?;
            file.flush()
        })
    }

    fn put(
        &mut self,
        path: &Path,
        make: &mut dyn FnMut(&Path) -> io::Result<()>,
    ) -> Result<(), Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}", process::id()));
        let is_new = fs::symlink_metadata(path).is_err();
        let written = make(&temporary).and_then(|()| fs::rename(&temporary, path));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(Error::carried(error, |source| writing(path, source)));
        }
        if is_new {
            self.made.push(path.to_owned());
        }
        Ok(())
    }
}

impl Sink for Layout {
    fn document(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let path = self.blobs.join(Digest::of(bytes).hex());
        self.write(&path, &mut &*bytes)
    }

    /// Takes a layer in the cheapest way there is: what is there and right stays, what nobody needs
    /// any more is moved, and bytes are shared where the file system can do that.
    fn layer(&mut self, layer: &TransferLayer) -> Result<(), Error> {
        let path = self.blobs.join(layer.descriptor.digest.hex());
        if layer.is_at(&path) {
            return Ok(());
        }
        if layer.is_passing() {
            let linked = self.put(&path, &mut |temporary| layer.link(temporary));
            // Another disk, or a file system without links.
            if linked.is_ok() {
                return linked;
            }
        }
        if is_blob(&path, &layer.descriptor) {
            return Ok(());
        }
        let shared = self.put(&path, &mut |temporary| {
            layer.share(&File::create(temporary)?)?;
            match is_blob(temporary, &layer.descriptor) {
                true => Ok(()),
                false => Err(io::ErrorKind::InvalidData.into()),
            }
        });
        if shared.is_ok() {
            return shared;
        }
        self.write(&path, &mut layer.open()?)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        remove(&self.made);
    }
}

/// Removes files, and directories that are empty, the last ones first.
fn remove(made: &[PathBuf]) {
    for path in made.iter().rev() {
        let _ = match path.is_dir() {
            true => fs::remove_dir(path),
            false => fs::remove_file(path),
        };
    }
}

/// Makes a directory and those above it, and tells which were not there.
fn make_directories(path: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => made.push(path.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = path.parent() else {
                return Err(error);
            };
            make_directories(parent, made)?;
            return make_directories(path, made);
        }
        Err(error) => return Err(error),
    }
    Ok(())
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

fn writing(path: &Path, source: io::Error) -> Error {
    Error::Io {
        action: "write",
        path: path.to_owned(),
        source,
    }
}
