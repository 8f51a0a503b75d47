//! A blob's bytes as they come: written, hashed and checked.

use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use smidge_image::{Descriptor, Digest, Hasher};

use crate::checkout::available;
use crate::error::READ;
use crate::follow::{Progress, Writing};
use crate::partial::Partial;
use crate::temp::write_back;
use crate::{Error, Fetch, Store};

/// Bytes that are read, hashed and written at a time.
const BUFFER: usize = 1 << 18;

/// A blob on its way into a file.
pub(crate) struct Arrival<'a> {
    pub(crate) store: &'a Store,
    pub(crate) blob: &'a Descriptor,
    pub(crate) partial: &'a Partial,
}

struct Written {
    hasher: Hasher,
    bytes: u64,
    buffer: Vec<u8>,
}

impl Arrival<'_> {
    /// How much has come already.
    pub(crate) fn before(&self) -> Result<u64, Error> {
        let metadata = self.partial.file().metadata();
        Ok(metadata.map_err(|error| self.io(READ, error))?.len())
    }

    /// Forgets what has come.
    pub(crate) fn truncate(&self) -> Result<(), Error> {
        let truncated = self.partial.file().set_len(0);
        truncated.map_err(|error| self.io("write", error))
    }

    /// Takes the bytes that were there `before` into account, and fetches the others; ends early when
    /// the rest is refused. What is there and whole is never changed, whatever size is stated for it:
    /// others may rely on it.
    pub(crate) fn take(
        &self,
        before: u64,
        fetch: &mut Fetch<'_>,
        progress: &Progress,
    ) -> Result<(), Error> {
        let writing = progress.writing();
        let mut written = Written {
            hasher: Hasher::default(),
            bytes: 0,
            buffer: vec![0; BUFFER],
        };
        while written.bytes < before {
            if !self.read_again(before, &mut written, &writing)? {
                return Ok(());
            }
        }
        let (digest, _) = written.hasher.clone().finish();
        if before < self.blob.size && digest != self.blob.digest {
            self.check_space(before)?;
            let mut reader = fetch(before).map_err(Error::Fetch)?;
            while self.fetch_on(&mut *reader, &mut written)? {
                if !writing.advance(written.bytes) {
                    return Ok(());
                }
            }
        }
        let (digest, size) = written.hasher.finish();
        self.check(digest, size)?;
        writing.finish();
        Ok(())
    }

    fn read_again(
        &self,
        before: u64,
        written: &mut Written,
        writing: &Writing<'_>,
    ) -> Result<bool, Error> {
        let most = most(before - written.bytes);
        let buffer = &mut written.buffer[..most];
        let read = self.partial.file().read_exact_at(buffer, written.bytes);
        read.map_err(|error| self.io(READ, error))?;
        written.hasher.update(buffer);
        written.bytes += most as u64;
        Ok(writing.advance(written.bytes))
    }

    /// Fetches a buffer more; tells whether there was any. What came before a fault is kept.
    fn fetch_on(&self, reader: &mut dyn Read, written: &mut Written) -> Result<bool, Error> {
        let (filled, outcome) = self.fill(reader, written);
        let bytes = &written.buffer[..filled];
        written.hasher.update(bytes);
        let before = written.bytes;
        written.bytes += filled as u64;
        if written.bytes > self.blob.size {
            let (digest, size) = written.hasher.clone().finish();
            self.check(digest, size)?;
        }
        let saved = self.partial.file().write_all_at(bytes, before);
        saved.map_err(|error| self.io("write", error))?;
        write_back(self.partial.file(), before, written.bytes);
        outcome.map_err(Error::Fetch)?;
        Ok(filled > 0)
    }

    /// Fills the buffer, as far as there is something to be had.
    fn fill(&self, reader: &mut dyn Read, written: &mut Written) -> (usize, io::Result<()>) {
        let mut filled = 0;
        loop {
            let total = written.bytes + filled as u64;
            if filled == written.buffer.len() || total > self.blob.size {
                return (filled, Ok(()));
            }
            match reader.read(&mut written.buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // All is there: how the connection ends does not matter.
                Ok(0) | Err(_) if total == self.blob.size => return (filled, Ok(())),
                Ok(0) => return (filled, Err(self.cut_off(total))),
                Ok(read) => filled += read,
                Err(error) => return (filled, Err(error)),
            }
        }
    }

    fn cut_off(&self, at: u64) -> io::Error {
        let size = self.blob.size;
        let message = format!("the blob ends after {at} of its {size} bytes");
        io::Error::new(io::ErrorKind::UnexpectedEof, message)
    }

    fn check(&self, received: Digest, received_size: u64) -> Result<(), Error> {
        if (received, received_size) == (self.blob.digest, self.blob.size) {
            return Ok(());
        }
        Err(Error::Corrupt {
            what: self.blob.digest.to_string(),
            expected: self.blob.digest,
            expected_size: self.blob.size,
            received,
            received_size,
        })
    }

    /// Says beforehand that a blob cannot fit, where that is certain.
    fn check_space(&self, before: u64) -> Result<(), Error> {
        let needed = self.blob.size - before;
        if needed <= available(self.store)? {
            return Ok(());
        }
        Err(Error::NoSpace {
            root: self.store.root().to_owned(),
            needed: Some(needed),
            source: io::ErrorKind::StorageFull.into(),
        })
    }

    fn io(&self, action: &'static str, source: io::Error) -> Error {
        self.store.io(action, self.partial.path(), source)
    }
}

fn most(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER)
}
