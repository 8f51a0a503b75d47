//! Regular files: all that the store's documents and blobs may be. Reading anything else in their
//! place could wait, or go on, for ever.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};

/// Bytes that most documents have less of.
const USUAL: usize = 8 << 10;

/// Opens a regular file for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    opened(path).map(|(file, _)| file)
}

fn opened(path: &Path) -> io::Result<(File, Metadata)> {
    // Opening a pipe would wait for its writer.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok((file, metadata));
    }
    Err(io::Error::other("not a regular file"))
}

/// Reads a regular file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(USUAL);
    let file = rustix::fs::open(path, OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    // What comes in one piece and ends there is read, whatever it is.
    let length = rustix::io::read(&file, spare_capacity(&mut start));
    match length {
        Ok(length) if length > 0 && length < USUAL => Ok(start),
        _ => identified(path).map(|(bytes, _)| bytes),
    }
}

/// Reads a regular file, and says which one it is: its device and inode.
pub(crate) fn identified(path: &Path) -> io::Result<(Vec<u8>, (u64, u64))> {
    let (mut file, metadata) = opened(path)?;
    // One byte more than it holds: when that stays empty, this was all, and nobody needs to ask again.
    let length = usize::try_from(metadata.len()).unwrap_or(0);
    let mut bytes = vec![0; length + 1];
    let mut read = 0;
    while let Some(room) = bytes.get_mut(read..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(some) => read += some,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if read == length {
            break;
        }
    }
    bytes.truncate(read);
    if read > length {
        // It has grown meanwhile.
        file.read_to_end(&mut bytes)?;
    }
    Ok((bytes, (metadata.dev(), metadata.ino())))
}
