//! Sizes and times in Docker's words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smidge_engine::container::{HealthStatus, State, Status};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A size in decimal units with three significant digits: `1.23MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    // What would round to four digits before the point belongs to the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        v if unit == 0 || v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let number = format!("{value:.decimals$}");
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => &number,
    };
    format!("{number}{}", UNITS[unit])
}

/// A size in binary units with four significant digits: `1.205GiB`.
pub(crate) fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match value {
        v if v >= 999.95 => 0,
        v if v >= 99.995 => 1,
        v if v >= 9.9995 => 2,
        _ => 3,
    };
    let number = format!("{value:.decimals$}");
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => &number,
    };
    format!("{number}{}", UNITS[unit])
}

/// How long something took, roughly: `About a minute`, `3 weeks`.
pub(crate) fn duration(duration: Duration) -> String {
    const DAY: u64 = 24;
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Rounded to the nearest, as Docker does.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 2 * DAY => format!("{hours} hours"),
        () if hours < 14 * DAY => format!("{} days", hours / DAY),
        () if hours < 60 * DAY => format!("{} weeks", hours / DAY / 7),
        () if hours < 2 * 365 * DAY => format!("{} months", hours / DAY / 30),
        () => format!("{} years", hours / DAY / 365),
    }
}

/// How long ago something was: `2 hours ago`.
pub(crate) fn ago(now: SystemTime, then: SystemTime) -> String {
    format!(
        "{} ago",
        duration(now.duration_since(then).unwrap_or_default())
    )
}

/// An RFC 3339 time; `None` for what is none, and for the year 1, which is Go's "never".
pub(crate) fn moment(rfc3339: &str) -> Option<SystemTime> {
    let time = OffsetDateTime::parse(rfc3339, &Rfc3339).ok()?;
    (time.year() > 1).then(|| SystemTime::from(time))
}

/// A time as Go prints it: `2026-11-21 09:30:00 +0000 UTC`.
pub(crate) fn stamp(time: SystemTime) -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second] +0000 UTC"
    );
    OffsetDateTime::from(time)
        .format(FORMAT)
        .unwrap_or_default()
}

/// A time as RFC 3339 in UTC, to the second.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let moment = i64::try_from(seconds)
        .ok()
        .and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    moment
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// A time in nanoseconds since 1970 as RFC 3339 in UTC, to the nanosecond.
pub(crate) fn rfc3339_nanos(time: i64) -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]Z"
    );
    OffsetDateTime::from_unix_timestamp_nanos(time.into())
        .ok()
        .and_then(|time| time.format(FORMAT).ok())
        .unwrap_or_default()
}

/// A container's state as `ps` shows it: `Up 5 seconds`, `Exited (0) 3 minutes ago`.
pub(crate) fn status(state: &State, now: SystemTime) -> String {
    let since = |text: &str| {
        let then = moment(text).unwrap_or(now);
        duration(now.duration_since(then).unwrap_or_default())
    };
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running if state.paused => format!("Up {} (Paused)", since(&state.started_at)),
        Status::Running => {
            let health = state
                .health
                .as_ref()
                .map_or("", |health| match health.status {
                    HealthStatus::Starting => " (health: starting)",
                    HealthStatus::Healthy => " (healthy)",
                    HealthStatus::Unhealthy => " (unhealthy)",
                });
            format!("Up {}{health}", since(&state.started_at))
        }
        Status::Restarting => {
            let code = state.exit_code.unwrap_or(0);
            format!("Restarting ({code}) {} ago", since(&state.finished_at))
        }
        Status::Exited => {
            let code = state.exit_code.unwrap_or(0);
            format!("Exited ({code}) {} ago", since(&state.finished_at))
        }
    }
}

/// The first `width` characters, the last of them `…` if something had to go.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The first 12 digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

/// A number to the last digit, in groups of three: `1,304,568`.
pub(crate) fn exact(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count and its noun: `1 library`, `2 libraries`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_significant_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (827, "827B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.02kB"),
            (1_400, "1.4kB"),
            (99_949, "99.9kB"),
            (99_950, "100kB"),
            (123_456, "123kB"),
            (999_499, "999kB"),
            (999_500, "1MB"),
            (1_234_567, "1.23MB"),
            (9_999_999, "10MB"),
            (1_500_000_000, "1.5GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn binary_sizes_have_four_significant_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (761_856, "744KiB"),
            (1_100_000, "1.049MiB"),
            (64 << 20, "64MiB"),
            (25_189_416_960, "23.46GiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(binary_size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn exact_numbers_come_in_groups() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_304_568, "1,304,568"),
        ] {
            assert_eq!(exact(number), expected);
        }
    }

    #[test]
    fn durations_are_rough() {
        const HOUR: u64 = 3600;
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60 + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1799, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (13 * 24 * HOUR, "13 days"),
            (14 * 24 * HOUR, "2 weeks"),
            (59 * 24 * HOUR, "8 weeks"),
            (60 * 24 * HOUR, "2 months"),
            (729 * 24 * HOUR, "24 months"),
            (730 * 24 * HOUR, "2 years"),
        ] {
            assert_eq!(
                duration(Duration::from_secs(seconds)),
                expected,
                "{seconds}"
            );
        }
    }

    #[test]
    fn times_are_read_and_written() {
        let epoch = moment("1970-01-01T00:00:00Z").unwrap();
        assert_eq!(epoch, UNIX_EPOCH);
        assert_eq!(stamp(epoch), "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(rfc3339(epoch), "1970-01-01T00:00:00Z");
        assert_eq!(
            rfc3339_nanos(1_500_000_001),
            "1970-01-01T00:00:01.500000001Z"
        );
        assert_eq!(ago(epoch + Duration::from_secs(5), epoch), "5 seconds ago");
        assert_eq!(
            ago(epoch, epoch + Duration::from_secs(5)),
            "Less than a second ago"
        );
        assert_eq!(moment("0001-01-01T00:00:00Z"), None);
        assert_eq!(moment("yesterday"), None);
    }

    #[test]
    fn texts_are_shortened_by_characters() {
        assert_eq!(ellipsis("abc", 3), "abc");
        assert_eq!(ellipsis("äöüß", 3), "äö…");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("0123"), "0123");
        assert_eq!(short_id("ääääääääääää"), "ääääääääääää".get(..12).unwrap());
    }
}
