//! Images on their way into the store, blob by blob, from wherever they come.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Cursor, Read, Write as _};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use smidge_image::{Descriptor, DiffId, Digest, LayerError, Reference, zstd_window};

use crate::arrival::Arrival;
use crate::checkout::{Unpacking, layer_error};
use crate::follow::Progress;
use crate::partial::Partial;
use crate::temp::{TempDir, TempFile};
use crate::{Error, Image, Ownership, Store, VerifiedReader, regular};

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 18;

/// Opens a blob's bytes from an offset on. Its errors, and those of what it returns, come back as
/// [`Error::Fetch`].
pub type Fetch<'f> = dyn FnMut(u64) -> io::Result<Box<dyn Read + Send>> + Send + 'f;

/// As much of a blob as tells what memory it takes to unpack it.
const START: usize = 18;

/// The largest window that several layers may have at a time, in bytes.
const LARGE: u64 = 8 << 20;

/// Blobs on their way into the store. Any number of threads may bring them; nothing is visible before
/// [`Intake::commit`], which makes all of it durable at once.
///
/// What came of a blob before a fault stays in `tmp/`, and is not fetched again by the next intake.
pub struct Intake<'s> {
    store: &'s Store,
    state: Mutex<State>,
    done: Condvar,
    /// Held by the one who unpacks a layer that takes much memory.
    large: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Blobs that a thread is bringing at this moment.
    busy: HashSet<Digest>,
    blobs: HashMap<Digest, Taken>,
    layers: HashMap<DiffId, TempDir>,
}

/// A blob that waits for its commit.
struct Taken {
    content: Content,
    size: u64,
}

enum Content {
    /// A document, or a blob that was taken over.
    File(TempFile),
    Blob(Partial),
}

/// The right to bring a blob: others who need the same one wait.
struct Claim<'i> {
    intake: &'i Intake<'i>,
    digest: Digest,
}

impl Store {
    /// Starts to take images in.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn intake(&self) -> Result<Intake<'_>, Error> {
        Ok(Intake {
            store: self,
            state: Mutex::default(),
            done: Condvar::new(),
            large: Mutex::default(),
        })
    }
}

impl Intake<'_> {
    /// Whether a blob need not be fetched: it is stored, or was taken in.
    pub fn has(&self, blob: &Descriptor) -> bool {
        let known = self.state().blobs.get(&blob.digest).map(|taken| taken.size);
        known == Some(blob.size) || self.store.has(blob)
    }

    /// Takes in a document.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let blob = Descriptor::of("", bytes);
        if !self.has(&blob) {
            let mut temp = self.store.temp_file()?;
            let written = temp.file.write_all(bytes);
            written.map_err(|error| self.store.io("write", &self.store.path("tmp"), error))?;
            self.keep(&blob, Content::File(temp));
        }
        Ok(blob.digest)
    }

    /// Takes in a blob as it is.
    ///
    /// # Errors
    /// [`Error::Fetch`], [`Error::Corrupt`], and when the store cannot be written.
    pub fn blob(&self, blob: &Descriptor, fetch: &mut Fetch<'_>) -> Result<(), Error> {
        let _claim = self.claim(&blob.digest);
        if self.has(blob) {
            return Ok(());
        }
        self.bring(blob, None, fetch)
    }

    /// Takes a blob over from a passing store on the same disk, where it was verified when it came.
    /// Elsewhere it is read, and verified again.
    ///
    /// # Errors
    /// As [`Intake::blob`], and when it is not there.
    pub fn take_over(&self, from: &Store, blob: &Descriptor) -> Result<(), Error> {
        let _claim = self.claim(&blob.digest);
        if self.has(blob) {
            return Ok(());
        }
        if from.is_passing() && from.has(blob) {
            let path = from.blob_path(&blob.digest);
            if let Some(temp) = self.store.temp_link(&path) {
                self.keep(blob, Content::File(temp));
                return Ok(());
            }
        }
        self.bring(blob, None, &mut |offset| {
            let mut reader = from.blob(blob).map_err(io::Error::other)?;
            io::copy(&mut (&mut reader).take(offset), &mut io::sink())?;
            Ok(Box::new(reader))
        })
    }

    /// Looks for a blob at a path outside of the store, which must be a passing one: a file on the same
    /// disk that is the blob need not be fetched. Tells whether it need not.
    pub fn find(&self, blob: &Descriptor, path: &Path) -> bool {
        let _claim = self.claim(&blob.digest);
        if self.has(blob) {
            return true;
        }
        if !self.store.is_passing() || !is_blob(path, blob) {
            return false;
        }
        let linked = self.store.temp_link(path);
        linked
            .map(|temp| self.keep(blob, Content::File(temp)))
            .is_some()
    }

    /// Takes in a layer: hashed, unpacked and its diff id checked while it arrives. Where it is
    /// stored already, it is only checked out if it is not yet.
    ///
    /// # Errors
    /// As [`Intake::blob`], and when it is no layer, or not the one that the config speaks of.
    pub fn layer(
        &self,
        layer: &Descriptor,
        diff_id: &DiffId,
        fetch: &mut Fetch<'_>,
    ) -> Result<(), Error> {
        let _claim = self.claim(&layer.digest);
        let wanted = !self.is_unpacked(diff_id);
        if self.has(layer) {
            return match wanted {
                true => self.unpack_here(layer, diff_id),
                false => Ok(()),
            };
        }
        self.bring(layer, wanted.then_some(diff_id), fetch)
    }

    /// Makes everything durable and visible: manifests or indexes that were put, with their names.
    ///
    /// # Errors
    /// When a document cannot be understood, a blob of an image is missing (an index may lack some of
    /// its images, but not all), or the store cannot be written.
    pub fn commit(self, documents: &[(Descriptor, Vec<Reference>)]) -> Result<Vec<Image>, Error> {
        let store = self.store;
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let is_empty = state.blobs.is_empty() && state.layers.is_empty();
        if !(is_empty || store.is_passing()) {
            sync(store)?;
        }
        for (digest, taken) in state.blobs {
            store.pin(&digest)?;
            let path = store.blob_path(&digest);
            match taken.content {
                Content::File(temp) => temp.place(store, &path)?,
                Content::Blob(partial) => partial.persist(store, &path, taken.size)?,
            }
        }
        for (diff_id, directory) in state.layers {
            directory.persist(store, &store.layer_path(&diff_id))?;
        }
        store.add_stored(documents)
    }

    /// Brings a blob that is not there yet, and unpacks it if it is a layer.
    fn bring(
        &self,
        blob: &Descriptor,
        layer: Option<&DiffId>,
        fetch: &mut Fetch<'_>,
    ) -> Result<(), Error> {
        let partial = self.store.partial(&blob.digest)?;
        if self.store.has(blob) {
            // Whoever was waited for has stored it.
            partial.discard();
            return layer.map_or(Ok(()), |diff_id| self.unpack_here(blob, diff_id));
        }
        let arrival = Arrival {
            store: self.store,
            blob,
            partial: &partial,
        };
        let before = arrival.before()?;
        let taken = match self.take(&arrival, before, layer, fetch) {
            // The fault may lie with what was there before: a power cut spoils the end of a file.
            Err(error) if before > 0 && is_wrong(&error) => {
                arrival.truncate()?;
                self.take(&arrival, 0, layer, fetch)
            }
            taken => taken,
        };
        match taken {
            Ok(unpacked) => {
                let released = partial.release();
                released.map_err(|error| self.store.io("unlock", partial.path(), error))?;
                self.keep(blob, Content::Blob(partial));
                self.keep_layer(layer, unpacked);
                Ok(())
            }
            Err(error) => {
                let empty = arrival.before().is_ok_and(|bytes| bytes == 0);
                if is_wrong(&error) || empty {
                    partial.discard();
                }
                Err(error)
            }
        }
    }

    /// Takes a blob in, and unpacks it meanwhile: by a second thread, that follows the file as it
    /// grows. The end of the file comes for it when the digest has been found right.
    fn take(
        &self,
        arrival: &Arrival<'_>,
        before: u64,
        layer: Option<&DiffId>,
        fetch: &mut Fetch<'_>,
    ) -> Result<Option<TempDir>, Error> {
        let progress = Progress::default();
        let Some(diff_id) = layer else {
            return arrival.take(before, fetch, &progress).map(|()| None);
        };
        let unpack = || {
            let follower = progress.follow(arrival.partial.file());
            let unpacked = self.unpack(follower, &arrival.blob.digest, diff_id);
            if unpacked.as_ref().is_err_and(|error| !is_of_content(error)) {
                progress.refuse();
            }
            unpacked
        };
        thread::scope(|scope| {
            let unpacking = thread::Builder::new().spawn_scoped(scope, unpack);
            let unpacking = unpacking
                .map_err(|error| self.store.io("unpack", arrival.partial.path(), error))?;
            let arrived = arrival.take(before, fetch, &progress);
            let unpacked = unpacking
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // What did not come right cannot be unpacked right: that is the fault to tell.
            arrived.and(unpacked.map(Some))
        })
    }

    /// Unpacks a layer that is stored, or was taken in as a blob.
    fn unpack_here(&self, layer: &Descriptor, diff_id: &DiffId) -> Result<(), Error> {
        let taken = match self.state().blobs.get(&layer.digest) {
            Some(Taken {
                content: Content::Blob(partial),
                ..
            }) => Some(partial.reader(layer)),
            _ => None,
        };
        let reader = match taken {
            Some(reader) => {
                reader.map_err(|e| self.store.io("read", &self.store.path("tmp"), e))?
            }
            None => self.store.blob(layer)?,
        };
        let unpacked = self.unpack(reader, &layer.digest, diff_id)?;
        self.keep_layer(Some(diff_id), Some(unpacked));
        Ok(())
    }

    fn unpack(
        &self,
        mut reader: impl Read + Send,
        digest: &Digest,
        diff_id: &DiffId,
    ) -> Result<TempDir, Error> {
        let mut start = Vec::with_capacity(START);
        let started = (&mut reader).take(START as u64).read_to_end(&mut start);
        started.map_err(|error| {
            let source = LayerError::Read {
                offset: 0,
                source: error,
            };
            layer_error(&diff_id.to_string(), source)
        })?;
        let large = zstd_window(&start).is_some_and(|window| window > LARGE);
        let _turn = large.then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
        let reader = Cursor::new(start).chain(reader);
        let unpacking = Unpacking {
            digest,
            diff_id,
            ownership: Ownership::of_caller(),
            durable: false,
        };
        self.store.unpack_from(reader, &unpacking, &mut |_| {})
    }

    fn is_unpacked(&self, diff_id: &DiffId) -> bool {
        self.state().layers.contains_key(diff_id) || self.store.layer_path(diff_id).is_dir()
    }

    fn keep(&self, blob: &Descriptor, content: Content) {
        let size = blob.size;
        self.state()
            .blobs
            .insert(blob.digest, Taken { content, size });
    }

    fn keep_layer(&self, diff_id: Option<&DiffId>, unpacked: Option<TempDir>) {
        if let (Some(diff_id), Some(unpacked)) = (diff_id, unpacked) {
            self.state().layers.insert(*diff_id, unpacked);
        }
    }

    fn claim(&self, digest: &Digest) -> Claim<'_> {
        let mut state = self.state();
        while !state.busy.insert(*digest) {
            state = self
                .done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Claim {
            intake: self,
            digest: *digest,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.intake.state().busy.remove(&self.digest);
        self.intake.done.notify_all();
    }
}

/// Whether a file is a blob, every byte of it.
pub(crate) fn is_blob(path: &Path, blob: &Descriptor) -> bool {
    let is_of_size = |file: &File| file.metadata().is_ok_and(|found| found.len() == blob.size);
    let Some(file) = regular::open(path).ok().filter(is_of_size) else {
        return false;
    };
    let mut reader = VerifiedReader::new(file, path.display().to_string(), blob);
    // Read by as much as is written.
    let mut nowhere = BufWriter::with_capacity(BUFFER, io::sink());
    io::copy(&mut reader, &mut nowhere).is_ok()
}

/// Whether a blob's bytes are not those that its digest stands for.
fn is_wrong(error: &Error) -> bool {
    matches!(error, Error::Corrupt { expected, received, .. } if expected != received)
}

/// Whether it is the layer's bytes that cannot be unpacked: they may have been changed on their way,
/// which shows when all of them are there.
fn is_of_content(error: &Error) -> bool {
    matches!(
        error,
        Error::Layer { .. } | Error::Entry { .. } | Error::DiffId { .. }
    )
}

/// Makes all that was written durable.
fn sync(store: &Store) -> Result<(), Error> {
    let path = store.path("tmp");
    let directory = File::open(&path).map_err(|error| store.io("open", &path, error))?;
    rustix::fs::syncfs(&directory).map_err(|error| store.io("write", &path, error.into()))
}
