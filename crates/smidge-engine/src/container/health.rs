//! How to find out whether a program is well: what was asked for, what the image says, what comes of it.

use std::time::Duration;

use serde_json::{Value, json};
use smidge_image::{Healthcheck, RunConfig};
use smidge_run::{Health, HealthState, Probe};

use super::logs::duration;
use crate::{Error, Kind, Result};

/// A label by which an image says that an HTTP request tells: `[METHOD ]:PORT[/PATH][=CODE]`.
const HTTP_LABEL: &str = "smidge.health.http";

/// A label by which an image says that a connection tells: a port.
const TCP_LABEL: &str = "smidge.health.tcp";

/// The options about a program's health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthRequest {
    /// `--health-cmd`: a line for the image's shell.
    pub command: Option<String>,
    /// `--health-http`: `[METHOD ]:PORT[/PATH][=CODE]`.
    pub http: Option<String>,
    /// `--health-tcp`: a port.
    pub tcp: Option<u16>,
    /// `--health-exec`: a line for the host's shell.
    pub host: Option<String>,
    /// `--health-interval`.
    pub interval: Option<String>,
    /// `--health-timeout`.
    pub timeout: Option<String>,
    /// `--health-start-period`.
    pub start_period: Option<String>,
    /// `--health-start-interval`.
    pub start_interval: Option<String>,
    /// `--health-retries`.
    pub retries: Option<u32>,
    /// `--no-healthcheck`.
    pub disabled: bool,
}

impl HealthRequest {
    /// What the sandbox is told; what `inspect` shows goes to `config`.
    pub(super) fn settled(&self, config: &mut RunConfig) -> Result<Option<Health>> {
        let input = |message: &str| Err(Error::new(Kind::Input, message));
        if self.disabled {
            if *self
                != (Self {
                    disabled: true,
                    ..Self::default()
                })
            {
                return input("--no-healthcheck conflicts with --health-* options");
            }
            config.healthcheck = Some(Healthcheck {
                test: Some(vec!["NONE".to_owned()]),
                ..Healthcheck::default()
            });
            return Ok(None);
        }
        let ways = [
            self.command.is_some(),
            self.http.is_some(),
            self.tcp.is_some(),
            self.host.is_some(),
        ];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            return input(
                "only one of --health-cmd, --health-http, --health-tcp and --health-exec can be given",
            );
        }
        let mut check = config.healthcheck.take().unwrap_or_default();
        if check
            .test
            .as_ref()
            .is_some_and(|test| test.first().is_some_and(|kind| kind == "HOST-SHELL"))
        {
            check.test = None;
        }
        self.times(&mut check)?;
        if let Some(test) = self.test(config) {
            check.test = Some(test);
        }
        let probe = probe(check.test.as_deref().unwrap_or_default(), config)?;
        let health = probe.map(|probe| health(probe, &check));
        config.healthcheck = (check != Healthcheck::default()).then_some(check);
        Ok(health)
    }

    /// What is to be done, in Docker's form. An image's label wins over its command: it asks for nothing
    /// inside.
    fn test(&self, config: &RunConfig) -> Option<Vec<String>> {
        let words = |kind: &str, text: String| Some(vec![kind.to_owned(), text]);
        if let Some(command) = &self.command {
            return words("CMD-SHELL", command.clone());
        }
        if let Some(line) = &self.host {
            return words("HOST-SHELL", line.clone());
        }
        if let Some(request) = &self.http {
            return words("HTTP", request.clone());
        }
        if let Some(port) = self.tcp {
            return words("TCP", port.to_string());
        }
        let label = |name: &str| config.labels.get(name).cloned();
        match (label(HTTP_LABEL), label(TCP_LABEL)) {
            (Some(request), _) => words("HTTP", request),
            (None, Some(port)) => words("TCP", port),
            (None, None) => None,
        }
    }

    fn times(&self, check: &mut Healthcheck) -> Result<()> {
        for (name, text, place) in [
            ("interval", &self.interval, &mut check.interval),
            ("timeout", &self.timeout, &mut check.timeout),
            ("start-period", &self.start_period, &mut check.start_period),
            (
                "start-interval",
                &self.start_interval,
                &mut check.start_interval,
            ),
        ] {
            let Some(text) = text else { continue };
            let time =
                duration(text).filter(|time| time.is_zero() || *time >= Duration::from_millis(1));
            let nanos = time.and_then(|time| i64::try_from(time.as_nanos()).ok());
            *place = nanos.ok_or_else(|| {
                let fault = format!("invalid `--health-{name} {text}`: not a time of 1ms or more");
                Error::new(Kind::Input, fault)
                    .with_hint("write a number and a unit: `30s`, `1m30s`, `500ms`")
            })?;
        }
        if let Some(retries) = self.retries {
            check.retries = retries.into();
        }
        Ok(())
    }
}

/// A check with Docker's defaults where nothing is said.
fn health(probe: Probe, check: &Healthcheck) -> Health {
    let time = |nanos: i64, seconds: u64| match u64::try_from(nanos) {
        Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
        _ => Duration::from_secs(seconds),
    };
    Health {
        probe,
        interval: time(check.interval, 30),
        timeout: time(check.timeout, 30),
        start_period: time(check.start_period, 0),
        start_interval: time(check.start_interval, 5),
        retries: u32::try_from(check.retries)
            .ok()
            .filter(|n| *n > 0)
            .unwrap_or(3),
    }
}

/// What a check comes to. `HOST-SHELL` comes from the command line alone: an image does not say what is
/// done on the host.
fn probe(test: &[String], config: &RunConfig) -> Result<Option<Probe>> {
    let Some((kind, words)) = test.split_first() else {
        return Ok(None);
    };
    let line = words.first().map_or("", String::as_str);
    Ok(match kind.as_str() {
        "CMD" if !words.is_empty() => Some(Probe::Command(words.to_vec())),
        "CMD-SHELL" => {
            let usual = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
            let mut command = config.shell.clone().unwrap_or_else(usual);
            command.push(line.to_owned());
            Some(Probe::Command(command))
        }
        "HOST-SHELL" => Some(Probe::Host(
            ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
        )),
        "HTTP" => Some(http(line).ok_or_else(|| {
            Error::new(Kind::Input, format!("`{line}` is no health request")).with_hint(
                "write a port and a path: `--health-http :8080/healthz`, `HEAD :80/=204`",
            )
        })?),
        "TCP" => Some(Probe::Tcp(line.parse().map_err(|_| {
            Error::new(
                Kind::Input,
                format!("`{line}` is no port for a health probe"),
            )
        })?)),
        _ => None,
    })
}

/// `[METHOD ]:PORT[/PATH][=CODE]`.
fn http(text: &str) -> Option<Probe> {
    let (method, target) = text.split_once(' ').unwrap_or(("GET", text));
    let target = target.strip_prefix(':')?;
    let digits = target
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(target.len());
    let (port, rest) = target.split_at(digits);
    let code = |text: &str| text.parse().ok().filter(|code| (100..600).contains(code));
    let (path, code) = match rest.rsplit_once('=') {
        Some((path, tail)) if code(tail).is_some() => (path, code(tail)),
        _ => (rest, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    (is_method && path.starts_with('/') && is_plain(path)).then_some(Probe::Http {
        method: method.to_owned(),
        port: port.parse().ok().filter(|port| *port > 0)?,
        path: path.to_owned(),
        code,
    })
}

/// A container's health as `inspect` shows it.
pub(super) fn shown(health: &HealthState) -> Value {
    let log = health.log.iter().map(|result| {
        json!({
            "Start": result.start,
            "End": result.end,
            "ExitCode": result.exit_code,
            "Output": result.output,
        })
    });
    json!({
        "Status": health.status.word(),
        "FailingStreak": health.failing_streak,
        "Log": log.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_a_port_with_what_differs_from_the_usual() {
        let parsed = |text: &str| match http(text) {
            Some(Probe::Http {
                method,
                port,
                path,
                code,
            }) => {
                format!("{method} {port} {path} {}", code.unwrap_or(0))
            }
            _ => "none".to_owned(),
        };
        for (text, expected) in [
            (":8080", "GET 8080 / 0"),
            (":8080/", "GET 8080 / 0"),
            (":80/healthz=204", "GET 80 /healthz 204"),
            (":80=301", "GET 80 / 301"),
            ("HEAD :80/a?b=c", "HEAD 80 /a?b=c 0"),
            ("POST :1/x?y=999", "POST 1 /x?y=999 0"),
            ("8080/", "none"),
            (":0/", "none"),
            (":99999/", "none"),
            (":80x", "none"),
            ("get :80/", "none"),
            (":80/a b", "none"),
            (":80/\r\nX: y", "none"),
            ("", "none"),
        ] {
            assert_eq!(parsed(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_image_does_not_say_what_is_done_on_the_host() {
        let mut config = RunConfig {
            healthcheck: Some(Healthcheck {
                test: Some(vec!["HOST-SHELL".to_owned(), "id".to_owned()]),
                ..Healthcheck::default()
            }),
            ..RunConfig::default()
        };
        let health = HealthRequest::default().settled(&mut config).unwrap();
        assert_eq!(health, None);
    }
}
