//! How an archive is packed, and undoing that: the forms that Docker unpacks.

use std::io::{self, BufReader, Cursor, Read};

use smidge_image::{LayerKind, decompress, sniff};

/// The most memory that unpacking xz may take, in KiB: what `xz -9` asks for is 64 MiB.
const XZ_MEMORY: u32 = 128 << 10;

/// The compression around a tar archive, if there is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// None, gzip or zstd.
    Layer(LayerKind),
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl Packing {
    /// Tells by the first bytes (the .xz file format, 2.1.1.1; bzip2's has the level between `BZh` and
    /// the mark of the first block, or of the end).
    pub(crate) fn of(head: &[u8]) -> Self {
        match head {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, ..] => Self::Bzip2,
            _ => Self::Layer(sniff(head)),
        }
    }

    /// What to call an archive that is packed so.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Layer(LayerKind::Tar) => "a tar archive",
            Self::Layer(LayerKind::Gzip) => "a tar archive compressed with gzip",
            Self::Layer(LayerKind::Zstd) => "a tar archive compressed with zstd",
            Self::Bzip2 => "a tar archive compressed with bzip2",
            Self::Xz => "a tar archive compressed with xz",
        }
    }

    /// Whether the bytes are an archive as they are.
    pub(crate) fn is_bare(self) -> bool {
        self == Self::Layer(LayerKind::Tar)
    }

    /// Undoes the compression. Memory is bounded, the amount of output is not.
    pub(crate) fn open<'r>(self, reader: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
        Ok(match self {
            Self::Layer(kind) => decompress(kind, reader)?,
            Self::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(reader)),
            Self::Xz => {
                let reader = BufReader::new(reader);
                Box::new(lzma_rust2::XzReader::new_mem_limit(reader, true, XZ_MEMORY))
            }
        })
    }
}

/// Tells how a stream is packed, and gives it back whole with its first bytes, `HEAD` at most.
pub(crate) fn sniffed<'r>(
    mut reader: impl Read + 'r,
) -> io::Result<(Packing, Vec<u8>, Box<dyn Read + 'r>)> {
    let mut head = Vec::new();
    (&mut reader).take(HEAD).read_to_end(&mut head)?;
    let packing = Packing::of(&head);
    let whole = Cursor::new(head.clone()).chain(reader);
    Ok((packing, head, Box::new(whole)))
}

/// An archive that a layer cannot be packed as, bzip2 or xz, unpacked; any other as it is.
pub(crate) fn as_layer<'r>(reader: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let (packing, _, whole) = sniffed(reader)?;
    match packing {
        Packing::Layer(_) => Ok(whole),
        Packing::Bzip2 | Packing::Xz => packing.open(whole),
    }
}

/// As many bytes as one header of a tar archive has.
pub(crate) const HEAD: u64 = 512;

/// Whether a block is the header of a tar entry: its checksum is right (POSIX.1-2024, pax).
pub(crate) fn is_header(block: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    if block.len() < 512 || block[0] == 0 {
        return false;
    }
    let block = &block[..512];
    let stated = str::from_utf8(&block[CHECKSUM]).ok().and_then(|text| {
        let digits = text.trim_matches(|c| c == ' ' || c == '\0');
        u32::from_str_radix(digits, 8).ok()
    });
    let byte = |(at, byte): (usize, &u8)| {
        if CHECKSUM.contains(&at) {
            32
        } else {
            u32::from(*byte)
        }
    };
    stated == Some(block.iter().enumerate().map(byte).sum())
}

/// Whether these are the first bytes of an archive, of no entries perhaps.
pub(crate) fn is_archive(head: &[u8]) -> bool {
    let empty = head.len() >= 512 && head[..512].iter().all(|byte| *byte == 0);
    empty || is_header(head)
}
