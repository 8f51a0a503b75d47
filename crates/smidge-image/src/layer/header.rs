//! The 512-byte block in front of every entry (POSIX.1-2024, pax, "ustar Interchange Format").

use std::ops::Range;

/// Archives are made of blocks of this many bytes.
pub(super) const BLOCK: usize = 512;

/// The most bytes that a long name, an extended header or a map of holes may have. The kernel's
/// limits, 4 KiB for a path and 64 KiB for all extended attributes of a file, leave no use for more.
pub(super) const MAX_EXTENDED: u64 = 1 << 20;

/// The values of `typeflag`.
pub(super) mod kind {
    pub(in crate::layer) const FILE: u8 = b'0';
    /// A file before POSIX, or a directory if the name ends with a slash.
    pub(in crate::layer) const OLD_FILE: u8 = 0;
    pub(in crate::layer) const HARDLINK: u8 = b'1';
    pub(in crate::layer) const SYMLINK: u8 = b'2';
    pub(in crate::layer) const CHAR_DEVICE: u8 = b'3';
    pub(in crate::layer) const BLOCK_DEVICE: u8 = b'4';
    pub(in crate::layer) const DIRECTORY: u8 = b'5';
    pub(in crate::layer) const FIFO: u8 = b'6';
    pub(in crate::layer) const CONTIGUOUS_FILE: u8 = b'7';
    pub(in crate::layer) const EXTENDED: u8 = b'x';
    pub(in crate::layer) const GLOBAL: u8 = b'g';
    pub(in crate::layer) const GNU_LONG_NAME: u8 = b'L';
    pub(in crate::layer) const GNU_LONG_LINK: u8 = b'K';
    pub(in crate::layer) const GNU_SPARSE: u8 = b'S';
}

/// A field of the header: its name in POSIX, and where it is.
pub(super) struct Field {
    pub(super) name: &'static str,
    at: usize,
    length: usize,
}

const fn field(name: &'static str, at: usize, length: usize) -> Field {
    Field { name, at, length }
}

pub(super) const NAME: Field = field("name", 0, 100);
pub(super) const MODE: Field = field("mode", 100, 8);
pub(super) const UID: Field = field("uid", 108, 8);
pub(super) const GID: Field = field("gid", 116, 8);
pub(super) const SIZE: Field = field("size", 124, 12);
pub(super) const MTIME: Field = field("mtime", 136, 12);
pub(super) const CHKSUM: Field = field("chksum", 148, 8);
pub(super) const TYPEFLAG: Field = field("typeflag", 156, 1);
pub(super) const LINKNAME: Field = field("linkname", 157, 100);
const MAGIC: Field = field("magic", 257, 8);
pub(super) const DEVMAJOR: Field = field("devmajor", 329, 8);
pub(super) const DEVMINOR: Field = field("devminor", 337, 8);
pub(super) const PREFIX: Field = field("prefix", 345, 155);
/// GNU's header has other things where POSIX has the end of `prefix`.
pub(super) const GNU_SPARSE_MAP: Field = field("sparse", 386, 4 * 24);
pub(super) const GNU_IS_EXTENDED: Field = field("isextended", 482, 1);
pub(super) const GNU_REALSIZE: Field = field("realsize", 483, 12);
/// star's header is POSIX's, with the times of access and change at the end of `prefix`.
const STAR_PREFIX: Field = field("prefix", 345, 131);
const STAR_MAGIC: Field = field("magic", 508, 4);

/// `magic` and `version` of POSIX.
const USTAR: &[u8; 8] = b"ustar\x0000";

impl Field {
    fn range(&self) -> Range<usize> {
        self.at..self.at + self.length
    }

    pub(super) fn fits(&self, text: &[u8]) -> bool {
        text.len() <= self.length
    }
}

/// A header block.
#[derive(Clone)]
pub(super) struct Header(pub(super) [u8; BLOCK]);

impl Header {
    /// A header with all fields empty and all numbers 0.
    pub(super) fn ustar(kind: u8) -> Self {
        let mut header = Self([0; BLOCK]);
        header.0[MAGIC.range()].copy_from_slice(USTAR);
        header.0[TYPEFLAG.at] = kind;
        for field in [&MODE, &UID, &GID, &SIZE, &MTIME] {
            header.set_number(field, 0);
        }
        header
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[TYPEFLAG.at]
    }

    pub(super) fn bytes(&self, field: &Field) -> &[u8] {
        &self.0[field.range()]
    }

    /// A text field up to its first NUL, if it has one.
    pub(super) fn text(&self, field: &Field) -> &[u8] {
        until_nul(self.bytes(field))
    }

    pub(super) fn number(&self, field: &Field) -> Option<i64> {
        number(self.bytes(field))
    }

    /// The name, put together from its two fields.
    pub(super) fn name(&self) -> Vec<u8> {
        let prefix = match self.bytes(&MAGIC) {
            magic if magic != USTAR => &[],
            _ if self.bytes(&STAR_MAGIC) == b"tar\0" => self.text(&STAR_PREFIX),
            _ => self.text(&PREFIX),
        };
        match prefix {
            [] => self.text(&NAME).to_vec(),
            prefix => [prefix, b"/", self.text(&NAME)].concat(),
        }
    }

    /// Writes a text that fits: see [`Field::fits`]. What is too long is cut off.
    pub(super) fn set_text(&mut self, field: &Field, text: &[u8]) {
        let length = text.len().min(field.length);
        self.0[field.at..field.at + length].copy_from_slice(&text[..length]);
    }

    /// Writes a number as POSIX has it: octal, filled up with zeros, ended by one NUL. Returns
    /// whether it fits; if not, the field is left alone.
    pub(super) fn set_number(&mut self, field: &Field, mut number: u64) -> bool {
        let digits = field.length - 1;
        if number >> (3 * digits) != 0 {
            return false;
        }
        let place = &mut self.0[field.range()];
        place[digits] = 0;
        for digit in place[..digits].iter_mut().rev() {
            *digit = b'0' + (number & 7) as u8;
            number >>= 3;
        }
        true
    }

    /// Writes the checksum: the last thing to do to a header.
    pub(super) fn seal(&mut self) {
        let (sum, _) = self.sums();
        self.set_number(&CHKSUM, sum);
    }

    /// Whether the checksum is right. Some old programs summed up signed bytes.
    pub(super) fn is_sealed(&self) -> bool {
        let (unsigned, signed) = self.sums();
        self.number(&CHKSUM)
            .is_some_and(|stated| stated == signed || u64::try_from(stated) == Ok(unsigned))
    }

    /// The sums of all bytes, unsigned and signed, with `chksum` itself counted as spaces.
    fn sums(&self) -> (u64, i64) {
        let skip = CHKSUM.range();
        let counted = |(at, byte): (usize, &u8)| if skip.contains(&at) { b' ' } else { *byte };
        self.0
            .iter()
            .enumerate()
            .map(counted)
            .fold((0, 0), |(unsigned, signed), byte| {
                (
                    unsigned + u64::from(byte),
                    signed + i64::from(byte.cast_signed()),
                )
            })
    }
}

pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Reads a numeric field: octal between spaces and NULs, nothing at all meaning 0; or, where the
/// first bit is set, GNU's binary form, a big-endian two's complement.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => binary(field),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let is_filler = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field
        .iter()
        .position(|byte| !is_filler(byte))
        .unwrap_or(field.len());
    let digits = field[start..].split(is_filler).next()?;
    digits.iter().try_fold(0_i64, |sum, digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn binary(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    // The first bit is the mark, the second the sign.
    let first = i64::from((first << 1).cast_signed() >> 1);
    rest.iter().try_fold(first, |sum, byte| {
        sum.checked_mul(0x100)?.checked_add(i64::from(*byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_all_their_forms() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644\0junk", Some(0o644)),
            (b"77777777", Some(0o77777777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"0x00644\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\0", Some(-256)),
            (
                b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
                Some(i64::MAX),
            ),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", None),
            (b"\xc0\0\0\0\0\0\0\0\0\0\0\0", None),
            (b"", Some(0)),
        ] {
            assert_eq!(number(field), expected, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_left_out() {
        let mut header = Header::ustar(kind::FILE);
        assert!(header.set_number(&UID, 0o7777777));
        assert!(!header.set_number(&UID, 0o10000000));
        assert_eq!(header.bytes(&UID), b"7777777\0");
        assert!(header.set_number(&SIZE, 0o77777777777));
        assert!(!header.set_number(&SIZE, 1 << 33));
    }

    #[test]
    fn a_changed_byte_breaks_the_seal() {
        let mut header = Header::ustar(kind::FILE);
        header.set_text(&NAME, "ä".as_bytes());
        header.seal();
        assert!(header.is_sealed());
        header.0[400] ^= 1;
        assert!(!header.is_sealed());
    }
}
