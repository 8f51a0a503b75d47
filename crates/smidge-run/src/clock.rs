//! Times as Docker writes them.

use std::fmt::Write;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// The current time: RFC 3339, UTC, nanoseconds. All such texts have one length, so they sort by time.
#[must_use]
pub fn now() -> String {
    format(OffsetDateTime::now_utc())
}

fn format(time: OffsetDateTime) -> String {
    let mut text = String::with_capacity(30);
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second, nanos) = time.to_hms_nano();
    let _ = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z"
    );
    text
}

/// Brings a time that a user gave to the form of [`now`]: RFC 3339 with any offset, a date, a date and
/// time in UTC, or seconds since 1970 with or without a fraction.
pub(crate) fn parse(text: &str) -> Option<String> {
    let time = unix(text).or_else(|| rfc3339(text))?;
    (0..=9999).contains(&time.year()).then(|| format(time))
}

fn unix(text: &str) -> Option<OffsetDateTime> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty()
        || !(whole.bytes().chain(fraction.bytes())).all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let seconds: i128 = whole.parse().ok()?;
    let nanos: i128 = format!("{fraction:0<9.9}").parse().ok()?;
    OffsetDateTime::from_unix_timestamp_nanos(
        seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?,
    )
    .ok()
}

fn rfc3339(text: &str) -> Option<OffsetDateTime> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        _ => text.to_owned(),
    };
    OffsetDateTime::parse(&whole, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{whole}Z"), &Rfc3339))
        .ok()
        .and_then(|time| time.checked_to_offset(UtcOffset::UTC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_in_many_forms() {
        let cases = [
            ("0", Some("1970-01-01T00:00:00.000000000Z")),
            ("1700000000.25", Some("2023-11-14T22:13:20.250000000Z")),
            (
                "1700000000.1234567899",
                Some("2023-11-14T22:13:20.123456789Z"),
            ),
            ("2023-11-14", Some("2023-11-14T00:00:00.000000000Z")),
            ("2023-11-14T22:13", Some("2023-11-14T22:13:00.000000000Z")),
            (
                "2023-11-14T22:13:20",
                Some("2023-11-14T22:13:20.000000000Z"),
            ),
            (
                "2023-11-14T22:13:20.5Z",
                Some("2023-11-14T22:13:20.500000000Z"),
            ),
            (
                "2023-11-14T23:13:20+01:00",
                Some("2023-11-14T22:13:20.000000000Z"),
            ),
            ("", None),
            (".", None),
            ("-1", None),
            ("yesterday", None),
            ("99999999999999999999999999999999999999999", None),
            ("0000-01-01T00:00:00+23:00", None),
        ];
        for (text, time) in cases {
            assert_eq!(parse(text).as_deref(), time, "{text}");
        }
    }

    #[test]
    fn now_is_understood() {
        let now = now();
        assert_eq!(parse(&now), Some(now));
    }
}
