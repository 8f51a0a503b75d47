//! Unpacking compressed layers.

use std::io::{self, BufReader, Read};

use flate2::read::MultiGzDecoder;

use crate::LayerKind;

/// The largest window that is given to a zstd frame: log2 of 128 MiB, as much as `zstd --ultra -22`
/// asks for.
const ZSTD_WINDOW_LOG: u32 = 27;

/// What every zstd frame begins with.
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Tells how bytes are packed from the first four of them; what is neither gzip nor zstd counts as a
/// bare tar archive.
pub fn sniff(first: &[u8]) -> LayerKind {
    match first {
        [0x1f, 0x8b, ..] => LayerKind::Gzip,
        _ if first.starts_with(ZSTD_MAGIC) => LayerKind::Zstd,
        _ => LayerKind::Tar,
    }
}

/// Bytes of memory that the first frame of zstd data asks of its decoder, by its header, which takes up
/// at most 18 bytes; `None` for what is no such header. (RFC 8878, 3.1.1.1.)
pub fn zstd_window(first: &[u8]) -> Option<u64> {
    let (descriptor, rest) = first.strip_prefix(ZSTD_MAGIC)?.split_first()?;
    if descriptor & 0x20 == 0 {
        let window = rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment: the window is the whole content.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let (length, least) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(descriptor >> 6)];
    let size = rest.get(dictionary..dictionary + length)?;
    let size = size
        .iter()
        .rev()
        .fold(0, |size, byte| size << 8 | u64::from(*byte));
    Some(size.saturating_add(least))
}

/// Undoes a layer's compression.
///
/// Memory is bounded, the amount of output is not: see [`Limited`].
///
/// # Errors
/// When a decoder cannot be set up. Its reads end with `UnexpectedEof` for truncated and
/// `InvalidData` for corrupt data, among them bytes that follow the end of the compressed data.
pub fn decompress<'r, R: Read + 'r>(kind: LayerKind, reader: R) -> io::Result<Box<dyn Read + 'r>> {
    let source = Source {
        inner: reader,
        started: false,
        failed: false,
    };
    let decoder = match kind {
        LayerKind::Tar => return Ok(Box::new(source.inner)),
        LayerKind::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(source))),
        LayerKind::Zstd => {
            let mut decoder = zstd::Decoder::new(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Decoder::Zstd(decoder)
        }
    };
    Ok(Box::new(Checked {
        decoder,
        failed: None,
    }))
}

/// The compressed bytes; remembers whether there were any, and whether it was reading that failed.
struct Source<R> {
    inner: R,
    started: bool,
    failed: bool,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    self.started |= matches!(result, Ok(1..));
                    self.failed = result.is_err();
                    return result;
                }
            }
        }
    }
}

enum Decoder<R: Read> {
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(zstd::Decoder<'static, BufReader<Source<R>>>),
}

impl<R: Read> Decoder<R> {
    fn name(&self) -> &'static str {
        match self {
            Self::Gzip(_) => "gzip",
            Self::Zstd(_) => "zstd",
        }
    }

    fn source(&self) -> &Source<R> {
        match self {
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref().get_ref(),
        }
    }

    /// Reads on. No compressed form is empty, not even that of nothing.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Self::Gzip(decoder) => decoder.read(buffer)?,
            Self::Zstd(decoder) => decoder.read(buffer)?,
        };
        if read == 0 && !self.source().started {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }

    /// Says which of the two is wrong, the data or reading them; decoders use kinds as they please.
    fn explain(&self, error: io::Error) -> io::Error {
        let name = self.name();
        if self.source().failed {
            return error;
        }
        match error.kind() {
            kind @ io::ErrorKind::UnexpectedEof => {
                io::Error::new(kind, format!("the {name} data is truncated"))
            }
            _ => {
                let message = format!("the {name} data is corrupt: {error}");
                io::Error::new(io::ErrorKind::InvalidData, message)
            }
        }
    }
}

/// A decoder that, once it has failed, keeps failing: an error must not be followed by what looks
/// like the end.
struct Checked<R: Read> {
    decoder: Decoder<R>,
    failed: Option<(io::ErrorKind, String)>,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some((kind, message)) = &self.failed {
            return Err(io::Error::new(*kind, message.clone()));
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        self.decoder.read(buffer).map_err(|error| {
            let error = self.decoder.explain(error);
            self.failed = Some((error.kind(), error.to_string()));
            error
        })
    }
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const TEXT: &[u8] = b"the smallest container of a program";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(kind: LayerKind, bytes: &[u8]) -> Result<Vec<u8>, (io::ErrorKind, String)> {
        let mut reader = decompress(kind, bytes).unwrap();
        let mut output = Vec::new();
        let result = reader.read_to_end(&mut output);
        if let Err(error) = &result {
            let again = reader.read(&mut [0]).unwrap_err();
            assert_eq!(
                (again.kind(), again.to_string()),
                (error.kind(), error.to_string())
            );
        }
        result
            .map(|_| output)
            .map_err(|error| (error.kind(), error.to_string()))
    }

    #[test]
    fn kinds_are_told_by_their_magic() {
        assert_eq!(sniff(&gzip(b"")), LayerKind::Gzip);
        assert_eq!(
            sniff(&zstd::encode_all(&b""[..], 3).unwrap()),
            LayerKind::Zstd
        );
        assert_eq!(sniff(b"etc/passwd"), LayerKind::Tar);
        assert_eq!(sniff(b""), LayerKind::Tar);
    }

    #[test]
    fn several_members_and_frames_are_one_layer() {
        let twice = [TEXT, TEXT].concat();
        let zstd = zstd::encode_all(TEXT, 3).unwrap();
        assert_eq!(unpacked(LayerKind::Tar, TEXT).as_deref(), Ok(TEXT));
        assert_eq!(
            unpacked(LayerKind::Gzip, &[gzip(TEXT), gzip(TEXT)].concat()),
            Ok(twice.clone())
        );
        assert_eq!(
            unpacked(LayerKind::Zstd, &[zstd.clone(), zstd].concat()),
            Ok(twice)
        );
        assert_eq!(unpacked(LayerKind::Gzip, &gzip(b"")), Ok(vec![]));
    }

    #[test]
    fn every_truncation_is_noticed() {
        for (kind, whole) in [
            (LayerKind::Gzip, gzip(TEXT)),
            (LayerKind::Zstd, zstd::encode_all(TEXT, 3).unwrap()),
        ] {
            for length in 0..whole.len() {
                let (error, message) = unpacked(kind, &whole[..length]).unwrap_err();
                assert_eq!(
                    error,
                    io::ErrorKind::UnexpectedEof,
                    "{kind:?} {length}: {message}"
                );
                assert!(message.ends_with("data is truncated"), "{message}");
            }
        }
    }

    #[test]
    fn what_follows_the_end_is_corrupt() {
        for (kind, whole) in [
            (LayerKind::Gzip, gzip(TEXT)),
            (LayerKind::Zstd, zstd::encode_all(TEXT, 3).unwrap()),
        ] {
            for garbage in [&[0; 512][..], b"garbage after the end"] {
                let (error, message) = unpacked(kind, &[&whole, garbage].concat()).unwrap_err();
                assert_eq!(error, io::ErrorKind::InvalidData, "{kind:?}: {message}");
                assert!(message.contains("data is corrupt"), "{message}");
            }
        }
    }

    #[test]
    fn changed_content_is_corrupt() {
        let mut bytes = gzip(TEXT);
        let crc = bytes.len() - 8;
        bytes[crc] ^= 1;
        let (error, message) = unpacked(LayerKind::Gzip, &bytes).unwrap_err();
        assert_eq!(error, io::ErrorKind::InvalidData, "{message}");
    }

    #[test]
    fn zstd_windows_are_bounded() {
        // RFC 8878, 3.1.1.1: magic, a descriptor that says "with window, without size", a window
        // of 2^(10 + exponent) bytes; then one last, raw, empty block.
        for (exponent, sound) in [(17, true), (18, false)] {
            let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1, 0, 0];
            assert_eq!(
                unpacked(LayerKind::Zstd, &frame).is_ok(),
                sound,
                "2^{}",
                10 + exponent
            );
        }
    }

    #[test]
    fn windows_are_told_by_the_header() {
        let window = |bytes: &[u8]| zstd_window(bytes);
        for (length, wanted) in [(0, 0), (255, 255), (256, 256), (70_000, 70_000)] {
            let frame = zstd::bulk::compress(&vec![7; length], 3).unwrap();
            assert_eq!(window(&frame), Some(wanted), "{length}");
            assert_eq!(window(&frame[..5]), None);
        }
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(23).unwrap();
        encoder.write_all(TEXT).unwrap();
        assert_eq!(window(&encoder.finish().unwrap()), Some(8 << 20));
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3 | 1];
        assert_eq!(window(&frame), Some((128 << 20) + (16 << 20)));
        assert_eq!(window(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0xff]), Some(15 << 38));
        let vast = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe3][..], &[0xff; 12]].concat();
        assert_eq!(window(&vast), Some(u64::MAX));
        assert_eq!(window(&gzip(TEXT)), None);
        assert_eq!(window(b""), None);
    }

    #[test]
    fn errors_of_the_reader_stay_themselves() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::new(io::ErrorKind::InvalidData, "wrong digest"))
            }
        }
        for (kind, whole) in [
            (LayerKind::Gzip, gzip(TEXT)),
            (LayerKind::Zstd, zstd::encode_all(TEXT, 3).unwrap()),
        ] {
            for start in [&[][..], &whole[..whole.len() - 1]] {
                let mut reader = decompress(kind, start.chain(Failing)).unwrap();
                let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
                assert_eq!(error.to_string(), "wrong digest");
                assert!(reader.read(&mut [0]).is_err());
            }
        }
    }

    #[test]
    fn a_limit_is_an_error_only_when_passed() {
        let read = |limit| {
            let mut output = Vec::new();
            Limited::new(TEXT, limit)
                .read_to_end(&mut output)
                .map(|_| output)
        };
        assert_eq!(read(TEXT.len() as u64).unwrap(), TEXT);
        assert_eq!(read(u64::MAX).unwrap(), TEXT);
        let error = read(3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "more than the 3 bytes that are accepted");
    }
}
