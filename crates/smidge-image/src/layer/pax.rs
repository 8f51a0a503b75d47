//! Extended headers (POSIX.1-2024, pax, "pax Extended Header"): `length keyword=value\n` records
//! that tell what does not fit in a header.

use std::collections::BTreeMap;

use super::sparse::{Segment, SparseRecords};

/// Extended attributes, as star introduced them and everybody writes them.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What an extended header says about the entry that follows. What it leaves out is in the header.
#[derive(Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<i64>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: SparseRecords,
}

impl Extended {
    /// Reads all records. The error is the keyword of the malformed one, or `pax` if there is none.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, String> {
        let mut extended = Self::default();
        while !bytes.is_empty() {
            let (keyword, value, rest) = record(bytes).ok_or("pax")?;
            if extended.set(keyword, value).is_none() {
                return Err(String::from_utf8_lossy(keyword).into_owned());
            }
            bytes = rest;
        }
        Ok(extended)
    }

    /// Takes one record in. An empty value means: as the header says. `None` if it is malformed.
    fn set(&mut self, keyword: &[u8], value: &[u8]) -> Option<()> {
        if let Some(name) = keyword.strip_prefix(XATTR) {
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Some(());
        }
        let value = Some(value).filter(|value| !value.is_empty());
        match keyword {
            b"path" => self.path = value.map(<[u8]>::to_vec),
            b"linkpath" => self.linkpath = value.map(<[u8]>::to_vec),
            b"size" => self.size = optional(value, decimal)?,
            b"uid" => self.uid = optional(value, decimal)?,
            b"gid" => self.gid = optional(value, decimal)?,
            b"mtime" => self.mtime = optional(value, seconds)?,
            b"GNU.sparse.name" => self.sparse.name = value.map(<[u8]>::to_vec),
            b"GNU.sparse.major" => self.sparse.major = optional(value, decimal)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.sparse.size = optional(value, decimal)?;
            }
            b"GNU.sparse.map" => self.sparse.set_map(value.unwrap_or_default())?,
            b"GNU.sparse.offset" => {
                let offset = optional(value, decimal)??;
                self.sparse.map.push(Segment { offset, length: 0 });
            }
            b"GNU.sparse.numbytes" => {
                self.sparse.map.last_mut()?.length = optional(value, decimal)??;
            }
            _ => {}
        }
        Some(())
    }
}

/// `None` is a malformed value, `Some(None)` is none.
fn optional<T>(value: Option<&[u8]>, parse: impl Fn(&[u8]) -> Option<T>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(value) => parse(value).map(Some),
    }
}

/// Splits off the first record: keyword, value, rest.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = decimal(&bytes[..space])?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (keyword, value) = (&record[..equals], &record[equals + 1..]);
    (!keyword.is_empty() && !keyword.contains(&0)).then_some((keyword, value, rest))
}

/// Reads a number of decimal digits alone, without sign.
pub(super) fn decimal<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

/// Reads `[-]seconds[.fraction]`, rounded down.
fn seconds(value: &[u8]) -> Option<i64> {
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or_default());
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    match whole.strip_prefix(b"-") {
        None => decimal(whole),
        Some(digits) => {
            let towards_zero = decimal::<i64>(digits)?.checked_neg()?;
            let partial = fraction.iter().any(|digit| *digit != b'0');
            towards_zero.checked_sub(i64::from(partial))
        }
    }
}

/// The records to write in front of an entry.
#[derive(Default)]
pub(super) struct Records(Vec<u8>);

impl Records {
    pub(super) fn push(&mut self, keyword: &[u8], value: &[u8]) {
        // The length counts its own digits, which is why it can take a second look.
        let rest = keyword.len() + value.len() + " =\n".len();
        let mut length = rest;
        while rest + digits(length) != length {
            length = rest + digits(length);
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        for part in [b" ", keyword, b"=", value, b"\n"] {
            self.0.extend_from_slice(part);
        }
    }

    pub(super) fn push_xattr(&mut self, name: &[u8], value: &[u8]) {
        self.push(&[XATTR, name].concat(), value);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_their_own_digits() {
        for (value, expected) in [(0, "5 a=\n"), (4, "9 a=xxxx\n"), (5, "11 a=xxxxx\n")] {
            let mut records = Records::default();
            records.push(b"a", &vec![b'x'; value]);
            assert_eq!(records.as_bytes(), expected.as_bytes());
        }
        for value in 0..2000 {
            let mut records = Records::default();
            records.push(b"path", &vec![b'x'; value]);
            let parsed = Extended::parse(records.as_bytes()).unwrap();
            assert_eq!(parsed.path.unwrap_or_default().len(), value);
        }
    }

    #[test]
    fn values_may_hold_any_byte() {
        let mut records = Records::default();
        records.push_xattr(b"user.x", b"a\n=\0\xff");
        records.push_xattr(b"user.empty", b"");
        let parsed = Extended::parse(records.as_bytes()).unwrap();
        assert_eq!(parsed.xattrs[&b"user.x"[..]], b"a\n=\0\xff");
        assert_eq!(parsed.xattrs[&b"user.empty"[..]], b"");
    }

    #[test]
    fn times_are_rounded_down() {
        for (text, expected) in [
            ("0", Some(0)),
            ("12.999", Some(12)),
            ("12.", Some(12)),
            ("-1", Some(-1)),
            ("-1.0", Some(-1)),
            ("-1.5", Some(-2)),
            ("-0.1", Some(-1)),
            ("", None),
            (".5", None),
            ("1e3", None),
            ("+1", None),
            ("1.x", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn malformed_records_are_named() {
        for (bytes, expected) in [
            ("x", "pax"),
            ("5 a=", "pax"),
            ("5 a=b\n", "pax"),
            ("2 a=b\n", "pax"),
            ("0 a=b\n", "pax"),
            (" a=b\n", "pax"),
            ("+6 a=b\n", "pax"),
            ("5 ab\n", "pax"),
            ("5 =a\n", "pax"),
            ("99999999999999999999999 a=b\n", "pax"),
            ("10 uid=-1\n", "uid"),
            ("18 uid=4294967296\n", "uid"),
            ("11 size=1k\n", "size"),
            ("25 GNU.sparse.numbytes=1\n", "GNU.sparse.numbytes"),
        ] {
            assert_eq!(
                Extended::parse(bytes.as_bytes()).err().as_deref(),
                Some(expected),
                "{bytes}"
            );
        }
    }
}
