//! `--log-driver` and `--log-opt`.

use smidge_run::LogLimit;

use super::resource::parse_bytes;
use crate::{Error, Kind, Result};

/// How a program's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Log {
    /// Whether it is.
    pub(super) kept: bool,
    /// How much of it.
    pub(super) limit: Option<LogLimit>,
}

/// What Docker's driver `local` keeps, unless it is told otherwise.
const LOCAL: LogLimit = LogLimit {
    size: 20 << 20,
    files: 5,
};

/// Understands the options.
///
/// # Errors
/// [`Kind::Input`] when there is no such driver or option.
pub(super) fn log(driver: Option<&str>, options: &[String]) -> Result<Log> {
    let (kept, mut limit) = match driver.unwrap_or_default() {
        "" | "json-file" => (true, None),
        "local" => (true, Some(LOCAL)),
        "none" => (false, None),
        other => {
            let fault = format!("there is no log driver `{other}`");
            return Err(Error::new(Kind::Input, fault).with_hint(
                "there are json-file, local and none; `smidge logs -f` passes lines on",
            ));
        }
    };
    let mut files = None;
    for option in options {
        let invalid =
            |why: &str| Error::new(Kind::Input, format!("invalid `--log-opt {option}`: {why}"));
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            _ if !kept => return Err(invalid("invalid logging opts for driver none")),
            "max-size" if value == "-1" => limit = None,
            "max-size" => {
                let size = parse_bytes(value).map_err(|why| invalid(&why))?;
                let one = LogLimit { size, files: 1 };
                limit = Some(limit.map_or(one, |limit| LogLimit { size, ..limit }));
            }
            "max-file" => {
                let count: Option<u32> = value.parse().ok().filter(|count| *count > 0);
                files = Some(count.ok_or_else(|| invalid("expected a number of files"))?);
            }
            "compress" if value == "false" => {}
            // For `logs --details`, which looks them up.
            "labels" | "env" => {}
            "compress" => return Err(invalid("smidge compresses no logs")),
            _ => {
                let fault = format!("unknown log opt '{name}' for json-file log driver");
                return Err(Error::new(Kind::Input, fault)
                    .with_fact("there are `max-size`, `max-file`, `labels` and `env`"));
            }
        }
    }
    match (files, &mut limit) {
        (Some(count), Some(limit)) => limit.files = count,
        (Some(count), None) if count > 1 => {
            let fault = "`--log-opt max-file` needs `max-size`, or no second file is ever begun";
            return Err(Error::new(Kind::Input, fault));
        }
        _ => (),
    }
    Ok(Log { kept, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_dockers() {
        let read = |driver: &str, options: &[&str]| {
            let options: Vec<String> = options.iter().map(|text| (*text).to_owned()).collect();
            log(Some(driver), &options)
        };
        let limit = |size, files| Some(LogLimit { size, files });
        assert_eq!(read("json-file", &[]).unwrap().limit, None);
        assert_eq!(read("", &["max-size=1m"]).unwrap().limit, limit(1 << 20, 1));
        let both = ["max-file=3", "max-size=10k"];
        assert_eq!(read("json-file", &both).unwrap().limit, limit(10 << 10, 3));
        assert_eq!(read("local", &[]).unwrap().limit, limit(20 << 20, 5));
        assert!(!read("none", &[]).unwrap().kept);
        for (driver, option) in [
            ("syslog", "max-size=1"),
            ("none", "max-size=1"),
            ("local", "max-file=0"),
            ("json-file", "max-file=2"),
            ("json-file", "tag=x"),
            ("json-file", "compress=true"),
        ] {
            assert!(read(driver, &[option]).is_err(), "{driver} {option}");
        }
    }
}
