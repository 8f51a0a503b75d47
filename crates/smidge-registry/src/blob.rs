//! A blob's bytes as they come.

use std::io::{self, Read};

/// The bytes of a blob from an offset on. A connection that breaks is taken up where it broke.
///
/// The bytes are not verified: who takes them hashes them all.
///
/// # Errors
/// Its `Read` fails with an [`io::Error`] that carries an [`Error`](crate::Error): `downcast` it.
pub struct BlobReader {
    _private: (),
}

impl Read for BlobReader {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        unimplemented!("client")
    }
}
