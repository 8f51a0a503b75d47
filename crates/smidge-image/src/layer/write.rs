//! Writing layers.

use std::io::{self, Read, Write};

use super::Entry;

/// Writes a layer: a tar archive of which every byte follows from its entries.
///
/// The order of entries is the caller's.
pub struct LayerWriter<W> {
    output: W,
}

impl<W: Write> LayerWriter<W> {
    /// Starts an archive.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Appends one entry; `content` is read only for a regular file, and then to its end.
    ///
    /// # Errors
    /// When reading or writing fails, when `content` is not as long as the entry says
    /// (`InvalidData`; the archive is then of no use), and when tar has no way to express the entry
    /// (`InvalidInput`).
    pub fn append(&mut self, _entry: &Entry, _content: &mut dyn Read) -> io::Result<()> {
        unimplemented!()
    }

    /// Ends the archive with two blocks of zeros, and gives the writer back.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(self) -> io::Result<W> {
        Ok(self.output)
    }
}
