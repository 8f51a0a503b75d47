//! Blobs: bytes under the name of their digest.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use smidge_image::{Descriptor, Digest, Hasher, HashingWriter};

use crate::error::READ;
use crate::sparse::{self, End};
use crate::temp::TempFile;
use crate::{Error, Store, regular};

/// Bytes that gather before they are hashed and written.
const BUFFER: usize = 1 << 18;

/// The largest document (manifest, config, index) that is accepted, in bytes.
pub(crate) const DOCUMENT_LIMIT: u64 = 4 << 20;

/// A blob in the making: hashed while it is written. It becomes part of the store by
/// [`BlobWriter::commit`].
///
/// # Drop
/// Dropping it discards what was written.
///
/// # Errors
/// Its `Write` fails with an [`io::Error`] that carries an [`Error`]: `downcast` it.
pub struct BlobWriter<'s> {
    store: &'s Store,
    output: BufWriter<HashingWriter<TempFile>>,
}

/// What a finished [`BlobWriter`] holds before it gets its name.
#[derive(Debug)]
pub(crate) struct Spooled {
    temp: TempFile,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// Reads a blob and verifies it on the way: the read that comes to the end fails if digest or size
/// are wrong.
///
/// # Errors
/// Its `Read` fails with an [`io::Error`] that carries an [`Error`]: `downcast` it.
pub struct VerifiedReader {
    file: File,
    what: String,
    expected: Digest,
    size: u64,
    hasher: Hasher,
    read: u64,
    verified: bool,
}

impl Store {
    /// Starts a blob.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn blob_writer(&self) -> Result<BlobWriter<'_>, Error> {
        let output = BufWriter::with_capacity(BUFFER, HashingWriter::new(self.temp_file()?));
        Ok(BlobWriter {
            store: self,
            output,
        })
    }

    /// Stores bytes that are in memory.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        self.pin(&digest)?;
        let path = self.blob_path(&digest);
        if !is_file_of_size(&path, bytes.len() as u64) {
            self.write_atomically(&path, bytes)?;
        }
        Ok(digest)
    }

    /// Whether a blob is there, in its right size. If so, it stays at least until the store is closed.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        // A store that cannot be written has nobody who could remove the blob.
        let _ = self.pin(&descriptor.digest);
        is_file_of_size(&self.blob_path(&descriptor.digest), descriptor.size)
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// When it is not there, or cannot be opened.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<VerifiedReader, Error> {
        let path = self.blob_path(&descriptor.digest);
        match regular::open(&path) {
            Ok(file) => Ok(VerifiedReader::new(
                file,
                path.display().to_string(),
                descriptor,
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::MissingBlob {
                root: self.root().to_owned(),
                digest: descriptor.digest,
            }),
            Err(error) => Err(self.io(READ, &path, error)),
        }
    }

    /// Reads a whole document: a manifest, a config.
    ///
    /// # Errors
    /// As [`Store::blob`]; when it is corrupt; [`Error::TooLarge`] beyond 4 MiB.
    pub fn bytes(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        if descriptor.size > DOCUMENT_LIMIT {
            return Err(Error::TooLarge {
                what: descriptor.digest.to_string(),
                size: descriptor.size,
                limit: DOCUMENT_LIMIT,
            });
        }
        let mut reader = self.blob(descriptor)?;
        let mut bytes = Vec::with_capacity(descriptor.size as usize + 1);
        let path = self.blob_path(&descriptor.digest);
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| self.io(READ, &path, error))?;
        Ok(bytes)
    }

    pub(crate) fn adopt(&self, spooled: Spooled) -> Result<(Digest, u64), Error> {
        let Spooled { temp, digest, size } = spooled;
        self.pin(&digest)?;
        let path = self.blob_path(&digest);
        if !is_file_of_size(&path, size) {
            temp.persist(self, &path)?;
        }
        Ok((digest, size))
    }

    /// Makes a file of the store's a blob, which the caller knows to be right.
    pub(crate) fn adopt_file(&self, file: &Path, digest: &Digest, size: u64) -> Result<(), Error> {
        self.pin(digest)?;
        let path = self.blob_path(digest);
        if is_file_of_size(&path, size) {
            return Ok(());
        }
        let synced = match self.is_passing() {
            true => Ok(()),
            false => File::open(file).and_then(|file| file.sync_all()),
        };
        synced
            .and_then(|()| fs::rename(file, &path))
            .map_err(|error| self.io("create", &path, error))
    }
}

fn is_file_of_size(path: &Path, size: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.len() == size)
}

impl BlobWriter<'_> {
    /// Makes what was written a blob of the store, and tells its digest and its size in bytes.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn commit(self) -> Result<(Digest, u64), Error> {
        let store = self.store;
        store.adopt(self.spool()?)
    }

    /// As [`BlobWriter::commit`], for a blob whose digest and size are known beforehand.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when what was written is something else; when the store cannot be written.
    pub fn commit_as(self, descriptor: &Descriptor) -> Result<(), Error> {
        let store = self.store;
        let spooled = self.spool()?;
        if (spooled.digest, spooled.size) != (descriptor.digest, descriptor.size) {
            return Err(Error::Corrupt {
                what: descriptor.digest.to_string(),
                expected: descriptor.digest,
                expected_size: descriptor.size,
                received: spooled.digest,
                received_size: spooled.size,
            });
        }
        store.adopt(spooled).map(drop)
    }

    /// Ends the writing, and puts the file into a directory of the store's. Tells its path, digest and
    /// size.
    pub(crate) fn park(self, directory: &Path) -> Result<(PathBuf, Digest, u64), Error> {
        let store = self.store;
        let Spooled { temp, digest, size } = self.spool()?;
        let path = directory.join(digest.hex());
        temp.place(store, &path)?;
        Ok((path, digest, size))
    }

    /// Ends the writing without making the blob visible.
    pub(crate) fn spool(self) -> Result<Spooled, Error> {
        let path = self.store.path("tmp");
        let output = self
            .output
            .into_inner()
            .map_err(|error| self.store.io("write", &path, error.into_error()))?;
        let (temp, digest, size) = output.finish();
        if temp.end == End::Hole {
            let extended = temp.file.set_len(size);
            extended.map_err(|error| self.store.io("write", &path, error))?;
        }
        Ok(Spooled { temp, digest, size })
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let store = self.store;
        self.output
            .write(bytes)
            .map_err(|error| writing(store, error))
    }

    fn flush(&mut self) -> io::Result<()> {
        let store = self.store;
        self.output.flush().map_err(|error| writing(store, error))
    }
}

fn writing(store: &Store, error: io::Error) -> io::Error {
    let kind = error.kind();
    match kind {
        io::ErrorKind::Interrupted => error,
        _ => io::Error::new(kind, store.io("write", &store.path("tmp"), error)),
    }
}

impl Write for TempFile {
    /// Long runs of zeros take up no room on disk.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (written, end) = sparse::write(&self.file, bytes)?;
        self.end = end;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl VerifiedReader {
    pub(crate) fn new(file: File, what: String, descriptor: &Descriptor) -> Self {
        Self {
            file,
            what,
            expected: descriptor.digest,
            size: descriptor.size,
            hasher: Hasher::default(),
            read: 0,
            verified: false,
        }
    }

    /// Reads on to the end and checks what came.
    fn verify(&mut self) -> io::Result<()> {
        let mut rest = [0; 1 << 12];
        loop {
            match self.file.read(&mut rest) {
                Ok(0) => break,
                Ok(read) => self.hasher.update(&rest[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let (received, received_size) = std::mem::take(&mut self.hasher).finish();
        if (received, received_size) == (self.expected, self.size) {
            return Ok(());
        }
        let error = Error::Corrupt {
            what: self.what.clone(),
            expected: self.expected,
            expected_size: self.size,
            received,
            received_size,
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl Read for VerifiedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.verified {
            return Ok(0);
        }
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.read += read as u64;
        if read == 0 || self.read >= self.size {
            self.verify()?;
            self.verified = true;
        }
        Ok(read)
    }
}
