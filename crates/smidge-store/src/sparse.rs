//! Files with holes, read without looking for what is not there, and written without storing it.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// So many bytes that are written at once become a hole, if they are all zeros.
const HOLE: usize = 1 << 15;
const ZEROS: [u8; 4096] = [0; 4096];

/// What a write has left at the end of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// Bytes, or nothing yet.
    #[default]
    Written,
    /// A hole: the file is too short until its size is set.
    Hole,
}

/// Writes bytes where the file is; long runs of zeros take up no room on disk. Gives how many, and what
/// comes of them.
pub(crate) fn write(mut file: &File, bytes: &[u8]) -> io::Result<(usize, End)> {
    let is_zero = |bytes: &[u8]| bytes.chunks(ZEROS.len()).all(|c| *c == ZEROS[..c.len()]);
    if bytes.len() < HOLE || !is_zero(bytes) {
        return Ok((file.write(bytes)?, End::Written));
    }
    let length = i64::try_from(bytes.len()).map_err(io::Error::other)?;
    file.seek_relative(length)?;
    Ok((bytes.len(), End::Hole))
}

/// Writes all of it where the file is, as [`write`] does. Gives what comes of the last.
pub(crate) fn write_all(file: &File, mut bytes: &[u8]) -> io::Result<End> {
    let mut last = End::default();
    while !bytes.is_empty() {
        match write(file, bytes) {
            Ok((0, _)) => return Err(io::ErrorKind::WriteZero.into()),
            Ok((written, end)) => {
                bytes = &bytes[written..];
                last = end;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(last)
}

/// Reads a file from its beginning. Holes are zeros that do not come from the disk, and leave no trace
/// in memory.
pub(crate) struct SparseReader<'f> {
    file: &'f File,
    position: u64,
    /// The end of the piece at the position.
    end: u64,
    is_hole: bool,
    size: u64,
}

impl<'f> SparseReader<'f> {
    pub(crate) fn new(file: &'f File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let size = metadata.len();
        let has_holes = metadata.blocks().saturating_mul(512) < size;
        Ok(Self {
            file,
            position: 0,
            // All of it is one piece, whose end is where reading ends.
            end: if has_holes { 0 } else { u64::MAX },
            is_hole: false,
            size,
        })
    }

    /// Finds out what is at the position (lseek(2), "Seeking file data and holes").
    fn look(&mut self) -> io::Result<()> {
        let start = match seek(self.file, SeekFrom::Data(self.position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => self.size,
            Err(error) => return Err(error.into()),
        };
        self.is_hole = start > self.position;
        self.end = match self.is_hole {
            true => start,
            false => seek(self.file, SeekFrom::Hole(self.position))?,
        };
        Ok(())
    }
}

impl Read for SparseReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.end && self.position < self.size {
            self.look()?;
        }
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        let piece = &mut buffer[..most];
        let read = match self.is_hole {
            true => {
                piece.fill(0);
                most
            }
            false => self.file.read_at(piece, self.position)?,
        };
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_zeros() {
        for (size, pieces) in [
            (0, vec![]),
            (5, vec![(0, 5)]),
            (1 << 20, vec![]),
            (1 << 20, vec![(0, 7)]),
            (1 << 20, vec![(300_000, 9), (700_000, 5000)]),
            ((1 << 20) + 3, vec![((1 << 20) - 4, 7)]),
        ] {
            let file = tempfile::tempfile().unwrap();
            file.set_len(size).unwrap();
            let mut expected = vec![0; usize::try_from(size).unwrap()];
            for (at, length) in pieces {
                let bytes = vec![b'x'; length];
                file.write_all_at(&bytes, at).unwrap();
                let at = usize::try_from(at).unwrap();
                expected[at..at + length].copy_from_slice(&bytes);
            }
            let mut read = Vec::new();
            let mut reader = SparseReader::new(&file).unwrap();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == expected, "{size}");
        }
    }
}
