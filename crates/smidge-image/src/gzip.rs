//! The canonical gzip encoder.

use std::io::{self, Read, Write};

/// The name of the encoder, to be changed whenever one byte of its output changes: digests of layers,
/// and what registries and caches already hold, depend on it.
pub const ENCODER: &str = "smidge-gzip-1";

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// The best there is for up to 8 MiB, and fast beyond.
    Canonical,
    /// The best there is, whatever it takes.
    Smallest,
}

/// Compresses all of `input` with gzip, on `threads` threads (0 counts as 1).
///
/// The output depends on the input and `effort` alone.
///
/// # Errors
/// When reading or writing fails.
pub fn compress_gzip(
    _input: &mut dyn Read,
    _output: &mut dyn Write,
    _effort: Effort,
    _threads: usize,
) -> io::Result<()> {
    unimplemented!()
}
