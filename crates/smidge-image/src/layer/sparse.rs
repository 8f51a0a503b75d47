//! Files with holes, in GNU's four ways (GNU tar manual, "Storing Sparse Files").

use super::header::{BLOCK, number};
use super::pax::decimal;

/// A stretch of a file that is stored; what lies between two of them is zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What `GNU.sparse.*` records say.
#[derive(Default)]
pub(super) struct SparseRecords {
    pub(super) name: Option<Vec<u8>>,
    /// The format's version: from 1 on, the map is in front of the content.
    pub(super) major: Option<u64>,
    pub(super) size: Option<u64>,
    pub(super) map: Vec<Segment>,
}

impl SparseRecords {
    /// Takes in a map of the form `offset,length,offset,length`. `None` if it has another.
    pub(super) fn set_map(&mut self, text: &[u8]) -> Option<()> {
        self.map.clear();
        let mut numbers = text.split(|byte| *byte == b',');
        while let Some(offset) = numbers.next() {
            let (offset, length) = (decimal(offset)?, decimal(numbers.next()?)?);
            self.map.push(Segment { offset, length });
        }
        Some(())
    }
}

/// Appends the segments of a GNU header, or of one of the blocks that continue it. `None` if one is
/// malformed.
pub(super) fn parse_gnu_map(bytes: &[u8], map: &mut Vec<Segment>) -> Option<()> {
    for pair in bytes.chunks_exact(24).take_while(|pair| pair[0] != 0) {
        let (offset, length) = pair.split_at(12);
        map.push(Segment {
            offset: number(offset)?.try_into().ok()?,
            length: number(length)?.try_into().ok()?,
        });
    }
    Some(())
}

/// Reads a map of the form `count\noffset\nlength\n…`, which takes up whole blocks. `None` if it is
/// malformed; an error is that of `next_block`.
pub(super) fn read_map<E>(
    mut next_block: impl FnMut() -> Result<[u8; BLOCK], E>,
) -> Result<Option<Vec<Segment>>, E> {
    let mut block = Vec::new().into_iter();
    let mut next_number = || {
        let mut digits = Vec::new();
        loop {
            match block.next() {
                None => block = next_block()?.to_vec().into_iter(),
                Some(b'\n') => return Ok(decimal::<u64>(&digits)),
                Some(digit) if digit.is_ascii_digit() && digits.len() < 20 => digits.push(digit),
                Some(_) => return Ok(None),
            }
        }
    };
    let Some(count) = next_number()? else {
        return Ok(None);
    };
    let mut map = Vec::new();
    for _ in 0..count {
        let (Some(offset), Some(length)) = (next_number()?, next_number()?) else {
            return Ok(None);
        };
        map.push(Segment { offset, length });
    }
    Ok(Some(map))
}

/// Whether the segments are in order, within a file of `size` bytes, and `stored` bytes in all.
pub(super) fn is_sound(map: &[Segment], size: u64, stored: u64) -> bool {
    let mut end = 0;
    let mut sum = 0_u64;
    for segment in map {
        match segment.offset.checked_add(segment.length) {
            Some(segment_end) if segment.offset >= end && segment_end <= size => end = segment_end,
            _ => return false,
        }
        sum = sum.saturating_add(segment.length);
    }
    sum == stored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_must_fit_their_file() {
        let map = |pairs: &[(u64, u64)]| -> Vec<Segment> {
            pairs
                .iter()
                .map(|&(offset, length)| Segment { offset, length })
                .collect()
        };
        assert!(is_sound(&map(&[]), 10, 0));
        assert!(is_sound(&map(&[(0, 2), (2, 3), (10, 0)]), 10, 5));
        for (bad, stored) in [
            (&[(0, 2), (1, 3)][..], 5),
            (&[(4, 2), (0, 1)], 3),
            (&[(0, 11)], 11),
            (&[(u64::MAX, 2)], 2),
            (&[(0, 2)], 3),
        ] {
            assert!(!is_sound(&map(bad), 10, stored), "{bad:?}");
        }
    }

    #[test]
    fn maps_in_front_of_the_content_may_take_several_blocks() {
        let read = |text: &str| {
            let mut blocks = text.as_bytes().chunks(BLOCK);
            read_map(|| {
                let mut block = [0; BLOCK];
                let chunk = blocks.next().ok_or("end")?;
                block[..chunk.len()].copy_from_slice(chunk);
                Ok::<_, &str>(block)
            })
        };
        assert_eq!(read("0\n"), Ok(Some(vec![])));
        assert_eq!(
            read("1\n0\n5\n"),
            Ok(Some(vec![Segment {
                offset: 0,
                length: 5
            }]))
        );
        let long = format!("200\n{}", "12345\n0\n".repeat(200));
        assert_eq!(
            read(&long).map(|map| map.map_or(0, |map| map.len())),
            Ok(200)
        );
        assert_eq!(read(""), Err("end"));
        assert_eq!(read(&format!("300\n{}", "1\n".repeat(254))), Err("end"));
        for bad in [
            "x\n",
            "\n",
            "-1\n",
            "1\nx\n5\n",
            "1\n5\n",
            "123456789012345678901\n",
        ] {
            assert_eq!(read(bad), Ok(None), "{bad}");
        }
    }
}
