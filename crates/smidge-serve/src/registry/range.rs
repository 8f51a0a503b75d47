//! Ranges: of a blob that is asked for in part (RFC 9110), and of a chunk that is pushed.

/// What of a blob is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    Whole,
    /// From a byte to another, both included.
    Part { first: u64, last: u64 },
    /// Something that it has not.
    Unsatisfiable,
}

/// Reads a `Range` header. One that cannot be understood, and several ranges at once, mean all of
/// it: a server may ignore the header.
pub(crate) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let range = header.and_then(|header| header.trim().strip_prefix("bytes="));
    let Some((first, last)) = range.and_then(|range| range.trim().split_once('-')) else {
        return Wanted::Whole;
    };
    match (number(first), number(last)) {
        (None, Some(count)) if first.is_empty() => match count.min(size) {
            0 => Wanted::Unsatisfiable,
            count => Wanted::Part {
                first: size - count,
                last: size - 1,
            },
        },
        (Some(first), _) if last.is_empty() => part(first, u64::MAX, size),
        (Some(first), Some(last)) if first <= last => part(first, last, size),
        _ => Wanted::Whole,
    }
}

fn part(first: u64, last: u64, size: u64) -> Wanted {
    match first < size {
        true => Wanted::Part {
            first,
            last: last.min(size - 1),
        },
        false => Wanted::Unsatisfiable,
    }
}

/// Reads the `Content-Range` of a chunk: `<first>-<last>`, both included. Docker's clients write
/// `bytes ` before it, and a total behind.
pub(crate) fn chunk(header: &str) -> Option<(u64, u64)> {
    let header = header.trim();
    let range = header.strip_prefix("bytes").unwrap_or(header);
    let range = range.trim_start_matches(['=', ' ']);
    let range = range.split_once('/').map_or(range, |(range, _)| range);
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// Digits alone: no sign, no spaces.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // What is beyond all numbers is beyond all blobs.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        let part = |first, last| Wanted::Part { first, last };
        for (header, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=2-4", part(2, 4)),
            ("bytes=2-", part(2, 9)),
            ("bytes=2-99", part(2, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-99", part(0, 9)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=10-12", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=4-2", Wanted::Whole),
            ("bytes=--2", Wanted::Whole),
            ("bytes=-1-2", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=0-1,4-5", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(header), 10), expected, "{header}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-0"), 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn chunks_have_a_first_and_a_last_byte() {
        for (header, expected) in [
            ("0-9", Some((0, 9))),
            ("bytes 0-9/10", Some((0, 9))),
            ("bytes=0-9", Some((0, 9))),
            ("5-4", None),
            ("-5", None),
            ("5-", None),
            ("-1--2", None),
            ("a-b", None),
            ("", None),
        ] {
            assert_eq!(chunk(header), expected, "{header}");
        }
    }
}
