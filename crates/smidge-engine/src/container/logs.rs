//! `logs`: what a container's program wrote.

use std::time::{Duration, SystemTime};

use smidge_run::log::{Entry, LogQuery};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::record::Record;
use crate::{Engine, Error, Kind, Result};

/// Which lines of a log to show.
#[derive(Clone, Debug, Default)]
pub struct LogRequest {
    /// Whether to go on until the program ends.
    pub follow: bool,
    /// At most this many lines, from the end.
    pub tail: Option<usize>,
    /// Only lines from this time on: RFC 3339, seconds since 1970, or how long ago (`10m`).
    pub since: Option<String>,
    /// Only lines before this time, as `since`.
    pub until: Option<String>,
}

impl Engine {
    /// Reads a container's log; every line goes to `sink`, whose error ends the reading.
    ///
    /// # Errors
    /// When there is no such container, when a time cannot be understood, when `sink` fails.
    pub fn logs(
        &self,
        name: &str,
        request: &LogRequest,
        sink: &mut dyn FnMut(&Entry) -> std::io::Result<()>,
    ) -> Result<()> {
        let moment = |text: &Option<String>| {
            text.as_deref()
                .map(|text| moment(text, self.host.now))
                .transpose()
        };
        let query = LogQuery {
            follow: request.follow,
            tail: request.tail,
            since: moment(&request.since)?,
            until: moment(&request.until)?,
        };
        let container = self.store.container(name)?;
        let record: Record = container.record()?;
        if !record.spec.log {
            let fault = format!(
                "container `{name}` was made with `--log-driver none`: configured logging driver does not support reading"
            );
            return Err(Error::new(Kind::Conflict, fault));
        }
        Ok(smidge_run::log::read(&container.dir, &query, sink)?)
    }
}

impl Engine {
    /// What `logs --details` shows before each line: the labels and variables that `--log-opt labels=` and
    /// `env=` name, in the form of a URL's query.
    ///
    /// # Errors
    /// When there is no such container, or its record cannot be read.
    pub fn log_details(&self, name: &str) -> Result<String> {
        let record = self.container(name)?.record;
        let wanted = |option: &str| -> Vec<String> {
            let config = record.host.asked.get("LogConfig");
            let names = config.and_then(|config| config["Config"][option].as_str());
            let names = names.unwrap_or_default().split(',');
            names.map(str::to_owned).collect()
        };
        let labels = wanted("labels");
        let labels = labels
            .iter()
            .filter_map(|name| Some((name, record.labels().get(name)?.as_str())));
        let names = wanted("env");
        let variable = |name| {
            let mut pairs = record
                .config
                .env
                .iter()
                .filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(key, value)| (key == name).then_some(value))
        };
        let variables = names
            .iter()
            .filter_map(|name| Some((name, variable(name)?)));
        let pair = |(name, value): (&String, &str)| format!("{}={}", escaped(name), escaped(value));
        let mut all: Vec<String> = labels.chain(variables).map(pair).collect();
        all.sort_unstable();
        Ok(all.join(","))
    }
}

/// A text as Go's `url.QueryEscape` writes it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// A time as the log's reader takes it. Docker also takes a date, a time without zone (UTC here), and
/// how long ago.
fn moment(text: &str, now: SystemTime) -> Result<String> {
    if let Some(age) = duration(text) {
        let then = OffsetDateTime::from(
            now.checked_sub(age)
                .unwrap_or(SystemTime::UNIX_EPOCH)
                .max(SystemTime::UNIX_EPOCH),
        );
        return Ok(then.format(&Rfc3339).unwrap_or_default());
    }
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let zoned = [
        text.to_owned(),
        format!("{text}Z"),
        format!("{text}:00Z"),
        format!("{text}T00:00:00Z"),
    ];
    if is_number {
        return Ok(text.to_owned());
    }
    zoned
        .into_iter()
        .find(|text| OffsetDateTime::parse(text, &Rfc3339).is_ok())
        .ok_or_else(|| {
            Error::new(
                Kind::Input,
                format!("`{text}` is no time: failed to parse value as time or duration"),
            )
            .with_hint("write `2026-11-21T09:30:00Z`, or how long ago: `10m`, `1h30m`")
        })
}

/// A time as [`moment`] takes it, in nanoseconds since 1970.
pub(crate) fn nanoseconds(text: &str, now: SystemTime) -> Result<i64> {
    let invalid = || {
        Error::new(
            Kind::Input,
            format!("`{text}` is no time: failed to parse value as time or duration"),
        )
    };
    let moment = moment(text, now)?;
    if let Ok(seconds) = moment.parse::<f64>() {
        return Ok((seconds * 1e9) as i64);
    }
    let time = OffsetDateTime::parse(&moment, &Rfc3339).map_err(|_| invalid())?;
    i64::try_from(time.unix_timestamp_nanos()).map_err(|_| invalid())
}

/// Go's durations: `1h30m`, `1.5s`, `300ms`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..units] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &rest[units..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, expected) in [
            ("1h30m", Some(5400.0)),
            ("1.5s", Some(1.5)),
            ("300ms", Some(0.3)),
            ("10m", Some(600.0)),
            ("", None),
            ("10", None),
            ("m", None),
            ("1d", None),
            ("1e5s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text).map(|d| d.as_secs_f64()), expected, "{text}");
        }
    }

    #[test]
    fn times_are_numbers() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        for (text, expected) in [
            ("10s", Some(90_000_000_000)),
            ("1.5", Some(1_500_000_000)),
            ("1970-01-01T00:00:02Z", Some(2_000_000_000)),
            ("soon", None),
        ] {
            assert_eq!(nanoseconds(text, now).ok(), expected, "{text}");
        }
    }

    #[test]
    fn times_are_taken_in_dockers_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(3600);
        for (text, expected) in [
            ("10m", Some("1970-01-01T00:50:00Z")),
            ("5h", Some("1970-01-01T00:00:00Z")),
            ("1700000000.5", Some("1700000000.5")),
            ("2026-11-21T09:30:00.5Z", Some("2026-11-21T09:30:00.5Z")),
            (
                "2026-11-21T09:30:00+02:00",
                Some("2026-11-21T09:30:00+02:00"),
            ),
            ("2026-11-21T09:30:00", Some("2026-11-21T09:30:00Z")),
            ("2026-11-21T09:30", Some("2026-11-21T09:30:00Z")),
            ("2026-11-21", Some("2026-11-21T00:00:00Z")),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(moment(text, now).ok().as_deref(), expected, "{text}");
        }
    }
}
