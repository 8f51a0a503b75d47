//! The canonical zstd encoder.

use std::io::{self, Cursor, Read, Write};

use zstd::bulk::Compressor;
use zstd::stream::raw::CParameter;

use crate::Effort;
use crate::chunk::Chunks;

/// The name of the encoder, to be changed whenever one byte of its output changes: digests of layers,
/// and what registries and caches already hold, depend on it. A new version of the library may need a
/// new name.
pub const ZSTD_ENCODER: &str = "smidge-zstd-1";

/// Bytes of input in each frame but the last, and how hard it is compressed: in half of gzip's time to
/// gzip's size or less. (Harder levels lose most by the library being built small.)
const FRAME: u64 = 4 << 20;
const FAST: i32 = 3;

/// An input that makes one frame is compressed harder, which takes two seconds at most. The tables are
/// a quarter of the usual size, which costs 1 % of the output.
const HARD: i32 = 19;
const HARD_CHAIN: u32 = 22;
const HARD_HASH: u32 = 20;

/// The smallest is one frame, with matches as far apart as decoders allow by default: 128 MiB.
const SMALLEST: i32 = 22;
const SMALLEST_WINDOW: u32 = 27;

/// Frames that are compressed at a time, at most: each takes up to 11 MiB.
const THREADS: usize = 4;

/// Compresses all of `input`, which has `size` bytes, with zstd, on up to `threads` threads (0 counts
/// as 1).
///
/// The output depends on the input and `effort` alone. Frames state their content's size and have no
/// checksum: layers are verified by their digests. Memory is bounded by 60 MiB, however many threads
/// there might be; for [`Effort::Smallest`], which takes one thread, by 900 MiB.
///
/// # Errors
/// When reading or writing fails, when there are not `size` bytes, and when a thread cannot be started.
pub fn compress_zstd(
    input: &mut dyn Read,
    size: u64,
    output: &mut dyn Write,
    effort: Effort,
    threads: usize,
) -> io::Result<()> {
    match effort {
        Effort::Smallest => smallest(input, size, output),
        Effort::Canonical => canonical(input, output, threads),
    }
}

fn canonical(input: &mut dyn Read, output: &mut dyn Write, threads: usize) -> io::Result<()> {
    let mut start = Vec::new();
    (&mut *input).take(FRAME + 1).read_to_end(&mut start)?;
    if start.len() as u64 <= FRAME {
        return output.write_all(&hard(&start)?);
    }
    let mut input = Cursor::new(start).chain(input);
    let chunks = Chunks::new(&mut input, FRAME);
    chunks.compress(threads.min(THREADS), fast, output)
}

fn fast(chunk: &[u8]) -> io::Result<Vec<u8>> {
    Compressor::new(FAST)?.compress(chunk)
}

fn hard(chunk: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = Compressor::new(HARD)?;
    compressor.set_parameter(CParameter::ChainLog(HARD_CHAIN))?;
    compressor.set_parameter(CParameter::HashLog(HARD_HASH))?;
    compressor.compress(chunk)
}

fn smallest(input: &mut dyn Read, size: u64, output: &mut dyn Write) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(output, SMALLEST)?;
    encoder.set_pledged_src_size(Some(size))?;
    encoder.set_parameter(CParameter::ContentSizeFlag(true))?;
    encoder.set_parameter(CParameter::WindowLog(SMALLEST_WINDOW))?;
    encoder.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    io::copy(input, &mut encoder)?;
    encoder.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gzip::sample;
    use crate::{Digest, LayerKind, decompress};

    fn compressed(input: &[u8], effort: Effort, threads: usize) -> Vec<u8> {
        let mut output = Vec::new();
        let size = input.len() as u64;
        compress_zstd(&mut &*input, size, &mut output, effort, threads).unwrap();
        output
    }

    #[test]
    fn output_is_the_same_however_it_is_made() {
        for length in [0, 1, 100_000, 4 << 20, (4 << 20) + 1, (8 << 20) + 5] {
            let input = sample(length);
            let once = compressed(&input, Effort::Canonical, 1);
            assert_eq!(compressed(&input, Effort::Canonical, 9), once, "{length}");
            let mut unpacked = Vec::new();
            let mut reader = decompress(LayerKind::Zstd, once.as_slice()).unwrap();
            reader.read_to_end(&mut unpacked).unwrap();
            assert_eq!(Digest::of(&unpacked), Digest::of(&input), "{length} bytes");
        }
    }

    /// If this fails, the encoder has changed: [`ZSTD_ENCODER`] needs a new name.
    #[test]
    fn output_is_frozen() {
        assert_eq!(ZSTD_ENCODER, "smidge-zstd-1");
        for (length, effort, size, digest) in [
            (0, Effort::Canonical, 9, "6fb8543883da"),
            (100_000, Effort::Canonical, 13_249, "6be19f4b12f1"),
            (4 << 20, Effort::Canonical, 399_875, "3d9b6c3ee236"),
            ((4 << 20) + 1, Effort::Canonical, 669_456, "54de24e9d877"),
            (0, Effort::Smallest, 9, "6fb8543883da"),
            (2 << 20, Effort::Smallest, 201_110, "392132bb5beb"),
        ] {
            let output = compressed(&sample(length), effort, 2);
            let stated = (output.len(), Digest::of(&output).short());
            assert_eq!(
                stated,
                (size, digest.to_owned()),
                "{length} bytes, {effort:?}"
            );
        }
    }

    #[test]
    fn an_input_of_another_size_is_an_error() {
        for size in [0, 4, 6] {
            let smallest = compress_zstd(
                &mut &b"12345"[..],
                size,
                &mut Vec::new(),
                Effort::Smallest,
                1,
            );
            assert!(smallest.is_err(), "{size}");
        }
    }
}
