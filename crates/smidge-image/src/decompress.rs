//! Unpacking compressed layers.

use std::io::{self, Read};

use crate::LayerKind;

/// Tells how bytes are packed from the first four of them; what is neither gzip nor zstd counts as a
/// bare tar archive.
pub fn sniff(first: &[u8]) -> LayerKind {
    match first {
        [0x1f, 0x8b, ..] => LayerKind::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => LayerKind::Zstd,
        _ => LayerKind::Tar,
    }
}

/// Undoes a layer's compression.
///
/// Memory is bounded, the amount of output is not: see [`Limited`].
///
/// # Errors
/// When a decoder cannot be set up. Its reads end with `UnexpectedEof` for truncated and
/// `InvalidData` for corrupt data, among them bytes that follow the end of the compressed data.
pub fn decompress<'r, R: Read + 'r>(
    _kind: LayerKind,
    _reader: R,
) -> io::Result<Box<dyn Read + 'r>> {
    unimplemented!()
}

/// Lets no more than a number of bytes through: one more is an error, not the end.
pub struct Limited<R> {
    inner: R,
    limit: u64,
    left: u64,
}

impl<R: Read> Limited<R> {
    /// Limits what can be read to `limit` bytes.
    pub fn new(inner: R, limit: u64) -> Self {
        Self {
            inner,
            limit,
            left: limit,
        }
    }

    /// The reader within.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left > 0 || buffer.is_empty() {
            let most = usize::try_from(self.left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let read = self.inner.read(&mut buffer[..most])?;
            self.left -= read as u64;
            return Ok(read);
        }
        match self.inner.read(&mut [0])? {
            0 => Ok(0),
            _ => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("more than the {} bytes that are accepted", self.limit),
            )),
        }
    }
}
