//! The canonical gzip encoder.

use std::io::{self, Read, Write};

use libdeflater::{CompressionLvl, Compressor};

use crate::chunk::Chunks;

/// The name of the encoder, to be changed whenever one byte of its output changes: digests of layers,
/// and what registries and caches already hold, depend on it.
pub const ENCODER: &str = "smidge-gzip-1";

/// Bytes of input in each gzip member but the last. Members can be compressed side by side; at this
/// size that costs 0.03 % of the output.
const MEMBER: u64 = 4 << 20;

/// An input of at most this many members is compressed as well as can be, which takes half a second.
const SMALL: usize = 2;

/// Chunks that are compressed at a time, at most: each takes up to 10 MiB, or 20 MiB where it is
/// compressed as well as can be.
const THREADS: usize = 4;
const THREADS_BEST: usize = 2;

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// The best there is for up to 8 MiB, and fast beyond.
    Canonical,
    /// The best there is, whatever it takes.
    Smallest,
}

/// Compresses all of `input` with gzip, on up to `threads` threads (0 counts as 1).
///
/// The output depends on the input and `effort` alone. Memory is bounded by 60 MiB, however many
/// threads there might be.
///
/// # Errors
/// When reading or writing fails, and when a thread cannot be started.
pub fn compress_gzip(
    input: &mut dyn Read,
    output: &mut dyn Write,
    effort: Effort,
    threads: usize,
) -> io::Result<()> {
    let mut chunks = Chunks::new(input, MEMBER);
    let best = effort == Effort::Smallest || chunks.are_at_most(SMALL)?;
    let most = if best { THREADS_BEST } else { THREADS };
    chunks.compress(threads.min(most), |chunk| compress(chunk, best), output)
}

/// One gzip member. Its header is always the same but for the byte that tells `best` from the rest.
fn compress(chunk: &[u8], best: bool) -> io::Result<Vec<u8>> {
    let level = if best {
        CompressionLvl::best()
    } else {
        CompressionLvl::default()
    };
    let mut compressor = Compressor::new(level);
    let mut member = vec![0; compressor.gzip_compress_bound(chunk.len())];
    let length = compressor
        .gzip_compress(chunk, &mut member)
        .map_err(io::Error::other)?;
    member.truncate(length);
    Ok(member)
}

/// Bytes that compress about as programs do, the same on every machine.
#[cfg(test)]
pub(crate) fn sample(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let random = (state >> 16) as usize;
        match bytes.len() {
            written if written > 4096 && !random.is_multiple_of(3) => {
                let start = written - 1 - random % 4096;
                let end = (start + random % 61).min(written);
                bytes.extend_from_within(start..end);
            }
            _ => bytes.push((random % 251) as u8),
        }
    }
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, LayerKind, decompress};

    fn compressed(input: &mut dyn Read, effort: Effort, threads: usize) -> Vec<u8> {
        let mut output = Vec::new();
        compress_gzip(input, &mut output, effort, threads).unwrap();
        output
    }

    /// Hands out what it has in pieces of odd sizes.
    struct Trickle<'b>(&'b [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(self.0.len() % 9973 + 1).min(self.0.len());
            let (now, later) = self.0.split_at(most);
            buffer[..most].copy_from_slice(now);
            self.0 = later;
            Ok(most)
        }
    }

    #[test]
    fn output_is_the_same_however_it_is_made() {
        for length in [0, 1, 100_000, (4 << 20) + 1, (8 << 20) + 5] {
            let input = sample(length);
            let once = compressed(&mut input.as_slice(), Effort::Canonical, 1);
            for threads in [0, 3] {
                let again = compressed(&mut Trickle(&input), Effort::Canonical, threads);
                assert_eq!(
                    Digest::of(&again),
                    Digest::of(&once),
                    "{length} bytes, {threads} threads"
                );
            }
            let mut unpacked = Vec::new();
            let mut reader = decompress(LayerKind::Gzip, once.as_slice()).unwrap();
            reader.read_to_end(&mut unpacked).unwrap();
            assert_eq!(Digest::of(&unpacked), Digest::of(&input), "{length} bytes");
        }
    }

    /// If this fails, the encoder has changed: [`ENCODER`] needs a new name.
    #[test]
    fn output_is_frozen() {
        assert_eq!(ENCODER, "smidge-gzip-1");
        for (length, effort, size, digest) in [
            (0, Effort::Canonical, 23, "10c2221846da"),
            (100_000, Effort::Canonical, 13_368, "85ea77ca1423"),
            (8 << 20, Effort::Canonical, 794_361, "20bbd4b950be"),
            ((8 << 20) + 1, Effort::Canonical, 796_041, "d23cb4b59eb0"),
            ((8 << 20) + 1, Effort::Smallest, 794_385, "48b29a20fa96"),
        ] {
            let output = compressed(&mut sample(length).as_slice(), effort, 2);
            let stated = (output.len(), Digest::of(&output).short());
            assert_eq!(
                stated,
                (size, digest.to_owned()),
                "{length} bytes, {effort:?}"
            );
        }
    }

    #[test]
    fn errors_of_both_ends_come_through() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("cannot read"))
            }
        }
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("cannot write"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let run = |input: &mut dyn Read, output: &mut dyn Write| {
            compress_gzip(input, output, Effort::Canonical, 2)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(run(&mut Broken, &mut Vec::new()), "cannot read");
        assert_eq!(run(&mut &b"abc"[..], &mut Broken), "cannot write");
    }
}
