//! The archive as bytes come in, and the content of one entry within it.

use std::io::{self, Read};

use super::LayerError;
use super::header::BLOCK;
use super::sparse::Segment;

/// The archive, and how much of it was read.
pub(super) struct Source<R> {
    inner: R,
    pub(super) offset: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, offset: 0 }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(read) => {
                    self.offset += read as u64;
                    return Ok(read);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn read_checked(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        self.read(buffer).map_err(|source| LayerError::Read {
            offset: self.offset,
            source,
        })
    }

    fn truncated(&self) -> LayerError {
        LayerError::Truncated {
            offset: self.offset,
        }
    }

    /// The next block; `None` if the archive ends here.
    pub(super) fn next_block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.read_checked(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(self.truncated()),
                read => filled += read,
            }
        }
        Ok(Some(block))
    }

    /// The next block, which must be there.
    pub(super) fn block(&mut self) -> Result<[u8; BLOCK], LayerError> {
        self.next_block()?.ok_or_else(|| self.truncated())
    }

    /// Reads `size` bytes that the caller has found to be few, and skips what fills up their block.
    pub(super) fn short(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        let mut bytes = Vec::new();
        for _ in 0..size.div_ceil(BLOCK as u64) {
            bytes.extend_from_slice(&self.block()?);
        }
        bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    /// Skips `count` bytes.
    pub(super) fn skip(&mut self, mut count: u64) -> Result<(), LayerError> {
        let mut scratch = [0; 16 * BLOCK];
        while count > 0 {
            let most = scratch
                .len()
                .min(usize::try_from(count).unwrap_or(usize::MAX));
            match self.read_checked(&mut scratch[..most])? {
                0 => return Err(self.truncated()),
                read => count -= read as u64,
            }
        }
        Ok(())
    }

    /// Reads to the end.
    pub(super) fn drain(&mut self) -> Result<(), LayerError> {
        let mut scratch = [0; 16 * BLOCK];
        while self.read_checked(&mut scratch)? > 0 {}
        Ok(())
    }
}

/// How many bytes fill up the last block of a content.
pub(super) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// The content of one entry: what is stored, with the holes between filled by zeros.
pub(super) struct Content<'s, R> {
    source: &'s mut Source<R>,
    /// The segment that is being read, or comes next, with what is left of it.
    segment: Option<Segment>,
    segments: std::vec::IntoIter<Segment>,
    position: u64,
    size: u64,
    /// Bytes of the archive that are still to be read, without the padding.
    stored: u64,
    padding: u64,
}

impl<'s, R: Read> Content<'s, R> {
    /// A content of `size` bytes of which `map` is stored. The map has been checked.
    pub(super) fn new(source: &'s mut Source<R>, size: u64, map: Vec<Segment>) -> Self {
        let stored = map.iter().map(|segment| segment.length).sum();
        let mut segments = map.into_iter();
        let segment = segments.next();
        Self {
            source,
            segment,
            segments,
            position: 0,
            size,
            stored,
            padding: padding(stored),
        }
    }

    /// Skips what was not read.
    pub(super) fn finish(self) -> Result<(), LayerError> {
        self.source.skip(self.stored)?;
        self.source.skip(self.padding)
    }

    fn fill_hole(&mut self, buffer: &mut [u8], end: u64) -> usize {
        let length = most(buffer, end - self.position);
        buffer[..length].fill(0);
        self.position += length as u64;
        length
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(Segment { length: 0, .. }) = self.segment {
            self.segment = self.segments.next();
        }
        let Some(segment) = &mut self.segment else {
            return Ok(self.fill_hole(buffer, self.size));
        };
        if self.position < segment.offset {
            let end = segment.offset;
            return Ok(self.fill_hole(buffer, end));
        }
        let length = most(buffer, segment.length);
        let read = self.source.read(&mut buffer[..length])?;
        if read == 0 && length > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                self.source.truncated(),
            ));
        }
        segment.offset += read as u64;
        segment.length -= read as u64;
        self.position += read as u64;
        self.stored -= read as u64;
        Ok(read)
    }
}

fn most(buffer: &[u8], length: u64) -> usize {
    buffer
        .len()
        .min(usize::try_from(length).unwrap_or(usize::MAX))
}
