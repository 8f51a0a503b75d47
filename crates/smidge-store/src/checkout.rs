//! Layers unpacked: the lower directories of overlays.

use std::io::{self, BufReader, Cursor, Read};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rustix::fs::lgetxattr;
use smidge_image::{
    Descriptor, DiffId, Digest, Entry, HashingReader, LayerError, LayerKind, LayerPath, decompress,
    read_layer, sniff,
};

use crate::ahead::read_ahead;
use crate::attribute::OPAQUE;
use crate::extract::{Extractor, Fault, Whiteouts};
use crate::temp::TempDir;
use crate::{Error, Image, LayeredTree, Store};

/// Bytes of a blob that are read at a time.
const BUFFER: usize = 1 << 18;

/// Who is to own the files of an unpacked layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Whoever the layer says, as far as this process may do that: root may, and so may the root of a
    /// user namespace for the ids that it maps.
    Layer,
    /// The caller. Directories get `u+rwx`, files `u+r`, so that the caller can read and remove them;
    /// devices are empty files. What they should be is a [`Claim`](smidge_image::Claim) beside them;
    /// whose symbolic links and pipes are, which cannot have one, is kept beside the layer.
    Caller,
}

impl Ownership {
    /// What this process can do: root keeps the layers' owners, unless it is the root of a user namespace
    /// in which not everybody exists. There, whose the files of a shared store are is a claim as well.
    pub fn of_caller() -> Self {
        static PARTIAL: LazyLock<bool> = LazyLock::new(|| {
            let map = std::fs::read_to_string("/proc/self/uid_map");
            map.is_ok_and(|map| is_partial(&map))
        });
        match rustix::process::geteuid().is_root() && !*PARTIAL {
            true => Self::Layer,
            false => Self::Caller,
        }
    }
}

/// Whether a map of ids (user_namespaces(7)) is not the one of the whole machine.
fn is_partial(map: &str) -> bool {
    let fields: Vec<&str> = map.split_ascii_whitespace().collect();
    fields != ["0", "0", "4294967295"]
}

/// What is to be unpacked, and how.
pub(crate) struct Unpacking<'a> {
    /// The digest of the bytes that are read.
    pub(crate) digest: &'a Digest,
    pub(crate) diff_id: &'a DiffId,
    pub(crate) ownership: Ownership,
    /// Whether it must be on the disk at the end; if not, the caller sees to that.
    pub(crate) durable: bool,
}

impl Store {
    /// The image's layers as directories for overlayfs' `lowerdir`, the top one first, unpacked where
    /// they are not yet. An ordinary user owns all files; see [`Store::checkout_with`].
    ///
    /// # Errors
    /// When a layer is missing or corrupt, cannot be unpacked, or does not fit on the disk.
    pub fn checkout(&self, image: &Image) -> Result<Vec<PathBuf>, Error> {
        self.checkout_with(image, Ownership::of_caller(), &mut |_| {})
    }

    /// As [`Store::checkout`], told who is to own the files, and telling what could not be made as the
    /// layer has it. May be called in a user namespace, where [`Ownership::Layer`] means its ids.
    ///
    /// # Errors
    /// As [`Store::checkout`].
    pub fn checkout_with(
        &self,
        image: &Image,
        ownership: Ownership,
        note: &mut dyn FnMut(String),
    ) -> Result<Vec<PathBuf>, Error> {
        let diff_ids = &image.config.rootfs.diff_ids;
        let layers = image.manifest.layers.iter().zip(diff_ids);
        self.stack(layers, ownership, note)
    }

    /// As [`Store::checkout`], for layers that no image has yet; they come with the lowest first.
    ///
    /// # Errors
    /// As [`Store::checkout`].
    pub fn checkout_layers(&self, layers: &[(Descriptor, DiffId)]) -> Result<Vec<PathBuf>, Error> {
        let layers = layers.iter().map(|(layer, diff_id)| (layer, diff_id));
        self.stack(layers, Ownership::of_caller(), &mut |_| {})
    }

    fn stack<'l>(
        &self,
        layers: impl DoubleEndedIterator<Item = (&'l Descriptor, &'l DiffId)>,
        ownership: Ownership,
        note: &mut dyn FnMut(String),
    ) -> Result<Vec<PathBuf>, Error> {
        let unpacked = self.unpacked_layers(layers, ownership, note)?;
        let directories: Vec<_> = unpacked.into_iter().map(|(path, _)| path).collect();
        let parents = self.implied_parents(&directories, ownership, note)?;
        Ok(parents.into_iter().chain(directories).collect())
    }

    /// The directories of layers, and which layers they are, the top one first.
    pub(crate) fn unpacked_layers<'l>(
        &self,
        layers: impl DoubleEndedIterator<Item = (&'l Descriptor, &'l DiffId)>,
        ownership: Ownership,
        note: &mut dyn FnMut(String),
    ) -> Result<Vec<(PathBuf, &'l Descriptor)>, Error> {
        let mut directories: Vec<(PathBuf, &Descriptor)> = Vec::new();
        for (layer, diff_id) in layers.rev() {
            let path = self.layer_path(diff_id);
            if !path.is_dir() {
                self.unpack(layer, diff_id, ownership, note)?;
            }
            let opaque = is_opaque(&path);
            // Overlayfs takes a directory once. A layer that is there again below adds nothing.
            if directories.iter().all(|(known, _)| *known != path) {
                directories.push((path, layer));
            }
            if opaque {
                break;
            }
        }
        Ok(directories)
    }

    /// Whether every layer of the image is unpacked already.
    pub fn is_checked_out(&self, image: &Image) -> bool {
        image
            .config
            .rootfs
            .diff_ids
            .iter()
            .all(|diff_id| self.layer_path(diff_id).is_dir())
    }

    /// The image's files as one view, unpacked where they are not yet.
    ///
    /// # Errors
    /// As [`Store::checkout`].
    pub fn tree(&self, image: &Image) -> Result<LayeredTree, Error> {
        let layers = self.checkout(image)?;
        LayeredTree::open(&layers)
            .map_err(|error| self.io(crate::error::READ, &self.path("layers"), error))
    }

    fn unpack(
        &self,
        layer: &Descriptor,
        diff_id: &DiffId,
        ownership: Ownership,
        note: &mut dyn FnMut(String),
    ) -> Result<(), Error> {
        let unpacking = Unpacking {
            digest: &layer.digest,
            diff_id,
            ownership,
            durable: true,
        };
        let temp = self.unpack_from(self.blob(layer)?, &unpacking, note)?;
        temp.persist(self, &self.layer_path(diff_id)).map(drop)
    }

    /// Unpacks a layer that somebody verifies while it is read into a directory in the making.
    pub(crate) fn unpack_from(
        &self,
        reader: impl Read + Send,
        unpacking: &Unpacking<'_>,
        note: &mut dyn FnMut(String),
    ) -> Result<TempDir, Error> {
        let what = unpacking.diff_id.to_string();
        let mut temp = self.temp_dir()?;
        let mut extractor = Extractor::new(
            temp.directory().as_fd(),
            unpacking.ownership,
            Whiteouts::Overlay,
            note,
        );
        let mut budget = Budget::new(self)?;
        let fault = |path: &LayerPath, fault: Fault| self.fault(&what, path, fault);
        let received = walk_layer(reader, unpacking.digest, &what, |entry, content| {
            budget.spend(entry.size(), &what)?;
            extractor
                .extract(&entry, content)
                .map_err(|error| fault(&entry.path, error))
        })?;
        check_diff_id(&what, unpacking.diff_id, &received)?;
        let beside = extractor.take_beside();
        let finished = match unpacking.durable {
            true => extractor.finish(),
            false => extractor.settle(),
        };
        finished.map_err(|(path, error)| fault(&path, error))?;
        temp.beside = beside;
        Ok(temp)
    }

    pub(crate) fn fault(&self, layer: &str, path: &LayerPath, fault: Fault) -> Error {
        let entry = |why: String| Error::Entry {
            layer: layer.to_owned(),
            entry: path.to_string(),
            why,
        };
        match fault {
            Fault::Refused(why) => entry(why),
            Fault::Content(error) => Error::carried(error, |error| entry(error.to_string())),
            Fault::System(source) => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace {
                    root: self.root().to_owned(),
                    needed: None,
                    source,
                },
                _ => entry(source.to_string()),
            },
        }
    }
}

/// Whether a layer hides all below. Overlayfs does not look for the attribute on the roots of its
/// layers, so whoever mounts must leave the others out.
fn is_opaque(layer: &Path) -> bool {
    OPAQUE
        .iter()
        .any(|name| lgetxattr(layer, *name, &mut [0_u8; 1][..]) == Ok(1))
}

pub(crate) fn check_diff_id(what: &str, expected: &DiffId, received: &DiffId) -> Result<(), Error> {
    if received == expected {
        return Ok(());
    }
    Err(Error::DiffId {
        what: what.to_owned(),
        expected: expected.0,
        received: received.0,
    })
}

/// Bytes that may still be unpacked: as many as are free on the disk.
pub(crate) struct Budget {
    root: PathBuf,
    available: u64,
    left: u64,
}

impl Budget {
    pub(crate) fn new(store: &Store) -> Result<Self, Error> {
        let available = available(store)?;
        Ok(Self {
            root: store.root().to_owned(),
            available,
            left: available,
        })
    }

    /// Accounts for bytes that `what` unpacks to.
    pub(crate) fn spend(&mut self, bytes: u64, what: &str) -> Result<(), Error> {
        let bomb = || Error::Bomb {
            what: what.to_owned(),
            root: self.root.clone(),
            available: self.available,
        };
        self.left = self.left.checked_sub(bytes).ok_or_else(bomb)?;
        Ok(())
    }
}

/// Bytes that are free on the store's disk.
pub(crate) fn available(store: &Store) -> Result<u64, Error> {
    let disk = rustix::fs::statvfs(store.root())
        .map_err(|error| store.io(crate::error::READ, store.root(), error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What stops the reading of a layer, or of another archive.
pub(crate) enum Stop {
    Layer(LayerError),
    Visit(Error),
}

impl Stop {
    pub(crate) fn into_error(self, what: &str) -> Error {
        match self {
            Self::Visit(error) => error,
            Self::Layer(error) => layer_error(what, error),
        }
    }
}

impl From<LayerError> for Stop {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

/// Reads a layer, compressed or not, to its end, and tells its diff id. `digest` is that of the bytes
/// as they are read, which somebody else verifies: the diff id, if they are not compressed.
pub(crate) fn walk_layer(
    reader: impl Read + Send,
    digest: &Digest,
    what: &str,
    mut visit: impl FnMut(Entry, &mut dyn Read) -> Result<(), Error>,
) -> Result<DiffId, Error> {
    let visit = |entry: Entry, content: &mut dyn Read| visit(entry, content).map_err(Stop::Visit);
    let reader: Box<dyn Read + Send + '_> = Box::new(reader);
    let (kind, packed) = sniffed(reader).map_err(|error| reading(what, error))?;
    let outcome = if kind == LayerKind::Tar {
        read_layer(packed, visit).map(|()| *digest)
    } else {
        let walk = |unpacked: &mut dyn Read| {
            let mut hashing = HashingReader::new(unpacked);
            read_layer(&mut hashing, visit).map(|()| hashing.finish().1)
        };
        read_ahead(|| decompress(kind, packed), walk).map_err(|error| reading(what, error))?
    };
    outcome.map(DiffId).map_err(|stop| stop.into_error(what))
}

/// Tells how a layer is packed from its first bytes, and unpacks it.
pub(crate) fn unpacked<'r>(reader: impl Read + 'r) -> io::Result<(LayerKind, Box<dyn Read + 'r>)> {
    let reader: Box<dyn Read + 'r> = Box::new(reader);
    let (kind, whole) = sniffed(reader)?;
    Ok((kind, decompress(kind, whole)?))
}

/// Tells how a layer is packed from its first bytes.
fn sniffed<R: Read>(mut reader: R) -> io::Result<(LayerKind, impl Read + use<R>)> {
    let mut first = Vec::with_capacity(4);
    (&mut reader).take(4).read_to_end(&mut first)?;
    let kind = sniff(&first);
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(first).chain(reader));
    Ok((kind, whole))
}

pub(crate) fn layer_error(what: &str, error: LayerError) -> Error {
    match error {
        LayerError::Read { offset, source } => Error::carried(source, |source| Error::Layer {
            layer: what.to_owned(),
            source: LayerError::Read { offset, source },
        }),
        source => Error::Layer {
            layer: what.to_owned(),
            source,
        },
    }
}

fn reading(what: &str, source: io::Error) -> Error {
    layer_error(what, LayerError::Read { offset: 0, source })
}
